// Mean and variance from exact integer moments, turned into float64 once at the end.
#pragma once

#include <cmath>
#include <cstdint>

namespace omnistream {

// Of n values, each an integer of 1 / scale. Exact up to the last division, which is done in long double:
// where that has 64 bits of mantissa or more, a result is within 0.51 ULP of the true value.
struct Moments {
    std::int64_t n = 0;
    std::int64_t sum = 0;
    unsigned __int128 squares = 0;

    [[nodiscard]] double mean(std::int64_t scale) const {
        return static_cast<double>(static_cast<long double>(sum) /
                                   (static_cast<long double>(n) * static_cast<long double>(scale)));
    }
    // The sample variance, for n >= 2.
    [[nodiscard]] double variance(std::int64_t scale) const {
        return static_cast<double>(variance_long(scale));
    }
    [[nodiscard]] double std_dev(std::int64_t scale) const {
        return static_cast<double>(std::sqrt(variance_long(scale)));
    }

private:
    // (n * squares - sum^2) / (n (n - 1)); the numerator takes 192 bits and is never negative.
    [[nodiscard]] long double variance_long(std::int64_t scale) const {
        using Wide = unsigned __int128;
        const auto count = static_cast<std::uint64_t>(n);
        const Wide low = static_cast<Wide>(count) * static_cast<std::uint64_t>(squares);
        const Wide middle =
            static_cast<Wide>(count) * static_cast<std::uint64_t>(squares >> 64) + (low >> 64);
        const Wide product = (middle << 64) | static_cast<std::uint64_t>(low);
        const auto magnitude =
            sum < 0 ? 0 - static_cast<std::uint64_t>(sum) : static_cast<std::uint64_t>(sum);
        const Wide square = static_cast<Wide>(magnitude) * magnitude;
        const auto high =
            static_cast<std::uint64_t>(middle >> 64) - static_cast<std::uint64_t>(product < square);
        const long double numerator =
            std::ldexp(static_cast<long double>(high), 128) + static_cast<long double>(product - square);
        const auto unit = static_cast<long double>(scale);
        return numerator / (static_cast<long double>(static_cast<Wide>(count) * (count - 1)) * unit * unit);
    }
};

}  // namespace omnistream
