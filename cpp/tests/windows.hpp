// Rows, windows and their results in short, for the tests of windows.
#pragma once

#include <cstdio>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "check.hpp"
#include "omnistream/column_writer.hpp"
#include "omnistream/window.hpp"

namespace omnistream {

inline constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min();
inline constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

struct Row {
    std::int64_t time_ms = 0;
    std::optional<std::string> sku = {};       // dictionary
    std::optional<std::string> customer = {};  // string
    std::optional<std::int64_t> store = {};    // int64
    std::optional<std::int32_t> size = {};     // int32
    std::optional<bool> gift = {};             // bool
    std::optional<std::string> type = {};      // dictionary, the condition's column
    std::optional<std::int64_t> units = {};    // int64
    std::optional<std::int64_t> amount = {};   // decimal
    std::optional<double> weight = {};         // float64
    std::int64_t watermark_ms = kLeast;
};

inline Column codes_column(const char* name, const std::vector<Row>& rows,
                           std::optional<std::string> Row::* text,
                           const std::shared_ptr<Dictionary>& dictionary) {
    Array<std::int32_t> codes;
    ColumnWriter nulls(name, Type::int32);
    for (const Row& row : rows) {
        if (row.*text)
            nulls.put(dictionary->encode(*(row.*text)));
        else
            nulls.put_null();
    }
    Column column = nulls.finish();
    column.type = Type::dictionary;
    column.dictionary = dictionary;
    return column;
}

template <class T>
Column lane_column(const char* name, Type type, const std::vector<Row>& rows, std::optional<T> Row::* lane) {
    ColumnWriter writer(name, type);
    for (const Row& row : rows) {
        if (!(row.*lane))
            writer.put_null();
        else if constexpr (std::is_same_v<T, std::string>)
            writer.put_text(*(row.*lane));
        else if constexpr (std::is_same_v<T, double>)
            writer.put_float(*(row.*lane));
        else
            writer.put(*(row.*lane));
    }
    return writer.finish();
}

struct Dictionaries {
    std::shared_ptr<Dictionary> sku = std::make_shared<Dictionary>();
    std::shared_ptr<Dictionary> type = std::make_shared<Dictionary>();
};

inline CleanBatch clean_batch(const std::vector<Row>& rows, const Dictionaries& dictionaries) {
    auto batch = std::make_shared<Batch>();
    batch->rows = static_cast<std::int64_t>(rows.size());
    ColumnWriter times("event_time", Type::timestamp_ms);
    CleanBatch clean;
    for (const Row& row : rows) {
        times.put(row.time_ms);
        clean.rows.push_back(static_cast<std::int32_t>(clean.rows.size()));
        clean.watermark_ms.push_back(row.watermark_ms);
    }
    batch->columns.push_back(times.finish());
    batch->columns.push_back(codes_column("sku", rows, &Row::sku, dictionaries.sku));
    batch->columns.push_back(codes_column("type", rows, &Row::type, dictionaries.type));
    batch->columns.push_back(lane_column("customer", Type::string, rows, &Row::customer));
    batch->columns.push_back(lane_column("store", Type::int64, rows, &Row::store));
    batch->columns.push_back(lane_column("size", Type::int32, rows, &Row::size));
    batch->columns.push_back(lane_column("gift", Type::boolean, rows, &Row::gift));
    batch->columns.push_back(lane_column("units", Type::int64, rows, &Row::units));
    batch->columns.push_back(lane_column("amount", Type::decimal, rows, &Row::amount));
    batch->columns.push_back(lane_column("weight", Type::float64, rows, &Row::weight));
    clean.batch = batch;
    return clean;
}

inline Type type_of(const std::string& column) {
    static const std::map<std::string, Type> types = {{"sku", Type::dictionary},
                                                      {"type", Type::dictionary},
                                                      {"customer", Type::string},
                                                      {"store", Type::int64},
                                                      {"size", Type::int32},
                                                      {"gift", Type::boolean},
                                                      {"units", Type::int64},
                                                      {"amount", Type::decimal},
                                                      {"weight", Type::float64},
                                                      {"", Type::int64},
                                                      {"event_time", Type::timestamp_ms}};
    return types.at(column);
}

inline Window window(const WindowSpec& spec) {
    std::vector<Type> keys, measures;
    for (const std::string& key : spec.keys) keys.push_back(type_of(key));
    for (const Measure& measure : spec.measures) measures.push_back(type_of(measure.column));
    return Window(spec, keys, measures);
}

using Parts = std::vector<std::pair<std::string, std::shared_ptr<Batch>>>;

inline Parts snapshot_of(Window& window) {
    Parts parts;
    std::unique_ptr<FrozenWindow> frozen;
    CHECK(window.freeze(&frozen).ok());
    CHECK(frozen->write(&parts).ok());
    CHECK(frozen->write(&parts).code() == Code::state);  // once
    return parts;
}

inline WindowSpec minutes(std::vector<std::string> keys, std::vector<Measure> measures) {
    WindowSpec spec;
    spec.name = "sales";
    spec.size_ms = 60'000;
    spec.time_column = "event_time";
    spec.keys = std::move(keys);
    spec.measures = std::move(measures);
    return spec;
}

inline std::string cell(const Column& column, std::int64_t row) {
    if (!column.valid(row)) return "null";
    char number[64];
    switch (column.type) {
        case Type::string:
            return std::string(column.text(row));
        case Type::boolean:
            return std::to_string(column.lanes<std::uint8_t>()[row]);
        case Type::int32:
            return std::to_string(column.lanes<std::int32_t>()[row]);
        case Type::float64:
            std::snprintf(number, sizeof number, "%.17g", column.lanes<double>()[row]);
            return number;
        default:
            return std::to_string(column.lanes<std::int64_t>()[row]);
    }
}

inline std::string text_of(const Batch& batch) {
    std::string text;
    for (std::int64_t row = 0; row < batch.rows; ++row) {
        for (const Column& column : batch.columns)
            text += cell(column, row) + (&column == &batch.columns.back() ? "" : " ");
        text += "\n";
    }
    return text;
}

inline std::string text_of(const std::vector<std::shared_ptr<Batch>>& batches) {
    std::string text;
    for (const auto& batch : batches) text += text_of(*batch);
    return text;
}

inline std::string closed_by(Window* window, std::int64_t watermark_ms) {
    std::vector<std::shared_ptr<Batch>> closed;
    CHECK(window->advance(watermark_ms, &closed).ok());
    return text_of(closed);
}

inline void push(Window* window, const std::vector<Row>& rows, const Dictionaries& dictionaries,
                 std::vector<std::int32_t>* late = nullptr) {
    std::vector<std::int32_t> ignored;
    CHECK(window->push(clean_batch(rows, dictionaries), late == nullptr ? &ignored : late).ok());
}

inline const Condition kNet = {"type", {"paid"}, {"returned", "cancelled"}};
inline const Condition kPaid = {"type", {"paid"}, {}};

}  // namespace omnistream
