// Eight blocks of 64 bytes at once: what their bytes mean, as planes of bits, so that whatever follows from
// neighbours is worked out for 512 bytes by one instruction.
#pragma once

namespace omnistream::OMNI_ISA {

// GCC 12 takes what the intrinsics leave undefined, on purpose, for a fault of ours.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

// A byte's kind has a bit in each of four planes.
namespace plane {
inline constexpr std::size_t kEscapable = 0;  // may follow a backslash; u is none of these
inline constexpr std::size_t kMeant = 1;      // quote, backslash; control character, not ASCII
inline constexpr std::size_t kMarked = 2;     // among those: a backslash, a line feed
inline constexpr std::size_t kCount = 4;

constexpr std::size_t kind_of(std::size_t byte) {
    const auto in = [byte](std::string_view text) {
        return text.find(static_cast<char>(byte)) != std::string_view::npos;
    };
    return std::size_t{in("\"\\/bfnrt")} << kEscapable | std::size_t{byte < ' ' || in("\"\\")} << kMeant |
           std::size_t{in("\\\n")} << kMarked;
}
inline constexpr ByteLanes kKindsBelow64 = lanes_of([](std::size_t i) { return kind_of(i); });
inline constexpr ByteLanes kKindsFrom64 = lanes_of([](std::size_t i) { return kind_of(i + 64); });
inline constexpr ByteLanes kBitOfByte = lanes_of([](std::size_t i) { return std::size_t{1} << i % 8; });
// Of two blocks, whose eights of bytes have the byte of a plane at its number: by plane, then by block.
inline constexpr ByteLanes kByPlane =
    lanes_of([](std::size_t i) { return i / 8 % 2 * 64 + i % 8 * 8 + i / 16; });
}  // namespace plane

struct Planes {
    __m512i of[plane::kCount];  // by plane; a lane is a block, a bit of it a byte

    [[gnu::always_inline]] static Planes read(const char* p) {
        const auto turned = [p](std::size_t block) {
            // What is not ASCII becomes 0x80, whose kind is looked up as that of 0, a control character.
            const __m512i bytes =
                _mm512_min_epu8(_mm512_loadu_si512(p + 64 * block), _mm512_set1_epi8('\x80'));
            const __m512i kinds = _mm512_permutex2var_epi8(load_lanes(plane::kKindsBelow64), bytes,
                                                           load_lanes(plane::kKindsFrom64));
            // The kinds of eight bytes are a matrix of bits; turned, its bytes are planes, last byte first.
            return _mm512_gf2p8affine_epi64_epi8(load_lanes(plane::kBitOfByte), kinds, 0);
        };
        const auto two = [&turned](std::size_t block) {
            return _mm512_permutex2var_epi8(turned(block), load_lanes(plane::kByPlane), turned(block + 1));
        };
        const __m512i a = two(0), b = two(2), c = two(4), d = two(6);
        const __m512i low_even = _mm512_shuffle_i64x2(a, b, 0x88);
        const __m512i low_odd = _mm512_shuffle_i64x2(a, b, 0xdd);
        const __m512i high_even = _mm512_shuffle_i64x2(c, d, 0x88);
        const __m512i high_odd = _mm512_shuffle_i64x2(c, d, 0xdd);
        const __m512i bit_of_byte = load_lanes(plane::kBitOfByte);
        const auto forwards = [&](__m512i bits) {
            return _mm512_gf2p8affine_epi64_epi8(bits, bit_of_byte, 0);
        };
        return {forwards(_mm512_shuffle_i64x2(low_even, high_even, 0x88)),
                forwards(_mm512_shuffle_i64x2(low_odd, high_odd, 0x88)),
                forwards(_mm512_shuffle_i64x2(low_even, high_even, 0xdd)),
                forwards(_mm512_shuffle_i64x2(low_odd, high_odd, 0xdd))};
    }
};

// What the index of quotes asks of eight blocks.
struct EightBlocks {
    alignas(64) std::array<std::uint64_t, 8> quotes;  // that no backslash escapes, by block
    alignas(64) std::array<std::uint64_t, 8> feeds;
    // Bits are blocks that hold
    unsigned with_feeds;
    unsigned with_backslashes;
    unsigned with_odd_escapes;  // of other than two bytes
    unsigned with_specials;     // control characters but line feeds, or what is not ASCII
    unsigned with_open;         // those in their last three bytes, where a character may be cut

