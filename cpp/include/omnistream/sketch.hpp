// Approximate distinct counts and quantiles whose state is integers only, so that they come out the same
// whatever the order of the rows, the batches and the merges.
#pragma once

#include <cstdint>
#include <string_view>

namespace omnistream {

// ---- HyperLogLog: 4,096 registers, a standard error of 1.6 % (1.04 / sqrt(4096))

inline constexpr unsigned kRegisterBits = 12;
inline constexpr std::size_t kRegisters = std::size_t{1} << kRegisterBits;
inline constexpr std::uint32_t kRegistersPerWord = 8;
// Ranks run from 1 to this; 0 is a register that nothing has met.
inline constexpr unsigned kLargestRank = 64 - kRegisterBits + 1;

// Part of what results and snapshots mean: never to change. Integers are finished as SplitMix64 does, texts
// are FNV-1a 64, finished likewise.
[[nodiscard]] std::uint64_t sketch_hash(std::int64_t value);
[[nodiscard]] std::uint64_t sketch_hash(std::string_view text);

struct RegisterUpdate {
    std::uint32_t word;   // which word of eight registers
    std::uint64_t ranks;  // the rank in its byte, zeros in the others
};
[[nodiscard]] RegisterUpdate register_of(std::uint64_t hash);
// The larger rank of each register.
[[nodiscard]] std::uint64_t larger_ranks(std::uint64_t a, std::uint64_t b);
// How many distinct values, from how many registers hold each rank (Ertl, arXiv:1702.01284, algorithm 6).
[[nodiscard]] std::int64_t estimate_distinct(const std::uint32_t (&registers_by_rank)[kLargestRank + 1]);

// ---- Quantiles: buckets of integers that share their sign, their magnitude and their next seven bits

// Values below 256 have a bucket each; the middle of any other is less than 1/256 (0.4 %) away from all that
// it holds.
[[nodiscard]] std::int32_t bucket_of(std::int64_t value);
[[nodiscard]] double bucket_middle(std::int32_t bucket);

}  // namespace omnistream
