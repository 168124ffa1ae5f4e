#pragma once

namespace omnistream::OMNI_ISA {

struct Simd {
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

    static Scan scan(const char* p) {
        const uint8x16_t v = vld1q_u8(reinterpret_cast<const std::uint8_t*>(p));
        const uint8x16_t stop =
            vorrq_u8(vorrq_u8(vceqq_u8(v, vdupq_n_u8('"')), vceqq_u8(v, vdupq_n_u8('\\'))),
                     vcltq_u8(v, vdupq_n_u8(0x20)));
        return {bits(stop), bits(vcgeq_u8(v, vdupq_n_u8(0x80)))};
    }

    static bool equal(const char* a, const char* b, std::size_t size) { return std::memcmp(a, b, size) == 0; }

    static void copy(char* to, const char* from) { std::memcpy(to, from, kWidth); }
};

inline bool read_number(const char** p, int scale, std::int64_t* value) {
    return json::short_number(p, scale, value);
}

}  // namespace omnistream::OMNI_ISA
