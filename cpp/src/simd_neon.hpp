#pragma once

#include "simd_one_by_one.hpp"

namespace omnistream::OMNI_ISA {

struct Simd : OneByOne {
    static constexpr std::size_t kWidth = 16;
    struct Scan {
        std::uint64_t stop;  // quote, backslash, control character
        std::uint64_t high;  // not ASCII
    };

    static std::uint64_t bits(uint8x16_t lanes) {  // lanes are 0 or 0xff
        const uint8x16_t weights = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
        const uint8x16_t picked = vandq_u8(lanes, weights);
        return vaddv_u8(vget_low_u8(picked)) | static_cast<std::uint64_t>(vaddv_u8(vget_high_u8(picked)))
                                                   << 8;
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
        for (int i = 0; i < 4; ++i) {
            const uint8x16_t v = vld1q_u8(reinterpret_cast<const std::uint8_t*>(p) + 16 * i);
            found.quotes |= bits(vceqq_u8(v, vdupq_n_u8('"'))) << (16 * i);
            found.backslashes |= bits(vceqq_u8(v, vdupq_n_u8('\\'))) << (16 * i);
            found.feeds |= bits(vceqq_u8(v, vdupq_n_u8('\n'))) << (16 * i);
            found.specials |= bits(vcltq_s8(vreinterpretq_s8_u8(v), vdupq_n_s8(0x20))) << (16 * i);
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

    static constexpr bool kSeesNumerals = false;  // a mask of 64 bytes takes too long

    // Which of 64 bytes are not below `byte`.
    static std::uint64_t at_least(const char* p, unsigned byte) {
        std::uint64_t found = 0;
        for (int i = 0; i < 64; i += 16)
            found |= bits(vcgeq_u8(vld1q_u8(reinterpret_cast<const std::uint8_t*>(p) + i),
                                   vdupq_n_u8(static_cast<std::uint8_t>(byte))))
                     << i;
        return found;
    }

    static Scan scan(const char* p) {
        const uint8x16_t v = vld1q_u8(reinterpret_cast<const std::uint8_t*>(p));
        const uint8x16_t stop =
            vorrq_u8(vorrq_u8(vceqq_u8(v, vdupq_n_u8('"')), vceqq_u8(v, vdupq_n_u8('\\'))),
                     vcltq_u8(v, vdupq_n_u8(0x20)));
        return {bits(stop), bits(vcgeq_u8(v, vdupq_n_u8(0x80)))};
    }

    static void copy(char* to, const char* from) { std::memcpy(to, from, kWidth); }
};

}  // namespace omnistream::OMNI_ISA
