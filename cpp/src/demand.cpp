#include "omnistream/demand.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <utility>

#include "omnistream/codes.hpp"
#include "omnistream/column_writer.hpp"
#include "omnistream/group_table.hpp"
#include "omnistream/key_layout.hpp"
#include "omnistream/moments.hpp"

namespace omnistream {

namespace {

constexpr std::int64_t kDayMs = 86'400'000;
constexpr std::size_t kBlock = GroupTable::kBlock;
// Forgotten keys stay in the table until they are this many and half of it.
constexpr std::int64_t kForgottenKept = 4096;
constexpr std::int32_t kNoOwner = -2;
// Of a snapshot, after last_day, days_known, days_silent and owner.
constexpr std::size_t kFirstKey = 4;

// A row of the table after its key. Days are counted from 1970.
enum Word : std::size_t {
    kFirstDay,     // of the key's life
    kLastDay,      // up to which the ring is written
    kLastNonZero,  // kNever: not yet
    kOwner,        // the partition of its first demand
    kRing,         // demand by day modulo horizon
};
constexpr std::int64_t kNoDay = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::min() / 2;

Type stored(Type type) {
    return is_text(type) ? Type::string : type;
}

}  // namespace

class Demand::Impl {
public:
    Impl(DemandSpec spec, std::vector<Type> key_types, Type demand_type)
        : spec_(std::move(spec)),
          key_types_(std::move(key_types)),
          demand_type_(demand_type),
          valid_(check()),
          layout_(key_types_) {
        horizon_ = valid_.ok() ? spec_.horizon_days : 1;
        clear();
    }

    Status validate() const { return valid_; }
    Status push(const Batch& day, std::shared_ptr<Batch>* changed);
    Status current(bool only_without_row, std::shared_ptr<Batch>* out) const;
    std::shared_ptr<Batch> empty_result() const { return finish(result_writers(0), 0); }
    std::int64_t keys() const;
    std::int64_t memory_bytes() const;
    std::shared_ptr<Batch> snapshot(std::int32_t owner) const;
    Status restore(const Batch& batch);
    Status drop(std::int32_t owner);
    Status take(const Batch& batch, std::int32_t from, std::int32_t to);

private:
    Status check() const;
    void clear();
    Status bind(const Batch& batch, const char* what, std::vector<const Column*>* keys) const;
    Status enter_day(const Batch& batch, const Column& starts, const Column& ends);
    void find(const std::vector<const Column*>& keys, std::int64_t begin, std::size_t count);
    [[nodiscard]] std::uint64_t* ring(std::uint64_t* state, std::int64_t day) const;
    void begin_life(std::uint64_t* state, std::int64_t day, std::int32_t owner) const;
    [[nodiscard]] bool touch(std::uint64_t* state, std::int64_t day, std::int64_t demand);
    Status check_columns(const Batch& batch) const;
    Status add(const Batch& batch, std::int32_t from, std::int32_t to);
    // Whether it is still needed: by a day that may come, or as of the newest day alone.
    bool lives(const std::uint64_t* state) const { return lives(state, settled_); }
    bool lives(const std::uint64_t* state, std::int64_t day) const {
        return day - static_cast<std::int64_t>(state[kLastNonZero]) < horizon_;
    }
    void count_living();
    std::int64_t demand_of(const std::uint64_t* state, std::int64_t day) const;
    Status write_statistics(const std::uint64_t* key, std::int64_t day, std::vector<ColumnWriter>* out) const;
    std::int64_t day_ms(std::int64_t day) const { return day * kDayMs + phase_ms_; }
    std::vector<ColumnWriter> result_writers(std::size_t rows) const;
    static std::shared_ptr<Batch> finish(std::vector<ColumnWriter> writers, std::int64_t rows);
    Array<std::uint32_t> live_rows_in_order(std::int64_t day) const;
    void drop_forgotten();
    template <class Keep>
    void keep_only(Keep&& keep);

    DemandSpec spec_;
    std::vector<Type> key_types_;
    Type demand_type_;
    Status valid_;
    KeyLayout layout_;
    std::int64_t horizon_ = 1;

