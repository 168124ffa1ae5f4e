// Columns, batches and rules in short, for the tests of clean.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "check.hpp"
#include "omnistream/clean.hpp"

namespace omnistream {

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

inline Column integers(std::string name, Type type, const Values<std::int64_t>& values) {
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

inline Column floats(std::string name, const Values<double>& values) {
    return lanes<double>(std::move(name), Type::float64, values, -99.0);
}

inline Column times(const Values<std::int64_t>& values) {
    return integers("event_time", Type::timestamp_ms, values);
}

inline Column strings(std::string name, const Values<std::string>& values) {
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

inline Column codes(std::string name, const std::shared_ptr<Dictionary>& dictionary,
                    const Values<std::string>& values) {
    Values<std::int32_t> out;
    for (const auto& value : values)
        out.push_back(value ? std::optional(dictionary->encode(*value)) : std::nullopt);
    Column column = lanes<std::int32_t>(std::move(name), Type::dictionary, out, 1'000'000'000);
    column.dictionary = dictionary;
    return column;
}

inline std::shared_ptr<Batch> batch_of(std::vector<Column> columns, const std::string& source = "s",
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
inline std::shared_ptr<Batch> timed(std::vector<Column> columns) {
    Values<std::int64_t> rows;
    for (std::int64_t row = 0; row < columns.front().length; ++row) rows.emplace_back(row);
    columns.push_back(times(rows));
    return batch_of(std::move(columns));
}

inline Rule rule(RuleKind kind, std::string column, std::string reason = "reason") {
    Rule made;
    made.kind = kind;
    made.column = std::move(column);
    made.reason = std::move(reason);
    return made;
}

inline Rule range(std::string column, std::int64_t low, std::int64_t high) {
    Rule made = rule(RuleKind::range, std::move(column));
    made.low = low;
    made.high = high;
    return made;
}

inline Rule less_than(std::string column, std::string other) {
    Rule made = rule(RuleKind::less_than, std::move(column));
    made.other = std::move(other);
    return made;
}

inline Rule allowed(std::string column, std::vector<std::string> values) {
    Rule made = rule(RuleKind::allowed, std::move(column));
    made.values = std::move(values);
    return made;
}

inline Cleaner cleaner(std::vector<Rule> rules, std::int64_t max_disorder_ms = 0,
                       std::shared_ptr<DuplicateFilter> duplicates = nullptr) {
    return {std::move(rules), "event_time", std::make_shared<Watermark>(max_disorder_ms),
            std::move(duplicates)};
}

using Rows = KeptVector<std::int32_t>;

inline constexpr Type kIntegers[] = {Type::int32, Type::int64, Type::decimal, Type::timestamp_ms};

}  // namespace omnistream
