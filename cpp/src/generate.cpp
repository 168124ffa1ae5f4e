#include "omnistream/generate.hpp"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstring>
#include <queue>
#include <string>
#include <string_view>
#include <vector>

namespace omnistream {
namespace {

__extension__ using int128 = __int128;
__extension__ using uint128 = unsigned __int128;

constexpr std::int64_t kSecond = 1'000;
constexpr std::int64_t kMinute = 60 * kSecond;
constexpr std::int64_t kHour = 60 * kMinute;
constexpr std::int64_t kDay = 24 * kHour;

// ---- chance: splitmix64, once as a hash and once as a stream ----

constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15;

std::uint64_t mix(std::uint64_t x) {
    x += kGolden;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

class Random {
public:
    explicit Random(std::uint64_t state) : state_(state) {}
    std::uint64_t next() { return mix(state_ += kGolden); }
    std::uint32_t bits() { return static_cast<std::uint32_t>(next() >> 32); }
    // In [0, count).
    std::uint32_t below(std::uint32_t count) {
        return static_cast<std::uint32_t>((std::uint64_t{bits()} * count) >> 32);
    }

private:
    std::uint64_t state_;
};

// A share in [0, 1] as a bound on 32 random bits; exact, as a multiplication by a power of two is.
std::uint64_t chance(double share) {
    return static_cast<std::uint64_t>(share * 4294967296.0);
}

// ---- popularity: Zipf weights in integers, because pow() differs between C libraries ----

// log2(x) for x >= 1, 32 bits after the point.
std::uint64_t log2_q32(std::uint64_t x) {
    const auto exponent = static_cast<int>(std::bit_width(x)) - 1;
    uint128 mantissa = uint128{x} << (63 - exponent);
    std::uint64_t fraction = 0;
    for (int i = 0; i < 32; ++i) {
        mantissa = (mantissa * mantissa) >> 63;
        fraction <<= 1;
        if ((mantissa >> 64) != 0) {
            mantissa >>= 1;
            fraction |= 1;
        }
    }
    return (static_cast<std::uint64_t>(exponent) << 32) | fraction;
}

std::uint64_t square_root(uint128 x) {
    std::uint64_t root = 0;
    for (std::uint64_t bit = std::uint64_t{1} << 63; bit != 0; bit >>= 1) {
        const std::uint64_t tried = root | bit;
        if (uint128{tried} * tried <= x) root = tried;
    }
    return root;
}

// rank^-exponent for ranks 1..count, 62 bits after the point, at least one bit.
std::vector<std::uint64_t> zipf_weights(std::uint32_t count, double exponent) {
    std::uint64_t roots[32];  // 2^-(1/2), 2^-(1/4), ...
    std::uint64_t root = std::uint64_t{1} << 61;
    for (std::uint64_t& r : roots) r = root = square_root(uint128{root} << 62);
    const std::uint64_t power = chance(exponent);
    std::vector<std::uint64_t> weights(count);
    for (std::uint32_t rank = 1; rank <= count; ++rank) {
        const auto y = static_cast<std::uint64_t>((uint128{log2_q32(rank)} * power) >> 32);
        uint128 weight = uint128{1} << 62;
        for (int i = 0; i < 32; ++i) {
            if (((y >> (31 - i)) & 1) != 0) weight = (weight * roots[i]) >> 62;
        }
        const std::uint64_t shift = y >> 32;
        weights[rank - 1] =
            shift < 62 ? std::max<std::uint64_t>(static_cast<std::uint64_t>(weight >> shift), 1) : 1;
    }
    return weights;
}

// Walker's alias table: one random word, one cache line, any distribution.
class AliasTable {
public:
    explicit AliasTable(const std::vector<std::uint64_t>& weights) : cells_(weights.size()) {
        uint128 sum = 0;
        for (const std::uint64_t weight : weights) sum += weight;
        std::vector<std::uint64_t> filled(weights.size());  // 2^32 is the share of one cell
        std::vector<std::uint32_t> small;
        std::vector<std::uint32_t> large;
        // sum < 2^82, so the quotient is scaled by 2^20 at most to stay inside 128 bits.
        const uint128 unit = std::max<uint128>((sum << 20) / weights.size(), 1);
        for (std::uint32_t i = 0; i < weights.size(); ++i) {
            filled[i] = static_cast<std::uint64_t>((uint128{weights[i]} << 52) / unit);
            (filled[i] < kFull ? small : large).push_back(i);
        }
        while (!small.empty() && !large.empty()) {
            const std::uint32_t poor = small.back();
            const std::uint32_t rich = large.back();
            small.pop_back();
            cells_[poor] = {static_cast<std::uint32_t>(filled[poor]), rich};
            filled[rich] -= kFull - filled[poor];
            if (filled[rich] < kFull) {
                large.pop_back();
                small.push_back(rich);
            }
        }
        for (const std::uint32_t i : small) cells_[i] = {0, i};
        for (const std::uint32_t i : large) cells_[i] = {0, i};
    }
    [[nodiscard]] std::uint32_t draw(std::uint64_t random) const {
        const auto at = static_cast<std::uint32_t>(((random >> 32) * cells_.size()) >> 32);
        return static_cast<std::uint32_t>(random) < cells_[at].threshold ? at : cells_[at].alias;
    }

private:
    static constexpr std::uint64_t kFull = std::uint64_t{1} << 32;
    struct Cell {
        std::uint32_t threshold;
        std::uint32_t alias;
    };
    std::vector<Cell> cells_;
};

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

char* put_digits(char* at, std::uint64_t value, int width);

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

// ---- text ----

constexpr char kDigitPairs[] =
    "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
    "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

char* put_pair(char* at, std::uint64_t value) {
    std::memcpy(at, kDigitPairs + 2 * value, 2);
    return at + 2;
}

// At least `width` digits.
char* put_digits(char* at, std::uint64_t value, int width) {
    std::uint64_t bound = 10;
    for (int i = 1; i < width; ++i) bound *= 10;
    for (; value >= bound && width < 19; bound *= 10) ++width;
    int left = width;
    for (; left >= 2; left -= 2) {
        put_pair(at + left - 2, value % 100);
        value /= 100;
    }
    if (left == 1) *at = static_cast<char>('0' + value % 10);
    return at + width;
}

char* put(char* at, std::string_view text) {
    std::memcpy(at, text.data(), text.size());
    return at + text.size();
}

char* put_cents(char* at, std::uint64_t cents) {
    at = put_digits(at, cents / 100, 1);
    *at++ = '.';
    return put_pair(at, cents % 100);
}

char* put_hex(char* at, std::uint64_t value) {
    for (int i = 60; i >= 0; i -= 4) *at++ = "0123456789abcdef"[value >> i & 15];
    return at;
}

// Event times of a stream share their day nearly always.
class Days {
public:
    // "2026-11-11"
    std::string_view dashed(std::int64_t day) { return {of(day).dashed, 10}; }
    // "20261111"
    std::string_view plain(std::int64_t day) { return {of(day).plain, 8}; }

private:
    struct Text {
        std::int64_t day = -1;
        char dashed[10];
        char plain[8];
    };
    const Text& of(std::int64_t day) {
        Text& text = texts_[day & 63];
        if (text.day != day) {
            const std::chrono::year_month_day date{std::chrono::sys_days{std::chrono::days{day}}};
            const auto year = static_cast<std::uint64_t>(static_cast<int>(date.year()));
            const auto month = static_cast<unsigned>(date.month());
            const auto day_of_month = static_cast<unsigned>(date.day());
            put_pair(put_pair(put_digits(text.plain, year, 4), month), day_of_month);
            std::memcpy(text.dashed, text.plain, 4);
            text.dashed[4] = text.dashed[7] = '-';
            std::memcpy(text.dashed + 5, text.plain + 4, 2);
            std::memcpy(text.dashed + 8, text.plain + 6, 2);
            text.day = day;
        }
        return text;
    }
    Text texts_[64];
};

char* put_time(char* at, std::int64_t time_ms, Days* days) {
    at = put(at, days->dashed(time_ms / kDay));
    const auto of_day = static_cast<std::uint32_t>(time_ms % kDay);
    const std::uint32_t seconds = of_day / 1000;
    *at++ = 'T';
    at = put_pair(at, seconds / 3600);
    *at++ = ':';
    at = put_pair(at, seconds / 60 % 60);
    *at++ = ':';
    at = put_pair(at, seconds % 60);
    *at++ = '.';
    at = put_digits(at, of_day % 1000, 3);
    *at++ = 'Z';
    return at;
}

constexpr std::string_view kStreets[] = {
    "上海市浦东新区世纪大道", "北京市朝阳区建国路",
    "广州市天河区体育西路",   "深圳市南山区科技园南路",
    "杭州市西湖区文三路",     "成都市武侯区天府大道",
    "福建省晋江市长兴路",     "厦门市思明区湖滨南路",
    "南京市鼓楼区中山北路",   "武汉市洪山区珞喻路",
    "西安市雁塔区小寨东路",   "重庆市渝中区解放碑步行街",
    "天津市和平区南京路",     "苏州市姑苏区观前街",
    "青岛市市南区香港中路",   "内蒙古自治区呼和浩特市新城区新华大街",
};

char* put_line_fields(char* at, const OrderLine& line) {
    at = put(at, R"("sku":")");
    at = put(at, {line.option->sku, sizeof line.option->sku});
    at = put(at, line.size);
    at = put(at, R"(","size":")");
    at = put(at, line.size);
    at = put(at, R"(","qty":)");
    at = put_digits(at, line.quantity, 1);
    at = put(at, R"(,"unit_price":)");
    at = put_cents(at, line.option->price_cents);
    at = put(at, R"(,"unit_cost":)");
    at = put_cents(at, line.cost_cents);
    at = put(at, R"(,"discount":)");
    return put_cents(at, line.discount_percent);
}

// One message without its newline. Both shapes are in the order of their keys in the built-in schemas.
char* put_event(char* at, const Order& order, Stage stage, std::uint64_t id_seed, std::int64_t time_ms,
                bool nested, Days* days) {
    at = put(at, R"({"event_id":")");
    at = put_hex(at, mix(id_seed));
    at = put_hex(at, mix(~id_seed));
    at = put(at, R"(","event_type":")");
    at = put(at, kEventTypes[static_cast<int>(stage)]);
    at = put(at, R"(","event_time":")");
    at = put_time(at, time_ms, days);
    at = put(at, R"(","order_id":"O)");
    at = put(at, days->plain(order.created_ms / kDay));
    at = put_digits(at, order.number, 7);
    at = put(at, R"(","channel":")");
    at = put(at, kChannels[order.channel]);
    at = put(at, R"(","store_id":"S)");
    at = put_digits(at, order.store, 4);
    if (!nested) {
        at = put(at, R"(","customer_id":"C)");
        at = put_digits(at, order.customer, 7);
        at = put(at, R"(",)");
        at = put_line_fields(at, order.lines[0]);
        return put(at, R"(,"currency":"CNY"})");
    }
    const std::uint64_t person = mix(order.customer);
    at = put(at, R"(","customer":{"id":"C)");
    at = put_digits(at, order.customer, 7);
    at = put(at, R"(","phone":"1)");
    at = put_digits(at, 3'000'000'000 + person % 7'000'000'000, 10);
    at = put(at, R"(","address":")");
    at = put(at, kStreets[person >> 40 & 15]);
    at = put_digits(at, 1 + (person >> 48) % 1999, 1);
    at = put(at, R"(号"},"currency":"CNY","lines":[)");
    for (int i = 0; i < order.line_count; ++i) {
        if (i != 0) *at++ = ',';
        *at++ = '{';
        at = put_line_fields(at, order.lines[i]);
        *at++ = '}';
    }
    return put(at, "]}");
}

// The longest message that put_event writes is about 1,200 bytes.
constexpr std::size_t kRoomForEvent = 2048;
// Blocks up to this size are built without growing.
constexpr std::size_t kMostReserved = 64 << 20;

// ---- dirt ----

constexpr int kTooDeep = 200;

// The first value of a key, quotes included; every key of the two shapes is there once or in the first line.
void replace_value(std::string* message, std::string_view key, std::string_view value) {
    const std::size_t start = message->find(key) + key.size();
    const bool quoted = (*message)[start] == '"';
    const std::size_t end = quoted ? message->find('"', start + 1) + 1 : message->find_first_of(",}", start);
    message->replace(start, end - start, value);
}

void damage(std::string* message, int kind, std::uint64_t random) {
    constexpr std::string_view store = R"("store_id":"S)";
    const std::string_view name = kDirtKinds[kind].name;
    if (name == "truncated") {
        message->resize(1 + random % (message->size() - 1));
    } else if (name == "glued") {
        message->append(*message);
    } else if (name == "nul_byte") {
        (*message)[message->find(store) + store.size()] = '\0';
    } else if (name == "invalid_utf8") {
        (*message)[message->find(store) + store.size()] = '\xff';
    } else if (name == "wrong_type") {
        replace_value(message, R"("unit_price":)", R"("N/A")");
    } else if (name == "missing_field") {
        const std::size_t start = message->find(R"("sku":)");
        message->erase(start, message->find(R"("size":)") - start);
    } else if (name == "null_field") {
        replace_value(message, R"("sku":)", "null");
    } else if (name == "bad_timestamp") {
        replace_value(message, R"("event_time":)", R"("2026-13-32T25:61:00Z")");
    } else if (name == "out_of_range") {
        replace_value(message, R"("unit_price":)", "1e30");
    } else if (name == "inexact_number") {
        replace_value(message, R"("qty":)", "1.5");
    } else if (name == "not_an_object") {
        *message = R"("heartbeat")";
    } else if (name == "deep_nesting") {
        message->pop_back();
        message->append(R"(,"trace":)").append(kTooDeep, '[').append(kTooDeep, ']').append("}");
    } else if (name == "duplicate_keys") {
        message->insert(message->find(R"("qty":)"), R"("qty":null,)");
    } else if (name == "negative_quantity") {
        replace_value(message, R"("qty":)", "-1");
    } else if (name == "absurd_price") {
        replace_value(message, R"("unit_price":)", "12345678.90");
    } else if (name == "unknown_event_type") {
        replace_value(message, R"("event_type":)", R"("refund_pending")");
    } else {  // wrong_clock
        replace_value(message, R"("event_time":)", R"("1970-01-01T00:00:12.345Z")");
    }
}

// ---- the stream ----

// A lane's place among the orders.
struct Cursor {
    const Lane* lane;
    std::uint64_t number;  // of the order that it stands at
    std::int64_t day;      // since the epoch
    std::int64_t volume;   // of the day, before the order
    int minute;
    bool due;                 // the order passes this lane
    std::int64_t created_ms;  // of the order
};

// An event to send a second time.
struct Repeat {
    std::int64_t arrival_ms;
    std::uint64_t number;
    std::int64_t created_ms;
    const Lane* lane;
    std::int64_t sent_ms;  // when it was sent first

    // Later ones sink. A total order, so that the queue pops alike everywhere.
    friend bool operator<(const Repeat& a, const Repeat& b) {
        if (a.arrival_ms != b.arrival_ms) return a.arrival_ms > b.arrival_ms;
        if (a.number != b.number) return a.number > b.number;
        return a.lane > b.lane;
    }
};

// Memory stays bounded at any rate: beyond this many waiting repeats a repeat is sent at once.
constexpr std::size_t kMostRepeats = 65'536;
constexpr std::int64_t kLongestRepeat = kMinute;
constexpr std::int64_t kUsualLag = 500;
constexpr std::uint32_t kLateOneIn = 10;
// A lane that few orders pass gives way to the others after this many orders.
constexpr int kSeekLimit = 256;
// Keeps the distance between two orders in 64 bits when few events stand in a long span.
constexpr std::int64_t kMostDaysBetweenOrders = 1'000;

}  // namespace

class Generator::Impl {
public:
    explicit Impl(GenerateSpec spec)
        : spec_(spec),
          catalogue_(spec),
          fates_(spec),
          below_cost_(chance(spec.below_cost)),
          dirt_(chance(spec.dirt)),
          duplicates_(chance(spec.duplicates)),
          step_(volume_of_an_order()),
          first_day_((spec.start_ms - kLongestDelay) / kDay) {
        for (const Lane& lane : kLanes) {
            if (fates_.share(lane) == 0) continue;
            cursors_[cursor_count_] = seek(lane);
            due_ms_[cursor_count_] = cursors_[cursor_count_].created_ms + lane.delay_ms;
            ++cursor_count_;
        }
    }

