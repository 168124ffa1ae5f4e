// Amounts of lines: half-even at four places, and an overflow where there is one.
#include <algorithm>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "windows.hpp"

using namespace omnistream;

namespace {

void test_amount() {
    const auto column = [](Type type, const std::vector<std::optional<std::int64_t>>& values) {
        ColumnWriter writer("c", type);
        for (const auto& value : values) {
            if (value)
                writer.put(*value);
            else
                writer.put_null();
        }
        return writer.finish();
    };
    std::vector<std::int32_t> overflowed;
    // 3 x 9.99 x 0.85 = 25.4745; 1 x 0.0001 x 0.5 is a tie that goes to 0, 3 x that to 2, and so below zero.
    const Column quantity = column(Type::int64, {3, 1, 3, -3, {}, 2, kMost, kMost, 0, 1, -1});
    const Column price =
        column(Type::decimal, {99'900, 1, 1, 1, 5, {}, 10'000, 20'000, kMost, kMost, kLeast});
    const Column discount =
        column(Type::decimal, {1'500, 5'000, 5'000, 5'000, 0, 0, {}, 5'000, kLeast, 0, 0});
    const Column amount = line_amount(quantity, price, &discount, "amount", &overflowed);
    const std::vector<std::string> expected = {
        "254745", "0", "2", "-2", "null", "null", "null", "null", "0", "9223372036854775807", "null"};
    for (std::size_t i = 0; i < expected.size(); ++i)
        CHECK(cell(amount, static_cast<std::int64_t>(i)) == expected[i]);
    CHECK((overflowed == std::vector<std::int32_t>{6, 7, 10}));
    CHECK(amount.name == "amount" && amount.type == Type::decimal && amount.null_count == 5);

    overflowed.clear();
    const Column gross = line_amount(quantity, price, nullptr, "gross", &overflowed);
    CHECK(cell(gross, 0) == "299700" && cell(gross, 8) == "0");
    const Column metres = line_amount(column(Type::decimal, {12'500}), column(Type::decimal, {30'001}),
                                      nullptr, "a", &overflowed);
    CHECK(cell(metres, 0) == "37501");  // 1.25 x 3.0001 = 3.750125
    const Column whole =
        line_amount(column(Type::int32, {-4}), column(Type::int64, {5}), nullptr, "a", &overflowed);
    CHECK(cell(whole, 0) == "-200000");

    // Without nulls, by blocks: what fits a word, and a block in which one product does not.
    overflowed.clear();
    const Column none = column(Type::decimal, {5'000, 5'000, {}, 15'000});
    const Column plain = line_amount(column(Type::decimal, {10'000, 30'000, -10'000, 10'000}),
                                     column(Type::decimal, {1, 1, 7, 1}), &none, "a", &overflowed);
    CHECK(cell(plain, 0) == "0" && cell(plain, 1) == "2" && cell(plain, 2) == "-7" && cell(plain, 3) == "0");
    CHECK(plain.null_count == 0 && overflowed.empty());
    const Column one_large = line_amount(column(Type::int32, {1, 3, 2}), column(Type::decimal, {5, kMost, 9}),
                                         nullptr, "a", &overflowed);
    CHECK(cell(one_large, 0) == "5" && cell(one_large, 1) == "null" && cell(one_large, 2) == "18");
    CHECK((overflowed == std::vector<std::int32_t>{1}));
    overflowed.clear();
    static_cast<void>(line_amount(column(Type::int32, {1, 3, 2}), column(Type::decimal, {5, kMost, 9}),
                                  nullptr, "a", &overflowed, Wanted::no));
    CHECK((overflowed == std::vector<std::int32_t>{1}));
}

// Of any size up to what needs more than a word, ties among them.
void test_amounts_of_any_size() {
    std::mt19937_64 random(9);
    for (int round = 0; round < 400; ++round) {
        const auto some = [&](int most_bits) {
            const auto value = static_cast<std::int64_t>(random() >> (64 - 1 - random() % most_bits));
            return random() % 4 == 0 ? -value : value;
        };
        const int price_bits = 1 + round % 50;
        ColumnWriter quantities("q", Type::int64), prices("p", Type::decimal), discounts("d", Type::decimal);
        std::vector<std::int64_t> expected;
        for (int i = 0; i < 777; ++i) {
            const std::int64_t quantity = some(6);
            const std::int64_t price = some(price_bits);
            const std::int64_t discount = random() % 3 == 0 ? 5'000 : some(14);
            quantities.put(quantity);
            prices.put(price);
            discounts.put(discount);
            const __int128 product = static_cast<__int128>(quantity) * price * (kDecimalOne - discount);
            const __int128 size = product < 0 ? -product : product;
            auto amount = static_cast<std::int64_t>(size / kDecimalOne);
            const auto rest = static_cast<std::int64_t>(size % kDecimalOne);
            if (2 * rest > kDecimalOne || (2 * rest == kDecimalOne && amount % 2 != 0)) ++amount;
            expected.push_back(product < 0 ? -amount : amount);
        }
        std::vector<std::int32_t> overflowed;
        const Column discount = discounts.finish();
        const Column amount =
            line_amount(quantities.finish(), prices.finish(), &discount, "amount", &overflowed);
        CHECK(overflowed.empty() && amount.null_count == 0);
        CHECK(std::equal(expected.begin(), expected.end(), amount.lanes<std::int64_t>()));
    }
}

}  // namespace

int main() {
    test_amount();
    test_amounts_of_any_size();
    return report("amount");
}
