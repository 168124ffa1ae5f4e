#pragma once

#include "simd_columns_avx512.hpp"
#include "simd_four_avx512.hpp"
#include "simd_number_x86.hpp"
#include "simd_planes_avx512.hpp"

namespace omnistream::OMNI_ISA {

// Not const, so that they are loaded: GCC would put each together from an immediate, every time.
struct ClassConstants {
    ByteLanes quotes = lanes_of([](std::size_t) { return '"'; });
    ByteLanes backslashes = lanes_of([](std::size_t) { return '\\'; });
    ByteLanes feeds = lanes_of([](std::size_t) { return '\n'; });
    ByteLanes spaces = lanes_of([](std::size_t) { return ' '; });
    ByteLanes zeros = lanes_of([](std::size_t) { return '0'; });
    ByteLanes tens = lanes_of([](std::size_t) { return 10; });
    ByteLanes points = lanes_of([](std::size_t) { return '.'; });
    ByteLanes signs = lanes_of([](std::size_t) { return '-'; });
    ByteLanes commas = lanes_of([](std::size_t) { return ','; });
};
inline ClassConstants class_constants;

struct TextConstants {
    ByteLanes low_nibbles = lanes_of([](std::size_t) { return 0xf; });
    ByteLanes high_bits = lanes_of([](std::size_t) { return 0x80; });
    ByteLanes leads_of_three = lanes_of([](std::size_t) { return 0xe0 - 0x80; });
    ByteLanes leads_of_four = lanes_of([](std::size_t) { return 0xf0 - 0x80; });
    ByteLanes first_high = lanes_of([](std::size_t i) { return utf8::kFirstHigh[i % 16]; });
    ByteLanes first_low = lanes_of([](std::size_t i) { return utf8::kFirstLow[i % 16]; });
    ByteLanes second_high = lanes_of([](std::size_t i) { return utf8::kSecondHigh[i % 16]; });
};
inline TextConstants text_constants;

// Vectors of 32 bytes, though 64 would fit: most strings of orders are shorter, and a 64-byte load or store
// that is not aligned touches two cache lines every time (flat orders decoded a quarter slower with 64).
struct Simd {
    static constexpr std::size_t kWidth = 32;
    struct Scan {
        std::uint64_t stop;  // quote, backslash, control character
        std::uint64_t high;  // not ASCII
    };

    // 64 bytes by what they mean to JSON.
    struct Classes {
        std::uint64_t quotes;
        std::uint64_t backslashes;
        std::uint64_t feeds;
        std::uint64_t specials;  // control characters (line feeds, too) and what is not ASCII
    };

    static Classes classify(const char* p) {
        const __m512i v = _mm512_loadu_si512(p);
        return {_mm512_cmpeq_epi8_mask(v, load_lanes(class_constants.quotes)),
                _mm512_cmpeq_epi8_mask(v, load_lanes(class_constants.backslashes)),
                _mm512_cmpeq_epi8_mask(v, load_lanes(class_constants.feeds)),
                _mm512_cmplt_epi8_mask(v, load_lanes(class_constants.spaces))};
    }

    // The numbers of the bits, plus `base`; may write up to 16 places beyond the last.
    static std::uint32_t* flatten(std::uint64_t bits, std::uint32_t base, std::uint32_t* out) {
        alignas(64) static constexpr auto kNumbers = [] {
            std::array<std::uint8_t, 64> numbers{};
            for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<std::uint8_t>(i);
            return numbers;
        }();
        const __m512i packed = _mm512_maskz_compress_epi8(bits, _mm512_load_si512(kNumbers.data()));
        const __m512i bases = _mm512_set1_epi32(static_cast<int>(base));
        // The masked forms, as GCC 12 takes the others for reads of something uninitialised.
        const auto store = [&](std::uint32_t* to, __m128i part) {
            _mm512_storeu_si512(to, _mm512_add_epi32(_mm512_maskz_cvtepu8_epi32(0xffff, part), bases));
        };
        const int count = std::popcount(bits);
        store(out, _mm512_maskz_extracti32x4_epi32(0xf, packed, 0));
        if (count > 16) [[unlikely]] {
            store(out + 16, _mm512_maskz_extracti32x4_epi32(0xf, packed, 1));
            store(out + 32, _mm512_maskz_extracti32x4_epi32(0xf, packed, 2));
            store(out + 48, _mm512_maskz_extracti32x4_epi32(0xf, packed, 3));
        }
        return out + count;
    }

