// How rows reach the accumulators: the columns of a block are gathered and weighed once, then each
// accumulator is one loop over the block. Two words of 64 bits at the most hold what an accumulator knows of
// a group.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "omnistream/batch.hpp"
#include "omnistream/dictionary.hpp"
#include "omnistream/group_table.hpp"
#include "omnistream/window.hpp"

namespace omnistream {

enum class Add : std::uint8_t { count, sum, squares, min, max, max_float, items, first, last, carried, told };

// items: see window_items.cpp; the word counts them. first, last: the word is the time, and `carried`, the
// word after it, the value of that time.

// What the first word of a new group holds.
[[nodiscard]] std::uint64_t fresh_word(Add add);

// A double as an integer in the same order, -0.0 below 0.0: so its minimum does not depend on the order of
// the rows. Every NaN becomes the largest integer, which no number takes.
[[nodiscard]] std::int64_t ordered(double value);
[[nodiscard]] double unordered(std::int64_t bits);

// A numeric column whose lanes a block gathers, widened to int64 once for all measures that read it.
struct Input {
    std::string column;
    Type type = Type::int64;
    const Column* bound = nullptr;
    const std::int64_t* values = nullptr;  // of the block: in the column itself, or
    std::int64_t gathered[GroupTable::kBlock];
};

// A condition, and the weight of each code of the dictionary that its column has now.
struct BoundCondition {
    Condition condition;
    const Column* bound = nullptr;
    std::shared_ptr<const Dictionary> dictionary;
    std::vector<std::int8_t> weights;

    void bind(const Column& column);
};

// By row, how much it weighs in a measure: the condition's weight, 0 where the column is null.
struct Weighing {
    std::string column;           // empty: the condition alone
    std::int32_t condition = -1;  // -1: none
    const Column* bound = nullptr;
    bool all_one = false;  // in this batch
    std::int8_t weights[GroupTable::kBlock];
};

// `batch_rows` are row numbers of the batch; consecutive ones need no gathering. `condition` may be null,
// `column` too.
void gather(Input* input, const std::int32_t* batch_rows, std::size_t count, bool consecutive);
void weigh(const Column* column, const BoundCondition* condition, const std::int32_t* batch_rows,
           std::size_t count, std::int8_t* weights);

// Adds `count` values to the word `word` of the groups' rows; null weights are all 1. True when a sum
// overflowed: the loop goes on to its end, for the job ends then.
[[nodiscard]] bool add_block(Add add, std::uint64_t* const* rows, std::size_t word, std::size_t count,
                             const std::int64_t* values, const std::int8_t* weights);
// Counts and sums in which every row weighs 1, in one pass, so that a row is fetched once. Returns a bit for
// each sum that overflowed, the lowest for the first.
inline constexpr std::size_t kMostPlain = 4;
struct PlainSum {
    std::size_t word;
    const std::int64_t* values;
};
[[nodiscard]] unsigned add_plain(std::uint64_t* const* rows, std::size_t count, const std::size_t* count_word,
                                 const PlainSum* sums, std::size_t sum_count);
// first, last: the earliest or latest of the values and the group's own; of one time the smallest or largest.
void add_block_by_time(Add add, std::uint64_t* const* rows, std::size_t word, std::size_t count,
                       const std::int64_t* values, const std::int64_t* times, const std::int8_t* weights);
// Adds what the rows `from` hold to the rows `into`, pair by pair. True when a sum overflowed.
[[nodiscard]] bool merge_block(Add add, std::uint64_t* const* into, const std::uint64_t* const* from,
                               std::size_t word, std::size_t count);

}  // namespace omnistream
