#pragma once

#include "simd_number_x86.hpp"

namespace omnistream::OMNI_ISA {

// Vectors of 32 bytes, though 64 would fit: most strings of orders are shorter, and a 64-byte load or store
// that is not aligned touches two cache lines every time (flat orders decoded a quarter slower with 64).
struct Simd {
    static constexpr std::size_t kWidth = 32;
    struct Scan {
        std::uint64_t stop;  // quote, backslash, control character
        std::uint64_t high;  // not ASCII
    };

    static __m256i load(const char* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

    static Scan scan(const char* p) {
        const __m256i v = load(p);
        return {_mm256_cmpeq_epi8_mask(v, _mm256_set1_epi8('"')) |
                    _mm256_cmpeq_epi8_mask(v, _mm256_set1_epi8('\\')) |
                    _mm256_cmplt_epu8_mask(v, _mm256_set1_epi8(0x20)),
                _mm256_movepi8_mask(v)};
    }

    // Both sides are readable for 64 bytes; size is 1 to 64.
    static bool equal(const char* a, const char* b, std::size_t size) {
        const std::uint64_t within = _bzhi_u64(~std::uint64_t{0}, static_cast<unsigned>(size));
        const __mmask32 low = _mm256_mask_cmpneq_epi8_mask(static_cast<__mmask32>(within), load(a), load(b));
        if (size <= kWidth) return low == 0;
        return (low | _mm256_mask_cmpneq_epi8_mask(static_cast<__mmask32>(within >> kWidth), load(a + kWidth),
                                                   load(b + kWidth))) == 0;
    }

    static void copy(char* to, const char* from) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), load(from));
    }
};

}  // namespace omnistream::OMNI_ISA
