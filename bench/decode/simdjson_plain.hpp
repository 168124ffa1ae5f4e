// Columns of the program that one writes first: each value through get_string, get_int64 or get_double and
// pushed back to a vector that grows.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

#include "simdjson_columns.hpp"

namespace peer {

template <class T>
struct PlainLane {
    std::vector<T> values;
    Nulls nulls;

    [[nodiscard]] std::size_t rows() const { return values.size(); }
    void push_null() {
        nulls.rows.push_back(static_cast<std::uint32_t>(values.size()));
        values.push_back(T{});
    }
    void clear() {
        values.clear();
        nulls.clear();
    }
    void repeat(const std::vector<std::size_t>& ends) {
        std::vector<T> lines;
        lines.reserve(ends.empty() ? 0 : ends.back());
        for (std::size_t i = 0; i < ends.size(); ++i) lines.resize(ends[i], values[i]);
        values = std::move(lines);
        nulls.repeat(ends);
    }
};

struct PlainIntegers : PlainLane<std::int64_t> {
    simdjson_inline void read(ondemand::parser&, Value value) {
        std::int64_t number = 0;
        if (value.get_int64().get(number) != simdjson::SUCCESS) return expect_null(value), push_null();
        values.push_back(number);
    }
    void digest(std::size_t row, Digest* out) {
        out->nulls += nulls.at(row);
        out->add_number(values[row]);
    }
};

struct PlainTimestamps : PlainIntegers {
    simdjson_inline void read(ondemand::parser&, Value value) {
        std::string_view text;
        if (value.get_string().get(text) != simdjson::SUCCESS) return expect_null(value), push_null();
        if (text.size() != 24 || text[10] != 'T' || text[23] != 'Z')
            throw std::runtime_error("not a timestamp");
        const int ms = (text[20] - '0') * 100 + two_digits(text.data() + 21);
        values.push_back(seconds_since_epoch(text.data()) * 1000 + ms);
    }
};

struct PlainDecimals : PlainLane<double> {
    simdjson_inline void read(ondemand::parser&, Value value) {
        double number = 0;
        if (value.get_double().get(number) != simdjson::SUCCESS) return expect_null(value), push_null();
        values.push_back(number);
    }
    void digest(std::size_t row, Digest* out) {
        out->nulls += nulls.at(row);
        out->add_number(std::llround(values[row] * kScale));
    }
};

struct PlainStrings {
    std::vector<char> bytes;
    std::vector<std::int32_t> offsets{0};
    Nulls nulls;

    simdjson_inline void read(ondemand::parser&, Value value) {
        std::string_view text;
        if (value.get_string().get(text) != simdjson::SUCCESS) return expect_null(value), push_null();
        push(text);
    }
    void push(std::string_view text) {
        bytes.insert(bytes.end(), text.begin(), text.end());
        offsets.push_back(static_cast<std::int32_t>(bytes.size()));
    }
    void push_null() {
        nulls.rows.push_back(static_cast<std::uint32_t>(offsets.size() - 1));
        push({});
    }
    void clear() {
        bytes.clear();
        offsets.resize(1);
        nulls.clear();
    }
    [[nodiscard]] std::string_view text(std::size_t row) const {
        return {bytes.data() + offsets[row], static_cast<std::size_t>(offsets[row + 1] - offsets[row])};
    }
    void repeat(const std::vector<std::size_t>& ends) {
        PlainStrings lines;
        for (std::size_t i = 0, line = 0; i < ends.size(); ++i)
            for (; line < ends[i]; ++line) lines.push(text(i));
        bytes = std::move(lines.bytes);
        offsets = std::move(lines.offsets);
        nulls.repeat(ends);
    }
    void digest(std::size_t row, Digest* out) {
        out->nulls += nulls.at(row);
        out->add_string(text(row));
    }
};

}  // namespace peer
