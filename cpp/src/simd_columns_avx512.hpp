// Places of values, sixteen units at a time: quotes by unit become quotes by column, and from where strings
// begin and end follow their offsets.
#pragma once

namespace omnistream::OMNI_ISA {

// GCC 12 takes what the intrinsics leave undefined, on purpose, for a fault of ours.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

struct SixteenColumns {
    static constexpr std::size_t kCount = 16;

    // Sixteen rows of sixteen numbers, which begin at from[rows[i]], to columns of sixteen, each `stride`
    // behind the one before.
    [[gnu::always_inline]] static void transpose(const std::uint32_t* from, const std::uint32_t* rows,
                                                 std::uint32_t* to, std::size_t stride) {
        __m512i a[kCount], b[kCount];
        for (std::size_t i = 0; i < kCount; ++i) a[i] = _mm512_loadu_si512(from + rows[i]);
        for (std::size_t i = 0; i < kCount; i += 2) {
            b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
            b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
        }
        for (std::size_t i = 0; i < kCount; i += 4)
            for (std::size_t j = 0; j < 2; ++j) {
                a[i + 2 * j] = _mm512_unpacklo_epi64(b[i + j], b[i + 2 + j]);
                a[i + 2 * j + 1] = _mm512_unpackhi_epi64(b[i + j], b[i + 2 + j]);
            }
        // Now a[4 * g + c] holds, of rows 4 g to 4 g + 3, the columns c, c + 4, c + 8 and c + 12.
        for (std::size_t c = 0; c < 4; ++c) {
            const __m512i low_even = _mm512_shuffle_i32x4(a[c], a[4 + c], 0x88);
            const __m512i low_odd = _mm512_shuffle_i32x4(a[c], a[4 + c], 0xdd);
            const __m512i high_even = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0x88);
            const __m512i high_odd = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0xdd);
            _mm512_storeu_si512(to + c * stride, _mm512_shuffle_i32x4(low_even, high_even, 0x88));
            _mm512_storeu_si512(to + (4 + c) * stride, _mm512_shuffle_i32x4(low_odd, high_odd, 0x88));
            _mm512_storeu_si512(to + (8 + c) * stride, _mm512_shuffle_i32x4(low_even, high_even, 0xdd));
            _mm512_storeu_si512(to + (12 + c) * stride, _mm512_shuffle_i32x4(low_odd, high_odd, 0xdd));
        }
    }

    // The ends of strings behind the one that ends at offsets[0], sixteen at a time: each as long as its stop
    // is behind its beginning, plus `more`; nothing where that is negative. Returns bits: whether one of them
    // is longer than 8, than 16, than 32 bytes.
    [[gnu::always_inline]] static unsigned add_up(const std::uint32_t* begins, const std::uint32_t* stops,
                                                  std::int32_t more, std::size_t count,
                                                  std::int32_t* offsets) {
        const __m512i zero = _mm512_setzero_si512();
        const __m512i last = _mm512_set1_epi32(kCount - 1);
        __m512i longest = zero;
        __m512i end = _mm512_set1_epi32(offsets[0]);
        for (std::size_t i = 0; i < count; i += kCount) {
            __m512i sizes = _mm512_sub_epi32(_mm512_loadu_si512(stops + i), _mm512_loadu_si512(begins + i));
            sizes = _mm512_maskz_max_epi32(0xffff, _mm512_add_epi32(sizes, _mm512_set1_epi32(more)), zero);
            longest = _mm512_maskz_max_epi32(0xffff, longest, sizes);
            sizes = _mm512_add_epi32(sizes, _mm512_maskz_alignr_epi32(0xffff, sizes, zero, 15));
            sizes = _mm512_add_epi32(sizes, _mm512_maskz_alignr_epi32(0xffff, sizes, zero, 14));
            sizes = _mm512_add_epi32(sizes, _mm512_maskz_alignr_epi32(0xffff, sizes, zero, 12));
            sizes = _mm512_add_epi32(sizes, _mm512_maskz_alignr_epi32(0xffff, sizes, zero, 8));
            // Only this waits for the strings before, and in a register: what is stored is slow to load.
            _mm512_storeu_si512(offsets + i + 1, _mm512_add_epi32(sizes, end));
            end = _mm512_add_epi32(end, _mm512_maskz_permutexvar_epi32(0xffff, last, sizes));
        }
        const auto longer = [longest](std::int32_t size) {
            return _mm512_cmpgt_epi32_mask(longest, _mm512_set1_epi32(size)) != 0;
        };
        return unsigned{longer(8)} | unsigned{longer(16)} << 1 | unsigned{longer(32)} << 2;
    }
};

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

}  // namespace omnistream::OMNI_ISA
