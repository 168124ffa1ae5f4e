#pragma once

#include "simd_columns_avx2.hpp"
#include "simd_number_x86.hpp"

namespace omnistream::OMNI_ISA {

struct Simd {
    static constexpr std::size_t kWidth = 32;
    struct Scan {
        std::uint64_t stop;  // quote, backslash, control character
        std::uint64_t high;  // not ASCII
    };

    // 64 bytes by what they mean to JSON.
    struct Classes {
        std::uint64_t quotes = 0;
        std::uint64_t backslashes = 0;
        std::uint64_t feeds = 0;
        std::uint64_t specials = 0;  // control characters (line feeds, too) and what is not ASCII
    };

    static Classes classify(const char* p) {
        Classes found;
        for (int i = 0; i < 2; ++i) {
            const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32 * i));
            const auto bits = [i](__m256i lanes) {
                return static_cast<std::uint64_t>(static_cast<std::uint32_t>(_mm256_movemask_epi8(lanes)))
                       << (32 * i);
            };
            found.quotes |= bits(_mm256_cmpeq_epi8(v, _mm256_set1_epi8('"')));
            found.backslashes |= bits(_mm256_cmpeq_epi8(v, _mm256_set1_epi8('\\')));
            found.feeds |= bits(_mm256_cmpeq_epi8(v, _mm256_set1_epi8('\n')));
            found.specials |= bits(_mm256_cmpgt_epi8(_mm256_set1_epi8(0x20), v));
        }
        return found;
    }

    // 64 bytes by what they mean to numbers.
    struct Numerals {
        std::uint64_t digits = 0;
        std::uint64_t zeros = 0;
        std::uint64_t points = 0;
        std::uint64_t signs = 0;
        std::uint64_t commas = 0;
    };
    static constexpr bool kSeesNumerals = true;

    static Numerals numerals(const char* p) {
        Numerals found;
        for (int i = 0; i < 2; ++i) {
            const __m256i v = load(p + 32 * i);
            const __m256i from_zero = _mm256_sub_epi8(v, _mm256_set1_epi8('0'));
            found.digits |=
                bits(_mm256_cmpeq_epi8(_mm256_min_epu8(from_zero, _mm256_set1_epi8(9)), from_zero), i);
            found.zeros |= bits(_mm256_cmpeq_epi8(v, _mm256_set1_epi8('0')), i);
            found.points |= bits(_mm256_cmpeq_epi8(v, _mm256_set1_epi8('.')), i);
            found.signs |= bits(_mm256_cmpeq_epi8(v, _mm256_set1_epi8('-')), i);
            found.commas |= bits(_mm256_cmpeq_epi8(v, _mm256_set1_epi8(',')), i);
        }
        return found;
    }
    static std::uint64_t spaces(const char* p) {
        std::uint64_t found = 0;
        for (int i = 0; i < 2; ++i) {
            const __m256i v = load(p + 32 * i);
            for (const char space : {' ', '\n', '\r', '\t'})
                found |= bits(_mm256_cmpeq_epi8(v, _mm256_set1_epi8(space)), i);
        }
        return found;
    }
    // Of the i-th half of 64 bytes.
    static std::uint64_t bits(__m256i lanes, int i) {
        return static_cast<std::uint64_t>(static_cast<std::uint32_t>(_mm256_movemask_epi8(lanes)))
               << (32 * i);
    }

    // The numbers of the bits, plus `base`; may write up to eight places beyond the last.
    static std::uint32_t* flatten(std::uint64_t bits, std::uint32_t base, std::uint32_t* out) {
        std::uint32_t* const end = out + std::popcount(bits);
        while (bits != 0)
            for (int i = 0; i < 8; ++i, bits &= bits - 1)
                *out++ = base + static_cast<std::uint32_t>(std::countr_zero(bits));
        return end;
    }

    // Which of 64 bytes are not below `byte`.
    static std::uint64_t at_least(const char* p, unsigned byte) {
        const __m256i limit = _mm256_set1_epi8(static_cast<char>(byte));
        const auto half = [&](const char* from) {
            const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
            return static_cast<std::uint64_t>(static_cast<std::uint32_t>(
                _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_max_epu8(v, limit), v))));
        };
        return half(p) | half(p + kWidth) << kWidth;
    }

    // Whether 64 bytes, behind three others, hold no control character but line feeds, and no fault of UTF-8.
    static bool is_text(const char* p) { return half_is_text(p) && half_is_text(p + kWidth); }
    static __m256i load(const char* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
    // Sixteen entries for each 16 bytes, by their nibbles.
    static __m256i by_low(const utf8::Table& table, __m256i bytes) {
        const __m256i entries =
            _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table.data())));
        return _mm256_shuffle_epi8(entries, _mm256_and_si256(bytes, _mm256_set1_epi8(0xf)));
    }
    static __m256i by_high(const utf8::Table& table, __m256i bytes) {
        return by_low(table, _mm256_srli_epi16(bytes, 4));
    }
    // Which of 64 bytes may follow a backslash, but u.
    static std::uint64_t short_escapes(const char* p) {
        std::uint64_t found = 0;
        for (int i = 0; i < 2; ++i) {
            const __m256i v = load(p + 32 * i);
            const __m256i shared =
                _mm256_and_si256(by_low(json::kEscapeTables.low, v), by_high(json::kEscapeTables.high, v));
            found |= ~bits(_mm256_cmpeq_epi8(shared, _mm256_setzero_si256()), i) & std::uint64_t{0xffffffff}
                                                                                       << (32 * i);
        }
        return found;
    }
    static bool half_is_text(const char* p) {
        const __m256i v = load(p);
        const __m256i before = load(p - 1);
        const __m256i pairs = _mm256_and_si256(
            _mm256_and_si256(by_high(utf8::kFirstHigh, before), by_low(utf8::kFirstLow, before)),
            by_high(utf8::kSecondHigh, v));
        // The high bit says that the byte continues a character begun two or three bytes before.
        const __m256i behind = _mm256_or_si256(_mm256_subs_epu8(load(p - 2), _mm256_set1_epi8(0xe0 - 0x80)),
                                               _mm256_subs_epu8(load(p - 3), _mm256_set1_epi8(0xf0 - 0x80)));
        const __m256i faults =
            _mm256_xor_si256(pairs, _mm256_and_si256(behind, _mm256_set1_epi8(static_cast<char>(0x80))));
        const __m256i control =
            _mm256_andnot_si256(_mm256_cmpeq_epi8(v, _mm256_set1_epi8('\n')),
                                _mm256_cmpeq_epi8(_mm256_min_epu8(v, _mm256_set1_epi8(0x1f)), v));
        const __m256i wrong = _mm256_or_si256(faults, control);
        return _mm256_testz_si256(wrong, wrong) != 0;
    }

    static Scan scan(const char* p) {
        const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
        const __m256i quote = _mm256_cmpeq_epi8(v, _mm256_set1_epi8('"'));
        const __m256i backslash = _mm256_cmpeq_epi8(v, _mm256_set1_epi8('\\'));
        const __m256i control = _mm256_cmpeq_epi8(_mm256_min_epu8(v, _mm256_set1_epi8(0x1f)), v);
        const __m256i stop = _mm256_or_si256(_mm256_or_si256(quote, backslash), control);
        return {static_cast<std::uint32_t>(_mm256_movemask_epi8(stop)),
                static_cast<std::uint32_t>(_mm256_movemask_epi8(v))};
    }

    // Which of 32 bytes are others.
    static std::uint32_t differ(const char* p, __m256i bytes) {
        const __m256i found = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
        return ~static_cast<std::uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(found, bytes)));
    }

    // 1 to 64 bytes to compare with, loaded once; `text` is readable and aligned for 64, `mask` has a bit for
    // each that counts.
    class Literal {
    public:
        Literal(const char* text, std::size_t size, std::uint64_t mask)
            : low_(_mm256_load_si256(reinterpret_cast<const __m256i*>(text))),
              text_(text),
              size_(size),
              mask_(mask) {}
        [[nodiscard]] bool at(const char* p) const {  // readable for 64 bytes, too
            if ((differ(p, low_) & static_cast<std::uint32_t>(mask_)) != 0) return false;
            return size_ <= kWidth ||
                   (differ(p + kWidth, _mm256_load_si256(reinterpret_cast<const __m256i*>(text_ + kWidth))) &
                    static_cast<std::uint32_t>(mask_ >> kWidth)) == 0;
        }

        using Differences = bool;
        void compare(const char* p, Differences* all) const { *all |= !at(p); }
        static bool none(Differences all) { return !all; }

    private:
        __m256i low_;
        const char* text_;
        std::size_t size_;
        std::uint64_t mask_;
    };

    // As Literal, of up to 32 bytes.
    class ShortLiteral {
    public:
        ShortLiteral(const char* text, std::size_t, std::uint64_t mask)
            : bytes_(_mm256_load_si256(reinterpret_cast<const __m256i*>(text))),
              mask_(static_cast<std::uint32_t>(mask)) {}
        [[nodiscard]] bool at(const char* p) const { return (differ(p, bytes_) & mask_) == 0; }

        // Of many texts, whether any differs: in vectors, as masks are slow to gather.
        struct Differences {
            __m256i bytes = _mm256_setzero_si256();
        };
        void compare(const char* p, Differences* all) const {
            const __m256i found = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
            const __m256i differ = _mm256_and_si256(_mm256_xor_si256(found, bytes_), inside());
            all->bytes = _mm256_or_si256(all->bytes, differ);
        }
        static bool none(const Differences& all) { return _mm256_testz_si256(all.bytes, all.bytes) != 0; }

    private:
        // The mask with a byte for each bit.
        [[nodiscard]] __m256i inside() const {
            const __m256i eights =
                _mm256_setr_epi64x(0, 0x0101'0101'0101'0101, 0x0202'0202'0202'0202, 0x0303'0303'0303'0303);
            const __m256i bit = _mm256_set1_epi64x(static_cast<long long>(0x8040'2010'0804'0201));
            const __m256i bits = _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int>(mask_)), eights);
            return _mm256_cmpeq_epi8(_mm256_and_si256(bits, bit), bit);
        }

        __m256i bytes_;
        std::uint32_t mask_;
    };

    using Columns = SixteenColumnsByEight;
    struct Times {};
    static constexpr bool kSeesPlanes = false;   // of eight blocks of 64 bytes
    static constexpr std::size_t kTogether = 1;  // values of a column that are read at once

    static void copy(char* to, const char* from) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    }
};

}  // namespace omnistream::OMNI_ISA
