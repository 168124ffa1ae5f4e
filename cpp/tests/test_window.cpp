// Windows against values that were worked out by hand.
#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "windows.hpp"

using namespace omnistream;

namespace {

void test_measures_by_hand() {
    Dictionaries dictionaries;
    Window sales = window(minutes({"sku"}, {{"rows", Operation::count, "", {}},
                                            {"known", Operation::count, "units", {}},
                                            {"net_rows", Operation::count, "", kNet},
                                            {"sum", Operation::sum, "units", {}},
                                            {"net", Operation::sum, "units", kNet},
                                            {"net_amount", Operation::sum, "amount", kNet},
                                            {"least", Operation::min, "units", {}},
                                            {"most", Operation::max, "units", {}},
                                            {"mean", Operation::mean, "units", {}},
                                            {"amount_mean", Operation::mean, "amount", {}},
                                            {"std", Operation::std_dev, "units", {}},
                                            {"var", Operation::variance, "amount", {}},
                                            {"customers", Operation::distinct, "customer", kPaid},
                                            {"stores", Operation::distinct, "store", {}}}));
    CHECK(sales.validate().ok());
    const auto row = [](const char* sku, const char* type, std::optional<std::int64_t> units,
                        std::optional<std::int64_t> amount, const char* customer,
                        std::optional<std::int64_t> store) {
        Row made;
        made.time_ms = 61'000;
        made.sku = sku;
        made.type = type;
        made.units = units;
        made.amount = amount;
        made.customer = customer;
        made.store = store;
        return made;
    };
    push(&sales,
         {row("b", "paid", 2, 20'000, "x", 1), row("b", "paid", 4, 30'000, "y", 1),
          row("b", "returned", 1, 5'000, "z", 2), row("b", "created", 9, {}, "w", {}),
          row("b", "paid", {}, 10'000, "x", 2), row("a", "created", {}, {}, "q", {})},
         dictionaries);
    // b: units 2 4 1 9 (mean 4, variance 38/3); amounts 2 3 0.5 1 (mean 1.625, variance 3.6875/3).
    std::vector<std::shared_ptr<Batch>> closed;
    CHECK(sales.advance(119'999, &closed).ok() && closed.empty());
    CHECK(sales.advance(120'000, &closed).ok() && closed.size() == 1);
    const Batch& out = *closed[0];
    CHECK(out.rows == 2 && out.columns[0].lanes<std::int64_t>()[0] == 60'000 &&
          out.columns[1].lanes<std::int64_t>()[1] == 120'000);
    const std::vector<std::string> names = {"sku",         "rows",       "known", "net_rows", "sum",
                                            "net",         "net_amount", "least", "most",     "mean",
                                            "amount_mean", "customers",  "stores"};
    const auto line = [&](std::int64_t at) {
        std::string text;
        for (const std::string& name : names) text += cell(*out.find(name), at) + " ";
        return text;
    };
    CHECK(line(0) == "a 1 0 0 0 0 0 null null null null 0 0 ");
    CHECK(line(1) == "b 5 4 2 16 5 55000 1 9 4 1.625 2 2 ");
    CHECK(!out.find("std")->valid(0) && !out.find("var")->valid(0));
    CHECK(std::abs(out.find("std")->lanes<double>()[1] - std::sqrt(38.0 / 3)) < 1e-15);
    CHECK(std::abs(out.find("var")->lanes<double>()[1] - 3.6875 / 3) < 1e-15);
    CHECK(out.find("net_amount")->type == Type::decimal && out.find("sum")->type == Type::int64);
    CHECK(sales.counts().aggregated == 6 && sales.groups() == 0 && sales.open_windows() == 0);
    CHECK(sales.empty_result()->columns.size() == out.columns.size() && sales.empty_result()->rows == 0);
}

void test_extremes() {
    Dictionaries dictionaries;
    Window sales = window(minutes({"size"}, {{"least", Operation::min, "units", {}},
                                             {"most", Operation::max, "units", {}},
                                             {"light", Operation::min, "weight", {}},
                                             {"heavy", Operation::max, "weight", {}},
                                             {"first", Operation::min, "event_time", {}},
                                             {"small", Operation::min, "size", {}}}));
    std::vector<Row> rows(4);
    const double nan = std::numeric_limits<double>::quiet_NaN();
    rows[0] = {.size = 1, .units = kMost, .weight = nan};
    rows[1] = {.size = 2, .units = kLeast, .weight = 0.0};
    rows[2] = {.time_ms = 5, .size = 2, .units = {}, .weight = -0.0};
    rows[3] = {.size = {}, .units = {}, .weight = -std::numeric_limits<double>::infinity()};
    push(&sales, rows, dictionaries);
    std::reverse(rows.begin(), rows.end());
    push(&sales, rows, dictionaries);
    CHECK(closed_by(&sales, kMost) ==
          "0 60000 null null null -inf -inf 0 null\n"
          "0 60000 1 9223372036854775807 9223372036854775807 null null 0 1\n"
          "0 60000 2 -9223372036854775808 -9223372036854775808 -0 0 0 2\n");
}

void test_boundaries() {
    Dictionaries dictionaries;
    WindowSpec spec = minutes({}, {{"rows", Operation::count, "", {}}});
    Window sales = window(spec);
    std::vector<Row> rows;
    for (const std::int64_t time : {-60'001, -60'000, -1, 0, 59'999, 60'000})
        rows.push_back({.time_ms = time});
    push(&sales, rows, dictionaries);
    CHECK(sales.open_windows() == 4);
    CHECK(closed_by(&sales, -60'000) == "-120000 -60000 1\n");
    CHECK(closed_by(&sales, kMost) == "-60000 0 2\n0 60000 2\n60000 120000 1\n");

    spec.offset_ms = -15'000;
    Window shifted = window(spec);
    push(&shifted, {{.time_ms = -15'001}, {.time_ms = -15'000}, {.time_ms = 44'999}, {.time_ms = 45'000}},
         dictionaries);
    CHECK(closed_by(&shifted, kMost) == "-75000 -15000 1\n-15000 45000 2\n45000 105000 1\n");

    // The ends of time, and windows far apart in one block.
    Window ends = window(minutes({}, {{"rows", Operation::count, "", {}}}));
    push(&ends, {{.time_ms = kMost}, {.time_ms = kLeast}, {.time_ms = 0}, {.time_ms = kMost - 60'000}},
         dictionaries);
    CHECK(ends.counts().aggregated == 4 && ends.open_windows() == 4);
    CHECK(closed_by(&ends, kMost) ==
          "-9223372036854775808 -9223372036854720000 1\n0 60000 1\n"
          "9223372036854660000 9223372036854720000 1\n9223372036854720000 9223372036854775807 1\n");

    WindowSpec broad = minutes({}, {{"rows", Operation::count, "", {}}});
    broad.size_ms = std::int64_t{1} << 60;
    Window epochs = window(broad);
    push(&epochs, {{.time_ms = -1}, {.time_ms = 0}, {.time_ms = (std::int64_t{1} << 60) - 1}}, dictionaries);
    CHECK(closed_by(&epochs, kMost) == "-1152921504606846976 0 1\n0 1152921504606846976 2\n");
}

void test_lateness() {
    Dictionaries dictionaries;
    WindowSpec spec = minutes({}, {{"rows", Operation::count, "", {}}});
    spec.allowed_lateness_ms = 5'000;
    Window sales = window(spec);
    std::vector<std::int32_t> late;
    push(&sales,
         {{.time_ms = 59'999, .watermark_ms = 64'999},
          {.time_ms = 59'999,
           .watermark_ms = 65'000},  // exactly at the bound: late, though the window is still open
          {.time_ms = 60'000, .watermark_ms = 65'000},
          {.time_ms = -1, .watermark_ms = 5'000}},
         dictionaries, &late);
    CHECK((late == std::vector<std::int32_t>{1, 3}));
    CHECK(sales.counts().late == 2 && sales.counts().aggregated == 2 && sales.open_windows() == 2);
    CHECK(closed_by(&sales, 64'999).empty());
    CHECK(closed_by(&sales, 65'000) == "0 60000 1\n");
    // What is closed stays closed, whatever the row's own watermark says.
    late.clear();
    push(&sales, {{.time_ms = 59'999, .watermark_ms = 0}}, dictionaries, &late);
    CHECK(late.size() == 1 && sales.open_windows() == 1);
    CHECK(closed_by(&sales, kMost) == "60000 120000 1\n");
    late.clear();
    push(&sales, {{.time_ms = kMost, .watermark_ms = kMost}}, dictionaries, &late);
    CHECK(late.size() == 1);
}

void test_key_order() {
    Dictionaries dictionaries;
    Window sales =
        window(minutes({"sku", "store", "size", "gift", "customer"}, {{"rows", Operation::count, "", {}}}));
    std::vector<Row> rows;
    const std::string long_prefix(20, 'p');
    std::vector<std::optional<std::string>> texts = {
        std::nullopt,     "", "a", std::string("a\0", 2), "ab", "b", "\xc3\xa9", long_prefix + "x",
        long_prefix + "y"};
    for (const auto& sku : texts)
        for (const std::optional<std::int64_t> store :
             {std::optional<std::int64_t>(), {kLeast}, {-1}, {0}, {kMost}})
            for (const std::optional<std::int32_t> size :
                 {std::optional<std::int32_t>(), {std::numeric_limits<std::int32_t>::min()}, {-1}, {7}})
                for (const std::optional<bool> gift : {std::optional<bool>(), {false}, {true}})
                    rows.push_back({.sku = sku,
                                    .customer = texts[rows.size() % texts.size()],
                                    .store = store,
                                    .size = size,
                                    .gift = gift});
    const auto key = [](const Row& row) {
        return std::tie(row.sku, row.store, row.size, row.gift, row.customer);
    };
    std::vector<Row> shuffled = rows;
    std::mt19937_64 random(3);
    std::shuffle(shuffled.begin(), shuffled.end(), random);
    push(&sales, shuffled, dictionaries);
    std::sort(rows.begin(), rows.end(), [&](const Row& a, const Row& b) { return key(a) < key(b); });
    std::vector<std::shared_ptr<Batch>> closed;
    CHECK(sales.advance(kMost, &closed).ok() && closed.size() == 1);
    CHECK(closed[0]->rows == static_cast<std::int64_t>(rows.size()));
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const auto at = static_cast<std::int64_t>(i);
        CHECK(cell(closed[0]->columns[2], at) == rows[i].sku.value_or("null"));
        CHECK(cell(closed[0]->columns[3], at) == (rows[i].store ? std::to_string(*rows[i].store) : "null"));
        CHECK(cell(closed[0]->columns[4], at) == (rows[i].size ? std::to_string(*rows[i].size) : "null"));
        CHECK(cell(closed[0]->columns[5], at) == (rows[i].gift ? std::to_string(*rows[i].gift) : "null"));
        CHECK(cell(closed[0]->columns[6], at) == rows[i].customer.value_or("null"));
    }
}

void test_overflow() {
    Dictionaries dictionaries;
    const auto fails = [&](Measure measure, std::int64_t first, std::int64_t second, const char* type) {
        Window sales = window(minutes({}, {measure}));
        std::vector<std::int32_t> late;
        std::vector<Row> rows = {{.type = "paid", .units = first}, {.type = type, .units = second}};
        const Status status = sales.push(clean_batch(rows, dictionaries), &late);
        if (status.ok()) return false;
        CHECK(status.code() == Code::state && status.message().find("'sales'") != std::string::npos &&
              status.message().find("'" + measure.name + "'") != std::string::npos);
        return true;
    };
    CHECK(fails({"total", Operation::sum, "units", {}}, kMost, 1, "paid"));
    CHECK(!fails({"total", Operation::sum, "units", {}}, kMost, -1, "paid"));
    CHECK(fails({"total", Operation::sum, "units", {}}, kLeast, -1, "paid"));
    CHECK(fails({"net", Operation::sum, "units", kNet}, kMost, -1, "returned"));
    CHECK(!fails({"net", Operation::sum, "units", kNet}, -1, kLeast, "returned"));
    CHECK(!fails({"net", Operation::sum, "units", kNet}, kMost, kMost, "shipped"));

    Window squares = window(minutes({}, {{"spread", Operation::std_dev, "units", {}}}));
    std::vector<std::int32_t> late;
    std::vector<Row> rows;  // the sum swings around 0, the squares add up to 4 * 2^126
    for (int i = 0; i < 4; ++i) rows.push_back({.units = i % 2 == 0 ? kMost : kLeast});
    CHECK(squares.push(clean_batch(rows, dictionaries), &late).ok());
    rows.resize(1);
    const auto before = snapshot_of(squares);
    CHECK(squares.push(clean_batch(rows, dictionaries), &late).code() == Code::state);
    rows[0].units = 0;
    std::vector<std::shared_ptr<Batch>> closed;
    CHECK(squares.push(clean_batch(rows, dictionaries), &late).code() == Code::state);
    CHECK(squares.advance(kMost, &closed).code() == Code::state && closed.empty());
    std::unique_ptr<FrozenWindow> kept;
    CHECK(squares.freeze(&kept).code() == Code::state && kept == nullptr);
    CHECK(squares.restore(before).ok() && squares.push(clean_batch(rows, dictionaries), &late).ok());
}

void test_large_moments() {
    // Three values around 2^62: the moments need 192 bits, the variance is that of 0, 1, 5.
    Dictionaries dictionaries;
    Window sales = window(
        minutes({}, {{"var", Operation::variance, "units", {}}, {"mean", Operation::mean, "units", {}}}));
    const std::int64_t base = -(std::int64_t{1} << 61);
    push(&sales, {{.units = base}, {.units = base + 1}, {.units = base + 5}}, dictionaries);
    CHECK(closed_by(&sales, kMost) == "0 60000 7 -2.305843009213694e+18\n");
}

void test_refused() {
    const auto refused = [](WindowSpec spec) { return window(spec).validate().code() == Code::schema; };
    WindowSpec spec = minutes({"sku"}, {{"rows", Operation::count, "", {}}});
    CHECK(!refused(spec));
    spec.size_ms = 0;
    CHECK(refused(spec));
    CHECK(refused(minutes({"weight"}, {})));
    CHECK(refused(minutes({"sku", "sku"}, {})));
    CHECK(refused(minutes({"sku"}, {{"window_end", Operation::count, "", {}}})));
    for (const Operation operation :
         {Operation::sum, Operation::mean, Operation::std_dev, Operation::distinct})
        CHECK(refused(minutes({}, {{"m", operation, "weight", {}}})));
    for (const Operation operation : {Operation::sum, Operation::min, Operation::variance}) {
        CHECK(refused(minutes({}, {{"m", operation, "sku", {}}})));
        CHECK(refused(minutes({}, {{"m", operation, "", {}}})));
    }
    CHECK(refused(minutes({}, {{"m", Operation::mean, "units", kNet}})));
    CHECK(window(minutes({}, {{"m", Operation::sum, "weight", {}}})).validate().message().find("decimal") !=
          std::string::npos);

    // A batch that does not fit: a null event time, a missing column.
    Dictionaries dictionaries;
    std::vector<std::int32_t> late;
    Window sales = window(minutes({"sku"}, {{"sum", Operation::sum, "units", {}}}));
    CleanBatch batch = clean_batch({{.time_ms = 1}}, dictionaries);
    auto changed = std::make_shared<Batch>(*batch.batch);
    ColumnWriter time("event_time", Type::timestamp_ms);
    time.put_null();
    changed->columns[0] = time.finish();
    batch.batch = changed;
    CHECK(sales.push(batch, &late).code() == Code::schema);
    changed = std::make_shared<Batch>(*clean_batch({{.time_ms = 1}}, dictionaries).batch);
    changed->columns.erase(changed->columns.begin() + 1);
    batch.batch = changed;
    CHECK(sales.push(batch, &late).code() == Code::schema);
}

}  // namespace

int main() {
    test_measures_by_hand();
    test_extremes();
    test_boundaries();
    test_lateness();
    test_key_order();
    test_overflow();
    test_large_moments();
    test_refused();
    return report("window");
}
