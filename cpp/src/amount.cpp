// A line's amount: quantity x unit_price x (1 - discount), exact, rounded half-even once.
#include <algorithm>
#include <utility>

#include "omnistream/column_writer.hpp"
#include "omnistream/window.hpp"

namespace omnistream {

namespace {

using Wide = __int128;

Wide lane(const Column& column, std::int64_t row) {
    return column.type == Type::int32 ? column.lanes<std::int32_t>()[row] : column.lanes<std::int64_t>()[row];
}

int scale_of(const Column& column) {
    return column.type == Type::decimal ? kDecimalScale : 0;
}

Wide power_of_ten(int exponent) {
    Wide power = 1;
    while (exponent-- > 0) power *= 10;
    return power;
}

template <class T>
T divide_half_even(T value, T divisor) {
    T quotient = value / divisor;
    const T twice = 2 * (value % divisor);  // |remainder| < divisor <= 10^8
    const T size = twice < 0 ? -twice : twice;
    if (size > divisor || (size == divisor && (quotient & 1) != 0)) quotient += value < 0 ? -1 : 1;
    return quotient;
}

}  // namespace

Column line_amount(const Column& quantity, const Column& unit_price, const Column* discount, std::string name,
                   std::vector<std::int32_t>* overflowed) {
    const int scale =
        scale_of(quantity) + scale_of(unit_price) + (discount == nullptr ? 0 : scale_of(*discount));
    const Wide divisor = power_of_ten(std::max(scale - kDecimalScale, 0));
    const Wide multiplier = power_of_ten(std::max(kDecimalScale - scale, 0));
    const Wide one = discount == nullptr ? 1 : power_of_ten(scale_of(*discount));

    ColumnWriter amount(std::move(name), Type::decimal, static_cast<std::size_t>(quantity.length));
    for (std::int64_t row = 0; row < quantity.length; ++row) {
        if (!quantity.valid(row) || !unit_price.valid(row)) {
            amount.put_null();
            continue;
        }
        // A product of two lanes fits 127 bits. Past 128 bits the amount is past int64, too: the divisor is
        // below 2^27.
        const Wide share = discount == nullptr ? 1 : discount->valid(row) ? one - lane(*discount, row) : one;
        Wide product = lane(quantity, row) * lane(unit_price, row);
        bool overflow = __builtin_mul_overflow(product, share, &product);
        overflow |= __builtin_mul_overflow(product, multiplier, &product);
        // Nearly every product fits a machine word, whose division is ten times as fast.
        const auto word = static_cast<std::int64_t>(product);
        const Wide rounded = overflow          ? 0
                             : product == word ? divide_half_even(word, static_cast<std::int64_t>(divisor))
                                               : divide_half_even(product, divisor);
        if (overflow || rounded != static_cast<std::int64_t>(rounded)) {
            amount.put_null();
            overflowed->push_back(static_cast<std::int32_t>(row));
        } else {
            amount.put(static_cast<std::int64_t>(rounded));
        }
    }
    return amount.finish();
}

}  // namespace omnistream
