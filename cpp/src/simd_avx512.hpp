#pragma once


namespace omnistream::OMNI_ISA {

struct Simd {
    static constexpr std::size_t kWidth = 64;
    struct Scan {
        std::uint64_t stop;  // quote, backslash, control character
        std::uint64_t high;  // not ASCII
    };

    static Scan scan(const char* p) {
        const __m512i v = _mm512_loadu_si512(p);
        return {_mm512_cmpeq_epi8_mask(v, _mm512_set1_epi8('"')) | _mm512_cmpeq_epi8_mask(v, _mm512_set1_epi8('\\')) |
                    _mm512_cmplt_epu8_mask(v, _mm512_set1_epi8(0x20)),
                _mm512_movepi8_mask(v)};
    }

    // Both sides are readable for 64 bytes; size is 1 to 64.
    static bool equal(const char* a, const char* b, std::size_t size) {
        const __mmask64 within = _bzhi_u64(~std::uint64_t{0}, static_cast<unsigned>(size));
        return _mm512_mask_cmpneq_epi8_mask(within, _mm512_loadu_si512(a), _mm512_loadu_si512(b)) == 0;
    }

    static void copy(char* to, const char* from) { _mm512_storeu_si512(to, _mm512_loadu_si512(from)); }
};

}  // namespace omnistream::OMNI_ISA
