// simd_columns.hpp with AVX2.
#pragma once

#include "simd_columns.hpp"

namespace omnistream::OMNI_ISA {

struct SixteenColumnsByEight : SixteenColumns {
    static void transpose(const std::uint32_t* from, const std::uint32_t* rows, std::uint32_t* to,
                          std::size_t stride) {
        for (std::size_t row = 0; row < kCount; row += 8)
            for (std::size_t column = 0; column < kCount; column += 8)
                transpose_eight(from + column, rows + row, to + column * stride + row, stride);
    }

    static unsigned add_up(const std::uint32_t* begins, const std::uint32_t* stops, std::int32_t more,
                           std::size_t count, std::int32_t* offsets) {
        __m256i longest = _mm256_setzero_si256();
        __m256i end = _mm256_set1_epi32(offsets[0]);
        for (std::size_t i = 0; i < count; i += 8) {
            __m256i sizes = _mm256_sub_epi32(load(stops + i), load(begins + i));
            sizes =
                _mm256_max_epi32(_mm256_add_epi32(sizes, _mm256_set1_epi32(more)), _mm256_setzero_si256());
            longest = _mm256_max_epi32(longest, sizes);
            sizes = _mm256_add_epi32(sizes, _mm256_slli_si256(sizes, 4));
            sizes = _mm256_add_epi32(sizes, _mm256_slli_si256(sizes, 8));
            const __m256i of_low = _mm256_shuffle_epi32(_mm256_permute2x128_si256(sizes, sizes, 0x08), 0xff);
            sizes = _mm256_add_epi32(sizes, of_low);
            // Only this waits for the strings before, and in a register: what is stored is slow to load.
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(offsets + i + 1), _mm256_add_epi32(sizes, end));
            end = _mm256_add_epi32(end, _mm256_permutevar8x32_epi32(sizes, _mm256_set1_epi32(7)));
        }
        const auto longer = [longest](std::int32_t size) {
            const __m256i are = _mm256_cmpgt_epi32(longest, _mm256_set1_epi32(size));
            return unsigned{_mm256_testz_si256(are, are) == 0};
        };
        return longer(8) | longer(16) << 1 | longer(32) << 2;
    }

private:
    static __m256i load(const std::uint32_t* p) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    }

    static void transpose_eight(const std::uint32_t* from, const std::uint32_t* rows, std::uint32_t* to,
                                std::size_t stride) {
        __m256i a[8], b[8];
        for (std::size_t i = 0; i < 8; ++i) a[i] = load(from + rows[i]);
        for (std::size_t i = 0; i < 8; i += 2) {
            b[i] = _mm256_unpacklo_epi32(a[i], a[i + 1]);
            b[i + 1] = _mm256_unpackhi_epi32(a[i], a[i + 1]);
        }
        for (std::size_t i = 0; i < 8; i += 4)
            for (std::size_t j = 0; j < 2; ++j) {
                a[i + 2 * j] = _mm256_unpacklo_epi64(b[i + j], b[i + 2 + j]);
                a[i + 2 * j + 1] = _mm256_unpackhi_epi64(b[i + j], b[i + 2 + j]);
            }
        // Now a[c] and a[4 + c] hold the columns c and c + 4, of four rows each.
        for (std::size_t c = 0; c < 4; ++c) {
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + c * stride),
                                _mm256_permute2x128_si256(a[c], a[4 + c], 0x20));
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + (4 + c) * stride),
                                _mm256_permute2x128_si256(a[c], a[4 + c], 0x31));
        }
    }
};

}  // namespace omnistream::OMNI_ISA