    // Which of 64 bytes are not below `byte`.
    static std::uint64_t at_least(const char* p, unsigned byte) {
        return _mm512_cmpge_epu8_mask(_mm512_loadu_si512(p), _mm512_set1_epi8(static_cast<char>(byte)));
    }

    // 64 bytes by what they mean to numbers.
    struct Numerals {
        std::uint64_t digits;
        std::uint64_t zeros;
        std::uint64_t points;
        std::uint64_t signs;
        std::uint64_t commas;
    };
    static constexpr bool kSeesNumerals = true;

    static Numerals numerals(const char* p) {
        const __m512i v = _mm512_loadu_si512(p);
        const __m512i zeros = load_lanes(class_constants.zeros);
        return {_mm512_cmplt_epu8_mask(_mm512_sub_epi8(v, zeros), load_lanes(class_constants.tens)),
                _mm512_cmpeq_epi8_mask(v, zeros),
                _mm512_cmpeq_epi8_mask(v, load_lanes(class_constants.points)),
                _mm512_cmpeq_epi8_mask(v, load_lanes(class_constants.signs)),
                _mm512_cmpeq_epi8_mask(v, load_lanes(class_constants.commas))};
    }
    static std::uint64_t spaces(const char* p) {
        const __m512i v = _mm512_loadu_si512(p);
        return _mm512_cmpeq_epi8_mask(v, load_lanes(class_constants.spaces)) |
               _mm512_cmpeq_epi8_mask(v, load_lanes(class_constants.feeds)) |
               _mm512_cmpeq_epi8_mask(v, _mm512_set1_epi8('\r')) |
               _mm512_cmpeq_epi8_mask(v, _mm512_set1_epi8('\t'));
    }

    // Sixteen entries for each 16 bytes, by their nibbles.
    static __m512i by_low(const utf8::Table& table, __m512i bytes) {
        const __m512i entries = _mm512_maskz_broadcast_i32x4(
            0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(table.data())));
        return _mm512_shuffle_epi8(entries, _mm512_and_si512(bytes, _mm512_set1_epi8(0xf)));
    }
    static __m512i by_high(const utf8::Table& table, __m512i bytes) {
        return by_low(table, _mm512_maskz_srli_epi16(~__mmask32{0}, bytes, 4));
    }

    // Which of 64 bytes may follow a backslash, but u.
    static std::uint64_t short_escapes(const char* p) {
        const __m512i v = _mm512_loadu_si512(p);
        return _mm512_test_epi8_mask(by_low(json::kEscapeTables.low, v),
                                     by_high(json::kEscapeTables.high, v));
    }