    std::unique_ptr<GroupTable> table_;
    std::vector<std::unique_ptr<Dictionary>> texts_;  // by key; null where it is no string
    std::map<std::int64_t, std::int64_t>
        living_;                         // keys by the day of their last demand, that day in the horizon
    std::int64_t phase_ms_ = 0;          // of the day at which days start
    std::int64_t today_ = kNoDay;        // the newest
    std::int64_t day_ = kNoDay;          // that is pushed
    std::int64_t again_until_ = kNoDay;  // days up to this one may come again
    // The last day that was pushed, or that some partition has had when it was taken: it is before today_ as
    // long as a partition lags, whose keys are needed as of its own days.
    std::int64_t settled_ = kNoDay;

    std::vector<std::uint64_t> key_words_;
    std::uint32_t found_[kBlock];
};

Status Demand::Impl::check() const {
    if (spec_.horizon_days < 1) return {Code::schema, "demand: horizon_days must be at least 1"};
    if (spec_.keys.size() != key_types_.size())
        return {Code::schema, "demand: it needs one type for each key"};
    for (std::size_t i = 0; i < key_types_.size(); ++i)
        if (!KeyLayout::accepts(key_types_[i]))
            return {Code::schema, "demand: column '" + spec_.keys[i] + "' is of a type that is no key"};
    if (demand_type_ != Type::int64 && demand_type_ != Type::decimal)
        return {Code::schema, "demand: '" + spec_.demand + "' must be int64 or decimal, so that it is exact"};
    return {};
}

void Demand::Impl::clear() {
    const std::size_t state_words = kRing + static_cast<std::size_t>(horizon_);
    table_ = std::make_unique<GroupTable>(layout_.words(), std::vector<std::uint64_t>(state_words, 0));
    texts_.clear();
    for (const Type type : key_types_)
        texts_.push_back(is_text(type) ? std::make_unique<Dictionary>() : nullptr);
    key_words_.resize(kBlock * layout_.words());
    living_.clear();
    today_ = settled_ = kNoDay;
}

// ---- push: one day

Status Demand::Impl::push(const Batch& day, std::shared_ptr<Batch>* changed) {
    OMNI_RETURN_NOT_OK(valid_);
    if (day.rows == 0) {
        *changed = empty_result();
        return {};
    }
    std::vector<const Column*> keys;
    OMNI_RETURN_NOT_OK(bind(day, "the day's batch", &keys));
    const Column* demand = day.find(spec_.demand);
    const Column* starts = day.find("window_start");
    const Column* ends = day.find("window_end");
    if (demand == nullptr || starts == nullptr || ends == nullptr)
        return {Code::schema,
                "demand: the day's batch lacks window_start, window_end or '" + spec_.demand + "'"};
    if (demand->type != demand_type_ || starts->type != Type::timestamp_ms ||
        ends->type != Type::timestamp_ms)
        return {Code::schema,
                "demand: window_start, window_end or '" + spec_.demand + "' is of another type"};
    const std::int64_t newest = today_;
    OMNI_RETURN_NOT_OK(enter_day(day, *starts, *ends));

    std::vector<ColumnWriter> out = result_writers(static_cast<std::size_t>(day.rows));
    const auto* demands = demand->lanes<std::int64_t>();
    for (std::int64_t begin = 0; begin < day.rows; begin += static_cast<std::int64_t>(kBlock)) {
        const auto count = static_cast<std::size_t>(std::min<std::int64_t>(kBlock, day.rows - begin));
        const std::size_t known = table_->size();
        find(keys, begin, count);
        std::size_t fresh = known;
        for (std::size_t i = 0; i < count; ++i) {
            const std::int64_t row = begin + static_cast<std::int64_t>(i);
            std::uint64_t* words = table_->row(found_[i]);
            std::uint64_t* state = words + layout_.words();
            const bool is_new = found_[i] == fresh;
            if (is_new)
                ++fresh;
            else if (static_cast<std::int64_t>(state[kLastDay]) == day_ && day_ > newest)
                return {Code::state, "demand: a key comes twice on one day"};
            // What was forgotten yesterday at the latest starts anew.
            if (is_new || day_ - static_cast<std::int64_t>(state[kLastNonZero]) > horizon_)
                begin_life(state, day_,
                           day.row_owner.empty() ? day.owner : day.row_owner[static_cast<std::size_t>(row)]);
            if (touch(state, day_, demand->valid(row) ? demands[row] : 0))
                return {Code::state, "demand: '" + spec_.demand + "' of a day that came again overflows"};
            OMNI_RETURN_NOT_OK(write_statistics(words, day_, &out));
        }
    }
    *changed = finish(std::move(out), day.rows);
    drop_forgotten();
    return {};
}

Status Demand::Impl::bind(const Batch& batch, const char* what, std::vector<const Column*>* keys) const {
    for (std::size_t i = 0; i < spec_.keys.size(); ++i) {
        const Column* column = batch.find(spec_.keys[i]);
        if (column == nullptr)
            return {Code::schema, std::string("demand: ") + what + " has no column '" + spec_.keys[i] + "'"};
        if (column->type != stored(key_types_[i]))
            return {Code::schema,
                    std::string("demand: column '") + spec_.keys[i] + "' of " + what + " is of another type"};
        keys->push_back(column);
    }
    return {};
}

Status Demand::Impl::enter_day(const Batch& batch, const Column& starts, const Column& ends) {
    const std::int64_t start_ms = starts.lanes<std::int64_t>()[0];
    for (std::int64_t row = 0; row < batch.rows; ++row) {
        const __int128 size = static_cast<__int128>(ends.lanes<std::int64_t>()[row]) - start_ms;
        if (starts.lanes<std::int64_t>()[row] != start_ms || size != kDayMs)
            return {Code::state, "demand: a batch is not one window of one day"};
    }
    const std::int64_t day = (start_ms - (start_ms % kDayMs + kDayMs) % kDayMs) / kDayMs;
    if (today_ == kNoDay) {
        phase_ms_ = start_ms - day * kDayMs;
    } else {
        if (start_ms != day_ms(day) || (day <= today_ && day > again_until_))
            return {Code::state, "demand: the day from " + std::to_string(start_ms) +
                                     " ms does not follow the one from " + std::to_string(day_ms(today_)) +
                                     " ms by whole days"};
    }
    day_ = day;
    today_ = std::max(today_, day);
    const bool back = settled_ != kNoDay && day < settled_;
    settled_ = day;
    if (back) count_living();
    living_.erase(living_.begin(), living_.upper_bound(settled_ - horizon_));
    return {};
}

void Demand::Impl::find(const std::vector<const Column*>& keys, std::int64_t begin, std::size_t count) {
    std::int32_t rows[kBlock];
    for (std::size_t i = 0; i < count; ++i)
        rows[i] = static_cast<std::int32_t>(begin + static_cast<std::int64_t>(i));
    layout_.start(key_words_.data(), count);
    for (std::size_t i = 0; i < keys.size(); ++i)
        layout_.pack(i, *keys[i], rows, count, nullptr, texts_[i].get(), key_words_.data());
    table_->find_or_insert(key_words_.data(), count, found_);
}

std::uint64_t* Demand::Impl::ring(std::uint64_t* state, std::int64_t day) const {
    const std::int64_t place = day % horizon_;
    return state + kRing + static_cast<std::size_t>(place < 0 ? place + horizon_ : place);
}

void Demand::Impl::begin_life(std::uint64_t* state, std::int64_t day, std::int32_t owner) const {
    std::memset(state, 0, (kRing + static_cast<std::size_t>(horizon_)) * sizeof *state);
    state[kFirstDay] = static_cast<std::uint64_t>(day);
    state[kLastDay] = static_cast<std::uint64_t>(day);
    state[kLastNonZero] = static_cast<std::uint64_t>(kNever);
    state[kOwner] = static_cast<std::uint64_t>(owner);
}

// Adds to the demand of a day; the days since the last one were zero. True when the sum overflows.
bool Demand::Impl::touch(std::uint64_t* state, std::int64_t day, std::int64_t demand) {
    const auto last = static_cast<std::int64_t>(state[kLastDay]);
    state[kFirstDay] = static_cast<std::uint64_t>(std::min(day, static_cast<std::int64_t>(state[kFirstDay])));
    if (day > last) {
        for (std::int64_t zero = std::max(last, day - horizon_) + 1; zero <= day; ++zero)
            *ring(state, zero) = 0;
        state[kLastDay] = static_cast<std::uint64_t>(day);
    } else if (day <= last - horizon_) {
        return false;  // no statistics look as far back
    }
    std::int64_t sum = 0;
    std::uint64_t* place = ring(state, day);
    const bool overflow = __builtin_add_overflow(static_cast<std::int64_t>(*place), demand, &sum);
    *place = static_cast<std::uint64_t>(sum);
    const auto before = static_cast<std::int64_t>(state[kLastNonZero]);
    if (demand == 0 || day <= before) return overflow;
    const auto counted = living_.find(before);
    if (counted != living_.end()) --counted->second;
    if (day > settled_ - horizon_) ++living_[day];
    state[kLastNonZero] = static_cast<std::uint64_t>(day);
    return overflow;
}

std::int64_t Demand::Impl::demand_of(const std::uint64_t* state, std::int64_t day) const {
    if (day < static_cast<std::int64_t>(state[kFirstDay]) || day > static_cast<std::int64_t>(state[kLastDay]))
        return 0;
    const std::int64_t place = day % horizon_;
    return static_cast<std::int64_t>(
        state[kRing + static_cast<std::size_t>(place < 0 ? place + horizon_ : place)]);
}

// The moments are summed anew from the ring: they need no state and cannot drift.
Status Demand::Impl::write_statistics(const std::uint64_t* key, std::int64_t day,
                                      std::vector<ColumnWriter>* out) const {
    const std::uint64_t* state = key + layout_.words();
    const auto first = static_cast<std::int64_t>(state[kFirstDay]);
    const std::int64_t days = std::min(horizon_, day - first + 1);
    __int128 sum = 0;
    Moments moments;
    moments.n = days;
    bool overflow = false;
    // Of days that came again, those are left that the ring still holds.
    const auto last = static_cast<std::int64_t>(state[kLastDay]);
    for (std::int64_t of = std::max(day - days, last - horizon_) + 1; of <= std::min(day, last); ++of) {
        const std::int64_t demand = demand_of(state, of);
        sum += demand;
        const auto square = static_cast<unsigned __int128>(static_cast<__int128>(demand) * demand);
        overflow |= __builtin_add_overflow(moments.squares, square, &moments.squares);
    }
    moments.sum = static_cast<std::int64_t>(sum);
    if (overflow || sum != moments.sum)
        return {Code::state, "demand: the moments of '" + spec_.demand + "' overflow for a key"};

    const std::int64_t scale = demand_type_ == Type::decimal ? kDecimalOne : 1;
    const double std_dev = days < 2 ? 0.0 : moments.std_dev(scale);
    auto at = out->begin();
    (at++)->put(day_ms(day));
    for (std::size_t i = 0; i < key_types_.size(); ++i) layout_.unpack(i, key, texts_[i].get(), &*at++);
    (at++)->put(days);
    (at++)->put(demand_of(state, day));
    (at++)->put_float(moments.mean(scale));
    (at++)->put_float(std_dev);
    at->put_float(spec_.z * std_dev * std::sqrt(spec_.lead_time_days));
    return {};
}

std::vector<ColumnWriter> Demand::Impl::result_writers(std::size_t rows) const {
    std::vector<ColumnWriter> writers;
    writers.emplace_back("day", Type::timestamp_ms, rows);
    for (std::size_t i = 0; i < key_types_.size(); ++i)
        writers.emplace_back(spec_.keys[i], stored(key_types_[i]), rows);
    writers.emplace_back("days", Type::int32, rows);
    writers.emplace_back("demand", demand_type_, rows);
    for (const char* name : {"mean", "std", "safety_stock"}) writers.emplace_back(name, Type::float64, rows);
    return writers;
}

std::shared_ptr<Batch> Demand::Impl::finish(std::vector<ColumnWriter> writers, std::int64_t rows) {
    auto batch = std::make_shared<Batch>();
    auto origin = std::make_shared<Origin>();
    origin->source = "demand";
    batch->origin = std::move(origin);
    batch->rows = rows;
    for (ColumnWriter& writer : writers) batch->columns.push_back(writer.finish());
    return batch;
}

// ---- The keys that live

Status Demand::Impl::current(bool only_without_row, std::shared_ptr<Batch>* out) const {
    OMNI_RETURN_NOT_OK(valid_);
    Array<std::uint32_t> order = live_rows_in_order(today_);
    if (only_without_row) {
        const auto* last = std::remove_if(order.begin(), order.end(), [this](std::uint32_t number) {
            const std::uint64_t* state = table_->row(number) + layout_.words();
            return static_cast<std::int64_t>(state[kLastDay]) == today_;
        });
        order.resize(static_cast<std::size_t>(last - order.begin()));
    }
    std::vector<ColumnWriter> writers = result_writers(order.size());
    for (const std::uint32_t number : order)
        OMNI_RETURN_NOT_OK(write_statistics(table_->row(number), today_, &writers));
    *out = finish(std::move(writers), static_cast<std::int64_t>(order.size()));
    return {};
}

Array<std::uint32_t> Demand::Impl::live_rows_in_order(std::int64_t day) const {
    std::vector<ByteOrder> byte_orders(key_types_.size());
    std::vector<const std::vector<std::int32_t>*> ranks(key_types_.size(), nullptr);
    for (std::size_t i = 0; i < key_types_.size(); ++i)
        if (texts_[i] != nullptr) ranks[i] = &byte_orders[i].ranks(*texts_[i]);
    Array<std::uint32_t> order = layout_.order(*table_, ranks);
    const auto* last = std::remove_if(order.begin(), order.end(), [this, day](std::uint32_t number) {
        return !lives(table_->row(number) + layout_.words(), day);
    });
    order.resize(static_cast<std::size_t>(last - order.begin()));
    return order;
}

std::int64_t Demand::Impl::keys() const {
    std::int64_t keys = 0;
    for (const auto& [day, count] : living_) keys += count;
    return keys;
}

void Demand::Impl::count_living() {
    living_.clear();
    for (std::size_t number = 0; number < table_->size(); ++number) {
        const std::uint64_t* state = table_->row(number) + layout_.words();
        if (lives(state)) ++living_[static_cast<std::int64_t>(state[kLastNonZero])];
    }
}

// Moves the keys that live into a new table once most of the old one is forgotten.
void Demand::Impl::drop_forgotten() {
    const auto rows = static_cast<std::int64_t>(table_->size());
    if (rows < kForgottenKept || rows < 2 * keys()) return;
    keep_only([this](const std::uint64_t* state) { return lives(state); });
}

// Makes the table anew from the rows whose state `keep` wants.
template <class Keep>
void Demand::Impl::keep_only(Keep&& keep) {
    const std::unique_ptr<GroupTable> old = std::move(table_);
    std::vector<std::unique_ptr<Dictionary>> old_texts = std::move(texts_);
    const std::int64_t today = today_;
    const std::int64_t settled = settled_;
    clear();
    today_ = today;
    settled_ = settled;

    const std::size_t state_words = kRing + static_cast<std::size_t>(horizon_);
    const std::int32_t first_row = 0;
    for (std::size_t number = 0; number < old->size(); ++number) {
        const std::uint64_t* words = old->row(number);
        const std::uint64_t* state = words + layout_.words();
        if (!keep(state)) continue;
        layout_.start(key_words_.data(), 1);
        for (std::size_t i = 0; i < key_types_.size(); ++i) {
            ColumnWriter value("", stored(key_types_[i]));
            layout_.unpack(i, words, old_texts[i].get(), &value);
            layout_.pack(i, value.finish(), &first_row, 1, nullptr, texts_[i].get(), key_words_.data());
        }
        table_->find_or_insert(key_words_.data(), 1, found_);
        std::memcpy(table_->row(found_[0]) + layout_.words(), state, state_words * sizeof(std::uint64_t));
    }
    count_living();
}

std::int64_t Demand::Impl::memory_bytes() const {
    std::int64_t bytes =
        static_cast<std::int64_t>(sizeof(Impl) + key_words_.capacity() * sizeof(std::uint64_t)) +
        table_->memory_bytes();
    for (const auto& texts : texts_) bytes += texts == nullptr ? 0 : texts->memory_bytes();
    return bytes;
}

// ---- snapshot and restore

namespace {

std::string days_ago(const std::string& demand, std::int64_t days) {
    return demand + " " + std::to_string(days) + " days ago";
}

}  // namespace

// Of one owner: as if it had been alone, with the number 0.
std::shared_ptr<Batch> Demand::Impl::snapshot(std::int32_t owner) const {
    Array<std::uint32_t> order = live_rows_in_order(settled_);
    const auto* past = std::remove_if(order.begin(), order.end(), [&](std::uint32_t number) {
        const std::uint64_t* state = table_->row(number) + layout_.words();
        return owner != kAllOwners && static_cast<std::int32_t>(state[kOwner]) != owner;
    });
    order.resize(static_cast<std::size_t>(past - order.begin()));
    const std::size_t rows = order.size() + 1;
    std::vector<ColumnWriter> writers;
    writers.emplace_back("last_day", Type::timestamp_ms, rows);
    writers.emplace_back("days_known", Type::int64,
                         rows);  // from the first demand to the last day, both counted
    writers.emplace_back("days_silent", Type::int64, rows);  // from the last row to the last day
    writers.emplace_back("owner", Type::int32, rows);
    for (std::size_t i = 0; i < key_types_.size(); ++i)
        writers.emplace_back("key " + spec_.keys[i], stored(key_types_[i]), rows);
    for (std::int64_t ago = 0; ago < horizon_; ++ago)
        writers.emplace_back(days_ago(spec_.demand, ago), demand_type_, rows);

    if (today_ == kNoDay)
        writers[0].put_null();
    else
        writers[0].put(day_ms(today_));
    // Of row 0, days_known says how far before the last day those end that may come again.
    if (again_until_ == kNoDay)
        writers[1].put_null();
    else
        writers[1].put(today_ - again_until_);
    // And days_silent, how far before it the days that are settled.
    if (today_ == kNoDay)
        writers[2].put_null();
    else
        writers[2].put(today_ - settled_);
    for (std::size_t i = 3; i < writers.size(); ++i) writers[i].put_null();
    for (const std::uint32_t number : order) {
        const std::uint64_t* words = table_->row(number);
        const std::uint64_t* state = words + layout_.words();
        auto at = writers.begin();
        // A key that lags has its demands as of its own days.
        const std::int64_t last = std::max(settled_, static_cast<std::int64_t>(state[kLastDay]));
        (at++)->put(day_ms(last));
        (at++)->put(last - static_cast<std::int64_t>(state[kFirstDay]) + 1);
        (at++)->put(last - static_cast<std::int64_t>(state[kLastDay]));
        (at++)->put(owner == kAllOwners ? static_cast<std::int32_t>(state[kOwner]) : 0);
        for (std::size_t i = 0; i < key_types_.size(); ++i) layout_.unpack(i, words, texts_[i].get(), &*at++);
        for (std::int64_t ago = 0; ago < horizon_; ++ago) (at++)->put(demand_of(state, last - ago));
    }
    return finish(std::move(writers), static_cast<std::int64_t>(rows));
}

// The columns by name and order are the spec.
Status Demand::Impl::check_columns(const Batch& batch) const {
    const std::vector<Column> wanted = snapshot(kNoOwner)->columns;
    for (std::size_t i = 0; i < std::max(wanted.size(), batch.columns.size()); ++i) {
        const std::string saved =
            i < batch.columns.size() ? "column '" + batch.columns[i].name + "'" : "no more columns";
        const std::string ours = i < wanted.size() ? "column '" + wanted[i].name + "'" : "no more columns";
        if (saved != ours)
            return {Code::state,
                    "the demand snapshot does not fit: it has " + saved + " where the job has " + ours};
        if (batch.columns[i].type != wanted[i].type)
            return {Code::state, "the demand snapshot does not fit: its " + saved + " is of another type"};
    }
    if (batch.rows < 1) return {Code::state, "the demand snapshot has no row"};
    return {};
}

Status Demand::Impl::restore(const Batch& batch) {
    OMNI_RETURN_NOT_OK(valid_);
    OMNI_RETURN_NOT_OK(check_columns(batch));
    clear();
    again_until_ = kNoDay;
    OMNI_RETURN_NOT_OK(add(batch, kAllOwners, 0));
    const Column& known = batch.columns[1];
    if (today_ != kNoDay && known.valid(0)) again_until_ = today_ - known.lanes<std::int64_t>()[0];
    return {};
}

Status Demand::Impl::take(const Batch& batch, std::int32_t from, std::int32_t to) {
    OMNI_RETURN_NOT_OK(valid_);
    OMNI_RETURN_NOT_OK(check_columns(batch));
    OMNI_RETURN_NOT_OK(add(batch, from, to));
    again_until_ = today_;
    return {};
}

Status Demand::Impl::drop(std::int32_t owner) {
    OMNI_RETURN_NOT_OK(valid_);
    keep_only(
        [owner](const std::uint64_t* state) { return static_cast<std::int32_t>(state[kOwner]) != owner; });
    return {};
}

// The keys of `from` as `to`'s; kAllOwners: all, each as its own owner's.
Status Demand::Impl::add(const Batch& batch, std::int32_t from, std::int32_t to) {
    if (!batch.columns[0].valid(0)) return {};
    const std::int64_t last_ms = batch.columns[0].lanes<std::int64_t>()[0];
    const std::int64_t last_day = (last_ms - (last_ms % kDayMs + kDayMs) % kDayMs) / kDayMs;
    if (today_ != kNoDay && last_ms - last_day * kDayMs != phase_ms_)
        return {Code::state, "the days of the demand snapshot start at another time of day"};
    phase_ms_ = last_ms - last_day * kDayMs;
    const bool fresh = today_ == kNoDay;
    today_ = std::max(today_, last_day);
    const Column& silent = batch.columns[2];
    const std::int64_t theirs = last_day - (silent.valid(0) ? silent.lanes<std::int64_t>()[0] : 0);
    settled_ = fresh ? theirs : std::min(settled_, theirs);
    count_living();
    const auto* last_days_ms = batch.columns[0].lanes<std::int64_t>();
    const auto* days_known = batch.columns[1].lanes<std::int64_t>();
    const auto* days_silent = batch.columns[2].lanes<std::int64_t>();
    const auto* owners = batch.columns[3].lanes<std::int32_t>();
    std::vector<const Column*> keys;
    for (std::size_t i = 0; i < key_types_.size(); ++i) keys.push_back(&batch.columns[kFirstKey + i]);
    const Column* demands = batch.columns.data() + kFirstKey + keys.size();
    const bool all = from == kAllOwners;
    for (std::int64_t row = 1; row < batch.rows; ++row) {
        if (!all && owners[row] != from) continue;
        const std::size_t known = table_->size();
        find(keys, row, 1);
        const bool is_new = table_->size() != known;
        if (all && !is_new) return {Code::state, "the demand snapshot has a key twice"};
        std::uint64_t* state = table_->row(found_[0]) + layout_.words();
        const std::int64_t row_day = (last_days_ms[row] - phase_ms_) / kDayMs;
        const std::int64_t first = row_day - days_known[row] + 1;
        const std::int64_t last = row_day - days_silent[row];
        if (is_new || !lives(state)) begin_life(state, first, all ? owners[row] : to);
        state[kFirstDay] =
            static_cast<std::uint64_t>(std::min(first, static_cast<std::int64_t>(state[kFirstDay])));
        for (std::int64_t day = std::max(first, row_day - horizon_ + 1); day <= last; ++day)
            if (touch(state, day, demands[row_day - day].lanes<std::int64_t>()[row]))
                return {Code::state, "demand: '" + spec_.demand + "' of a key in two snapshots overflows"};
        if (all && !lives(state)) return {Code::state, "the demand snapshot has a key without demand"};
    }
    return {};
}

// ---- The face

Demand::Demand(DemandSpec spec, std::vector<Type> key_types, Type demand_type)
    : impl_(std::make_unique<Impl>(std::move(spec), std::move(key_types), demand_type)) {}
Demand::~Demand() = default;

Status Demand::validate() const {
    return impl_->validate();
}
Status Demand::push(const Batch& day, std::shared_ptr<Batch>* changed) {
    return impl_->push(day, changed);
}
Status Demand::current(std::shared_ptr<Batch>* all) const {
    return impl_->current(false, all);
}
Status Demand::without_row(std::shared_ptr<Batch>* some) const {
    return impl_->current(true, some);
}
std::shared_ptr<Batch> Demand::empty_result() const {
    return impl_->empty_result();
}
std::int64_t Demand::keys() const {
    return impl_->keys();
}
std::int64_t Demand::memory_bytes() const {
    return impl_->memory_bytes();
}
std::shared_ptr<Batch> Demand::snapshot(std::int32_t owner) const {
    return impl_->snapshot(owner);
}
Status Demand::restore(const Batch& batch) {
    return impl_->restore(batch);
}
Status Demand::drop(std::int32_t owner) {
    return impl_->drop(owner);
}
Status Demand::take(const Batch& batch, std::int32_t from, std::int32_t to) {
    return impl_->take(batch, from, to);
}

}  // namespace omnistream