    // 512 bytes. `escaped`: whether the first is, then whether the one behind them is.
    [[gnu::always_inline]] void read(const char* p, std::uint64_t* escaped) {
        constexpr int kAndBoth = 0x80;  // a & b & c
        constexpr int kAndFirst = 0x40;
        constexpr int kAndSecond = 0x20;
        constexpr int kAndNeither = 0x10;
        const Planes planes = Planes::read(p);
        const __m512i escapable = planes.of[plane::kEscapable];
        const __m512i meant = planes.of[plane::kMeant];
        const __m512i marked = planes.of[plane::kMarked];
        __m512i unescaped = _mm512_ternarylogic_epi64(meant, escapable, marked, kAndFirst);
        const __m512i backslashes = _mm512_ternarylogic_epi64(meant, escapable, marked, kAndBoth);
        const __m512i line_feeds = _mm512_ternarylogic_epi64(meant, escapable, marked, kAndSecond);
        const __m512i specials = _mm512_ternarylogic_epi64(meant, escapable, marked, kAndNeither);
        with_backslashes = _mm512_test_epi64_mask(backslashes, backslashes);
        with_odd_escapes = 0;
        if ((with_backslashes | *escaped) != 0) {
            const __m512i targets = escapes(backslashes, escaped);
            const __m512i odd = _mm512_andnot_si512(escapable, targets);
            unescaped = _mm512_andnot_si512(targets, unescaped);
            with_odd_escapes = _mm512_test_epi64_mask(odd, odd);
        }
        _mm512_store_si512(quotes.data(), unescaped);
        _mm512_store_si512(feeds.data(), line_feeds);
        with_feeds = _mm512_test_epi64_mask(line_feeds, line_feeds);
        with_specials = _mm512_test_epi64_mask(specials, specials);
        with_open = _mm512_test_epi64_mask(
            specials, _mm512_set1_epi64(static_cast<std::int64_t>(std::uint64_t{7} << 61)));
    }

private:
    // The bytes that a backslash escapes, as json::escapes().
    [[gnu::always_inline]] static __m512i escapes(__m512i backslashes, std::uint64_t* escaped) {
        if (*escaped != 0 || _mm512_movepi64_mask(backslashes) != 0) [[unlikely]]
            return escapes_across(backslashes, escaped);
        const __m512i even = _mm512_set1_epi64(0x5555555555555555);
        const __m512i starts = _mm512_andnot_si512(_mm512_slli_epi64(backslashes, 1), backslashes);
        const __m512i behind = _mm512_add_epi64(backslashes, _mm512_and_si512(starts, even));
        const __m512i from_even = _mm512_andnot_si512(behind, backslashes);
        const __m512i from_odd = _mm512_and_si512(behind, backslashes);
        return _mm512_or_si512(_mm512_andnot_si512(even, _mm512_slli_epi64(from_even, 1)),
                               _mm512_and_si512(even, _mm512_slli_epi64(from_odd, 1)));
    }
    // Where one block's last byte escapes the next one's first.
    [[gnu::noinline]] static __m512i escapes_across(__m512i backslashes, std::uint64_t* escaped) {
        alignas(64) std::array<std::uint64_t, 8> blocks;
        _mm512_store_si512(blocks.data(), backslashes);
        for (std::uint64_t& block : blocks) block = json::escapes(block, escaped);
        return _mm512_load_si512(blocks.data());
    }
};

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

}  // namespace omnistream::OMNI_ISA
