#pragma once

#include "simd_one_by_one.hpp"

namespace omnistream::OMNI_ISA {

// Eight bytes in a word: a byte's high bit stands for it, and a multiplication gathers the eight high bits.
struct Simd : OneByOne {
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

    // 64 bytes by what they mean to JSON.
    struct Classes {
        std::uint64_t quotes = 0;
        std::uint64_t backslashes = 0;
        std::uint64_t feeds = 0;
        std::uint64_t specials = 0;  // control characters (line feeds, too) and what is not ASCII
    };

    static Classes classify(const char* p) {
        Classes found;
        for (int i = 0; i < 64; i += 8) {
            std::uint64_t word;
            std::memcpy(&word, p + i, sizeof word);
            found.quotes |= gather(below(word ^ kOnes * '"', 1)) << i;
            found.backslashes |= gather(below(word ^ kOnes * '\\', 1)) << i;
            found.feeds |= gather(below(word ^ kOnes * '\n', 1)) << i;
            found.specials |= gather(below(word, 0x20) | (word & kHigh)) << i;
        }
        return found;
    }

    // The numbers of the bits, plus `base`; may write up to eight places beyond the last.
    static std::uint32_t* flatten(std::uint64_t bits, std::uint32_t base, std::uint32_t* out) {
        std::uint32_t* const end = out + std::popcount(bits);
        while (bits != 0)
            for (int i = 0; i < 8; ++i, bits &= bits - 1)
                *out++ = base + static_cast<std::uint32_t>(std::countr_zero(bits));
        return end;
    }

    static constexpr bool kSeesNumerals = false;  // eight bytes at a time gain nothing

    // Which of 64 bytes are not below `byte`, at least 0x80.
    static std::uint64_t at_least(const char* p, unsigned byte) {
        std::uint64_t found = 0;
        for (int i = 0; i < 64; i += 8) {
            std::uint64_t word;
            std::memcpy(&word, p + i, sizeof word);
            found |= gather(word & kHigh & ~below(word & ~kHigh, byte - 0x80)) << i;
        }
        return found;
    }

    static Scan scan(const char* p) {
        std::uint64_t word;
        std::memcpy(&word, p, sizeof word);
        const std::uint64_t stop =
            below(word ^ kOnes * '"', 1) | below(word ^ kOnes * '\\', 1) | below(word, 0x20);
        return {gather(stop), gather(word & kHigh)};
    }

    static void copy(char* to, const char* from) { std::memcpy(to, from, kWidth); }
};

}  // namespace omnistream::OMNI_ISA