    bool next(std::size_t bytes, Array<char>* out) {
        out->clear();
        out->reserve(std::min(bytes, kMostReserved) + kRoomForEvent);
        while (out->size() < bytes && counts_.events < spec_.events) {
            const int at = earliest();
            if (!repeats_.empty() && repeats_.top().arrival_ms <= due_ms_[at]) {
                const Repeat repeat = repeats_.top();
                repeats_.pop();
                send(out, *repeat.lane, repeat.number, repeat.created_ms, repeat.sent_ms, true);
                continue;
            }
            Cursor& cursor = cursors_[at];
            if (cursor.due) send(out, *cursor.lane, cursor.number, cursor.created_ms, due_ms_[at], false);
            advance(&cursor);
            due_ms_[at] = cursor.created_ms + cursor.lane->delay_ms;
        }
        return !out->empty();
    }

    [[nodiscard]] const GenerateCounts& counts() const { return counts_; }

private:
    // Volume between two orders, so that the lanes together pass `events` messages within the span.
    [[nodiscard]] std::int64_t volume_of_an_order() const {
        uint128 volume = 0;
        for (const Lane& lane : kLanes) {
            const std::int64_t from = spec_.start_ms - lane.delay_ms;
            const int128 part = curve_.volume_until(from + spec_.span_ms) - curve_.volume_until(from);
            volume += (static_cast<uint128>(part) * fates_.share(lane)) >> 32;
        }
        volume += (volume * static_cast<uint128>(chance((1 - spec_.dirt) * spec_.duplicates))) >> 32;
        const uint128 step = volume / static_cast<uint128>(std::max<std::int64_t>(spec_.events, 1));
        const uint128 most = static_cast<uint128>(curve_.day_volume()) * kMostDaysBetweenOrders;
        return static_cast<std::int64_t>(std::clamp<uint128>(step, 1, most));
    }

