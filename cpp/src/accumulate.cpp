#include "omnistream/accumulate.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>

namespace omnistream {

namespace {

using Wide = __int128;

constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kNan = kMost;

}  // namespace

std::uint64_t fresh_word(Add add) {
    if (add == Add::min || add == Add::first) return static_cast<std::uint64_t>(kMost);
    if (add == Add::max || add == Add::max_float || add == Add::last)
        return static_cast<std::uint64_t>(kLeast);
    return 0;
}

std::int64_t ordered(double value) {
    if (std::isnan(value)) return kNan;
    const auto bits = std::bit_cast<std::int64_t>(value);
    return bits ^ ((bits >> 63) & kMost);
}

double unordered(std::int64_t bits) {
    return std::bit_cast<double>(bits ^ ((bits >> 63) & kMost));
}

void BoundCondition::bind(const Column& column) {
    bound = &column;
    if (column.dictionary == nullptr) return;
    if (column.dictionary != dictionary) {
        dictionary = column.dictionary;
        weights.clear();
    }
    for (auto code = static_cast<std::int32_t>(weights.size()); code < dictionary->size(); ++code) {
        const auto is = [text = dictionary->value(code)](const std::string& value) { return value == text; };
        const bool plus = std::any_of(condition.plus.begin(), condition.plus.end(), is);
        const bool minus = std::any_of(condition.minus.begin(), condition.minus.end(), is);
        weights.push_back(static_cast<std::int8_t>(static_cast<int>(plus) - static_cast<int>(minus)));
    }
}

namespace {

template <class Lane>
void gather_lanes(const Input& input, const std::int32_t* batch_rows, std::size_t count,
                  std::int64_t* values) {
    const auto* lanes = input.bound->lanes<Lane>();
    for (std::size_t i = 0; i < count; ++i) {
        if constexpr (std::is_same_v<Lane, double>)
            values[i] = ordered(lanes[batch_rows[i]]);
        else
            values[i] = lanes[batch_rows[i]];
    }
}

}  // namespace

void gather(Input* input, const std::int32_t* batch_rows, std::size_t count, bool consecutive) {
    input->values = input->gathered;
    if (input->type == Type::int32)
        return gather_lanes<std::int32_t>(*input, batch_rows, count, input->gathered);
    if (input->type == Type::boolean)
        return gather_lanes<std::uint8_t>(*input, batch_rows, count, input->gathered);
    if (input->type == Type::float64) return gather_lanes<double>(*input, batch_rows, count, input->gathered);
    if (!consecutive) return gather_lanes<std::int64_t>(*input, batch_rows, count, input->gathered);
    input->values = input->bound->lanes<std::int64_t>() + batch_rows[0];
}

void weigh(const Column* column, const BoundCondition* condition, const std::int32_t* batch_rows,
           std::size_t count, std::int8_t* weights) {
    if (condition == nullptr || condition->weights.empty()) {
        std::memset(weights, condition == nullptr ? 1 : 0, count);
    } else {
        const auto* codes = condition->bound->lanes<std::int32_t>();
        const std::int8_t* by_code = condition->weights.data();
        if (condition->bound->null_count == 0) {
            for (std::size_t i = 0; i < count; ++i) weights[i] = by_code[codes[batch_rows[i]]];
        } else {
            for (std::size_t i = 0; i < count; ++i)
                weights[i] =
                    condition->bound->valid(batch_rows[i]) ? by_code[codes[batch_rows[i]]] : std::int8_t{0};
        }
    }
    if (column != nullptr && column->null_count != 0)
        for (std::size_t i = 0; i < count; ++i)
            if (!column->valid(batch_rows[i])) weights[i] = 0;
}

namespace {

void add_count(std::uint64_t* const* rows, std::size_t word, std::size_t count, const std::int8_t* weights) {
    if (weights == nullptr) {
        for (std::size_t i = 0; i < count; ++i) ++rows[i][word];
    } else {
        for (std::size_t i = 0; i < count; ++i)
            rows[i][word] += static_cast<std::uint64_t>(static_cast<std::int64_t>(weights[i]));
    }
}

bool add_sum(std::uint64_t* const* rows, std::size_t word, std::size_t count, const std::int64_t* values,
             const std::int8_t* weights) {
    bool overflow = false;
    if (weights == nullptr) {
        for (std::size_t i = 0; i < count; ++i) {
            std::int64_t sum = 0;
            overflow |= __builtin_add_overflow(static_cast<std::int64_t>(rows[i][word]), values[i], &sum);
            rows[i][word] = static_cast<std::uint64_t>(sum);
        }
    } else {
        for (std::size_t i = 0; i < count; ++i) {
            const Wide sum =
                static_cast<Wide>(values[i]) * weights[i] + static_cast<std::int64_t>(rows[i][word]);
            rows[i][word] = static_cast<std::uint64_t>(sum);
            overflow |= sum != static_cast<std::int64_t>(sum);
        }
    }
    return overflow;
}

bool add_squares(std::uint64_t* const* rows, std::size_t word, std::size_t count, const std::int64_t* values,
                 const std::int8_t* weights) {
    bool overflow = false;
    for (std::size_t i = 0; i < count; ++i) {
        if (weights != nullptr && weights[i] == 0) continue;
        unsigned __int128 sum = 0;
        std::memcpy(&sum, rows[i] + word, sizeof sum);
        const Wide square = static_cast<Wide>(values[i]) * values[i];
        overflow |= __builtin_add_overflow(sum, static_cast<unsigned __int128>(square), &sum);
        std::memcpy(rows[i] + word, &sum, sizeof sum);
    }
    return overflow;
}

template <Add kAdd>
void add_extreme(std::uint64_t* const* rows, std::size_t word, std::size_t count, const std::int64_t* values,
                 const std::int8_t* weights) {
    for (std::size_t i = 0; i < count; ++i) {
        if (weights != nullptr && weights[i] == 0) continue;
        if (kAdd == Add::max_float && values[i] == kNan) continue;
        const auto extreme = static_cast<std::int64_t>(rows[i][word]);
        const bool beyond = kAdd == Add::min ? values[i] < extreme : values[i] > extreme;
        if (beyond) rows[i][word] = static_cast<std::uint64_t>(values[i]);
    }
}

}  // namespace

bool add_block(Add add, std::uint64_t* const* rows, std::size_t word, std::size_t count,
               const std::int64_t* values, const std::int8_t* weights) {
    switch (add) {
        case Add::count:
            add_count(rows, word, count, weights);
            return false;
        case Add::sum:
            return add_sum(rows, word, count, values, weights);
        case Add::squares:
            return add_squares(rows, word, count, values, weights);
        case Add::min:
            add_extreme<Add::min>(rows, word, count, values, weights);
            return false;
        case Add::max:
            add_extreme<Add::max>(rows, word, count, values, weights);
            return false;
        case Add::max_float:
            add_extreme<Add::max_float>(rows, word, count, values, weights);
            return false;
        case Add::items:
        case Add::first:
        case Add::last:
        case Add::carried:
        case Add::told:
            break;  // need more than a word and a value
    }
    return false;
}

namespace {

template <bool kCounts, std::size_t kSums>
unsigned add_plain_of(std::uint64_t* const* rows, std::size_t count, std::size_t count_word,
                      const PlainSum* sums) {
    bool overflow[kSums + 1] = {};
    PlainSum local[kSums + 1];
    std::copy_n(sums, kSums, local);
    for (std::size_t i = 0; i < count; ++i) {
        std::uint64_t* row = rows[i];
        if constexpr (kCounts) ++row[count_word];
        for (std::size_t sum = 0; sum < kSums; ++sum) {
            std::int64_t added = 0;
            overflow[sum] |= __builtin_add_overflow(static_cast<std::int64_t>(row[local[sum].word]),
                                                    local[sum].values[i], &added);
            row[local[sum].word] = static_cast<std::uint64_t>(added);
        }
    }
    unsigned overflowed = 0;
    for (std::size_t sum = 0; sum < kSums; ++sum) overflowed |= static_cast<unsigned>(overflow[sum]) << sum;
    return overflowed;
}

template <bool kCounts>
unsigned add_plain_sums(std::uint64_t* const* rows, std::size_t count, std::size_t count_word,
                        const PlainSum* sums, std::size_t sum_count) {
    static_assert(kMostPlain == 4);
    switch (sum_count) {
        case 0:
            return add_plain_of<kCounts, 0>(rows, count, count_word, sums);
        case 1:
            return add_plain_of<kCounts, 1>(rows, count, count_word, sums);
        case 2:
            return add_plain_of<kCounts, 2>(rows, count, count_word, sums);
        case 3:
            return add_plain_of<kCounts, 3>(rows, count, count_word, sums);
        default:
            return add_plain_of<kCounts, 4>(rows, count, count_word, sums);
    }
}

}  // namespace

unsigned add_plain(std::uint64_t* const* rows, std::size_t count, const std::size_t* count_word,
                   const PlainSum* sums, std::size_t sum_count) {
    return count_word == nullptr ? add_plain_sums<false>(rows, count, 0, sums, sum_count)
                                 : add_plain_sums<true>(rows, count, *count_word, sums, sum_count);
}

namespace {

// Whether (time, value) comes before what a group has, for Add::first, or after it, for Add::last.
bool beats(Add add, std::int64_t time, std::int64_t value, std::int64_t other_time, std::int64_t other) {
    if (time != other_time) return (time < other_time) == (add == Add::first);
    return value != other && (value < other) == (add == Add::first);
}

void take_by_time(Add add, std::uint64_t* words, std::int64_t time, std::int64_t value) {
    const bool none = words[0] == fresh_word(add);
    if (!none &&
        !beats(add, time, value, static_cast<std::int64_t>(words[0]), static_cast<std::int64_t>(words[1])))
        return;
    words[0] = static_cast<std::uint64_t>(time);
    words[1] = static_cast<std::uint64_t>(value);
}

}  // namespace

void add_block_by_time(Add add, std::uint64_t* const* rows, std::size_t word, std::size_t count,
                       const std::int64_t* values, const std::int64_t* times, const std::int8_t* weights) {
    for (std::size_t i = 0; i < count; ++i)
        if (weights == nullptr || weights[i] != 0) take_by_time(add, rows[i] + word, times[i], values[i]);
}

bool merge_block(Add add, std::uint64_t* const* into, const std::uint64_t* const* from, std::size_t word,
                 std::size_t count) {
    bool overflow = false;
    for (std::size_t i = 0; i < count; ++i) {
        std::uint64_t& mine = into[i][word];
        const std::uint64_t theirs = from[i][word];
        const auto a = static_cast<std::int64_t>(mine);
        const auto b = static_cast<std::int64_t>(theirs);
        switch (add) {
            case Add::count:
                mine += theirs;
                break;
            case Add::sum: {
                std::int64_t sum = 0;
                overflow |= __builtin_add_overflow(a, b, &sum);
                mine = static_cast<std::uint64_t>(sum);
                break;
            }
            case Add::squares: {
                unsigned __int128 sum = 0;
                unsigned __int128 other = 0;
                std::memcpy(&sum, into[i] + word, sizeof sum);
                std::memcpy(&other, from[i] + word, sizeof other);
                overflow |= __builtin_add_overflow(sum, other, &sum);
                std::memcpy(into[i] + word, &sum, sizeof sum);
                break;
            }
            case Add::min:
                mine = static_cast<std::uint64_t>(std::min(a, b));
                break;
            case Add::max:
            case Add::max_float:
            case Add::told:
                mine = static_cast<std::uint64_t>(std::max(a, b));
                break;
            case Add::first:
            case Add::last:
                if (theirs != fresh_word(add))
                    take_by_time(add, into[i] + word, b, static_cast<std::int64_t>(from[i][word + 1]));
                break;
            case Add::items:    // counted where they meet
            case Add::carried:  // by the word before
                break;
        }
    }
    return overflow;
}

}  // namespace omnistream
