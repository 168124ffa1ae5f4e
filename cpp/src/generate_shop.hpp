// The shop of the generated orders: what it sells, when it is busy, and what becomes of an order.
// generate.hpp describes the model.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <string_view>
#include <utility>
#include <vector>

#include "generate_chance.hpp"
#include "generate_digits.hpp"
#include "omnistream/generate.hpp"

namespace omnistream::shop {

constexpr std::int64_t kSecond = 1'000;
constexpr std::int64_t kMinute = 60 * kSecond;
constexpr std::int64_t kHour = 60 * kMinute;
constexpr std::int64_t kDay = 24 * kHour;

// ---- the catalogue ----

constexpr std::string_view kColours[] = {"BLK", "WHT", "GRY", "NVY", "RED", "BLU",
                                         "GRN", "BEI", "PNK", "KHK", "BRN"};  // a prime number of them
constexpr std::uint32_t kListPrices[] = {59,  79,  89,  99,  129, 159, 169, 199, 229, 259,
                                         299, 359, 399, 459, 499, 599, 699, 799, 999, 1299};  // CNY
constexpr std::uint32_t kOddCentsBelow = 200;  // cheaper styles may end in .90

// Size curves: a random byte's low six bits pick an entry. Rare sizes at the ends.
constexpr std::string_view kGarmentSizes[] = {"XS", "S", "M", "L", "XL", "XXL"};
constexpr int kGarmentCurve[] = {4, 11, 18, 17, 10, 4};
constexpr std::string_view kShoeSizes[] = {"37", "38", "39", "40", "41", "42", "43", "44"};
constexpr int kShoeCurve[] = {3, 7, 10, 12, 13, 10, 6, 3};

using SizeTable = std::string_view[64];

template <std::size_t N>
void spread(const std::string_view (&sizes)[N], const int (&curve)[N], SizeTable* table) {
    int at = 0;
    for (std::size_t i = 0; i < N; ++i)
        for (int j = 0; j < curve[i]; ++j) (*table)[at++] = sizes[i];
}

struct StyleColour {
    char sku[12];  // "ST01234-BLK-", the size follows
    std::uint32_t price_cents;
    std::uint32_t cost_cents;
    bool shoe;
    std::uint8_t promotion;  // the day of each eight on which the style is promoted
};

class Catalogue {
public:
    explicit Catalogue(const GenerateSpec& spec)
        : options_(make_options(spec)),
          popularity_(zipf_weights(static_cast<std::uint32_t>(options_.size()), spec.zipf_exponent)) {
        spread(kGarmentSizes, kGarmentCurve, &garment_sizes_);
        spread(kShoeSizes, kShoeCurve, &shoe_sizes_);
    }
    [[nodiscard]] const StyleColour& draw(std::uint64_t random) const {
        return options_[popularity_.draw(random)];
    }
    [[nodiscard]] std::string_view size(const StyleColour& option, std::uint32_t random) const {
        return (option.shoe ? shoe_sizes_ : garment_sizes_)[random & 63];
    }

private:
    // Shuffled, so that the place in the list is the rank.
    static std::vector<StyleColour> make_options(const GenerateSpec& spec) {
        constexpr std::uint32_t colours = std::size(kColours);
        std::vector<StyleColour> options;
        Random random(mix(spec.seed ^ 0x57594c45));
        for (std::int32_t style = 0; style < spec.styles; ++style) {
            std::uint32_t tier = random.below(10);  // two dice: middling prices are the most frequent
            tier += random.below(11);
            const std::uint32_t yuan = kListPrices[tier];
            StyleColour option{};
            std::memcpy(option.sku, "ST", 2);
            put_digits(option.sku + 2, static_cast<std::uint64_t>(style), 5);
            option.price_cents = yuan * 100 + (yuan < kOddCentsBelow && random.below(2) != 0 ? 90 : 0);
            option.cost_cents = option.price_cents * (25 + random.below(36)) / 100;
            option.shoe = random.below(5) < 2;
            option.promotion = static_cast<std::uint8_t>(random.below(8));
            const std::uint32_t first = random.below(colours);
            const std::uint32_t step = 1 + random.below(colours - 1);
            const std::uint32_t count = 2 + random.below(4);
            for (std::uint32_t i = 0; i < count; ++i) {
                option.sku[7] = option.sku[11] = '-';
                std::memcpy(option.sku + 8, kColours[(first + i * step) % colours].data(), 3);
                options.push_back(option);
            }
        }
        for (std::size_t i = options.size() - 1; i > 0; --i)
            std::swap(options[i], options[random.below(static_cast<std::uint32_t>(i + 1))]);
        return options;
    }

