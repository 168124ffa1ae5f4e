// Chance without the C library, whose functions differ between machines: integers alone.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

namespace omnistream::shop {

__extension__ using int128 = __int128;
__extension__ using uint128 = unsigned __int128;

// ---- splitmix64, once as a hash and once as a stream ----

constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15;

inline std::uint64_t mix(std::uint64_t x) {
    x += kGolden;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

class Random {
public:
    explicit Random(std::uint64_t state) : state_(state) {}
    std::uint64_t next() { return mix(state_ += kGolden); }
    std::uint32_t bits() { return static_cast<std::uint32_t>(next() >> 32); }
    // In [0, count).
    std::uint32_t below(std::uint32_t count) {
        return static_cast<std::uint32_t>((std::uint64_t{bits()} * count) >> 32);
    }

private:
    std::uint64_t state_;
};

// A share in [0, 1] as a bound on 32 random bits; exact, as a multiplication by a power of two is.
inline std::uint64_t chance(double share) {
    return static_cast<std::uint64_t>(share * 4294967296.0);
}

// ---- popularity: Zipf weights in integers, because pow() differs between C libraries ----

// log2(x) for x >= 1, 32 bits after the point.
inline std::uint64_t log2_q32(std::uint64_t x) {
    const auto exponent = static_cast<int>(std::bit_width(x)) - 1;
    uint128 mantissa = uint128{x} << (63 - exponent);
    std::uint64_t fraction = 0;
    for (int i = 0; i < 32; ++i) {
        mantissa = (mantissa * mantissa) >> 63;
        fraction <<= 1;
        if ((mantissa >> 64) != 0) {
            mantissa >>= 1;
            fraction |= 1;
        }
    }
    return (static_cast<std::uint64_t>(exponent) << 32) | fraction;
}

inline std::uint64_t square_root(uint128 x) {
    std::uint64_t root = 0;
    for (std::uint64_t bit = std::uint64_t{1} << 63; bit != 0; bit >>= 1) {
        const std::uint64_t tried = root | bit;
        if (uint128{tried} * tried <= x) root = tried;
    }
    return root;
}

// rank^-exponent for ranks 1..count, 62 bits after the point, at least one bit.
inline std::vector<std::uint64_t> zipf_weights(std::uint32_t count, double exponent) {
    std::uint64_t roots[32];  // 2^-(1/2), 2^-(1/4), ...
    std::uint64_t root = std::uint64_t{1} << 61;
    for (std::uint64_t& r : roots) r = root = square_root(uint128{root} << 62);
    const std::uint64_t power = chance(exponent);
    std::vector<std::uint64_t> weights(count);
    for (std::uint32_t rank = 1; rank <= count; ++rank) {
        const auto y = static_cast<std::uint64_t>((uint128{log2_q32(rank)} * power) >> 32);
        uint128 weight = uint128{1} << 62;
        for (int i = 0; i < 32; ++i) {
            if (((y >> (31 - i)) & 1) != 0) weight = (weight * roots[i]) >> 62;
        }
        const std::uint64_t shift = y >> 32;
        weights[rank - 1] =
            shift < 62 ? std::max<std::uint64_t>(static_cast<std::uint64_t>(weight >> shift), 1) : 1;
    }
    return weights;
}

// Walker's alias table: one random word, one cache line, any distribution.
class AliasTable {
public:
    explicit AliasTable(const std::vector<std::uint64_t>& weights) : cells_(weights.size()) {
        uint128 sum = 0;
        for (const std::uint64_t weight : weights) sum += weight;
        std::vector<std::uint64_t> filled(weights.size());  // 2^32 is the share of one cell
        std::vector<std::uint32_t> small;
        std::vector<std::uint32_t> large;
        // sum < 2^82, so the quotient is scaled by 2^20 at most to stay inside 128 bits.
        const uint128 unit = std::max<uint128>((sum << 20) / weights.size(), 1);
        for (std::uint32_t i = 0; i < weights.size(); ++i) {
            filled[i] = static_cast<std::uint64_t>((uint128{weights[i]} << 52) / unit);
            (filled[i] < kFull ? small : large).push_back(i);
        }
        while (!small.empty() && !large.empty()) {
            const std::uint32_t poor = small.back();
            const std::uint32_t rich = large.back();
            small.pop_back();
            cells_[poor] = {static_cast<std::uint32_t>(filled[poor]), rich};
            filled[rich] -= kFull - filled[poor];
            if (filled[rich] < kFull) {
                large.pop_back();
                small.push_back(rich);
            }
        }
        for (const std::uint32_t i : small) cells_[i] = {0, i};
        for (const std::uint32_t i : large) cells_[i] = {0, i};
    }
    [[nodiscard]] std::uint32_t draw(std::uint64_t random) const {
        const auto at = static_cast<std::uint32_t>(((random >> 32) * cells_.size()) >> 32);
        return static_cast<std::uint32_t>(random) < cells_[at].threshold ? at : cells_[at].alias;
    }

private:
    static constexpr std::uint64_t kFull = std::uint64_t{1} << 32;
    struct Cell {
        std::uint32_t threshold;
        std::uint32_t alias;
    };
    std::vector<Cell> cells_;
};

}  // namespace omnistream::shop