    // The first order whose moment on the lane is not before the start.
    Cursor seek(const Lane& lane) {
        const int128 anchor = int128{first_day_} * curve_.day_volume();
        const int128 before = curve_.volume_until(spec_.start_ms - lane.delay_ms) - anchor;
        Cursor cursor{};
        cursor.lane = &lane;
        cursor.number = static_cast<std::uint64_t>(before / step_);
        const int128 at = int128{cursor.number} * step_;
        cursor.day = first_day_ + static_cast<std::int64_t>(at / curve_.day_volume());
        cursor.volume = static_cast<std::int64_t>(at % curve_.day_volume());
        settle(&cursor);
        while (cursor.created_ms + lane.delay_ms < spec_.start_ms) advance(&cursor);
        return cursor;
    }

    void advance(Cursor* cursor) {
        for (int tried = 0; tried < kSeekLimit; ++tried) {
            ++cursor->number;
            cursor->volume += step_;
            if (cursor->volume >= curve_.day_volume()) {
                cursor->day += cursor->volume / curve_.day_volume();
                cursor->volume %= curve_.day_volume();
                cursor->minute = 0;
            }
            cursor->due = fates_.takes(*cursor->lane, fates_.of(order_seed(cursor->number)));
            if (cursor->due) break;
        }
        settle(cursor);
    }

