// A line's amount: quantity x unit_price x (1 - discount), exact, rounded half-even once. The meaning is
// cpp/src/amount.cpp's, whose 128-bit integers a kernel does without.
#pragma once

#include "clean.cuh"

namespace omnistream {

// 128 bits without a sign.
struct Magnitude {
    u64 high;
    u64 low;

    // Returns whether it still fits.
    __host__ __device__ bool multiply(u64 factor) {
        const u64 carried = multiply_high(low, factor);
        const bool fits = multiply_high(high, factor) == 0;
        low *= factor;
        high = high * factor + carried;
        return fits && high >= carried;
    }

    // Half-even. Digits are 32 bits, and the divisor is at most 10^8, so a remainder and a digit fit a word.
    __host__ __device__ void divide(u64 divisor) {
        if (divisor == 1) return;
        u64 quotient[2] = {0, 0};
        u64 rest = 0;
        for (u32 digit = 0; digit < 4; ++digit) {
            const u64 word = digit < 2 ? high : low;
            rest = rest << 32 | (digit % 2 == 0 ? word >> 32 : word & 0xffffffffu);
            quotient[digit / 2] = quotient[digit / 2] << 32 | rest / divisor;
            rest %= divisor;
        }
        high = quotient[0];
        low = quotient[1];
        if (2 * rest > divisor || (2 * rest == divisor && (low & 1) != 0)) {
            ++low;
            high += low == 0;
        }
    }
};

__host__ __device__ inline u64 magnitude(i64 value) {
    return value < 0 ? 0 - static_cast<u64>(value) : static_cast<u64>(value);
}

// Of numbers that are decimals: how one minus the discount, and the product, come to four places.
struct AmountScale {
    u64 one;         // of the discount
    u64 divisor;     // a product with more than four places
    u64 multiplier;  // one with fewer
};

// False: int64 cannot hold it. `discount` is null where there is none.
__host__ __device__ inline bool line_amount(i64 quantity, i64 unit_price, const i64* discount,
                                            const AmountScale& scale, i64* amount) {
    Magnitude product{0, magnitude(quantity)};
    bool fits = product.multiply(magnitude(unit_price));
    bool negative = (quantity < 0) != (unit_price < 0);
    if (discount != nullptr) {
        // one - discount, which may leave int64 but not a sign and a word.
        const bool beyond = *discount > static_cast<i64>(scale.one);
        const u64 share = beyond ? magnitude(*discount) - scale.one : scale.one - static_cast<u64>(*discount);
        fits = product.multiply(share) && fits;
        negative = negative != beyond;
    }
    fits = product.multiply(scale.multiplier) && fits;
    product.divide(scale.divisor);
    const u64 most = negative ? 1ull << 63 : (1ull << 63) - 1;
    if (!fits || product.high != 0 || product.low > most) return false;
    *amount = static_cast<i64>(negative ? 0 - product.low : product.low);
    return true;
}

}  // namespace omnistream
