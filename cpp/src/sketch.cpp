#include "omnistream/sketch.hpp"

#include <bit>
#include <cmath>
#include <limits>
#include <numbers>

namespace omnistream {

namespace {

std::uint64_t finish(std::uint64_t hash) {
    hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9;
    hash = (hash ^ (hash >> 27)) * 0x94d049bb133111eb;
    return hash ^ (hash >> 31);
}

// The sums of the estimator run until nothing changes any more: some sixty steps.
double sigma(double x) {
    if (x == 1) return std::numeric_limits<double>::infinity();
    double y = 1;
    double z = x;
    for (double before = -1; z != before;) {
        x *= x;
        before = z;
        z += x * y;
        y += y;
    }
    return z;
}

double tau(double x) {
    if (x == 0 || x == 1) return 0;
    double y = 1;
    double z = 1 - x;
    for (double before = -1; z != before;) {
        x = std::sqrt(x);
        before = z;
        y *= 0.5;
        z -= (1 - x) * (1 - x) * y;
    }
    return z / 3;
}

constexpr unsigned kExactBits = 8;  // of a magnitude, its leading one included
constexpr std::uint64_t kExactBelow = std::uint64_t{1} << kExactBits;
constexpr std::uint64_t kBucketsPerOctave = kExactBelow / 2;

}  // namespace

std::uint64_t sketch_hash(std::int64_t value) {
    return finish(static_cast<std::uint64_t>(value) + 0x9e3779b97f4a7c15);
}

std::uint64_t sketch_hash(std::string_view text) {
    std::uint64_t hash = 0xcbf29ce484222325;
    for (const char letter : text) hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001b3;
    return finish(hash);
}

RegisterUpdate register_of(std::uint64_t hash) {
    const auto index = static_cast<std::uint32_t>(hash >> (64 - kRegisterBits));
    const std::uint64_t rest = hash << kRegisterBits;
    const unsigned rank = rest == 0 ? kLargestRank : static_cast<unsigned>(std::countl_zero(rest)) + 1;
    return {index / kRegistersPerWord, std::uint64_t{rank} << (index % kRegistersPerWord * 8)};
}

std::uint64_t larger_ranks(std::uint64_t a, std::uint64_t b) {
    // Ranks are below 128: a byte of `least` keeps its top bit where a's rank is at least b's.
    constexpr std::uint64_t kTops = 0x8080808080808080;
    const std::uint64_t least = (a | kTops) - b;
    const std::uint64_t mask = ((least & kTops) >> 7) * 0xff;
    return (a & mask) | (b & ~mask);
}

std::int64_t estimate_distinct(const std::uint32_t (&registers_by_rank)[kLargestRank + 1]) {
    constexpr auto m = static_cast<double>(kRegisters);
    double z = m * tau(1 - registers_by_rank[kLargestRank] / m);
    for (unsigned rank = kLargestRank - 1; rank >= 1; --rank) z = 0.5 * (z + registers_by_rank[rank]);
    z += m * sigma(registers_by_rank[0] / m);
    return std::llround(m * m / (2 * std::numbers::ln2) / z);
}

std::int32_t bucket_of(std::int64_t value) {
    const std::uint64_t magnitude =
        value < 0 ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
    std::uint64_t bucket = magnitude;
    if (magnitude >= kExactBelow) {
        const auto shift = static_cast<unsigned>(std::bit_width(magnitude)) - kExactBits;
        bucket = kExactBelow + (shift - 1) * kBucketsPerOctave + (magnitude >> shift) - kBucketsPerOctave;
    }
    return value < 0 ? -static_cast<std::int32_t>(bucket) : static_cast<std::int32_t>(bucket);
}

double bucket_middle(std::int32_t bucket) {
    const auto magnitude = static_cast<std::uint64_t>(bucket < 0 ? -bucket : bucket);
    double middle = static_cast<double>(magnitude);
    if (magnitude >= kExactBelow) {
        const std::uint64_t octave = (magnitude - kExactBelow) / kBucketsPerOctave;
        const std::uint64_t top = kBucketsPerOctave + (magnitude - kExactBelow) % kBucketsPerOctave;
        const std::uint64_t width = std::uint64_t{2} << octave;
        const auto twice = static_cast<unsigned __int128>(top) * width * 2 + (width - 1);
        middle = static_cast<double>(twice) / 2;
    }
    return bucket < 0 ? -middle : middle;
}

}  // namespace omnistream
