// Short decimals with one load: where the digits end and where the point stands is read off one mask, and one
// shuffle puts them where multiplications expect them. Needs SSSE3; included by simd_avx2.hpp and
// simd_avx512.hpp.
#pragma once

namespace omnistream::OMNI_ISA {

// Up to eight digits before the point go right-aligned to bytes 0 to 7, up to four behind it left-aligned to
// 8 to 11.
struct NumberShuffles {
    static constexpr unsigned kMostWhole = 8;
    static constexpr unsigned kMostPart = 4;
    alignas(16) std::uint8_t control[kMostWhole + 1][kMostPart + 1][16];

    constexpr NumberShuffles() : control{} {
        constexpr std::uint8_t kZero = 0x80;
        for (unsigned whole = 0; whole <= kMostWhole; ++whole)
            for (unsigned part = 0; part <= kMostPart; ++part) {
                std::uint8_t* to = control[whole][part];
                for (unsigned i = 0; i < 16; ++i) to[i] = kZero;
                for (unsigned i = 0; i < whole; ++i)
                    to[kMostWhole - whole + i] = static_cast<std::uint8_t>(i);
                for (unsigned i = 0; i < part; ++i)
                    to[kMostWhole + i] = static_cast<std::uint8_t>(whole + 1 + i);
            }
    }
};
inline constexpr NumberShuffles kNumberShuffles;

// Not const, so that they are loaded: GCC would put each together from an immediate, every time.
struct NumberConstants {
    alignas(16) std::int8_t zeros[16] = {48, 48, 48, 48, 48, 48, 48, 48, 48, 48, 48, 48, 48, 48, 48, 48};
    alignas(16) std::int8_t nines[16] = {9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9};
};
inline NumberConstants number_constants;

// Digits placed as NumberShuffles does.
[[gnu::always_inline]] inline std::int64_t number_of(__m128i placed, int scale) {
    const __m128i pairs = _mm_maddubs_epi16(placed, _mm_set1_epi16(0x010a));   // 10, 1
    const __m128i fours = _mm_madd_epi16(pairs, _mm_set1_epi32(0x0001'0064));  // 100, 1
    const auto wholes = static_cast<std::uint64_t>(_mm_cvtsi128_si64(fours));  // first four digits, last four
    const std::uint64_t number = (wholes & 0xffffffff) * 10'000 + (wholes >> 32);
    const auto fraction = static_cast<std::uint32_t>(_mm_extract_epi32(fours, 2));
    return static_cast<std::int64_t>(scale == 0 ? number : number * 10'000 + fraction);
}

// As json::short_number(), which also takes over where a sign or something else comes first.
[[gnu::always_inline]] inline bool read_number(const char** p, int scale, std::int64_t* value) {
    const char* at = *p;
    const auto* constants = reinterpret_cast<const __m128i*>(&number_constants);
    const __m128i digits = _mm_sub_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)), constants[0]);
#ifdef __AVX512BW__
    const unsigned others = _mm_cmpgt_epu8_mask(digits, constants[1]) | 0xffff0000U;
#else
    const __m128i is_digit = _mm_cmpeq_epi8(_mm_min_epu8(digits, constants[1]), digits);
    const unsigned others = ~static_cast<unsigned>(_mm_movemask_epi8(is_digit));  // bits above 15 are set
#endif
    const auto whole = static_cast<unsigned>(std::countr_zero(others));
    if (whole - 1 >= NumberShuffles::kMostWhole || (whole > 1 && *at == '0'))
        return json::short_number(p, scale, value);
    unsigned part = 0;
    unsigned size = whole;
    if (scale != 0 && at[whole] == '.') {
        size = static_cast<unsigned>(std::countr_zero(others & (others - 1)));
        part = size - whole - 1;
        if (part - 1 >= NumberShuffles::kMostPart) return false;
    }
    const auto* control = reinterpret_cast<const __m128i*>(kNumberShuffles.control[whole][part]);
    const __m128i placed = _mm_shuffle_epi8(digits, _mm_load_si128(control));
    *value = number_of(placed, scale);
    *p = at + size;
    return true;
}

}  // namespace omnistream::OMNI_ISA
