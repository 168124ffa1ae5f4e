// Four values at once, of one column in four messages: short decimals, times of one day.
#pragma once

namespace omnistream::OMNI_ISA {

// Of 16 bytes each, four times.
struct ByteLanes {
    alignas(64) std::array<std::uint8_t, 64> bytes;
};
template <class ByteAt>
constexpr ByteLanes lanes_of(ByteAt&& byte_at) {
    ByteLanes lanes{};
    for (std::size_t i = 0; i < 64; ++i) lanes.bytes[i] = static_cast<std::uint8_t>(byte_at(i));
    return lanes;
}
inline __m512i load_lanes(const ByteLanes& lanes) {
    return _mm512_load_si512(lanes.bytes.data());
}

inline constexpr std::uint64_t kFirstBytes = 0x0001'0001'0001'0001;
inline constexpr ByteLanes kNumberOfDword = lanes_of([](std::size_t i) { return i % 4 == 0 ? i / 16 : 0; });
inline constexpr ByteLanes kBytesToStop = lanes_of([](std::size_t i) { return 16 - i % 16; });
inline constexpr ByteLanes kBytesBeyondStop = lanes_of([](std::size_t i) { return 240 + i % 16; });
// Where each of 12 digits in front of the point and 4 behind it comes from, to which the point's place
// minus 16 is added; where that passes the last byte the high bit says zero, as it does for the first
// digit, which is at no place.
inline constexpr ByteLanes kPlaces = lanes_of([](std::size_t i) {
    const std::size_t to = i % 16;
    return to == 0 ? 0x90 : 0x70 + to + (to < 12 ? 4 : 5);
});

// Of DDThh:mm:ss.mmmZ, less the digits' zeros and the rest: the greatest of each byte, and where the numbers
// are.
inline constexpr ByteLanes kMostDigits =
    lanes_of([](std::size_t i) { return "\0\0\0\x9\x9\0\x9\x9\0\x9\x9\0\x9\x9\x9\0"[i % 16]; });
inline constexpr ByteLanes kTimePlaces =
    lanes_of([](std::size_t i) { return "\x3\x4\x6\x7\x9\xa\x80\xc\xd\xe\x80\x80\x80\x80\x80\x80"[i % 16]; });
constexpr ByteLanes words_of(const std::array<std::uint16_t, 8>& words) {
    return lanes_of([&](std::size_t i) { return words[i / 2 % 8] >> (8 * (i % 2)) & 0xff; });
}
inline constexpr ByteLanes kMostTime = words_of({23, 59, 59, 9, 99, 0, 0, 0});
inline constexpr ByteLanes kTimeUnits = words_of({60, 1, 1'000, 100, 1, 0, 0, 0});
inline constexpr ByteLanes kMsOfUnits = words_of({60'000, 0, 1, 0, 1, 0, 0, 0});

// GCC 12 takes what the intrinsics leave undefined, on purpose, for a fault of ours.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

template <class Lane>
[[gnu::always_inline]] inline __m512i four(Lane&& lane) {
    const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(lane(0)), lane(1), 1);
    const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(lane(2)), lane(3), 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

// Four numbers at once, each in 16 bytes that end where it ends; 16 bytes in front of a stop are
// readable. Up to 12 digits and four behind a point if the scale is 4, up to 16 digits if it is 0. False
// where one of them has another form.
struct FourNumbers {
    static constexpr std::size_t kCount = 4;
    static constexpr std::uint32_t kBytes = 16;

    template <int scale>
    static bool read(const char* text, const std::uint32_t* stops, const std::uint32_t* sizes,
                     std::int64_t* values) {
        const __m512i bytes = four([&](std::size_t i) {
            return _mm_loadu_si128(reinterpret_cast<const __m128i*>(text + stops[i] - kBytes));
        });

        // Bits for bytes: which lie inside their number, and the first of each.
        const __m128i size = _mm_loadu_si128(reinterpret_cast<const __m128i*>(sizes));
        const unsigned no_size =
            _mm_cmpge_epu32_mask(_mm_sub_epi32(size, _mm_set1_epi32(1)), _mm_set1_epi32(kBytes));
        const __m512i size_by_byte = _mm512_shuffle_epi8(
            _mm512_permutexvar_epi32(load_lanes(kNumberOfDword), _mm512_castsi128_si512(size)),
            _mm512_setzero_si512());
        const std::uint64_t inside = _mm512_cmpge_epu8_mask(size_by_byte, load_lanes(kBytesToStop));
        const std::uint64_t first = inside & ~(inside << 1 & ~kFirstBytes);

        const __m512i digits = _mm512_maskz_sub_epi8(inside, bytes, _mm512_set1_epi8('0'));
        const std::uint64_t others = _mm512_cmpgt_epu8_mask(digits, _mm512_set1_epi8(9));
        const std::uint64_t points = _mm512_cmpeq_epi8_mask(digits, _mm512_set1_epi8('.' - '0'));
        const std::uint64_t zeros = _mm512_mask_cmpeq_epi8_mask(first, digits, _mm512_setzero_si512());
        std::uint64_t wrong =
            (others ^ points) | (points & first) | (zeros << 1 & ~kFirstBytes & ~points & inside);
        __m512i placed = digits;
        if (scale == 0) {
            wrong |= points;
        } else {
            // A point has one to four digits behind it, and there is one at the most.
            const std::uint64_t place = points >> 11;
            wrong |= (points & ~(kFirstBytes * 0x7800)) | (place & (place + kFirstBytes * 0xf));
            // All in front of it, and all behind it, moves to where it is a multiple of its unit.
            const __m512i moved = _mm512_sad_epu8(_mm512_maskz_mov_epi8(points, load_lanes(kBytesBeyondStop)),
                                                  _mm512_setzero_si512());
            const __m512i control =
                _mm512_add_epi8(_mm512_shuffle_epi8(moved, _mm512_set1_epi8(8)), load_lanes(kPlaces));
            placed = _mm512_shuffle_epi8(digits, control);
        }
        if ((wrong | no_size) != 0) return false;

        const __m512i twos = _mm512_maddubs_epi16(placed, _mm512_set1_epi16(0x010a));   // 10, 1
        const __m512i fours = _mm512_madd_epi16(twos, _mm512_set1_epi32(0x0001'0064));  // 100, 1
        const __m512i eights =
            _mm512_madd_epi16(_mm512_packus_epi32(fours, fours), _mm512_set1_epi32(0x0001'2710));
        const __m512i sixteens = _mm512_add_epi64(_mm512_mul_epu32(eights, _mm512_set1_epi64(100'000'000)),
                                                  _mm512_srli_epi64(eights, 32));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(values),
                            _mm512_castsi512_si256(_mm512_maskz_compress_epi64(0x55, sixteens)));
        return true;
    }
};

// Words as bytes of a lane, in which each byte behind a value says how long it is.
constexpr ByteLanes word_lanes(std::string_view word) {
    return lanes_of([word](std::size_t i) {
        return i % 16 < word.size() ? static_cast<std::size_t>(word[i % 16]) : word.size();
    });
}
inline constexpr ByteLanes kPlaceInLane = lanes_of([](std::size_t i) { return i % 16; });
inline constexpr ByteLanes kTrue = word_lanes("true");
inline constexpr ByteLanes kFalse = word_lanes("false");
inline constexpr ByteLanes kNull = word_lanes("null");

// Four values of no interest at once: whether all of them are numbers without exponents, or all words, of up
// to 15 bytes. For how numbers are checked see are_numbers() (decode_skip.hpp); here each has 16 bits.
inline bool are_four_scalars(const char* text, const std::uint32_t* stops, const std::uint32_t* sizes) {
    constexpr unsigned kLongest = 15;
    const __m512i bytes = four([&](std::size_t i) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(text + (stops[i] - sizes[i])));
    });
    const __m128i size = _mm_loadu_si128(reinterpret_cast<const __m128i*>(sizes));
    if (_mm_cmpge_epu32_mask(_mm_sub_epi32(size, _mm_set1_epi32(1)), _mm_set1_epi32(kLongest)) != 0)
        return false;
    const __m512i size_by_byte = _mm512_shuffle_epi8(
        _mm512_permutexvar_epi32(load_lanes(kNumberOfDword), _mm512_castsi128_si512(size)),
        _mm512_setzero_si512());
    const std::uint64_t all = _mm512_cmplt_epu8_mask(load_lanes(kPlaceInLane), size_by_byte);
    const __m512i from_zero = _mm512_sub_epi8(bytes, _mm512_set1_epi8('0'));
    const std::uint64_t digits = _mm512_mask_cmple_epu8_mask(all, from_zero, _mm512_set1_epi8(9));
    if ((digits & kFirstBytes) != 0 || *(text + (stops[0] - sizes[0])) == '-') {
        const std::uint64_t zeros = _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8('0'));
        const std::uint64_t points = _mm512_mask_cmpeq_epi8_mask(all, bytes, _mm512_set1_epi8('.'));
        const std::uint64_t signs = _mm512_mask_cmpeq_epi8_mask(all, bytes, _mm512_set1_epi8('-'));
        const auto behind = [digits](std::uint64_t from) { return (from + digits) & ~digits; };
        const std::uint64_t whole = (kFirstBytes & ~signs) | (kFirstBytes & signs) << 1;
        const std::uint64_t whole_end = behind(whole);
        const std::uint64_t part = points << 1;
        const std::uint64_t ends = (whole_end & ~points) | behind(part);
        const std::uint64_t faults = (all & ~(digits | points | signs)) | (signs & ~kFirstBytes) |
                                     (points & ~whole_end) | ((whole | part) & ~digits) |
                                     ((whole & zeros) << 1 & digits) | (ends & ~(all + kFirstBytes));
        return faults == 0;
    }
    const __m512i words = _mm512_mask_blend_epi8(all, size_by_byte, bytes);
    const unsigned same = unsigned{_mm512_cmpeq_epi64_mask(words, load_lanes(kTrue))} |
                          unsigned{_mm512_cmpeq_epi64_mask(words, load_lanes(kFalse))} |
                          unsigned{_mm512_cmpeq_epi64_mask(words, load_lanes(kNull))};
    return same == 0xff;
}

// Times like 2026-11-11T00:00:00.000Z, all of the day of one that was read before.
class FourTimes {
public:
    // A time as text, in the only form that there is, and in ms since 1970.
    void remember(const char* text, std::int64_t ms) {
        std::memcpy(&date_, text, sizeof date_);
        const std::int64_t of_day = ms % kDayMs;
        day_ms_ = ms - (of_day < 0 ? of_day + kDayMs : of_day);
        std::memcpy(form_.data(), text + sizeof date_, 2);
    }

    // Four times that take 24 bytes each. False where one of them is of another day, or no time.
    bool read(const char* text, const std::uint32_t* stops, std::int64_t* values) const {
        std::uint64_t wrong = 0;
        const auto time = [&](std::size_t i) {
            const char* at = text + stops[i] - 24;
            std::uint64_t date;
            std::memcpy(&date, at, sizeof date);
            wrong |= date ^ date_;
            return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at + sizeof date));
        };
        const __m512i digits = _mm512_xor_si512(
            four(time),
            _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(form_.data()))));
        wrong |= _mm512_cmpgt_epu8_mask(digits, load_lanes(kMostDigits));
        // hours, minutes, seconds, hundreds of ms, ms
        const __m512i numbers = _mm512_maddubs_epi16(_mm512_shuffle_epi8(digits, load_lanes(kTimePlaces)),
                                                     _mm512_set1_epi16(0x010a));  // 10, 1
        wrong |= _mm512_cmpgt_epi16_mask(numbers, load_lanes(kMostTime));
        if (wrong != 0) return false;
        const __m512i units = _mm512_madd_epi16(numbers, load_lanes(kTimeUnits));  // minutes, ms, ms
        const __m512i ms = _mm512_mullo_epi32(units, load_lanes(kMsOfUnits));
        const __m512i two = _mm512_add_epi32(ms, _mm512_srli_epi64(ms, 32));
        const __m512i sum = _mm512_add_epi32(two, _mm512_bsrli_epi128(two, 8));
        const __m512i times = _mm512_add_epi64(_mm512_and_si512(sum, _mm512_set1_epi64(0xffff'ffff)),
                                               _mm512_set1_epi64(day_ms_));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(values),
                            _mm512_castsi512_si256(_mm512_maskz_compress_epi64(0x55, times)));
        return true;
    }

private:
    static constexpr std::int64_t kDayMs = 86'400'000;

    std::uint64_t date_ = 0;  // which no text begins with
    std::int64_t day_ms_ = 0;
    alignas(16) std::array<char, 16> form_ = {'0', '0', 'T', '0', '0', ':', '0', '0',
                                              ':', '0', '0', '.', '0', '0', '0', 'Z'};
};

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

}  // namespace omnistream::OMNI_ISA