    void settle(Cursor* cursor) {
        while (cursor->volume >= curve_.end_of_minute(cursor->minute)) ++cursor->minute;
        cursor->created_ms = cursor->day * kDay + curve_.ms_of_day(cursor->minute, cursor->volume);
        cursor->due = fates_.takes(*cursor->lane, fates_.of(order_seed(cursor->number)));
    }

    [[nodiscard]] int earliest() const {
        int best = 0;
        for (int i = 1; i < cursor_count_; ++i)
            if (due_ms_[i] < due_ms_[best]) best = i;
        return best;
    }

    [[nodiscard]] std::uint64_t order_seed(std::uint64_t number) const {
        return mix(spec_.seed) + number * kGolden;
    }

    void make_order(std::uint64_t number, std::int64_t created_ms, std::uint64_t seed, bool clean,
                    Order* order) const {
        Random random(mix(seed ^ 0x4f52444552));
        order->number = number;
        order->created_ms = created_ms;
        order->channel = fates_.of(seed).channel;
        // The smaller of two draws: some stores and customers are busier than others.
        order->store = std::min(random.below(static_cast<std::uint32_t>(spec_.stores)),
                                random.below(static_cast<std::uint32_t>(spec_.stores)));
        order->customer = random.below(static_cast<std::uint32_t>(spec_.customers));
        const std::uint32_t shape = random.bits();
        order->line_count = spec_.nested ? kLineCounts[shape & 15] : 1;
        order->below_cost_lines = 0;
        const bool burst = DailyCurve::in_burst(created_ms);
        const auto promotion = static_cast<std::uint8_t>(created_ms / kDay & 7);
        for (int i = 0; i < order->line_count; ++i) {
            OrderLine& line = order->lines[i];
            const std::uint64_t word = random.next();
            line.option = &catalogue_.draw(random.next());
            line.size = catalogue_.size(*line.option, static_cast<std::uint32_t>(word));
            line.quantity = kQuantities[word >> 6 & 15];
            const std::uint32_t steps = kDeepestDiscount[order->channel] / 5;
            line.discount_percent =
                (word >> 10 & 1023) < 400 ? 0 : 5 * (1 + (word >> 20 & 255) * steps / 256);
            if (burst) line.discount_percent += 5;
            if (line.option->promotion == promotion) line.discount_percent += 10;
            line.cost_cents = line.option->cost_cents;
            if ((word >> 32) < below_cost_ && clean) {
                line.cost_cents = line.option->price_cents * (105 + (word >> 28 & 15) * 3) / 100;
                ++order->below_cost_lines;
            }
        }
    }

