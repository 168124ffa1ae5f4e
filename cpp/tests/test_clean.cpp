#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "check.hpp"
#include "omnistream/clean.hpp"

using namespace omnistream;

namespace {

template <class T>
using Values = std::vector<std::optional<T>>;

// Null lanes hold rubbish on purpose: no rule may look at them.
template <class T>
Column lanes(std::string name, Type type, const Values<T>& values, T rubbish) {
    Array<T> out;
    Array<std::uint8_t> validity;
    validity.resize(values.size() / 8 + 1, 0);
    Column column;
    for (std::size_t i = 0; i < values.size(); ++i) {
        out.push_back(values[i].value_or(rubbish));
        if (values[i])
            validity[i >> 3] = static_cast<std::uint8_t>(validity[i >> 3] | (1U << (i & 7)));
        else
            ++column.null_count;
    }
    column.name = std::move(name);
    column.type = type;
    column.length = static_cast<std::int64_t>(values.size());
    column.values = out.finish();
    if (column.null_count > 0) column.validity = validity.finish();
    return column;
}

Column integers(std::string name, Type type, const Values<std::int64_t>& values) {
    if (type == Type::boolean || type == Type::int32) {
        Values<std::int32_t> narrow;
        Values<std::uint8_t> flags;
        for (const auto& value : values) {
            narrow.push_back(value ? std::optional(static_cast<std::int32_t>(*value)) : std::nullopt);
            flags.push_back(value ? std::optional(static_cast<std::uint8_t>(*value)) : std::nullopt);
        }
        return type == Type::int32 ? lanes<std::int32_t>(std::move(name), type, narrow, -99)
                                   : lanes<std::uint8_t>(std::move(name), type, flags, 77);
    }
    return lanes<std::int64_t>(std::move(name), type, values, -99);
}

Column floats(std::string name, const Values<double>& values) {
    return lanes<double>(std::move(name), Type::float64, values, -99.0);
}

Column times(const Values<std::int64_t>& values) {
    return integers("event_time", Type::timestamp_ms, values);
}

Column strings(std::string name, const Values<std::string>& values) {
    Column column = lanes<std::uint8_t>(
        std::move(name), Type::string,
        [&] {
            Values<std::uint8_t> present;
            for (const auto& value : values)
                present.push_back(value ? std::optional<std::uint8_t>(1) : std::nullopt);
            return present;
        }(),
        0);
    Array<std::int32_t> offsets;
    Array<char> bytes;
    offsets.push_back(0);
    for (const auto& value : values) {
        if (value) bytes.append(value->data(), value->size());
        offsets.push_back(static_cast<std::int32_t>(bytes.size()));
    }
    column.offsets = offsets.finish();
    column.values = bytes.finish();
    return column;
}

Column codes(std::string name, const std::shared_ptr<Dictionary>& dictionary,
             const Values<std::string>& values) {
    Values<std::int32_t> out;
    for (const auto& value : values)
        out.push_back(value ? std::optional(dictionary->encode(*value)) : std::nullopt);
    Column column = lanes<std::int32_t>(std::move(name), Type::dictionary, out, 1'000'000'000);
    column.dictionary = dictionary;
    return column;
}

std::shared_ptr<Batch> batch_of(std::vector<Column> columns, const std::string& source = "s",
                                std::int32_t partition = 0) {
    auto batch = std::make_shared<Batch>();
    auto origin = std::make_shared<Origin>();
    origin->source = source;
    origin->partition = partition;
    batch->origin = std::move(origin);
    batch->rows = columns.front().length;
    batch->columns = std::move(columns);
    for (std::int32_t row = 0; row < batch->rows; ++row) batch->row_message.push_back(row);
    return batch;
}

// A batch of `columns` and an event time that counts the rows.
std::shared_ptr<Batch> timed(std::vector<Column> columns) {
    Values<std::int64_t> rows;
    for (std::int64_t row = 0; row < columns.front().length; ++row) rows.emplace_back(row);
    columns.push_back(times(rows));
    return batch_of(std::move(columns));
}

Rule rule(RuleKind kind, std::string column, std::string reason = "reason") {
    Rule made;
    made.kind = kind;
    made.column = std::move(column);
    made.reason = std::move(reason);
    return made;
}

Rule range(std::string column, std::int64_t low, std::int64_t high) {
    Rule made = rule(RuleKind::range, std::move(column));
    made.low = low;
    made.high = high;
    return made;
}

Rule less_than(std::string column, std::string other) {
    Rule made = rule(RuleKind::less_than, std::move(column));
    made.other = std::move(other);
    return made;
}

Rule allowed(std::string column, std::vector<std::string> values) {
    Rule made = rule(RuleKind::allowed, std::move(column));
    made.values = std::move(values);
    return made;
}

Cleaner cleaner(std::vector<Rule> rules, std::int64_t max_disorder_ms = 0,
                std::shared_ptr<DuplicateFilter> duplicates = nullptr) {
    return {std::move(rules), "event_time", std::make_shared<Watermark>(max_disorder_ms),
            std::move(duplicates)};
}

using Rows = KeptVector<std::int32_t>;

// The survivors of one rule, and that each other row is a reject of it.
Rows survivors(const Rule& one, const std::shared_ptr<Batch>& batch, std::int64_t now_ms = 0) {
    Cleaned out;
    const Status status = cleaner({one}).clean(batch, now_ms, {}, &out);
    CHECK(status.ok());
    if (!status.ok()) return {-1};
    CHECK(out.counts.rows == batch->rows);
    CHECK(out.counts.duplicates == 0);
    CHECK(out.counts.rejected == static_cast<std::int64_t>(out.rejects.size()));
    CHECK(static_cast<std::int64_t>(out.batch->row_numbers().size() + out.rejects.size()) == batch->rows);
    for (const Reject& reject : out.rejects) {
        CHECK(reject.reason == 0);
        CHECK(reject.field == one.column);
        CHECK(reject.byte_offset == -1);
        CHECK(reject.line == -1);
    }
    return out.batch->row_numbers();
}

constexpr Type kIntegers[] = {Type::int32, Type::int64, Type::decimal, Type::timestamp_ms};

void range_of_each_type() {
    for (const Type type : kIntegers) {
        CHECK(survivors(range("x", -1, 2), timed({integers("x", type, {-2, -1, 0, 2, 3})})) ==
              Rows({1, 2, 3}));
        CHECK(survivors(range("x", -1, 2), timed({integers("x", type, {-2, {}, 0, {}, 3})})) ==
              Rows({1, 2, 3}));
        Rule open = rule(RuleKind::range, "x");
        open.low = 1;
        CHECK(survivors(open, timed({integers("x", type, {0, 1, 2'000'000'000})})) == Rows({1, 2}));
    }
    CHECK(survivors(range("x", 1, 1), timed({integers("x", Type::boolean, {0, 1, {}, 0})})) == Rows({1, 2}));
    constexpr std::int64_t least = std::numeric_limits<std::int64_t>::min();
    CHECK(survivors(range("x", least + 1, 0), timed({integers("x", Type::int64, {least, least + 1, 1})})) ==
          Rows({1}));

    Rule real = rule(RuleKind::range, "x");
    real.low_float = 0.5;
    real.high_float = 1.5;
    CHECK(survivors(real, timed({floats("x", {0.49, 0.5, 1.5, 1.51, {}, std::nan(""), INFINITY})})) ==
          Rows({1, 2, 4}));
    Rule half = rule(RuleKind::range, "x");
    half.low_float = 0;
    CHECK(survivors(half, timed({floats("x", {-1e-300, -0.0, INFINITY})})) == Rows({1, 2}));
}

void less_than_of_each_type() {
    const Rule lower = less_than("x", "y");
    for (const Type type : kIntegers) {
        CHECK(survivors(lower, timed({integers("x", type, {1, 2, 3}), integers("y", type, {2, 2, 2})})) ==
              Rows({1, 2}));
        CHECK(survivors(lower, timed({integers("x", type, {1, {}, {}, 1}),
                                      integers("y", type, {2, 2, {}, 1})})) == Rows({1, 2, 3}));
        CHECK(survivors(lower, timed({integers("x", type, {1, 1, 1}), integers("y", type, {2, {}, 1})})) ==
              Rows({1, 2}));
    }
    CHECK(survivors(lower, timed({integers("x", Type::boolean, {0, 1, 0, {}}),
                                  integers("y", Type::boolean, {1, 1, {}, 1})})) == Rows({1, 2, 3}));
    CHECK(survivors(lower, timed({floats("x", {1.0, 2.0, std::nan(""), {}}),
                                  floats("y", {1.5, 2.0, 1.0, 9.0})})) == Rows({1, 2, 3}));
}

void ahead_and_behind() {
    Rule ahead = rule(RuleKind::ahead, "event_time");
    ahead.high = 100;
    CHECK(survivors(ahead, batch_of({times({-5, 1'100, 1'101})}), 1'000) == Rows({0, 1}));
    CHECK(survivors(ahead, batch_of({times({Watermark::kEnd})}), Watermark::kEnd - 1) == Rows({0}));
    Rule behind = rule(RuleKind::behind, "event_time");
    behind.low = 100;
    CHECK(survivors(behind, batch_of({times({899, 900, 5'000})}), 1'000) == Rows({1, 2}));
    CHECK(survivors(behind, batch_of({times({Watermark::kNone})}), Watermark::kNone + 1) == Rows({0}));
    Rule other = rule(RuleKind::ahead, "promised");
    other.high = 0;
    CHECK(survivors(other, timed({integers("promised", Type::timestamp_ms, {{}, 9, 11})}), 10) ==
          Rows({0, 1}));
}

void required_of_each_type() {
    const Rule needed = rule(RuleKind::required, "x");
    for (const Type type : kIntegers) {
        CHECK(survivors(needed, timed({integers("x", type, {1, {}, 3})})) == Rows({0, 2}));
        CHECK(survivors(needed, timed({integers("x", type, {1, 2})})) == Rows({0, 1}));
    }
    CHECK(survivors(needed, timed({integers("x", Type::boolean, {{}, 0})})) == Rows({1}));
    CHECK(survivors(needed, timed({floats("x", {{}, std::nan("")})})) == Rows({1}));
    CHECK(survivors(needed, timed({strings("x", {{}, "", "a"})})) == Rows({1, 2}));
    CHECK(survivors(needed, timed({codes("x", std::make_shared<Dictionary>(), {"a", {}, ""})})) ==
          Rows({0, 2}));
}

void allowed_values() {
    const Rule channels = allowed("x", {"web", "a channel with a long name", ""});
    const Values<std::string> values = {"web", "WEB", {}, "", "a channel with a long name", "webb"};
    CHECK(survivors(channels, timed({strings("x", values)})) == Rows({0, 2, 3, 4}));
    CHECK(survivors(allowed("x", {}), timed({strings("x", values)})) == Rows({2}));

    // The table by code follows the dictionary as it grows, and starts again with another dictionary.
    Cleaner one = cleaner({channels});
    Cleaned out;
    auto dictionary = std::make_shared<Dictionary>();
    CHECK(one.clean(timed({codes("x", dictionary, {"store", "web", {}})}), 0, {}, &out).ok());
    CHECK(out.batch->row_numbers() == Rows({1, 2}));
    CHECK(one.clean(timed({codes("x", dictionary, values)}), 0, {}, &out).ok());
    CHECK(out.batch->row_numbers() == Rows({0, 2, 3, 4}));
    CHECK(one.clean(timed({codes("x", std::make_shared<Dictionary>(), {"web", "store"})}), 0, {}, &out).ok());
    CHECK(out.batch->row_numbers() == Rows({0}));
    CHECK(one.clean(timed({strings("x", {"store", "web"})}), 0, {}, &out).ok());
    CHECK(out.batch->row_numbers() == Rows({1}));
}

void first_rule_names_the_reason() {
    const auto batch = timed({integers("quantity", Type::int64, {0, 0, 5, 5, {}}),
                              integers("unit_price", Type::decimal, {1, 9, 1, 9, 1}),
                              integers("unit_cost", Type::decimal, {5, 5, 5, 5, 5})});
    const Rule quantity = range("quantity", 1, 1'000);
    const Rule price = less_than("unit_price", "unit_cost");
    const auto reasons = [&](std::vector<Rule> rules) {
        Cleaned out;
        CHECK(cleaner(std::move(rules)).clean(batch, 0, {}, &out).ok());
        std::vector<std::pair<std::int32_t, std::int32_t>> pairs;
        for (const Reject& reject : out.rejects) pairs.emplace_back(reject.message, reject.reason);
        CHECK(out.batch->row_numbers() == Rows({3}));
        CHECK(out.counts.rejected == 4);
        return pairs;
    };
    using Pairs = std::vector<std::pair<std::int32_t, std::int32_t>>;
    CHECK(reasons({quantity, price}) == Pairs({{0, 0}, {1, 0}, {2, 1}, {4, 1}}));
    CHECK(reasons({price, quantity}) == Pairs({{0, 0}, {1, 1}, {2, 0}, {4, 0}}));
    CHECK(cleaner({quantity, price}).rules()[1].other == "unit_cost");
}

bool mentions(const Status& status, std::initializer_list<const char*> words) {
    if (status.code() != Code::schema) return false;
    for (const char* word : words)
        if (status.message().find(word) == std::string::npos) return false;
    return true;
}

void batches_that_do_not_fit() {
    const auto batch =
        timed({strings("name", {"a"}), integers("n", Type::int64, {1}), integers("price", Type::decimal, {1}),
               floats("weight", {1.0}), codes("sku", std::make_shared<Dictionary>(), {"a"})});
    const auto refusal = [&](Rule one) {
        one.reason = "my_reason";
        Cleaned out;
        return cleaner({std::move(one)}).clean(batch, 0, {}, &out);
    };
    CHECK(mentions(refusal(range("gone", 0, 1)), {"\"my_reason\"", "range", "\"gone\""}));
    CHECK(mentions(refusal(range("name", 0, 1)), {"\"my_reason\"", "\"name\"", "string"}));
    CHECK(mentions(refusal(range("sku", 0, 1)), {"\"sku\"", "dictionary"}));
    CHECK(mentions(refusal(less_than("n", "gone")), {"less_than", "\"gone\""}));
    CHECK(mentions(refusal(less_than("n", "price")), {"\"n\"", "int64", "\"price\"", "decimal"}));
    CHECK(mentions(refusal(less_than("name", "name")), {"\"name\"", "string"}));
    CHECK(mentions(refusal(rule(RuleKind::ahead, "n")), {"ahead", "\"n\"", "int64"}));
    CHECK(mentions(refusal(rule(RuleKind::behind, "weight")), {"behind", "\"weight\"", "float64"}));
    CHECK(mentions(refusal(allowed("n", {"1"})), {"allowed", "\"n\"", "int64"}));
    CHECK(mentions(refusal(rule(RuleKind::required, "gone")), {"required", "\"gone\""}));

    Cleaned out;
    CHECK(mentions(cleaner({}).clean(batch_of({integers("n", Type::int64, {1})}), 0, {}, &out),
                   {"\"event_time\""}));
    CHECK(mentions(cleaner({}).clean(batch_of({integers("event_time", Type::int64, {1})}), 0, {}, &out),
                   {"\"event_time\""}));
    for (const char* column : {"gone", "weight"}) {
        auto filter = std::make_shared<DuplicateFilter>(std::vector<std::string>{"name", column}, 1'000);
        CHECK(mentions(cleaner({}, 0, filter).clean(batch, 0, {}, &out), {column}));
        CHECK(filter->size() == 0);
    }
    CHECK(mentions(cleaner({}, 0, std::make_shared<DuplicateFilter>(std::vector<std::string>{}, 1'000))
                       .clean(batch, 0, {}, &out),
                   {"no column"}));
    CHECK(cleaner(std::vector<Rule>(70'000, range("n", 0, 1))).clean(batch, 0, {}, &out).code() ==
          Code::argument);
}

void null_event_times() {
    const auto batch = batch_of({times({5, {}, 7})});
    auto watermark = std::make_shared<Watermark>(0);
    Cleaned out;
    CHECK(mentions(Cleaner({}, "event_time", watermark, nullptr).clean(batch, 0, {}, &out),
                   {"\"event_time\"", "null", "row 1"}));
    CHECK(watermark->value() == Watermark::kNone);
    Cleaner guarded({rule(RuleKind::required, "event_time")}, "event_time", watermark, nullptr);
    CHECK(guarded.clean(batch, 0, {}, &out).ok());
    CHECK(out.batch->row_numbers() == Rows({0, 2}));
    CHECK(watermark->value() == 7);
}

using Times = KeptVector<std::int64_t>;
constexpr std::int64_t kNone = Watermark::kNone;

void rows_meet_the_watermark_before_them() {
    auto watermark = std::make_shared<Watermark>(10);
    Cleaner one({range("n", 1, 9)}, "event_time", watermark, nullptr);
    Cleaned out;
    CHECK(one.clean(batch_of({times({100, 90, 500, 130, 120}), integers("n", Type::int64, {1, 1, 0, 1, 1})}),
                    0, {}, &out)
              .ok());
    CHECK(out.batch->row_numbers() == Rows({0, 1, 3, 4}));
    CHECK(out.batch->watermarks_ms() == Times({kNone, 90, 90, 120}));  // the rejected 500 has moved nothing
    CHECK(watermark->value() == 120);
    CHECK(watermark->max_event_time_ms() == 130);
    CHECK(one.clean(batch_of({times({125, 140}), integers("n", Type::int64, {1, 1})}), 0, {}, &out).ok());
    CHECK(out.batch->watermarks_ms() == Times({120, 120}));
    CHECK(watermark->value() == 130);
    CHECK(one.clean(batch_of({times({}), integers("n", Type::int64, {})}), 0, {}, &out).ok());
    CHECK(out.batch->row_numbers().empty());
    CHECK(out.counts.rows == 0);
    CHECK(watermark->value() == 130);
}

void duplicates_across_batches() {
    auto watermark = std::make_shared<Watermark>(0);
    auto filter = std::make_shared<DuplicateFilter>(std::vector<std::string>{"id"}, 100);
    Cleaner one({range("n", 1, 9)}, "event_time", watermark, filter);
    Cleaned out;
    // "b" fails a rule first, so it is not remembered; the duplicate at 900 moves nothing.
    CHECK(one.clean(batch_of({times({10, 20, 900, 30, 40}), strings("id", {"a", "b", "a", "b", {}}),
                              integers("n", Type::int64, {1, 0, 1, 1, 1})}),
                    0, {}, &out)
              .ok());
    CHECK(out.batch->row_numbers() == Rows({0, 3, 4}));
    CHECK(out.batch->watermarks_ms() == Times({kNone, 10, 30}));
    CHECK(out.counts.rejected == 1);
    CHECK(out.counts.duplicates == 1);
    CHECK(out.rejects.size() == 2);
    CHECK(out.rejects[0].message == 1 && out.rejects[0].reason == 0 && out.rejects[0].field == "n");
    CHECK(out.rejects[1].message == 2 && out.rejects[1].reason == 1 && out.rejects[1].field.empty());
    CHECK(one.clean(batch_of({times({50, 35}), strings("id", {"a", {}}), integers("n", Type::int64, {1, 1})}),
                    0, {}, &out)
              .ok());
    CHECK(out.batch->row_numbers().empty());
    CHECK(out.counts.duplicates == 2);  // null is a key like any other
    CHECK(watermark->value() == 40);
}

void duplicates_expire_within_a_batch() {
    auto filter = std::make_shared<DuplicateFilter>(std::vector<std::string>{"id"}, 100);
    Cleaner one = cleaner({}, 0, filter);
    Cleaned out;
    const auto batch =
        batch_of({times({10, 110, 60, 111, 60, 61}), strings("id", {"a", "b", "a", "c", "a", "a"})});
    CHECK(one.clean(batch, 0, {}, &out).ok());
    // Row 2 meets 110 = 10 + 100: a duplicate. Row 4 meets 111: accepted, and remembered until 160.
    CHECK(out.batch->row_numbers() == Rows({0, 1, 3, 4}));
    CHECK(out.counts.duplicates == 2);
}

// An amount that overflows is found before clean; what a rule rejects keeps the rule's reason.
void overflowed_rows() {
    auto filter = std::make_shared<DuplicateFilter>(std::vector<std::string>{"id"}, 1'000);
    Cleaner one = cleaner({range("n", 1, 9)}, 0, filter);
    Cleaned out;
    const auto batch = batch_of({times({10, 900, 20, 30, 40}), strings("id", {"a", "b", "c", "b", "a"}),
                                 integers("n", Type::int64, {1, 1, 0, 1, 1})});
    CHECK(one.clean(batch, 0, {1, 2}, &out).ok());
    CHECK(out.batch->row_numbers() == Rows({0, 3}));
    CHECK(out.batch->watermarks_ms() ==
          Times({kNone, 10}));  // 900 moved nothing, and its "b" was not remembered
    CHECK(out.counts.rejected == 2);
    CHECK(out.counts.duplicates == 1);
    CHECK(out.rejects.size() == 3);
    CHECK(out.rejects[0].message == 1 && out.rejects[0].reason == 2);
    CHECK(out.rejects[1].message == 2 && out.rejects[1].reason == 0);
    CHECK(out.rejects[2].message == 4 && out.rejects[2].reason == 1);
}

// Messages of several rows: 0 has rows 0 to 2, 1 has row 3, 2 has rows 4 and 5 and repeats 0.
void rows_of_a_message_share_its_fate() {
    const auto make = [](bool exploded) {
        auto batch = batch_of({times({10, 10, 10, 20, 30, 30}), strings("id", {"a", "a", "a", "b", "a", "a"}),
                               integers("n", Type::int64, {0, 1, 1, 1, 0, 1})});
        batch->row_message = {0, 0, 0, 1, 2, 2};
        batch->exploded = exploded;
        return batch;
    };
    for (const bool exploded : {true, false}) {
        auto filter = std::make_shared<DuplicateFilter>(std::vector<std::string>{"id"}, 1'000);
        Cleaner one = cleaner({range("n", 1, 9)}, 0, filter);
        Cleaned out;
        CHECK(one.clean(make(exploded), 0, {}, &out).ok());
        CHECK(out.batch->row_numbers() == Rows({1, 2, 3}));
        CHECK(out.batch->watermarks_ms() == Times({kNone, 10, 10}));
        CHECK(out.counts.rejected == 2);
        CHECK(out.counts.duplicates == 1);
        CHECK(out.rejects.size() == 3);
        const std::int32_t expected[3][3] = {{0, 0, 0}, {2, 0, 0}, {2, 1, 1}};  // message, line, reason
        for (std::size_t i = 0; i < 3; ++i) {
            CHECK(out.rejects[i].message == expected[i][0]);
            CHECK(out.rejects[i].line == (exploded ? expected[i][1] : -1));
            CHECK(out.rejects[i].reason == expected[i][2]);
        }
    }
}

// A message of more rows than are looked up together, before and after others.
void a_long_message() {
    auto filter = std::make_shared<DuplicateFilter>(std::vector<std::string>{"id"}, 1'000);
    Values<std::int64_t> at;
    Values<std::string> id;
    Rows messages;
    for (std::int32_t message = 0; message < 4; ++message)
        for (int row = 0; row < (message == 1 ? 100 : 1); ++row) {
            at.emplace_back(message);
            id.emplace_back(message == 3 ? "1" : std::to_string(message));
            messages.push_back(message);
        }
    auto batch = batch_of({times(at), strings("id", id)});
    batch->row_message = messages;
    Cleaner one = cleaner({}, 0, filter);
    Cleaned out;
    CHECK(one.clean(batch, 0, {}, &out).ok());
    CHECK(out.batch->row_numbers().size() == 102);
    CHECK(out.batch->watermarks_ms().back() == 1);
    CHECK(out.counts.duplicates == 1);
    CHECK(filter->size() == 3);
}

std::int64_t distinct_keys(std::vector<Column> columns, std::vector<std::string> key) {
    auto filter = std::make_shared<DuplicateFilter>(std::move(key), 1'000'000);
    Cleaned out;
    CHECK(cleaner({}, 1'000'000, filter).clean(timed(std::move(columns)), 0, {}, &out).ok());
    CHECK(filter->size() == static_cast<std::int64_t>(out.batch->row_numbers().size()));
    return filter->size();
}

void keys_of_each_type() {
    for (const Type type : kIntegers)
        CHECK(distinct_keys({integers("k", type, {0, {}, -99, 1, 0, {}, -99})}, {"k"}) == 4);
    CHECK(distinct_keys({integers("k", Type::boolean, {0, {}, 1, 0, {}, 1})}, {"k"}) == 3);
    const Values<std::string> texts = {"", {}, "a", std::string(1, '\0'), "a", {}, ""};
    CHECK(distinct_keys({strings("k", texts)}, {"k"}) == 4);
    CHECK(distinct_keys({codes("k", std::make_shared<Dictionary>(), texts)}, {"k"}) == 4);
    // The same text either way, null apart from empty, and no two pairs that run together alike.
    CHECK(distinct_keys({strings("k", {"ab", "a", {}, "", "ab"}), strings("l", {"c", "bc", "", {}, "c"})},
                        {"k", "l"}) == 4);
    CHECK(distinct_keys({strings("k", {"a", "a", "a", "b"}), integers("n", Type::int32, {1, 2, {}, 1})},
                        {"n", "k"}) == 4);
    // A dictionary column is known by its strings, whatever codes they have.
    auto filter = std::make_shared<DuplicateFilter>(std::vector<std::string>{"k"}, 1'000);
    Cleaner one = cleaner({}, 1'000, filter);
    Cleaned out;
    CHECK(one.clean(timed({codes("k", std::make_shared<Dictionary>(), {"a", "b"})}), 0, {}, &out).ok());
    CHECK(one.clean(timed({codes("k", std::make_shared<Dictionary>(), {"b", "a"})}), 0, {}, &out).ok());
    CHECK(out.counts.duplicates == 2);
    CHECK(one.clean(timed({strings("k", {"c", "b"})}), 0, {}, &out).ok());
    CHECK(out.counts.duplicates == 1);
}

void watermark_of_one_partition() {
    Watermark watermark(10);
    CHECK(watermark.value() == kNone);
    CHECK(watermark.max_event_time_ms() == kNone);
    const std::int32_t slot = watermark.slot("s", 0);
    CHECK(watermark.slot("s", 0) == slot);
    CHECK(watermark.value() == kNone);
    watermark.observe(slot, 100);
    CHECK(watermark.value() == 90);
    watermark.observe(slot, 50);
    CHECK(watermark.value() == 90);
    CHECK(watermark.max_event_time_ms() == 100);
    watermark.advance(80);
    CHECK(watermark.value() == 90);
    watermark.advance(95);
    CHECK(watermark.value() == 95);
    watermark.observe(slot, 104);
    CHECK(watermark.value() == 95);
    watermark.observe(slot, 106);
    CHECK(watermark.value() == 96);
    watermark.set_idle(slot);
    CHECK(watermark.value() == 96);
    watermark.advance(Watermark::kEnd);
    watermark.observe(slot, 1'000);
    CHECK(watermark.value() == Watermark::kEnd);

    Watermark extreme(Watermark::kEnd);
    extreme.observe(extreme.slot("s", 0), kNone + 1);
    CHECK(extreme.value() == kNone);
}

void watermark_of_many_partitions() {
    Watermark watermark(0);
    const std::int32_t a = watermark.slot("s", 0);
    const std::int32_t b = watermark.slot("s", 1);
    const std::int32_t c = watermark.slot("t", 0);
    CHECK(a != b && b != c && a != c);
    watermark.observe(a, 100);
    CHECK(watermark.value() == 100);  // b and c have shown nothing, and were not declared
    watermark.observe(b, 40);
    CHECK(watermark.value() == 100);  // b joins behind, and the value does not move back
    watermark.observe(a, 300);
    CHECK(watermark.value() == 100);
    watermark.observe(b, 150);
    CHECK(watermark.value() == 150);
    watermark.set_idle(b);
    CHECK(watermark.value() == 300);
    watermark.observe(a, 310);
    CHECK(watermark.value() == 310);
    watermark.observe(b, 305);
    watermark.observe(a, 400);
    CHECK(watermark.value() == 310);  // b is back, and holds
    watermark.observe(b, 320);
    CHECK(watermark.value() == 320);
    watermark.set_idle(a);
    watermark.set_idle(b);
    CHECK(watermark.value() == 320);  // all idle: nothing is known of what comes
    watermark.observe(c, 500);
    CHECK(watermark.value() == 500);
    CHECK(watermark.max_event_time_ms() == 500);
}

void declared_partitions() {
    Watermark watermark(0);
    watermark.declare("s", 0);
    watermark.declare("s", 1);
    const std::int32_t a = watermark.slot("s", 0);
    const std::int32_t b = watermark.slot("s", 1);
    watermark.observe(a, 100);
    CHECK(watermark.value() == kNone);
    watermark.observe(b, 70);
    CHECK(watermark.value() == 70);
    watermark.declare("s", 1);  // has rows already
    watermark.observe(b, 80);
    CHECK(watermark.value() == 80);
    watermark.declare("s", 2);
    watermark.observe(b, 90);
    CHECK(watermark.value() == 80);
    watermark.set_idle(watermark.slot("s", 2));
    CHECK(watermark.value() == 90);

    Watermark restored(0);
    restored.restore(watermark.partitions(), watermark.value(), watermark.max_event_time_ms());
    CHECK(restored.value() == 90);
    CHECK(restored.max_event_time_ms() == 100);
    CHECK(restored.partitions().size() == 3);
    CHECK(restored.slot("s", 1) == b);
    restored.observe(b, 95);
    CHECK(restored.value() == 95);
    restored.observe(restored.slot("s", 2), 91);
    restored.observe(b, 200);
    CHECK(restored.value() == 95);
}

// observe() keeps a minimum, Run keeps the others' minimum: both must do what the definition says.
void watermark_against_its_definition() {
    struct Partition {
        std::int64_t newest = kNone;
        bool counts = false;
    };
    std::mt19937_64 random(13);
    for (int round = 0; round < 200; ++round) {
        const std::int64_t disorder = static_cast<std::int64_t>(random() % 20);
        Watermark single(disorder);
        Watermark runs(disorder);
        std::vector<Partition> partitions(1 + random() % 5);
        std::int64_t expected = kNone;
        const auto refresh = [&] {
            std::int64_t least = Watermark::kEnd;
            bool any = false;
            for (const Partition& each : partitions)
                if (each.counts) {
                    least = std::min(least, each.newest);
                    any = true;
                }
            if (any && least != kNone) expected = std::max(expected, least - disorder);
        };
        bool same = true;
        for (int step = 0; step < 100; ++step) {
            const auto which = static_cast<std::int32_t>(random() % partitions.size());
            const std::int32_t slot = single.slot("s", which);
            same = same && runs.slot("s", which) == slot;
            const auto action = random() % 16;
            if (action == 0) {
                partitions[which].counts = false;
                single.set_idle(slot);
                runs.set_idle(slot);
                refresh();
            } else if (action == 1) {
                if (partitions[which].newest == kNone) partitions[which].counts = true;
                single.declare("s", which);
                runs.declare("s", which);
            } else if (action == 2) {
                const std::int64_t to = step * 3 - 20;
                expected = std::max(expected, to);
                single.advance(to);
                runs.advance(to);
            } else {
                Watermark::Run run = runs.begin(slot);
                for (std::uint64_t i = 0; i <= random() % 4; ++i) {
                    const std::int64_t time = step * 3 + static_cast<std::int64_t>(random() % 30);
                    partitions[which].newest = std::max(partitions[which].newest, time);
                    partitions[which].counts = true;
                    refresh();
                    single.observe(slot, time);
                    run.observe(time);
                    same = same && run.value() == expected && single.value() == expected;
                }
                runs.end(slot, run);
            }
            same = same && single.value() == expected && runs.value() == expected &&
                   single.max_event_time_ms() == runs.max_event_time_ms();
        }
        CHECK(same);
    }
}

// One stream cut into batches in many ways: always the rows, watermarks and rejects that the rules, said row
// by row, give.
void any_batches_give_the_same() {
    struct Row {
        std::int64_t time, n, price, cost;
        bool no_price;
        std::string id, channel;
        std::int32_t partition;
    };
    constexpr std::int64_t kWithin = 400;
    constexpr std::int64_t kDisorder = 50;
    std::mt19937_64 random(17);
    std::vector<Row> stream;
    for (int i = 0; i < 4'000; ++i) {
        Row row;
        row.time = i * 2 + static_cast<std::int64_t>(random() % 60);
        row.n = static_cast<std::int64_t>(random() % 10);
        row.price = static_cast<std::int64_t>(random() % 100);
        row.cost = static_cast<std::int64_t>(random() % 30);
        row.no_price = random() % 20 == 0;
        row.id = (random() % 2 == 0 ? "0123456789abcdef-" : "") + std::to_string(i / 2 + random() % 300);
        row.channel = random() % 15 == 0 ? "phone" : random() % 2 == 0 ? "web" : "store";
        row.partition = i / 100 % 3;
        stream.push_back(row);
    }

    std::vector<std::string> expected;
    std::unordered_map<std::string, std::int64_t> seen;
    std::int64_t newest[3] = {kNone, kNone, kNone};
    std::int64_t watermark = kNone;
    std::set<std::string> kinds;
    for (const Row& row : stream) {
        std::string verdict;
        const auto found = seen.find(row.id);
        if (row.n < 1) {
            verdict = "rejected 0";
        } else if (!row.no_price && row.price < row.cost) {
            verdict = "rejected 1";
        } else if (row.channel == "phone") {
            verdict = "rejected 2";
        } else if (found != seen.end() && watermark <= found->second + kWithin) {
            verdict = "rejected 3";
        } else {
            verdict = "met " + std::to_string(watermark);
            seen[row.id] = row.time;
            newest[row.partition] = std::max(newest[row.partition], row.time);
            std::int64_t least = Watermark::kEnd;
            for (const std::int64_t each : newest)
                if (each != kNone) least = std::min(least, each);
            watermark = std::max(watermark, least - kDisorder);
        }
        expected.push_back(verdict);
        kinds.insert(verdict.substr(0, verdict[0] == 'm' ? 3 : verdict.size()));
    }
    CHECK(kinds.size() == 5);

    for (const std::size_t longest : {1, 7, 33, 1'000}) {
        auto dictionary = std::make_shared<Dictionary>();
        auto mark = std::make_shared<Watermark>(kDisorder);
        auto filter = std::make_shared<DuplicateFilter>(std::vector<std::string>{"id"}, kWithin);
        Cleaner one({range("n", 1, 100), less_than("price", "cost"), allowed("channel", {"web", "store"})},
                    "event_time", mark, filter);
        std::vector<std::string> got;
        for (std::size_t begin = 0; begin < stream.size();) {
            std::size_t end = begin + 1 + random() % longest;
            end = std::min(end, stream.size());
            Values<std::int64_t> at, n, price, cost;
            Values<std::string> id, channel;
            for (std::size_t i = begin; i < end; ++i) {
                if (stream[i].partition != stream[begin].partition) {
                    end = i;
                    break;
                }
                at.emplace_back(stream[i].time);
                n.emplace_back(stream[i].n);
                price.push_back(stream[i].no_price ? std::nullopt : std::optional(stream[i].price));
                cost.emplace_back(stream[i].cost);
                id.emplace_back(stream[i].id);
                channel.emplace_back(stream[i].channel);
            }
            const auto batch =
                batch_of({times(at), integers("n", Type::int32, n), integers("price", Type::decimal, price),
                          integers("cost", Type::decimal, cost), strings("id", id),
                          codes("channel", dictionary, channel)},
                         "s", stream[begin].partition);
            Cleaned out;
            CHECK(one.clean(batch, 0, {}, &out).ok());
            std::vector<std::string> verdicts(end - begin);
            for (std::size_t i = 0; i < out.batch->row_numbers().size(); ++i)
                verdicts[out.batch->row_numbers()[i]] =
                    "met " + std::to_string(out.batch->watermarks_ms()[i]);
            for (const Reject& reject : out.rejects)
                verdicts[reject.message] = "rejected " + std::to_string(reject.reason);
            CHECK(out.counts.rows == static_cast<std::int64_t>(out.batch->row_numbers().size()) +
                                         out.counts.rejected + out.counts.duplicates);
            got.insert(got.end(), verdicts.begin(), verdicts.end());
            if (random() % 8 == 0) {  // a restart changes nothing
                auto restarted = std::make_shared<DuplicateFilter>(std::vector<std::string>{"id"}, kWithin);
                CHECK(restarted->restore(filter->snapshot()).ok());
                filter = restarted;
                auto same = std::make_shared<Watermark>(kDisorder);
                same->restore(mark->partitions(), mark->value(), mark->max_event_time_ms());
                mark = same;
                one = Cleaner(one.rules(), "event_time", mark, filter);
            }
            begin = end;
        }
        CHECK(got == expected);
        CHECK(mark->value() == watermark);
        CHECK(filter->size() < 1'000);
    }
}

}  // namespace

int main() {
    range_of_each_type();
    less_than_of_each_type();
    ahead_and_behind();
    required_of_each_type();
    allowed_values();
    first_rule_names_the_reason();
    batches_that_do_not_fit();
    null_event_times();
    rows_meet_the_watermark_before_them();
    duplicates_across_batches();
    duplicates_expire_within_a_batch();
    overflowed_rows();
    rows_of_a_message_share_its_fate();
    a_long_message();
    keys_of_each_type();
    watermark_of_one_partition();
    watermark_of_many_partitions();
    declared_partitions();
    watermark_against_its_definition();
    any_batches_give_the_same();
    return report("clean");
}