    // Whether 64 bytes, behind three others, hold no control character but line feeds, and no fault of UTF-8.
    [[gnu::always_inline]] static bool is_text(const char* p) {
        constexpr int kAllThree = 0x80;        // a & b & c
        constexpr int kEitherAndThird = 0xa8;  // (a | b) & c
        const __m512i low = load_lanes(text_constants.low_nibbles);
        const auto entries = [low](const ByteLanes& table, __m512i nibbles) {
            return _mm512_shuffle_epi8(load_lanes(table), _mm512_and_si512(nibbles, low));
        };
        const auto high = [&](__m512i bytes) { return _mm512_maskz_srli_epi16(~__mmask32{0}, bytes, 4); };
        const __m512i v = _mm512_loadu_si512(p);
        const __m512i before = _mm512_loadu_si512(p - 1);
        const __m512i pairs = _mm512_ternarylogic_epi64(
            entries(text_constants.first_high, high(before)), entries(text_constants.first_low, before),
            entries(text_constants.second_high, high(v)), kAllThree);
        // The high bit says that the byte continues a character begun two or three bytes before.
        const __m512i continued = _mm512_ternarylogic_epi64(
            _mm512_subs_epu8(_mm512_loadu_si512(p - 2), load_lanes(text_constants.leads_of_three)),
            _mm512_subs_epu8(_mm512_loadu_si512(p - 3), load_lanes(text_constants.leads_of_four)),
            load_lanes(text_constants.high_bits), kEitherAndThird);
        const __mmask64 faults = _mm512_cmpneq_epi8_mask(pairs, continued);
        const __mmask64 controls = _mm512_cmplt_epu8_mask(v, load_lanes(class_constants.spaces)) &
                                   _mm512_cmpneq_epi8_mask(v, load_lanes(class_constants.feeds));
        return (faults | controls) == 0;
    }

    static __m256i load(const char* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

    static Scan scan(const char* p) {
        const __m256i v = load(p);
        return {_mm256_cmpeq_epi8_mask(v, _mm256_set1_epi8('"')) |
                    _mm256_cmpeq_epi8_mask(v, _mm256_set1_epi8('\\')) |
                    _mm256_cmplt_epu8_mask(v, _mm256_set1_epi8(0x20)),
                _mm256_movepi8_mask(v)};
    }

    // 1 to 64 bytes to compare with, loaded once; `text` is readable and aligned for 64, `mask` has a bit for
    // each that counts.
    class Literal {
    public:
        Literal(const char* text, std::size_t, std::uint64_t mask)
            : bytes_(_mm512_load_si512(text)), mask_(mask) {}
        [[nodiscard]] bool at(const char* p) const {  // readable for 64 bytes, too
            return _mm512_mask_cmpneq_epi8_mask(mask_, _mm512_loadu_si512(p), bytes_) == 0;
        }

        using Differences = std::uint64_t;
        void compare(const char* p, Differences* all) const {
            *all |= _mm512_mask_cmpneq_epi8_mask(mask_, _mm512_loadu_si512(p), bytes_);
        }
        static bool none(Differences all) { return all == 0; }

    private:
        __m512i bytes_;
        std::uint64_t mask_;
    };

    // As Literal, of up to 32 bytes.
    class ShortLiteral {
    public:
        ShortLiteral(const char* text, std::size_t, std::uint64_t mask)
            : bytes_(load(text)), mask_(static_cast<std::uint32_t>(mask)) {}
        [[nodiscard]] bool at(const char* p) const {
            return _mm256_mask_cmpneq_epi8_mask(mask_, load(p), bytes_) == 0;
        }

        // Of many texts, whether any differs: in vectors, as masks are slow to gather.
        struct Differences {
            __m256i bytes = _mm256_setzero_si256();
        };
        void compare(const char* p, Differences* all) const {
            constexpr int kDifferInside = 0x28;  // (a ^ b) & c
            const __m256i differ =
                _mm256_ternarylogic_epi64(load(p), bytes_, _mm256_movm_epi8(mask_), kDifferInside);
            all->bytes = _mm256_or_si256(all->bytes, differ);
        }
        static bool none(const Differences& all) { return _mm256_testz_si256(all.bytes, all.bytes) != 0; }

    private:
        __m256i bytes_;
        std::uint32_t mask_;
    };

    static void copy(char* to, const char* from) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), load(from));
    }

    // Values of a column that are read at once.
    using Numbers = FourNumbers;
    using Times = FourTimes;
    static bool are_scalars(const char* text, const std::uint32_t* stops, const std::uint32_t* sizes) {
        return are_four_scalars(text, stops, sizes);
    }
    using Columns = SixteenColumns;
    using Eight = EightBlocks;
    static constexpr bool kSeesPlanes = true;
    static constexpr std::size_t kTogether = 4;
};

}  // namespace omnistream::OMNI_ISA
