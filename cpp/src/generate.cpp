// The stream: the events of all orders, merged in time. What an order is, is in generate_shop.hpp.
#include "omnistream/generate.hpp"

#include <algorithm>
#include <queue>
#include <string>

#include "generate_chance.hpp"
#include "generate_shop.hpp"
#include "generate_text.hpp"

namespace omnistream {

using namespace shop;

namespace {

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
