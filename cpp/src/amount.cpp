// A line's amount: quantity x unit_price x (1 - discount), exact, rounded half-even once.
#include <algorithm>
#include <bit>
#include <utility>

#include "isa.hpp"
#include "omnistream/column_writer.hpp"
#include "omnistream/window.hpp"

namespace omnistream {

namespace {

using Wide = __int128;

std::int64_t lane(const Column& column, std::int64_t row) {
    return column.type == Type::int32 ? column.lanes<std::int32_t>()[row] : column.lanes<std::int64_t>()[row];
}

int scale_of(const Column& column) {
    return column.type == Type::decimal ? kDecimalScale : 0;
}

std::int64_t power_of_ten(int exponent) {
    std::int64_t power = 1;
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

// The three factors of an amount, as integers, and the powers of ten that bring it to kDecimalScale.
struct Factors {
    Factors(const Column& quantity_given, const Column& unit_price_given, const Column* discount_given)
        : quantity(quantity_given), unit_price(unit_price_given), discount(discount_given) {
        const int scale =
            scale_of(quantity) + scale_of(unit_price) + (discount == nullptr ? 0 : scale_of(*discount));
        divisor = power_of_ten(std::max(scale - kDecimalScale, 0));
        multiplier = power_of_ten(std::max(kDecimalScale - scale, 0));
        one = discount == nullptr ? 1 : power_of_ten(scale_of(*discount));
    }

    const Column& quantity;
    const Column& unit_price;
    const Column* discount;
    std::int64_t divisor;
    std::int64_t multiplier;
    std::int64_t one;
};

// Null where a factor is, and where int64 cannot hold it.
void put_amount(const Factors& factors, std::int64_t row, ColumnWriter* amount,
                std::vector<std::int32_t>* overflowed) {
    if (!factors.quantity.valid(row) || !factors.unit_price.valid(row)) return amount->put_null();
    // A product of two lanes fits 127 bits. Past 128 bits the amount is past int64, too: the divisor is
    // below 2^27.
    const Column* discount = factors.discount;
    const Wide share = discount == nullptr || !discount->valid(row)
                           ? Wide{factors.one}
                           : static_cast<Wide>(factors.one) - lane(*discount, row);
    Wide product = static_cast<Wide>(lane(factors.quantity, row)) * lane(factors.unit_price, row);
    bool overflow = __builtin_mul_overflow(product, share, &product);
    overflow |= __builtin_mul_overflow(product, Wide{factors.multiplier}, &product);
    const auto word = static_cast<std::int64_t>(product);
    const Wide rounded = overflow          ? 0
                         : product == word ? divide_half_even(word, factors.divisor)
                                           : divide_half_even(product, Wide{factors.divisor});
    if (!overflow && rounded == static_cast<std::int64_t>(rounded))
        return amount->put(static_cast<std::int64_t>(rounded));
    amount->put_null();
    overflowed->push_back(static_cast<std::int32_t>(row));
}

// ---- Blocks whose amounts all fit a word

constexpr std::size_t kBlock = 512;

struct Block {
    const std::int64_t* quantity;
    const std::int64_t* unit_price;
    const std::int64_t* share;
};

// The lanes as words: where they are, or a copy in `room`.
[[gnu::always_inline]] inline const std::int64_t* widen(const Column& column, std::int64_t first,
                                                        std::size_t count, std::int64_t* room) {
    if (column.type != Type::int32) return column.lanes<std::int64_t>() + first;
    std::copy_n(column.lanes<std::int32_t>() + first, count, room);
    return room;
}

// Every value is less than 2 to the power of this many bits.
[[gnu::always_inline]] inline int bits_of(const std::int64_t* values, std::size_t count) {
    std::uint64_t bits = 0;
    for (std::size_t i = 0; i < count; ++i)
        bits |= static_cast<std::uint64_t>(values[i] ^ (values[i] < 0 ? -1 : 0));
    return static_cast<int>(std::bit_width(bits)) + 1;  // -2^n has n bits here
}

// Division by a constant is a multiplication.
template <std::int64_t kDivisor>
void multiply(const Block& block, std::size_t count, std::int64_t multiplier, std::int64_t* amounts) {
    for (std::size_t i = 0; i < count; ++i)
        amounts[i] =
            divide_half_even(block.quantity[i] * block.unit_price[i] * block.share[i] * multiplier, kDivisor);
}

// The same for products that a double holds exactly: the quotient is guessed by a multiplication, which is
// off by one at most, and set right by what is left. Quick where eight are taken at a time.
template <std::int64_t kDivisor>
[[gnu::always_inline]] inline void multiply_exact(const Block& block, std::size_t count,
                                                  std::int64_t multiplier, std::int64_t* amounts) {
    const std::int64_t* const quantity = block.quantity;
    const std::int64_t* const unit_price = block.unit_price;
    const std::int64_t* const share = block.share;
    for (std::size_t i = 0; i < count; ++i) {
        const std::int64_t product = quantity[i] * unit_price[i] * share[i] * multiplier;
        auto quotient = static_cast<std::int64_t>(static_cast<double>(product) * (1.0 / kDivisor));
        std::int64_t rest = product - quotient * kDivisor;
        const std::int64_t below = rest < 0 ? 1 : 0;
        quotient -= below;
        rest += below * kDivisor;
        const std::int64_t above = rest >= kDivisor ? 1 : 0;
        quotient += above;
        rest -= above * kDivisor;
        const std::int64_t twice = 2 * rest + (quotient & 1);  // a half goes to the even neighbour
        amounts[i] = quotient + (twice > kDivisor ? 1 : 0);
    }
}

constexpr int kMostExactBits = 53;

// False when a product of the block may need more than a word.
template <bool kEightAtOnce>
[[gnu::always_inline]] inline bool put_block(const Factors& factors, std::int64_t first, std::size_t count,
                                             ColumnWriter* amount) {
    constexpr int kMostBits = 62;  // twice a remainder must fit, too
    std::int64_t room[3][kBlock];
    Block block;
    block.quantity = widen(factors.quantity, first, count, room[0]);
    block.unit_price = widen(factors.unit_price, first, count, room[1]);
    block.share = room[2];
    int bits = static_cast<int>(std::bit_width(static_cast<std::uint64_t>(factors.multiplier))) +
               bits_of(block.quantity, count) + bits_of(block.unit_price, count);
    if (factors.discount == nullptr) {
        std::fill_n(room[2], count, 1);
    } else {
        const std::int64_t* const discount = widen(*factors.discount, first, count, room[2]);
        if (bits_of(discount, count) > kMostBits) return false;
        const std::int64_t one = factors.one;
        for (std::size_t i = 0; i < count; ++i) room[2][i] = one - discount[i];
        if (factors.discount->null_count != 0)
            for (std::size_t i = 0; i < count; ++i)
                if (!factors.discount->valid(first + static_cast<std::int64_t>(i))) room[2][i] = one;
        bits += bits_of(room[2], count);
    }
    if (bits > kMostBits) return false;
    if (amount == nullptr) return true;
    std::int64_t* amounts = amount->put_block(count);
    if (kEightAtOnce && bits <= kMostExactBits && factors.divisor == kDecimalOne) {
        multiply_exact<kDecimalOne>(block, count, factors.multiplier, amounts);
    } else if (factors.divisor == 1) {
        multiply<1>(block, count, factors.multiplier, amounts);
    } else if (factors.divisor == kDecimalOne) {
        multiply<kDecimalOne>(block, count, factors.multiplier, amounts);
    } else {
        multiply<kDecimalOne * kDecimalOne>(block, count, factors.multiplier, amounts);
    }
    return true;
}

using PutBlock = bool (*)(const Factors&, std::int64_t, std::size_t, ColumnWriter*);

bool put_block_plain(const Factors& factors, std::int64_t first, std::size_t count, ColumnWriter* amount) {
    return put_block<false>(factors, first, count, amount);
}

#if defined(__x86_64__)
[[gnu::target("avx512f,avx512dq,prefer-vector-width=512")]] bool put_block_avx512(const Factors& factors,
                                                                                  std::int64_t first,
                                                                                  std::size_t count,
                                                                                  ColumnWriter* amount) {
    return put_block<true>(factors, first, count, amount);
}
#endif

PutBlock fastest_put_block() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (wants_isa("avx512") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
        return put_block_avx512;
#endif
    return put_block_plain;
}

}  // namespace

Column line_amount(const Column& quantity, const Column& unit_price, const Column* discount, std::string name,
                   std::vector<std::int32_t>* overflowed, Wanted wanted) {
    const Factors factors(quantity, unit_price, discount);
    static const PutBlock put = fastest_put_block();
    const bool in_blocks = quantity.null_count == 0 && unit_price.null_count == 0;
    ColumnWriter amount(std::move(name), Type::decimal,
                        wanted == Wanted::yes ? static_cast<std::size_t>(quantity.length) : 0);
    for (std::int64_t row = 0; row < quantity.length;) {
        const auto count = std::min<std::int64_t>(quantity.length - row, kBlock);
        const std::int64_t end = row + count;
        if (in_blocks &&
            put(factors, row, static_cast<std::size_t>(count), wanted == Wanted::yes ? &amount : nullptr)) {
            row = end;
            continue;
        }
        for (; row < end; ++row) put_amount(factors, row, &amount, overflowed);
    }
    return amount.finish();
}

}  // namespace omnistream
