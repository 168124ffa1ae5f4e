// Digits in pairs, with leading zeros.
#pragma once

#include <cstdint>
#include <cstring>

namespace omnistream::shop {

constexpr char kDigitPairs[] =
    "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
    "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

inline char* put_pair(char* at, std::uint64_t value) {
    std::memcpy(at, kDigitPairs + 2 * value, 2);
    return at + 2;
}

// At least `width` digits.
inline char* put_digits(char* at, std::uint64_t value, int width) {
    std::uint64_t bound = 10;
    for (int i = 1; i < width; ++i) bound *= 10;
    for (; value >= bound && width < 19; bound *= 10) ++width;
    int left = width;
    for (; left >= 2; left -= 2) {
        put_pair(at + left - 2, value % 100);
        value /= 100;
    }
    if (left == 1) *at = static_cast<char>('0' + value % 10);
    return at + width;
}

}  // namespace omnistream::shop
