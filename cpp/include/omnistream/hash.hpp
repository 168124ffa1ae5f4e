// Strings as machine words, and how they are mixed into table positions. Hashes live in memory only: nothing
// that is written or shown depends on them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#define OMNISTREAM_EXACT_READS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define OMNISTREAM_EXACT_READS 1
#endif
#endif

namespace omnistream {

// A string of up to this many bytes is held and compared as two words.
inline constexpr std::size_t kShortText = 16;

struct Words {
    std::uint64_t low;
    std::uint64_t high;
};

inline std::uint64_t load_word(const char* data) {
    std::uint64_t word;
    std::memcpy(&word, data, sizeof word);
    return word;
}

inline constexpr std::size_t kPageBytes = 4096;  // the smallest page of any platform

// Whether 16 bytes from `data` on lie in one page, so that reading them cannot fault when the first can be
// read. AddressSanitizer rightly objects to such reads, and gets none.
inline bool readable_to_short_text(const char* data) {
#ifdef OMNISTREAM_EXACT_READS
    (void)data;
    return false;
#else
    return (reinterpret_cast<std::uintptr_t>(data) & (kPageBytes - 1)) <= kPageBytes - kShortText;
#endif
}

inline constexpr unsigned char kShortMask[2 * kShortText] = {
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,  //
    0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0};

[[gnu::noinline]] inline Words load_copied(const char* data, std::size_t size) {
    char copy[kShortText] = {};
    if (size != 0) std::memcpy(copy, data, size);
    return {load_word(copy), load_word(copy + 8)};
}

// As load_short(), where 16 bytes can be read.
inline Words load_readable(const char* data, std::size_t size) {
    const char* const mask = reinterpret_cast<const char*>(kShortMask) + kShortText - size;
    return {load_word(data) & load_word(mask), load_word(data + 8) & load_word(mask + 8)};
}

// Up to 16 bytes, zeros after the end. The branch is on the address, which is seldom near the end of a page,
// and not on the size, which changes from string to string.
inline Words load_short(const char* data, std::size_t size) {
    if (size == 0 || !readable_to_short_text(data)) [[unlikely]]
        return load_copied(data, size);
    return load_readable(data, size);
}

// The constants of wyhash: odd, with as many ones as zeros in each byte.
inline constexpr std::uint64_t kMix0 = 0xa0761d6478bd642f;
inline constexpr std::uint64_t kMix1 = 0xe7037ed1a0b428db;
inline constexpr std::uint64_t kMix2 = 0x8ebc6af09c88c6e3;

// Every bit of the product depends on the bits below it; the fold brings the upper half back down.
inline std::uint64_t fold(std::uint64_t a, std::uint64_t b) {
    const auto product = static_cast<unsigned __int128>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

inline std::uint64_t hash_words(Words words, std::size_t size) {
    return fold(words.low ^ kMix0, words.high ^ kMix1 ^ (size * kMix2));
}

// size > 16
[[gnu::noinline]] inline std::uint64_t hash_long(const char* data, std::size_t size) {
    std::uint64_t hash = size * kMix2;
    const char* const last = data + size - kShortText;
    for (; data < last; data += kShortText) hash = fold(load_word(data) ^ kMix0, load_word(data + 8) ^ hash);
    return fold(load_word(last) ^ kMix1, load_word(last + 8) ^ hash);
}

inline std::uint64_t hash_text(const char* data, std::size_t size) {
    return size <= kShortText ? hash_words(load_short(data, size), size) : hash_long(data, size);
}

}  // namespace omnistream
