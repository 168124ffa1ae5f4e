#include "omnistream/clean.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string_view>
#include <type_traits>
#include <utility>

#include "omnistream/row_keys.hpp"

namespace omnistream {

namespace {

constexpr std::uint16_t kPassed = 0xFFFF;
constexpr std::size_t kMaxRules = kPassed - 2;  // two more numbers mean a duplicate and an overflow
// Duplicate lookups in flight at once.
constexpr std::size_t kGroup = kKeysAtOnce;

const char* kind_name(RuleKind kind) {
    switch (kind) {
        case RuleKind::less_than:
            return "less_than";
        case RuleKind::range:
            return "range";
        case RuleKind::ahead:
            return "ahead";
        case RuleKind::behind:
            return "behind";
        case RuleKind::required:
            return "required";
        case RuleKind::allowed:
            return "allowed";
    }
    return "unknown";
}

bool is_lane(Type type) {
    return !is_text(type) && type != Type::binary;
}

std::string quoted(const std::string& name) {
    return '"' + name + '"';
}

// ---- rules
// ----------------------------------------------------------------------------------------------------

Status missing(const Rule& rule, const std::string& column) {
    return {Code::schema, "clean rule " + quoted(rule.reason) + " (" + kind_name(rule.kind) +
                              ") names column " + quoted(column) + ", which the batch does not have"};
}

// Whether the rule can be applied to the columns of this batch.
Status check(const Rule& rule, const Batch& batch) {
    const Column* const column = batch.find(rule.column);
    if (column == nullptr) return missing(rule, rule.column);
    bool fits = true;
    switch (rule.kind) {
        case RuleKind::less_than: {
            const Column* const other = batch.find(rule.other);
            if (other == nullptr) return missing(rule, rule.other);
            if (other->type != column->type)
                return {Code::schema, "clean rule " + quoted(rule.reason) + " (less_than) compares column " +
                                          quoted(rule.column) + " of type " + type_name(column->type) +
                                          " with column " + quoted(rule.other) + " of type " +
                                          type_name(other->type)};
            fits = is_lane(column->type);
            break;
        }
        case RuleKind::range:
            fits = is_lane(column->type);
            break;
        case RuleKind::ahead:
        case RuleKind::behind:
            fits = column->type == Type::timestamp_ms;
            break;
        case RuleKind::required:
            break;
        case RuleKind::allowed:
            fits = is_text(column->type);
            break;
    }
    if (fits) return {};
    return {Code::schema, "clean rule " + quoted(rule.reason) + " (" + kind_name(rule.kind) +
                              ") cannot be applied to column " + quoted(rule.column) + " of type " +
                              type_name(column->type)};
}

bool is_valid(const std::uint8_t* validity, std::int64_t row) {
    return ((validity[row >> 3] >> (row & 7)) & 1) != 0;
}

// Rules run in order and numbers grow, so the least is the first that failed. `bad` is asked about valid rows
// only; with no nulls the loop has no branch.
template <class Bad>
void mark(const std::uint8_t* validity, std::int64_t rows, std::uint16_t number, std::uint16_t* failed,
          Bad bad) {
    if (validity == nullptr) {
        for (std::int64_t row = 0; row < rows; ++row) {
            const std::uint16_t mine = bad(row) ? number : kPassed;
            failed[row] = std::min(failed[row], mine);
        }
        return;
    }
    for (std::int64_t row = 0; row < rows; ++row)
        if (is_valid(validity, row) && bad(row)) failed[row] = std::min(failed[row], number);
}

template <class Visit>
void with_lanes(const Column& column, Visit visit) {
    switch (column.type) {
        case Type::boolean:
            return visit(column.lanes<std::uint8_t>());
        case Type::int32:
            return visit(column.lanes<std::int32_t>());
        case Type::float64:
            return visit(column.lanes<double>());
        default:
            return visit(column.lanes<std::int64_t>());
    }
}

void mark_less_than(const Column& column, const Column& other, std::int64_t rows, std::uint16_t number,
                    std::uint16_t* failed) {
    with_lanes(column, [&]<class T>(const T* left) {
        const T* const right = other.lanes<T>();
        if (!other.validity)
            return mark(column.validity.data, rows, number, failed,
                        [=](std::int64_t row) { return left[row] < right[row]; });
        const std::uint8_t* const validity = other.validity.data;
        mark(column.validity.data, rows, number, failed,
             [=](std::int64_t row) { return is_valid(validity, row) & (left[row] < right[row]); });
    });
}

template <class T, class Bound>
void mark_outside(const Column& column, Bound low, Bound high, std::int64_t rows, std::uint16_t number,
                  std::uint16_t* failed) {
    const T* const lanes = column.lanes<T>();
    mark(column.validity.data, rows, number, failed,
         [=](std::int64_t row) { return !((lanes[row] >= low) & (lanes[row] <= high)); });
}

void mark_range(const Column& column, const Rule& rule, std::int64_t rows, std::uint16_t number,
                std::uint16_t* failed) {
    with_lanes(column, [&]<class T>(const T*) {
        if constexpr (std::is_same_v<T, double>)
            mark_outside<T>(column, rule.low_float, rule.high_float, rows, number, failed);
        else
            mark_outside<T>(column, rule.low, rule.high, rows, number, failed);
    });
}

std::int64_t plus(std::int64_t a, std::int64_t b) {
    std::int64_t sum;
    if (__builtin_add_overflow(a, b, &sum)) return b < 0 ? Watermark::kNone : Watermark::kEnd;
    return sum;
}

std::int64_t minus(std::int64_t a, std::int64_t b) {
    std::int64_t difference;
    if (__builtin_sub_overflow(a, b, &difference)) return b > 0 ? Watermark::kNone : Watermark::kEnd;
    return difference;
}

void mark_nulls(const Column& column, std::int64_t rows, std::uint16_t number, std::uint16_t* failed) {
    if (!column.validity) return;
    const std::uint8_t* const validity = column.validity.data;
    mark(nullptr, rows, number, failed, [=](std::int64_t row) { return !is_valid(validity, row); });
}

// ---- survivors
// ------------------------------------------------------------------------------------------------

void keep_passed(const std::uint16_t* failed, std::int64_t rows, KeptVector<std::int32_t>* survivors) {
    survivors->resize(static_cast<std::size_t>(rows));
    std::int32_t* const out = survivors->data();
    std::size_t count = 0;
    for (std::int64_t row = 0; row < rows; ++row) {
        out[count] = static_cast<std::int32_t>(row);
        count += failed[row] == kPassed;
    }
    survivors->resize(count);
}

// ---- rejects
// --------------------------------------------------------------------------------------------------

void list_rejects(const Batch& batch, const std::vector<Rule>& rules, const std::uint16_t* failed,
                  std::vector<Reject>* rejects) {
    std::int32_t line = -1;
    for (std::int64_t row = 0; row < batch.rows; ++row) {
        if (batch.exploded)
            line = row > 0 && batch.message_of(row) == batch.message_of(row - 1) ? line + 1 : 0;
        if (failed[row] == kPassed) continue;
        Reject& reject = rejects->emplace_back();
        reject.message = batch.message_of(row);
        reject.line = line;
        reject.reason = failed[row];
        if (failed[row] < rules.size()) reject.field = rules[failed[row]].column;
    }
}

}  // namespace

KeptVector<std::int32_t> CleanBatch::row_numbers() const {
    if (!all) return rows;
    KeptVector<std::int32_t> numbers(size());
    std::iota(numbers.begin(), numbers.end(), 0);
    return numbers;
}

KeptVector<std::int64_t> CleanBatch::watermarks_ms() const {
    if (watermark_ms.size() == size()) return watermark_ms;
    KeptVector<std::int64_t> met(size());
    Watermark::Run local = run;
    local.meet(times.as<std::int64_t>(), all ? nullptr : rows.data(), met.size(), met.data());
    return met;
}

Cleaner::Cleaner(std::vector<Rule> rules, std::string time_column, std::shared_ptr<Watermark> watermark,
                 std::shared_ptr<DuplicateFilter> duplicates)
    : rules_(std::move(rules)),
      time_column_(std::move(time_column)),
      watermark_(std::move(watermark)),
      duplicates_(std::move(duplicates)),
      allowed_(rules_.size()) {
    for (std::size_t i = 0; i < rules_.size(); ++i) {
        if (rules_[i].kind != RuleKind::allowed) continue;
        allowed_[i] = std::make_unique<Allowed>();
        for (const std::string& value : rules_[i].values) allowed_[i]->values.encode(value);
    }
}

Status Cleaner::clean(std::shared_ptr<const Batch> batch, std::int64_t now_ms,
                      const std::vector<std::int32_t>& overflowed, Cleaned* out) {
    if (rules_.size() > kMaxRules)
        return {Code::argument, "more than " + std::to_string(kMaxRules) + " clean rules"};
    const Column* const time = batch->find(time_column_);
    if (time == nullptr || time->type != Type::timestamp_ms)
        return {Code::schema, "the batch has no timestamp column " + quoted(time_column_)};
    for (const Rule& rule : rules_) OMNI_RETURN_NOT_OK(check(rule, *batch));
    std::vector<const Column*> key_columns;
    if (duplicates_)
        OMNI_RETURN_NOT_OK(
            find_key_columns(duplicates_->key_columns(), "the key of duplicates", *batch, &key_columns));

    const bool all_pass = rules_.empty() && overflowed.empty() && !duplicates_;
    failed_.clear();
    if (!all_pass) failed_.resize(static_cast<std::size_t>(batch->rows), kPassed);
    for (std::size_t rule = 0; rule < rules_.size(); ++rule) apply(rule, *batch, now_ms);
    const auto overflow = static_cast<std::uint16_t>(rules_.size() + 1);
    for (const std::int32_t row : overflowed) {
        std::uint16_t& failed = failed_[static_cast<std::size_t>(row)];
        failed = std::min(failed, overflow);
    }

    auto clean = std::make_shared<CleanBatch>();
    clean->batch = batch;
    clean->all = all_pass;
    if (!all_pass) keep_passed(failed_.data(), batch->rows, &clean->rows);
    if (time->null_count != 0)
        for (const std::int32_t row : clean->row_numbers())
            if (!time->valid(row))
                return {Code::schema, "column " + quoted(time_column_) + " is null in row " +
                                          std::to_string(row) + ": every row needs an event time"};

    CleanCounts counts;
    counts.rows = batch->rows;
    counts.rejected = batch->rows - static_cast<std::int64_t>(clean->size());
    if (clean->size() != 0) {
        const std::int32_t slot = watermark_->slot(batch->origin->source, batch->origin->partition);
        const auto* const times = time->lanes<std::int64_t>();
        Watermark::Run run = watermark_->begin(slot);
        clean->owner = slot;
        clean->run = run;
        clean->times = time->values;
        if (duplicates_)
            counts.duplicates = drop_duplicates(*batch, key_columns, times, &run, clean.get());
        else
            run.observe(times, clean->all ? nullptr : clean->rows.data(), clean->size());
        if (clean->size() != 0) watermark_->end(slot, run);
    }
    if (duplicates_) duplicates_->expire(watermark_->value());

    out->rejects.clear();
    if (counts.rejected + counts.duplicates > 0) {
        out->rejects.reserve(static_cast<std::size_t>(counts.rejected + counts.duplicates));
        list_rejects(*batch, rules_, failed_.data(), &out->rejects);
    }
    out->batch = std::move(clean);
    out->counts = counts;
    return {};
}

void Cleaner::apply(std::size_t rule_index, const Batch& batch, std::int64_t now_ms) {
    const Rule& rule = rules_[rule_index];
    const Column& column = *batch.find(rule.column);
    const auto number = static_cast<std::uint16_t>(rule_index);
    std::uint16_t* const failed = failed_.data();
    switch (rule.kind) {
        case RuleKind::less_than:
            return mark_less_than(column, *batch.find(rule.other), batch.rows, number, failed);
        case RuleKind::range:
            return mark_range(column, rule, batch.rows, number, failed);
        case RuleKind::ahead:
            return mark_outside<std::int64_t>(column, Watermark::kNone, plus(now_ms, rule.high), batch.rows,
                                              number, failed);
        case RuleKind::behind:
            return mark_outside<std::int64_t>(column, minus(now_ms, rule.low), Watermark::kEnd, batch.rows,
                                              number, failed);
        case RuleKind::required:
            return mark_nulls(column, batch.rows, number, failed);
        case RuleKind::allowed:
            return mark_refused(rule_index, column, batch.rows);
    }
}

void Cleaner::mark_refused(std::size_t rule_index, const Column& column, std::int64_t rows) {
    Allowed& allowed = *allowed_[rule_index];
    const auto number = static_cast<std::uint16_t>(rule_index);
    if (column.type == Type::string) {
        const Dictionary& values = allowed.values;
        return mark(column.validity.data, rows, number, failed_.data(),
                    [&](std::int64_t row) { return values.find(column.text(row)) < 0; });
    }
    if (allowed.dictionary != column.dictionary) {
        allowed.dictionary = column.dictionary;
        allowed.refused.clear();
    }
    const Dictionary& dictionary = *column.dictionary;
    while (allowed.refused.size() < static_cast<std::size_t>(dictionary.size())) {
        const auto code = static_cast<std::int32_t>(allowed.refused.size());
        allowed.refused.push_back(allowed.values.find(dictionary.value(code)) < 0);
    }
    const std::uint8_t* const refused = allowed.refused.data();
    const auto* const codes = column.lanes<std::int32_t>();
    mark(column.validity.data, rows, number, failed_.data(),
         [=](std::int64_t row) { return refused[codes[row]] != 0; });
}

// Lookup and watermark are one pass, as the answer for a row depends on the rows before it; only the memory
// that a group of lookups will touch is asked for ahead.
std::int64_t Cleaner::drop_duplicates(const Batch& batch, const std::vector<const Column*>& key_columns,
                                      const std::int64_t* times, Watermark::Run* run, CleanBatch* clean) {
    const auto duplicate = static_cast<std::uint16_t>(rules_.size());
    std::int32_t* const rows = clean->rows.data();
    const std::size_t count = clean->rows.size();
    clean->watermark_ms.resize(count);
    std::int64_t* const met = clean->watermark_ms.data();

    std::int32_t firsts[kGroup];  // the first surviving rows of messages
    std::string_view keys[kGroup];
    std::uint64_t hashes[kGroup];
    std::int32_t previous = -1;  // message
    bool seen = false;           // its fate
    std::size_t kept = 0;        // rows[0, kept) are written, rows[begin, count) are read: kept <= begin
    for (std::size_t begin = 0; begin < count; begin += kGroup) {
        const std::size_t end = std::min(begin + kGroup, count);
        std::size_t lookups = 0;
        for (std::size_t i = begin; i < end; ++i) {
            const std::int32_t before = i > begin ? batch.message_of(rows[i - 1]) : previous;
            if (batch.message_of(rows[i]) != before) firsts[lookups++] = rows[i];
        }
        read_keys(key_columns, firsts, lookups, &keys_, keys);
        for (std::size_t i = 0; i < lookups; ++i) {
            hashes[i] = DuplicateFilter::hash(keys[i]);
            duplicates_->prefetch(hashes[i]);
        }
        std::size_t lookup = 0;
        for (std::size_t i = begin; i < end; ++i) {
            const std::int32_t row = rows[i];
            if (batch.message_of(row) != previous) {
                previous = batch.message_of(row);
                seen =
                    duplicates_->seen(keys[lookup], hashes[lookup], times[row], run->value(), clean->owner);
                ++lookup;
            }
            if (seen) {
                failed_[static_cast<std::size_t>(row)] = duplicate;
                continue;
            }
            rows[kept] = row;
            met[kept++] = run->value();
            run->observe(times[row]);
        }
    }
    clean->rows.resize(kept);
    clean->watermark_ms.resize(kept);
    return static_cast<std::int64_t>(count - kept);
}

}  // namespace omnistream
