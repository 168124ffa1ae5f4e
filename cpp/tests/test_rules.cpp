// Each rule on each type it takes.
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "batches.hpp"

using namespace omnistream;

namespace {

// The survivors of one rule, and that each other row is a reject of it.
Rows survivors(const Rule& one, const std::shared_ptr<Batch>& batch, std::int64_t now_ms = 0) {
    Cleaned out;
    const Status status = cleaner({one}).clean(batch, now_ms, {}, &out);
    CHECK(status.ok());
    if (!status.ok()) return {-1};
    CHECK(out.counts.rows == batch->rows);
    CHECK(out.counts.duplicates == 0);
    CHECK(out.counts.rejected == static_cast<std::int64_t>(out.rejects.size()));
    CHECK(static_cast<std::int64_t>(out.batch->row_numbers().size() + out.rejects.size()) == batch->rows);
    for (const Reject& reject : out.rejects) {
        CHECK(reject.reason == 0);
        CHECK(reject.field == one.column);
        CHECK(reject.byte_offset == -1);
        CHECK(reject.line == -1);
    }
    return out.batch->row_numbers();
}

void range_of_each_type() {
    for (const Type type : kIntegers) {
        CHECK(survivors(range("x", -1, 2), timed({integers("x", type, {-2, -1, 0, 2, 3})})) ==
              Rows({1, 2, 3}));
        CHECK(survivors(range("x", -1, 2), timed({integers("x", type, {-2, {}, 0, {}, 3})})) ==
              Rows({1, 2, 3}));
        Rule open = rule(RuleKind::range, "x");
        open.low = 1;
        CHECK(survivors(open, timed({integers("x", type, {0, 1, 2'000'000'000})})) == Rows({1, 2}));
    }
    CHECK(survivors(range("x", 1, 1), timed({integers("x", Type::boolean, {0, 1, {}, 0})})) == Rows({1, 2}));
    constexpr std::int64_t least = std::numeric_limits<std::int64_t>::min();
    CHECK(survivors(range("x", least + 1, 0), timed({integers("x", Type::int64, {least, least + 1, 1})})) ==
          Rows({1}));

    Rule real = rule(RuleKind::range, "x");
    real.low_float = 0.5;
    real.high_float = 1.5;
    CHECK(survivors(real, timed({floats("x", {0.49, 0.5, 1.5, 1.51, {}, std::nan(""), INFINITY})})) ==
          Rows({1, 2, 4}));
    Rule half = rule(RuleKind::range, "x");
    half.low_float = 0;
    CHECK(survivors(half, timed({floats("x", {-1e-300, -0.0, INFINITY})})) == Rows({1, 2}));
}

void less_than_of_each_type() {
    const Rule lower = less_than("x", "y");
    for (const Type type : kIntegers) {
        CHECK(survivors(lower, timed({integers("x", type, {1, 2, 3}), integers("y", type, {2, 2, 2})})) ==
              Rows({1, 2}));
        CHECK(survivors(lower, timed({integers("x", type, {1, {}, {}, 1}),
                                      integers("y", type, {2, 2, {}, 1})})) == Rows({1, 2, 3}));
        CHECK(survivors(lower, timed({integers("x", type, {1, 1, 1}), integers("y", type, {2, {}, 1})})) ==
              Rows({1, 2}));
    }
    CHECK(survivors(lower, timed({integers("x", Type::boolean, {0, 1, 0, {}}),
                                  integers("y", Type::boolean, {1, 1, {}, 1})})) == Rows({1, 2, 3}));
    CHECK(survivors(lower, timed({floats("x", {1.0, 2.0, std::nan(""), {}}),
                                  floats("y", {1.5, 2.0, 1.0, 9.0})})) == Rows({1, 2, 3}));
}

void ahead_and_behind() {
    Rule ahead = rule(RuleKind::ahead, "event_time");
    ahead.high = 100;
    CHECK(survivors(ahead, batch_of({times({-5, 1'100, 1'101})}), 1'000) == Rows({0, 1}));
    CHECK(survivors(ahead, batch_of({times({Watermark::kEnd})}), Watermark::kEnd - 1) == Rows({0}));
    Rule behind = rule(RuleKind::behind, "event_time");
    behind.low = 100;
    CHECK(survivors(behind, batch_of({times({899, 900, 5'000})}), 1'000) == Rows({1, 2}));
    CHECK(survivors(behind, batch_of({times({Watermark::kNone})}), Watermark::kNone + 1) == Rows({0}));
    Rule other = rule(RuleKind::ahead, "promised");
    other.high = 0;
    CHECK(survivors(other, timed({integers("promised", Type::timestamp_ms, {{}, 9, 11})}), 10) ==
          Rows({0, 1}));
}

void required_of_each_type() {
    const Rule needed = rule(RuleKind::required, "x");
    for (const Type type : kIntegers) {
        CHECK(survivors(needed, timed({integers("x", type, {1, {}, 3})})) == Rows({0, 2}));
        CHECK(survivors(needed, timed({integers("x", type, {1, 2})})) == Rows({0, 1}));
    }
    CHECK(survivors(needed, timed({integers("x", Type::boolean, {{}, 0})})) == Rows({1}));
    CHECK(survivors(needed, timed({floats("x", {{}, std::nan("")})})) == Rows({1}));
    CHECK(survivors(needed, timed({strings("x", {{}, "", "a"})})) == Rows({1, 2}));
    CHECK(survivors(needed, timed({codes("x", std::make_shared<Dictionary>(), {"a", {}, ""})})) ==
          Rows({0, 2}));
}

void allowed_values() {
    const Rule channels = allowed("x", {"web", "a channel with a long name", ""});
    const Values<std::string> values = {"web", "WEB", {}, "", "a channel with a long name", "webb"};
    CHECK(survivors(channels, timed({strings("x", values)})) == Rows({0, 2, 3, 4}));
    CHECK(survivors(allowed("x", {}), timed({strings("x", values)})) == Rows({2}));

    // The table by code follows the dictionary as it grows, and starts again with another dictionary.
    Cleaner one = cleaner({channels});
    Cleaned out;
    auto dictionary = std::make_shared<Dictionary>();
    CHECK(one.clean(timed({codes("x", dictionary, {"store", "web", {}})}), 0, {}, &out).ok());
    CHECK(out.batch->row_numbers() == Rows({1, 2}));
    CHECK(one.clean(timed({codes("x", dictionary, values)}), 0, {}, &out).ok());
    CHECK(out.batch->row_numbers() == Rows({0, 2, 3, 4}));
    CHECK(one.clean(timed({codes("x", std::make_shared<Dictionary>(), {"web", "store"})}), 0, {}, &out).ok());
    CHECK(out.batch->row_numbers() == Rows({0}));
    CHECK(one.clean(timed({strings("x", {"store", "web"})}), 0, {}, &out).ok());
    CHECK(out.batch->row_numbers() == Rows({1}));
}

void first_rule_names_the_reason() {
    const auto batch = timed({integers("quantity", Type::int64, {0, 0, 5, 5, {}}),
                              integers("unit_price", Type::decimal, {1, 9, 1, 9, 1}),
                              integers("unit_cost", Type::decimal, {5, 5, 5, 5, 5})});
    const Rule quantity = range("quantity", 1, 1'000);
    const Rule price = less_than("unit_price", "unit_cost");
    const auto reasons = [&](std::vector<Rule> rules) {
        Cleaned out;
        CHECK(cleaner(std::move(rules)).clean(batch, 0, {}, &out).ok());
        std::vector<std::pair<std::int32_t, std::int32_t>> pairs;
        for (const Reject& reject : out.rejects) pairs.emplace_back(reject.message, reject.reason);
        CHECK(out.batch->row_numbers() == Rows({3}));
        CHECK(out.counts.rejected == 4);
        return pairs;
    };
    using Pairs = std::vector<std::pair<std::int32_t, std::int32_t>>;
    CHECK(reasons({quantity, price}) == Pairs({{0, 0}, {1, 0}, {2, 1}, {4, 1}}));
    CHECK(reasons({price, quantity}) == Pairs({{0, 0}, {1, 1}, {2, 0}, {4, 0}}));
    CHECK(cleaner({quantity, price}).rules()[1].other == "unit_cost");
}

}  // namespace

int main() {
    range_of_each_type();
    less_than_of_each_type();
    ahead_and_behind();
    required_of_each_type();
    allowed_values();
    first_rule_names_the_reason();
    return report("rules");
}