    std::vector<StyleColour> options_;
    AliasTable popularity_;
    SizeTable garment_sizes_;
    SizeTable shoe_sizes_;
};

// ---- the daily curve: volume, and the moment at which order k is made ----

constexpr int kMinutesOfDay = 1440;
constexpr int kHourly[] = {9,  5,  3,  2,  2,  3,  6,  10, 15, 20, 26, 26, 25,
                           22, 21, 21, 21, 21, 22, 26, 32, 34, 28, 17, 9};
constexpr int kBurstMinutes[] = {0, 10 * 60, 20 * 60};
constexpr int kBurst[] = {9, 8, 7, 6, 5, 4, 3, 2};  // times the rate, minute by minute
// Volume is counted in rate x ms with this many bits after the point: fine enough for 10^14 orders a day.
constexpr int kVolumeBits = 16;

class DailyCurve {
public:
    DailyCurve() {
        for (int minute = 0; minute < kMinutesOfDay; ++minute) {
            const int hour = minute / 60;
            rate_[minute] = kHourly[hour] * (60 - minute % 60) + kHourly[hour + 1] * (minute % 60);
        }
        for (const int start : kBurstMinutes)
            for (int i = 0; i < static_cast<int>(std::size(kBurst)); ++i) rate_[start + i] *= kBurst[i];
        volume_[0] = 0;
        for (int minute = 0; minute < kMinutesOfDay; ++minute)
            volume_[minute + 1] = volume_[minute] + ((rate_[minute] * kMinute) << kVolumeBits);
    }
    [[nodiscard]] std::int64_t day_volume() const { return volume_[kMinutesOfDay]; }
    [[nodiscard]] std::int64_t end_of_minute(int minute) const { return volume_[minute + 1]; }
    [[nodiscard]] std::int64_t ms_of_day(int minute, std::int64_t volume) const {
        return minute * kMinute + (volume - volume_[minute]) / (rate_[minute] << kVolumeBits);
    }
    // Since the epoch.
    [[nodiscard]] int128 volume_until(std::int64_t time_ms) const {
        const std::int64_t of_day = time_ms % kDay;
        const auto minute = static_cast<int>(of_day / kMinute);
        return int128{time_ms / kDay} * day_volume() + volume_[minute] +
               ((of_day % kMinute * rate_[minute]) << kVolumeBits);
    }
    static bool in_burst(std::int64_t time_ms) {
        const std::int64_t of_day = time_ms % kDay;
        return std::ranges::any_of(kBurstMinutes, [&](int minute) {
            return of_day >= minute * kMinute &&
                   of_day < (minute + static_cast<std::int64_t>(std::size(kBurst))) * kMinute;
        });
    }

private:
    std::int64_t rate_[kMinutesOfDay];
    std::int64_t volume_[kMinutesOfDay + 1];
};

// ---- lives of orders ----

enum class Stage : std::uint8_t { created, paid, shipped, delivered, cancelled, returned };

// The delay from creation of one class of orders at one stage. Later stages leave room for the earlier ones,
// so that a lag of at most max_lag_ms never turns two events of an order round.
struct Lane {
    Stage stage;
    std::uint8_t of_class;
    std::int64_t delay_ms;
    std::int64_t max_lag_ms;
    int eighths = 8;  // the share of its stage's orders
};

constexpr std::int64_t kLastPayment = 27 * kMinute;
constexpr std::int64_t kLastDelivery = 100 * kHour;
constexpr std::int64_t kLongestDelay = 15 * kDay;

constexpr Lane paid(std::uint8_t of_class, std::int64_t delay_ms, int eighths) {
    return {Stage::paid, of_class, delay_ms, delay_ms, eighths};
}
constexpr Lane shipped(std::uint8_t of_class, std::int64_t delay_ms) {
    return {Stage::shipped, of_class, delay_ms, delay_ms - kLastPayment, 2};
}
constexpr Lane delivered(std::uint8_t of_class, std::int64_t delay_ms, std::int64_t shipped_ms) {
    return {Stage::delivered, of_class, delay_ms, delay_ms - shipped_ms, 2};
}
constexpr Lane cancelled(std::uint8_t of_class, std::int64_t delay_ms) {
    return {Stage::cancelled, of_class, delay_ms, delay_ms - kLastPayment, 2};
}
constexpr Lane returned(std::uint8_t of_class, std::int64_t delay_ms, int eighths) {
    return {Stage::returned, of_class, delay_ms, delay_ms - kLastDelivery, eighths};
}

constexpr Lane kLanes[] = {
    {Stage::created, 0, 0, kDay},
    paid(0, 15 * kSecond, 2),
    paid(1, 41 * kSecond, 2),
    paid(2, 95 * kSecond, 1),
    paid(3, 4 * kMinute, 1),
    paid(4, 11 * kMinute, 1),
    paid(5, kLastPayment, 1),
    shipped(0, 3 * kHour),
    shipped(1, 9 * kHour),
    shipped(2, 20 * kHour),
    shipped(3, 30 * kHour),
    delivered(0, 26 * kHour, 3 * kHour),
    delivered(1, 43 * kHour, 9 * kHour),
    delivered(2, 66 * kHour, 20 * kHour),
    delivered(3, kLastDelivery, 30 * kHour),
    cancelled(0, 40 * kMinute),
    cancelled(1, 130 * kMinute),
    cancelled(2, 31 * kHour),
    cancelled(3, 59 * kHour),
    returned(0, 125 * kHour, 2),
    returned(1, 146 * kHour, 2),
    returned(2, 177 * kHour, 1),
    returned(3, 222 * kHour, 1),
    returned(4, 291 * kHour, 1),
    returned(5, 350 * kHour, 1),
};
constexpr int kLaneCount = static_cast<int>(std::size(kLanes));
constexpr std::uint8_t kClassOfEighth[] = {0, 0, 1, 1, 2, 3, 4, 5};  // paid and returned

constexpr std::string_view kChannels[] = {"tmall", "jd", "douyin", "wechat", "app", "store"};
constexpr int kStoreChannel = 5;
constexpr int kOnlinePercent = 92;
constexpr std::uint8_t kDeepestDiscount[] = {30, 30, 40, 20, 20, 15};  // percent, by channel
constexpr int kChannelShares[] = {30, 22, 20, 10, 10, 8};              // percent

// What the lanes need to know of an order, from one hash.
struct Fate {
    bool cancelled;
    bool is_paid;
    bool is_returned;
    std::uint8_t channel;
    std::uint8_t paid_class;
    std::uint8_t returned_class;
    std::uint8_t delivery_class;
};

class Fates {
public:
    explicit Fates(const GenerateSpec& spec)
        : cancel_(chance(spec.cancel_rate)), return_(chance(spec.return_rate)) {
        int at = 0;
        for (std::uint8_t channel = 0; channel < std::size(kChannels); ++channel)
            for (int i = 0; i < kChannelShares[channel]; ++i) channel_of_percent_[at++] = channel;
    }
    [[nodiscard]] Fate of(std::uint64_t order_seed) const {
        const std::uint64_t hash = mix(order_seed);
        const std::uint64_t other = mix(hash);
        Fate fate{};
        fate.cancelled = (hash & 0xffffffff) < cancel_;
        fate.is_paid = !fate.cancelled || (hash >> 63) != 0;
        fate.is_returned = !fate.cancelled && (other & 0xffffffff) < return_;
        fate.channel = channel_of_percent_[((hash >> 32 & 0xffff) * 100) >> 16];
        fate.paid_class = fate.channel == kStoreChannel ? 0 : kClassOfEighth[hash >> 48 & 7];
        fate.returned_class = kClassOfEighth[hash >> 51 & 7];
        fate.delivery_class = hash >> 54 & 3;
        return fate;
    }
    [[nodiscard]] static bool takes(const Lane& lane, const Fate& fate) {
        switch (lane.stage) {
            case Stage::created:
                return true;
            case Stage::paid:
                return fate.is_paid && fate.paid_class == lane.of_class;
            case Stage::shipped:
            case Stage::delivered:
                return !fate.cancelled && fate.channel != kStoreChannel &&
                       fate.delivery_class == lane.of_class;
            case Stage::cancelled:
                return fate.cancelled && fate.delivery_class == lane.of_class;
            case Stage::returned:
                return fate.is_returned && fate.returned_class == lane.of_class;
        }
        return false;
    }
    // The share of orders that pass a lane, as 32 bits after the point.
    [[nodiscard]] std::uint64_t share(const Lane& lane) const {
        constexpr std::uint64_t one = std::uint64_t{1} << 32;
        const std::uint64_t kept = one - cancel_;
        const std::uint64_t part = static_cast<std::uint64_t>(lane.eighths);
        switch (lane.stage) {
            case Stage::created:
                return one;
            case Stage::paid: {
                const std::uint64_t all = kept + cancel_ / 2;
                const std::uint64_t at_once = lane.of_class == 0 ? all / 100 * (100 - kOnlinePercent) : 0;
                return all / 100 * kOnlinePercent * part / 8 + at_once;
            }
            case Stage::shipped:
            case Stage::delivered:
                return kept / 100 * kOnlinePercent * part / 8;
            case Stage::cancelled:
                return cancel_ * part / 8;
            case Stage::returned:
                return static_cast<std::uint64_t>((uint128{kept} * return_) >> 32) * part / 8;
        }
        return 0;
    }

private:
    std::uint64_t cancel_;
    std::uint64_t return_;
    std::uint8_t channel_of_percent_[100];
};

// ---- one order, computed from its number ----

constexpr int kMostLines = 5;
constexpr std::uint8_t kLineCounts[] = {1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 5};
constexpr std::uint8_t kQuantities[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 3, 5};

struct OrderLine {
    const StyleColour* option;
    std::string_view size;
    std::uint64_t quantity;
    std::uint64_t cost_cents;
    std::uint64_t discount_percent;
};

struct Order {
    std::uint64_t number;
    std::int64_t created_ms;
    std::uint8_t channel;
    std::uint32_t store;
    std::uint32_t customer;
    int line_count;
    int below_cost_lines;
    OrderLine lines[kMostLines];
};

}  // namespace omnistream::shop
