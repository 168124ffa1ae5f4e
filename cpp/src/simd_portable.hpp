#pragma once

namespace omnistream::OMNI_ISA {

// Eight bytes in a word: a byte's high bit stands for it, and a multiplication gathers the eight high bits.
struct Simd {
    static constexpr std::size_t kWidth = 8;
    struct Scan {
        std::uint64_t stop;  // quote, backslash, control character
        std::uint64_t high;  // not ASCII
    };

    static constexpr std::uint64_t kOnes = 0x0101010101010101;
    static constexpr std::uint64_t kHigh = 0x8080808080808080;

    static std::uint64_t gather(std::uint64_t high_bits) {
        return ((high_bits >> 7) * 0x0102040810204080) >> 56;
    }
    // High bit of every byte below `limit` (at most 0x80), exact, no carries between bytes.
    static std::uint64_t below(std::uint64_t word, std::uint64_t limit) {
        return ~((word & ~kHigh) + kOnes * (0x80 - limit)) & ~word & kHigh;
    }

    static Scan scan(const char* p) {
        std::uint64_t word;
        std::memcpy(&word, p, sizeof word);
        const std::uint64_t stop =
            below(word ^ kOnes * '"', 1) | below(word ^ kOnes * '\\', 1) | below(word, 0x20);
        return {gather(stop), gather(word & kHigh)};
    }

    static bool equal(const char* a, const char* b, std::size_t size) { return std::memcmp(a, b, size) == 0; }

    static void copy(char* to, const char* from) { std::memcpy(to, from, kWidth); }
};

inline bool read_number(const char** p, int scale, std::int64_t* value) {
    return json::short_number(p, scale, value);
}

}  // namespace omnistream::OMNI_ISA
