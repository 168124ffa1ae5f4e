#pragma once

#include "simd_number_x86.hpp"

namespace omnistream::OMNI_ISA {

struct Simd {
    static constexpr std::size_t kWidth = 32;
    struct Scan {
        std::uint64_t stop;  // quote, backslash, control character
        std::uint64_t high;  // not ASCII
    };

    static Scan scan(const char* p) {
        const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
        const __m256i quote = _mm256_cmpeq_epi8(v, _mm256_set1_epi8('"'));
        const __m256i backslash = _mm256_cmpeq_epi8(v, _mm256_set1_epi8('\\'));
        const __m256i control = _mm256_cmpeq_epi8(_mm256_min_epu8(v, _mm256_set1_epi8(0x1f)), v);
        const __m256i stop = _mm256_or_si256(_mm256_or_si256(quote, backslash), control);
        return {static_cast<std::uint32_t>(_mm256_movemask_epi8(stop)),
                static_cast<std::uint32_t>(_mm256_movemask_epi8(v))};
    }

    // Both sides are readable for 64 bytes; size is 1 to 64.
    static bool equal(const char* a, const char* b, std::size_t size) {
        const auto differ = [](const char* x, const char* y) {
            return ~static_cast<std::uint32_t>(_mm256_movemask_epi8(
                _mm256_cmpeq_epi8(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)),
                                  _mm256_loadu_si256(reinterpret_cast<const __m256i*>(y)))));
        };
        if (size <= kWidth) return _bzhi_u32(differ(a, b), static_cast<unsigned>(size)) == 0;
        return (differ(a, b) |
                _bzhi_u32(differ(a + kWidth, b + kWidth), static_cast<unsigned>(size - kWidth))) == 0;
    }

    static void copy(char* to, const char* from) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    }
};

}  // namespace omnistream::OMNI_ISA