    void send(Array<char>* out, const Lane& lane, std::uint64_t number, std::int64_t created_ms,
              std::int64_t sent_ms, bool repeated) {
        const std::uint64_t seed = order_seed(number);
        const std::uint64_t event_seed = mix(seed + 1 + static_cast<std::uint64_t>(lane.stage));
        Random random(event_seed);
        const std::int64_t disorder = std::min(spec_.max_disorder_ms, lane.max_lag_ms);
        const std::int64_t lag_bound =
            random.below(kLateOneIn) == 0 ? disorder : std::min(disorder, kUsualLag);
        const auto lag = static_cast<std::int64_t>(random.next() % static_cast<std::uint64_t>(lag_bound + 1));
        const bool dirty = random.bits() < dirt_;
        const bool twice = random.bits() < duplicates_;
        const std::uint64_t detail = random.next();

        Order order;
        make_order(number, created_ms, seed, !dirty, &order);
        const std::size_t before = out->size();
        out->reserve(std::max(before + kRoomForEvent, out->capacity()));
        char* at = out->data() + before;
        at = put_event(at, order, lane.stage, event_seed, std::max(spec_.start_ms, sent_ms - lag),
                       spec_.nested, &days_);
        if (!dirty) {
            *at++ = '\n';
            out->resize(static_cast<std::size_t>(at - out->data()));
        } else {
            const auto kind = static_cast<int>((detail >> 32) % kDirtKindCount);
            scratch_.assign(out->data() + before, at);
            damage(&scratch_, kind, detail & 0xffffffff);
            scratch_.push_back('\n');
            out->append(scratch_.data(), scratch_.size());
            ++counts_.broken[kind];
        }

        ++counts_.events;
        if (dirty) return;
        ++counts_.by_type[static_cast<int>(lane.stage)];
        counts_.lines += order.line_count;
        counts_.below_cost_lines += order.below_cost_lines;
        if (repeated) {
            ++counts_.duplicates;
            counts_.duplicate_lines += order.line_count;
        } else if (twice && order.below_cost_lines == 0) {
            const std::int64_t room = std::min(kLongestRepeat, spec_.max_disorder_ms - lag);
            const std::int64_t wait =
                repeats_.size() < kMostRepeats
                    ? static_cast<std::int64_t>(detail % static_cast<std::uint64_t>(room + 1))
                    : 0;
            repeats_.push({sent_ms + wait, number, created_ms, &lane, sent_ms});
        }
    }

    GenerateSpec spec_;
    Catalogue catalogue_;
    DailyCurve curve_;
    Fates fates_;
    std::uint64_t below_cost_;
    std::uint64_t dirt_;
    std::uint64_t duplicates_;
    std::int64_t step_;
    std::int64_t first_day_;  // order 0 opens it
    int cursor_count_ = 0;
    Cursor cursors_[kLaneCount];
    std::int64_t due_ms_[kLaneCount];  // apart from the cursors: the merge reads nothing else
    std::priority_queue<Repeat> repeats_;
    Days days_;
    std::string scratch_;
    GenerateCounts counts_;
};

Generator::Generator(GenerateSpec spec) : impl_(std::make_unique<Impl>(spec)) {}
Generator::~Generator() = default;
bool Generator::next(std::size_t bytes, Array<char>* out) {
    return impl_->next(bytes, out);
}
const GenerateCounts& Generator::counts() const {
    return impl_->counts();
}

}  // namespace omnistream
