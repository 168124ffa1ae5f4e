// Columns as fast as On-Demand allows: allocated once and without bounds checks, strings unescaped straight
// into them, timestamps read from the raw bytes.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "simdjson.h"
#include "simdjson_answer.hpp"

namespace peer {

namespace ondemand = simdjson::ondemand;
using Value = simdjson::simdjson_result<ondemand::value>;

constexpr std::size_t kBatchBytes = 1 << 20;
// A batch of columns is cleared after the document in which kBatchBytes of input are passed, and no document
// is longer than that: so no column ever holds more bytes, or values.
constexpr std::size_t kColumnBytes = 2 * kBatchBytes;
constexpr std::size_t kColumnValues = kColumnBytes / 8;
constexpr double kScale = 1e4;

struct Nulls {
    std::vector<std::uint32_t> rows;
    std::size_t digested = 0;
    // Rows are asked for in ascending order, perhaps more than once.
    bool at(std::size_t row) {
        while (digested < rows.size() && rows[digested] < row) ++digested;
        return digested < rows.size() && rows[digested] == row;
    }
    void clear() {
        rows.clear();
        digested = 0;
    }
    void repeat(const std::vector<std::size_t>& ends) {
        std::vector<std::uint32_t> lines;
        for (const std::uint32_t row : rows)
            for (std::size_t line = row == 0 ? 0 : ends[row - 1]; line < ends[row]; ++line)
                lines.push_back(static_cast<std::uint32_t>(line));
        rows = std::move(lines);
    }
};

// A value that could not be read is null when it is missing or says null; else the run ends.
[[gnu::noinline]] inline void expect_null(Value value) {
    if (value.error() == simdjson::NO_SUCH_FIELD) return;
    if (!value.value_unsafe().is_null()) throw std::runtime_error("a value of another type");
}

template <class T>
struct Lane {
    std::unique_ptr<T[]> values{new T[kColumnValues]};
    std::unique_ptr<T[]> repeated{new T[kColumnValues]};
    const T* shown = values.get();  // either of them
    std::size_t size = 0;
    Nulls nulls;

    [[nodiscard]] std::size_t rows() const { return size; }
    simdjson_inline void push(T value) { values[size++] = value; }
    void push_null() {
        nulls.rows.push_back(static_cast<std::uint32_t>(size));
        push(T{});
    }
    void clear() {
        size = 0;
        shown = values.get();
        nulls.clear();
    }
    // A value for each line: message i has the lines [ends[i - 1], ends[i]). Most have few, so that a fixed
    // number of copies, some of them overwritten by the next, is faster than a loop that stops in time.
    void repeat(const std::vector<std::size_t>& ends) {
        constexpr std::size_t kCopies = 8;
        std::size_t line = 0;
        for (std::size_t i = 0; i < ends.size(); ++i) {
            const T value = values[i];
            for (; line < ends[i]; line += kCopies)
                for (std::size_t copy = 0; copy < kCopies; ++copy) repeated[line + copy] = value;
            line = ends[i];
        }
        shown = repeated.get();
        nulls.repeat(ends);
    }
};

struct Integers : Lane<std::int64_t> {
    simdjson_inline void read(ondemand::parser&, Value value) {
        std::int64_t number = 0;
        if (value.get(number) != simdjson::SUCCESS) [[unlikely]]
            return expect_null(value), push_null();
        push(number);
    }
    void digest(std::size_t row, Digest* out) {
        out->nulls += nulls.at(row);
        out->add_number(shown[row]);
    }
};

struct Decimals : Lane<double> {
    simdjson_inline void read(ondemand::parser&, Value value) {
        double number = 0;
        if (value.get(number) != simdjson::SUCCESS) [[unlikely]]
            return expect_null(value), push_null();
        push(number);
    }
    void digest(std::size_t row, Digest* out) {
        out->nulls += nulls.at(row);
        out->add_number(std::llround(shown[row] * kScale));
    }
};

struct DecimalsInStrings : Decimals {
    simdjson_inline void read(ondemand::parser&, Value value) {
        double number = 0;
        if (value.get_double_in_string().get(number) != simdjson::SUCCESS) [[unlikely]]
            return expect_null(value), push_null();
        push(number);
    }
};

simdjson_inline int two_digits(const char* text) {
    return (text[0] - '0') * 10 + text[1] - '0';
}

// YYYY-MM-DDThh:mm:ss to s since 1970; digits are taken on trust.
simdjson_inline std::int64_t seconds_since_epoch(const char* text) {
    int year = two_digits(text) * 100 + two_digits(text + 2);
    const int month = two_digits(text + 5);
    const int day = two_digits(text + 8);
    year -= month <= 2;
    const int era = year / 400;
    const int year_of_era = year - era * 400;
    const int day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    const int day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    const std::int64_t days = era * 146097LL + day_of_era - 719468;
    return ((days * 24 + two_digits(text + 11)) * 60 + two_digits(text + 14)) * 60 + two_digits(text + 17);
}

// Only the form that the file has: with milliseconds and Z.
struct Timestamps : Integers {
    simdjson_inline void read(ondemand::parser&, Value value) {
        ondemand::raw_json_string raw;
        if (value.get(raw) != simdjson::SUCCESS) [[unlikely]]
            return expect_null(value), push_null();
        const char* text = raw.raw();
        if (text[10] != 'T' || text[23] != 'Z' || text[24] != '"')
            throw std::runtime_error("not a timestamp");
        const int ms = (text[20] - '0') * 100 + two_digits(text + 21);
        push(seconds_since_epoch(text) * 1000 + ms);
    }
};

// Only the form that the file has: no fraction, an offset east of Greenwich.
struct LocalTimestamps : Integers {
    simdjson_inline void read(ondemand::parser&, Value value) {
        ondemand::raw_json_string raw;
        if (value.get(raw) != simdjson::SUCCESS) [[unlikely]]
            return expect_null(value), push_null();
        const char* text = raw.raw();
        if (text[10] != 'T' || text[19] != '+' || text[25] != '"')
            throw std::runtime_error("not a timestamp");
        const int offset_minutes = two_digits(text + 20) * 60 + two_digits(text + 23);
        push((seconds_since_epoch(text) - offset_minutes * 60) * 1000);
    }
};

struct Strings {
    static constexpr std::int32_t kBlock = 16;  // copied at a time
    // The unescape of simdjson writes 32 bytes at a time.
    std::unique_ptr<std::uint8_t[]> bytes{new std::uint8_t[kColumnBytes + simdjson::SIMDJSON_PADDING]};
    std::unique_ptr<std::uint8_t[]> repeated;
    std::size_t repeated_size = 0;
    const std::uint8_t* shown = bytes.get();  // either of them
    std::uint8_t* end = bytes.get();
    Lane<std::int32_t> ends;

