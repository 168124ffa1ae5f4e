// Where decoded values go while a block is read, and how they become columns.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "decode_plan.hpp"
#include "omnistream/batch.hpp"
#include "omnistream/dictionary.hpp"

namespace omnistream {

// The values of one field. Rows are written in place at a row number, so that a second value for the same row
// (a duplicate key) simply overwrites the first.
struct Lane {
    Type type = Type::int64;
    Array<std::int64_t> wide;      // int64, decimal, timestamp, float64 (its bits)
    Array<std::int32_t> narrow;    // int32; codes of a dictionary, once encoded
    Array<std::uint8_t> bytewise;  // bool
    Array<char> bytes;             // string
    Array<std::int32_t>
        offsets;        // string; row r writes its bytes at offsets[r] and its end to offsets[r + 1]
    Array<Text> texts;  // dictionary, or checked: rows not yet encoded
    std::vector<std::int32_t> nulls;         // rows, ascending
    std::size_t nulls_encoded = 0;           // those that encode() has passed
    std::shared_ptr<Dictionary> dictionary;  // none of what is only checked, or encoded elsewhere
    std::size_t bytes_before = 0;            // string: what the block before took

    void reserve(std::size_t rows);
    void set_text(std::size_t row, std::string_view text) {
        const auto start = static_cast<std::size_t>(offsets[row]);
        if (start + text.size() > bytes.capacity()) bytes.reserve(start + text.size() + bytes.capacity() / 2);
        if (!text.empty()) std::memcpy(bytes.data() + start, text.data(), text.size());
        offsets[row + 1] = static_cast<std::int32_t>(start + text.size());
    }
    // A value of no meaning, so that later rows find their place.
    void set_nothing(std::size_t row, std::size_t encoded_rows);
    void set_default(std::size_t row, std::size_t encoded_rows, const Field& field);
};

// All lanes of a block, with the rows that are complete.
class Lanes {
public:
    Lanes(const DecodePlan& plan, const std::vector<std::shared_ptr<Dictionary>>& dictionaries);

    std::vector<Lane> lane;                   // by field
    std::size_t rows[kMostLevels] = {};       // of complete messages
    std::size_t encoded[kMostLevels] = {};    // rows whose dictionary strings have codes
    KeptVector<std::int32_t> message_number;  // per complete message: index into the origin's messages
    Array<std::int32_t> end[kMostLevels];     // per row of a level but the last: its inner rows end there

    // Room for one more row beyond `row`.
    void ensure(Level level, std::size_t row) {
        if (row >= capacity_[level]) grow(level, row);
    }
    // Room for strings of that many bytes more in each lane.
    void reserve_texts(std::size_t bytes);
    // The same for a row that will be rejected: what comes behind it must find its place.
    void fill_nothing(Level level, std::size_t row, std::uint64_t missing);
    // Columns of the row's level that hold no value: their default or null. Values of `missing` must be
    // optional.
    void fill(Level level, std::size_t row, std::uint64_t missing);
    // Whether the outer strings of the message being read, repeated for each of its lines, are out of all
    // proportion to its size: a message is not to take more than kMostRepeated times its bytes. `row` as for
    // complete().
    [[nodiscard]] bool repeats_too_much(const std::size_t* row, std::size_t message_bytes) const;

    // A message's rows are complete: `row` has the next row of each level, but for the message's own.
    void complete(const std::size_t* row);
    // Forgets what fill() noted for the rows from `row` on: they never became complete.
    void rollback(const std::size_t* row);
    // Dictionary strings of complete rows become codes. To be called while their bytes are still there.
    void encode();
    void begin();
    // The columns in schema order, outer values repeated in each line. Empties the lanes.
    // False when the columns of one batch would not fit 32-bit offsets.
    [[nodiscard]] bool finish(Batch* batch);

private:
    static constexpr std::size_t kMostRepeated = 256;

    std::size_t count_lines(Level level, std::size_t row, std::size_t inner_end, std::size_t* repeated) const;
    void grow(Level level, std::size_t row);

    const DecodePlan& plan_;
    std::size_t capacity_[kMostLevels] = {};
};

}  // namespace omnistream
