// What two bytes that follow each other say of UTF-8, told by three nibbles: an entry's bits are the faults
// that its nibble leaves possible, and only one that all three leave is there. After Keiser and Lemire,
// "Validating UTF-8 in less than one instruction per byte" (2021).
#pragma once

#include <array>
#include <cstdint>

namespace omnistream::utf8 {

inline constexpr std::uint8_t kTooShort = 1 << 0;      // a lead byte, and no continuation behind it
inline constexpr std::uint8_t kTooLong = 1 << 1;       // a continuation behind ASCII
inline constexpr std::uint8_t kOverlong3 = 1 << 2;     // e0 80 to e0 9f
inline constexpr std::uint8_t kTooLarge = 1 << 3;      // f4 90 and above
inline constexpr std::uint8_t kSurrogate = 1 << 4;     // ed a0 and above
inline constexpr std::uint8_t kOverlong2 = 1 << 5;     // c0 and c1
inline constexpr std::uint8_t kTooLarge1000 = 1 << 6;  // f5 80 and above
inline constexpr std::uint8_t kOverlong4 = 1 << 6;     // f0 80 to f0 8f
inline constexpr std::uint8_t kContinued = 1 << 7;     // two continuations: right behind longer leads only
inline constexpr std::uint8_t kAny =
    kTooShort | kTooLong | kContinued;  // whatever the first byte's low nibble

using Table = std::array<std::uint8_t, 16>;

// The first byte, by its high nibble
inline constexpr Table kFirstHigh = [] {
    Table table{};
    for (int i = 0x0; i < 0x8; ++i) table[i] = kTooLong;
    for (int i = 0x8; i < 0xc; ++i) table[i] = kContinued;
    table[0xc] = kTooShort | kOverlong2;
    table[0xd] = kTooShort;
    table[0xe] = kTooShort | kOverlong3 | kSurrogate;
    table[0xf] = kTooShort | kTooLarge | kTooLarge1000 | kOverlong4;
    return table;
}();

// and by its low one
inline constexpr Table kFirstLow = [] {
    Table table{};
    for (int i = 0; i < 16; ++i) table[i] = kAny;
    table[0x0] |= kOverlong2 | kOverlong3 | kOverlong4;
    table[0x1] |= kOverlong2;
    table[0x4] |= kTooLarge;
    for (int i = 0x5; i < 16; ++i) table[i] |= kTooLarge | kTooLarge1000;
    table[0xd] |= kSurrogate;
    return table;
}();

// The second byte, by its high nibble
inline constexpr Table kSecondHigh = [] {
    Table table{};
    for (int i = 0; i < 16; ++i) table[i] = kTooShort;
    constexpr std::uint8_t kContinuation = kTooLong | kOverlong2 | kContinued;
    table[0x8] = kContinuation | kOverlong3 | kTooLarge1000 | kOverlong4;
    table[0x9] = kContinuation | kOverlong3 | kTooLarge;
    table[0xa] = table[0xb] = kContinuation | kSurrogate | kTooLarge;
    return table;
}();

}  // namespace omnistream::utf8

namespace omnistream::json {

// Which bytes may follow a backslash, but u: those for which both nibbles have a bit in common.
struct EscapeTables {
    utf8::Table low{};
    utf8::Table high{};

    constexpr EscapeTables() {
        for (const char byte : {'"', '/', '\\', 'b', 'f', 'n', 'r', 't'}) {
            const auto bit = static_cast<std::uint8_t>(1U << (byte >> 4));
            low[static_cast<unsigned>(byte) & 0xf] |= bit;
            high[static_cast<unsigned>(byte) >> 4] |= bit;
        }
    }
};
inline constexpr EscapeTables kEscapeTables;

}  // namespace omnistream::json