    simdjson_inline void read(ondemand::parser& parser, Value value) {
        ondemand::raw_json_string raw;
        if (value.get(raw) != simdjson::SUCCESS) [[unlikely]]
            return expect_null(value), push_null();
        if (parser.unescape(raw, end).error() != simdjson::SUCCESS) throw std::runtime_error("not a string");
        ends.push(static_cast<std::int32_t>(end - bytes.get()));
    }
    void push_null() {
        ends.nulls.rows.push_back(static_cast<std::uint32_t>(ends.size));
        ends.push(static_cast<std::int32_t>(end - bytes.get()));
    }
    void clear() {
        end = bytes.get();
        shown = bytes.get();
        ends.clear();
    }
    std::int32_t size_at(std::size_t i) const { return ends.values[i] - (i == 0 ? 0 : ends.values[i - 1]); }
    void repeat(const std::vector<std::size_t>& lines) {
        std::size_t total = 0;
        for (std::size_t i = 0, line = 0; i < lines.size(); line = lines[i++])
            total += (lines[i] - line) * static_cast<std::size_t>(size_at(i));
        if (total + kBlock > repeated_size) {
            repeated_size = 2 * total + kBlock;
            repeated.reset(new std::uint8_t[repeated_size]);
        }
        std::size_t line = 0;
        std::int32_t at = 0;
        for (std::size_t i = 0; i < lines.size(); ++i) {
            const std::int32_t size = size_at(i);
            const std::uint8_t* text = bytes.get() + ends.values[i] - size;
            for (; line < lines[i]; ++line) {
                for (std::int32_t done = 0; done < size; done += kBlock)
                    std::memcpy(repeated.get() + at + done, text + done, kBlock);
                at += size;
                ends.repeated[line] = at;
            }
        }
        ends.shown = ends.repeated.get();
        ends.nulls.repeat(lines);
        shown = repeated.get();
    }
    void digest(std::size_t row, Digest* out) {
        const std::int32_t begin = row == 0 ? 0 : ends.shown[row - 1];
        out->nulls += ends.nulls.at(row);
        out->add_string({reinterpret_cast<const char*>(shown) + begin,
                         static_cast<std::size_t>(ends.shown[row] - begin)});
    }
};

}  // namespace peer
