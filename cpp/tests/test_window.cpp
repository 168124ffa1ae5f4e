// Windows against hand-checked values and a model of std::maps that keeps every value of every group.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "check.hpp"
#include "omnistream/codes.hpp"
#include "omnistream/column_writer.hpp"
#include "omnistream/window.hpp"

using namespace omnistream;

namespace {

constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

struct Row {
    std::int64_t time_ms = 0;
    std::optional<std::string> sku = {};       // dictionary
    std::optional<std::string> customer = {};  // string
    std::optional<std::int64_t> store = {};    // int64
    std::optional<std::int32_t> size = {};     // int32
    std::optional<bool> gift = {};             // bool
    std::optional<std::string> type = {};      // dictionary, the condition's column
    std::optional<std::int64_t> units = {};    // int64
    std::optional<std::int64_t> amount = {};   // decimal
    std::optional<double> weight = {};         // float64
    std::int64_t watermark_ms = kLeast;
};

Column codes_column(const char* name, const std::vector<Row>& rows, std::optional<std::string> Row::* text,
                    const std::shared_ptr<Dictionary>& dictionary) {
    Array<std::int32_t> codes;
    ColumnWriter nulls(name, Type::int32);
    for (const Row& row : rows) {
        if (row.*text)
            nulls.put(dictionary->encode(*(row.*text)));
        else
            nulls.put_null();
    }
    Column column = nulls.finish();
    column.type = Type::dictionary;
    column.dictionary = dictionary;
    return column;
}

template <class T>
Column lane_column(const char* name, Type type, const std::vector<Row>& rows, std::optional<T> Row::* lane) {
    ColumnWriter writer(name, type);
    for (const Row& row : rows) {
        if (!(row.*lane))
            writer.put_null();
        else if constexpr (std::is_same_v<T, std::string>)
            writer.put_text(*(row.*lane));
        else if constexpr (std::is_same_v<T, double>)
            writer.put_float(*(row.*lane));
        else
            writer.put(*(row.*lane));
    }
    return writer.finish();
}

struct Dictionaries {
    std::shared_ptr<Dictionary> sku = std::make_shared<Dictionary>();
    std::shared_ptr<Dictionary> type = std::make_shared<Dictionary>();
};

CleanBatch clean_batch(const std::vector<Row>& rows, const Dictionaries& dictionaries) {
    auto batch = std::make_shared<Batch>();
    batch->rows = static_cast<std::int64_t>(rows.size());
    ColumnWriter times("event_time", Type::timestamp_ms);
    CleanBatch clean;
    for (const Row& row : rows) {
        times.put(row.time_ms);
        clean.rows.push_back(static_cast<std::int32_t>(clean.rows.size()));
        clean.watermark_ms.push_back(row.watermark_ms);
    }
    batch->columns.push_back(times.finish());
    batch->columns.push_back(codes_column("sku", rows, &Row::sku, dictionaries.sku));
    batch->columns.push_back(codes_column("type", rows, &Row::type, dictionaries.type));
    batch->columns.push_back(lane_column("customer", Type::string, rows, &Row::customer));
    batch->columns.push_back(lane_column("store", Type::int64, rows, &Row::store));
    batch->columns.push_back(lane_column("size", Type::int32, rows, &Row::size));
    batch->columns.push_back(lane_column("gift", Type::boolean, rows, &Row::gift));
    batch->columns.push_back(lane_column("units", Type::int64, rows, &Row::units));
    batch->columns.push_back(lane_column("amount", Type::decimal, rows, &Row::amount));
    batch->columns.push_back(lane_column("weight", Type::float64, rows, &Row::weight));
    clean.batch = batch;
    return clean;
}

Type type_of(const std::string& column) {
    static const std::map<std::string, Type> types = {{"sku", Type::dictionary},
                                                      {"type", Type::dictionary},
                                                      {"customer", Type::string},
                                                      {"store", Type::int64},
                                                      {"size", Type::int32},
                                                      {"gift", Type::boolean},
                                                      {"units", Type::int64},
                                                      {"amount", Type::decimal},
                                                      {"weight", Type::float64},
                                                      {"", Type::int64},
                                                      {"event_time", Type::timestamp_ms}};
    return types.at(column);
}

Window window(const WindowSpec& spec) {
    std::vector<Type> keys, measures;
    for (const std::string& key : spec.keys) keys.push_back(type_of(key));
    for (const Measure& measure : spec.measures) measures.push_back(type_of(measure.column));
    return Window(spec, keys, measures);
}

using Parts = std::vector<std::pair<std::string, std::shared_ptr<Batch>>>;

Parts snapshot_of(Window& window) {
    Parts parts;
    std::unique_ptr<FrozenWindow> frozen;
    CHECK(window.freeze(&frozen).ok());
    CHECK(frozen->write(&parts).ok());
    CHECK(frozen->write(&parts).code() == Code::state);  // once
    return parts;
}

WindowSpec minutes(std::vector<std::string> keys, std::vector<Measure> measures) {
    WindowSpec spec;
    spec.name = "sales";
    spec.size_ms = 60'000;
    spec.time_column = "event_time";
    spec.keys = std::move(keys);
    spec.measures = std::move(measures);
    return spec;
}

std::string cell(const Column& column, std::int64_t row) {
    if (!column.valid(row)) return "null";
    char number[64];
    switch (column.type) {
        case Type::string:
            return std::string(column.text(row));
        case Type::boolean:
            return std::to_string(column.lanes<std::uint8_t>()[row]);
        case Type::int32:
            return std::to_string(column.lanes<std::int32_t>()[row]);
        case Type::float64:
            std::snprintf(number, sizeof number, "%.17g", column.lanes<double>()[row]);
            return number;
        default:
            return std::to_string(column.lanes<std::int64_t>()[row]);
    }
}

std::string text_of(const Batch& batch) {
    std::string text;
    for (std::int64_t row = 0; row < batch.rows; ++row) {
        for (const Column& column : batch.columns)
            text += cell(column, row) + (&column == &batch.columns.back() ? "" : " ");
        text += "\n";
    }
    return text;
}

std::string text_of(const std::vector<std::shared_ptr<Batch>>& batches) {
    std::string text;
    for (const auto& batch : batches) text += text_of(*batch);
    return text;
}

std::string closed_by(Window* window, std::int64_t watermark_ms) {
    std::vector<std::shared_ptr<Batch>> closed;
    CHECK(window->advance(watermark_ms, &closed).ok());
    return text_of(closed);
}

void push(Window* window, const std::vector<Row>& rows, const Dictionaries& dictionaries,
          std::vector<std::int32_t>* late = nullptr) {
    std::vector<std::int32_t> ignored;
    CHECK(window->push(clean_batch(rows, dictionaries), late == nullptr ? &ignored : late).ok());
}

std::string name_of_measure(Operation operation, const char* column) {
    return std::to_string(static_cast<int>(operation)) + " " + column;
}

const Condition kNet = {"type", {"paid"}, {"returned", "cancelled"}};
const Condition kPaid = {"type", {"paid"}, {}};

// ---- By hand

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

void test_byte_order() {
    Dictionary dictionary;
    ByteOrder order;
    std::mt19937_64 random(5);
    for (int round = 0; round < 20; ++round) {
        for (std::uint64_t i = random() % 50; i > 0; --i) {
            std::string text(random() % 12, 'k');
            for (char& letter : text)
                if (random() % 3 == 0) letter = static_cast<char>(random());
            dictionary.encode(text);
        }
        std::set<std::string_view> sorted;
        for (std::int32_t code = 0; code < dictionary.size(); ++code) sorted.insert(dictionary.value(code));
        std::int32_t rank = 0;
        const std::vector<std::int32_t>& ranks = order.ranks(dictionary);
        for (const std::string_view text : sorted)
            CHECK(ranks[static_cast<std::size_t>(dictionary.find(text))] == rank++);
    }
}

// ---- Against the model

struct Group {
    std::int64_t rows = 0, net = 0, paid_amount = 0;
    std::vector<std::int64_t> units;
    std::set<std::string> skus, customers;
    std::set<std::int64_t> amounts;
};

std::string model_line(const Group& group) {
    std::string text = std::to_string(group.rows) + " " + std::to_string(group.net) + " " +
                       std::to_string(group.paid_amount);
    if (group.units.empty()) {
        text += " null null null";
    } else {
        std::int64_t sum = 0;
        for (const std::int64_t value : group.units) sum += value;
        char mean[64];
        std::snprintf(mean, sizeof mean, "%.17g",
                      static_cast<double>(sum) / static_cast<double>(group.units.size()));
        text += " " + std::to_string(*std::min_element(group.units.begin(), group.units.end())) + " " +
                std::to_string(*std::max_element(group.units.begin(), group.units.end())) + " " + mean;
    }
    for (const std::size_t distinct : {group.skus.size(), group.customers.size(), group.amounts.size()})
        text += " " + std::to_string(distinct);
    return text + "\n";
}

std::vector<Measure> model_measures() {
    return {{"rows", Operation::count, "", {}},
            {"net", Operation::sum, "units", kNet},
            {"paid", Operation::sum, "amount", kPaid},
            {"least", Operation::min, "units", {}},
            {"most", Operation::max, "units", {}},
            {"mean", Operation::mean, "units", {}},
            {"skus", Operation::distinct, "sku", kPaid},
            {"customers", Operation::distinct, "customer", {}},
            {"amounts", Operation::distinct, "amount", {}}};
}

std::vector<Row> random_rows(std::mt19937_64* random, std::size_t count, bool scattered) {
    static const char* const kTypes[] = {"paid", "returned", "cancelled", "created"};
    std::vector<Row> rows(count);
    std::int64_t latest = kLeast;
    for (std::size_t i = 0; i < count; ++i) {
        const auto pick = [&](std::uint64_t below) { return static_cast<std::int64_t>((*random)() % below); };
        Row& row = rows[i];
        row.time_ms = scattered ? pick(200'000'000) - 100'000'000
                                : static_cast<std::int64_t>(i) * 400 - pick(90'000) - 300'000;
        row.watermark_ms = scattered ? kLeast : latest;
        latest = std::max(latest, row.time_ms - 60'000);
        if (pick(20) != 0) row.sku = "sku" + std::to_string(pick(30));
        if (pick(20) != 0) row.customer = "a customer with a long name " + std::to_string(pick(12));
        if (pick(20) != 0) row.store = (pick(6) - 3) << 40;
        if (pick(20) != 0) row.size = static_cast<std::int32_t>(pick(5) - 2);
        if (pick(20) != 0) row.gift = pick(2) != 0;
        if (pick(20) != 0) row.type = kTypes[pick(4)];
        if (pick(10) != 0) row.units = pick(20) - 5;
        if (pick(10) != 0) row.amount = pick(40) * 1000;
    }
    return rows;
}

using Key = std::tuple<std::optional<std::string>, std::optional<std::string>, std::optional<std::int64_t>,
                       std::optional<std::int32_t>, std::optional<bool>>;

std::string model(const std::vector<Row>& rows, const WindowSpec& spec, std::int64_t* late) {
    std::map<std::int64_t, std::map<Key, Group>> windows;
    for (const Row& row : rows) {
        std::int64_t start = spec.offset_ms;
        start += (row.time_ms - start) / spec.size_ms * spec.size_ms;
        while (start > row.time_ms) start -= spec.size_ms;
        while (start + spec.size_ms <= row.time_ms) start += spec.size_ms;
        if (start + spec.size_ms + spec.allowed_lateness_ms <= row.watermark_ms) {
            ++*late;
            continue;
        }
        Key key;
        for (const std::string& name : spec.keys) {
            if (name == "sku") std::get<0>(key) = row.sku;
            if (name == "customer") std::get<1>(key) = row.customer;
            if (name == "store") std::get<2>(key) = row.store;
            if (name == "size") std::get<3>(key) = row.size;
            if (name == "gift") std::get<4>(key) = row.gift;
        }
        Group& group = windows[start][key];
        ++group.rows;
        const std::int64_t sign = row.type == "paid"                                  ? 1
                                  : row.type == "returned" || row.type == "cancelled" ? -1
                                                                                      : 0;
        group.net += sign * row.units.value_or(0);
        if (sign == 1) group.paid_amount += row.amount.value_or(0);
        if (row.units) group.units.push_back(*row.units);
        if (sign == 1 && row.sku) group.skus.insert(*row.sku);
        if (row.customer) group.customers.insert(*row.customer);
        if (row.amount) group.amounts.insert(*row.amount);
    }
    std::string text;
    for (const auto& [start, groups] : windows) {
        for (const auto& [key, group] : groups) {
            text += std::to_string(start) + " " + std::to_string(start + spec.size_ms) + " ";
            for (const std::string& name : spec.keys) {
                if (name == "sku") text += std::get<0>(key).value_or("null");
                if (name == "customer") text += std::get<1>(key).value_or("null");
                if (name == "store") text += std::get<2>(key) ? std::to_string(*std::get<2>(key)) : "null";
                if (name == "size") text += std::get<3>(key) ? std::to_string(*std::get<3>(key)) : "null";
                if (name == "gift") text += std::get<4>(key) ? std::to_string(*std::get<4>(key)) : "null";
                text += " ";
            }
            text += model_line(group);
        }
    }
    return text;
}

struct Run {
    std::size_t most_rows;    // per batch, at random from 1
    bool advance;             // after each batch
    bool new_dictionaries;    // per batch
    bool through_a_snapshot;  // a few times on the way
};

std::string run(const std::vector<Row>& rows, const WindowSpec& spec, const Run& how, std::uint64_t seed,
                std::int64_t* late_count) {
    std::mt19937_64 random(seed);
    auto sales = std::make_unique<Window>(spec, std::vector<Type>(), std::vector<Type>());
    std::vector<Type> keys, measures;
    for (const std::string& key : spec.keys) keys.push_back(type_of(key));
    for (const Measure& measure : spec.measures) measures.push_back(type_of(measure.column));
    sales = std::make_unique<Window>(spec, keys, measures);
    Dictionaries dictionaries;
    std::vector<std::shared_ptr<Batch>> closed;
    std::vector<std::int32_t> late;
    for (std::size_t begin = 0; begin < rows.size();) {
        const std::size_t count = std::min(1 + random() % how.most_rows, rows.size() - begin);
        const std::vector<Row> part(rows.begin() + static_cast<std::ptrdiff_t>(begin),
                                    rows.begin() + static_cast<std::ptrdiff_t>(begin + count));
        if (how.new_dictionaries && random() % 2 == 0) dictionaries = Dictionaries();
        push(sales.get(), part, dictionaries, &late);
        if (how.advance) CHECK(sales->advance(part.back().watermark_ms, &closed).ok());
        begin += count;
        if (how.through_a_snapshot && random() % 4 == 0) {
            const Parts saved = snapshot_of(*sales);
            auto restored = std::make_unique<Window>(spec, keys, measures);
            CHECK(restored->restore(saved).ok());
            const Parts again = snapshot_of(*restored);
            CHECK(again.size() == saved.size());
            for (std::size_t i = 0; i < saved.size(); ++i) {
                CHECK(again[i].first == saved[i].first);
                CHECK(text_of(*again[i].second) == text_of(*saved[i].second));
            }
            CHECK(restored->groups() == sales->groups() && restored->counts().late == sales->counts().late);
            sales = std::move(restored);
        }
    }
    CHECK(sales->advance(kMost, &closed).ok());
    CHECK(sales->counts().late == static_cast<std::int64_t>(late.size()));
    CHECK(sales->counts().aggregated + sales->counts().late == static_cast<std::int64_t>(rows.size()));
    *late_count = sales->counts().late;
    return text_of(closed);
}

void test_model() {
    const std::vector<std::vector<std::string>> keys = {{},
                                                        {"sku"},
                                                        {"size", "gift"},
                                                        {"store"},
                                                        {"customer", "sku"},
                                                        {"sku", "customer", "store", "size", "gift"}};
    std::mt19937_64 random(7);
    for (const bool scattered : {false, true}) {
        for (std::size_t i = 0; i < keys.size(); ++i) {
            // The model names keys in one order, so that the spec does, too.
            WindowSpec spec = minutes(keys[i], model_measures());
            if (i == 4) spec.keys = {"sku", "customer"};
            spec.offset_ms = static_cast<std::int64_t>(i) * 17'000 - 30'000;
            spec.allowed_lateness_ms = static_cast<std::int64_t>(i % 3) * 7'000;
            const std::vector<Row> rows = random_rows(&random, 3'000, scattered);
            std::int64_t expected_late = 0;
            const std::string expected = model(rows, spec, &expected_late);
            CHECK(scattered || expected_late > 0);
            std::int64_t late = 0;
            for (const Run& how :
                 {Run{10'000, false, false, false}, Run{1, true, false, false}, Run{700, true, true, false},
                  Run{300, true, false, true}, Run{300, true, true, true}}) {
                if (how.most_rows == 1 && i != 1 && i != 5) continue;
                CHECK(run(rows, spec, how, i, &late) == expected);
                CHECK(late == expected_late);
            }
        }
    }
}

// Many groups in few windows: growth of the table, the radix sort, keys of one word and of several.
void test_many_groups() {
    Dictionaries dictionaries;
    for (const bool one_word : {true, false}) {
        Window sales = window(minutes(
            one_word ? std::vector<std::string>{"sku", "type"} : std::vector<std::string>{"store", "sku"},
            {{"rows", Operation::count, "", {}}, {"sum", Operation::sum, "units", {}}}));
        std::mt19937_64 random(11);
        std::map<std::tuple<std::string, std::int64_t>, std::pair<std::int64_t, std::int64_t>> expected;
        for (int batch = 0; batch < 60; ++batch) {
            std::vector<Row> rows(1'000);
            for (Row& row : rows) {
                const std::uint64_t number = random() % 20'000;
                row.sku = std::to_string(number % 5'000);
                row.type = std::to_string(number / 5'000);
                row.store = static_cast<std::int64_t>((number / 5'000) << 60) - 5;
                row.units = static_cast<std::int64_t>(random() % 100);
                auto& [count, sum] = expected[{*row.sku, static_cast<std::int64_t>(number / 5'000)}];
                ++count;
                sum += *row.units;
            }
            push(&sales, rows, dictionaries);
        }
        CHECK(sales.groups() == static_cast<std::int64_t>(expected.size()));
        CHECK(sales.memory_bytes() > sales.groups() * 32);
        std::vector<std::string> lines;
        for (const auto& [key, value] : expected) {
            const auto& [sku, number] = key;
            const std::int64_t store =
                static_cast<std::int64_t>(static_cast<std::uint64_t>(number) << 60) - 5;
            lines.push_back(
                "0 60000 " +
                (one_word ? sku + " " + std::to_string(number) : std::to_string(store) + " " + sku) + " " +
                std::to_string(value.first) + " " + std::to_string(value.second) + "\n");
        }
        if (!one_word)
            std::stable_sort(lines.begin(), lines.end(), [](const std::string& a, const std::string& b) {
                return std::stoll(a.substr(8)) < std::stoll(b.substr(8));
            });
        std::string text;
        for (const std::string& line : lines) text += line;
        CHECK(closed_by(&sales, kMost) == text);
    }
}

// Every kind of window with every kind of measure: all rows at once, or a few at a time with a restart after
// each push, give the same results.
void test_any_batching_of_any_kind() {
    std::vector<WindowSpec> specs;
    for (const WindowKind kind : {WindowKind::tumbling, WindowKind::hopping, WindowKind::calendar,
                                  WindowKind::session, WindowKind::global}) {
        WindowSpec spec = minutes({"customer", "gift"}, {{"rows", Operation::count, "", kNet}});
        spec.kind = kind;
        spec.hop_ms = 25'000;
        spec.gap_ms = 9'000;
        spec.zone = {{0, 3'600'000}, {150'000, 0}};
        spec.allowed_lateness_ms = 2'000;
        if (kind == WindowKind::tumbling || kind == WindowKind::global) spec.early_ms = 40'000;
        for (const Operation operation : {Operation::distinct, Operation::approx_distinct, Operation::first,
                                          Operation::last, Operation::top, Operation::top_weight})
            for (const char* column : {"sku", "customer", "store", "gift", "amount"})
                spec.measures.push_back({name_of_measure(operation, column), operation, column, {}});
        for (Measure& measure : spec.measures)
            if (measure.operation == Operation::top || measure.operation == Operation::top_weight) {
                measure.by = "units";
                measure.condition = kNet;
            }
        for (const Operation operation : {Operation::std_dev, Operation::min, Operation::quantile})
            spec.measures.push_back({name_of_measure(operation, "units"), operation, "units", kPaid});
        spec.measures.back().argument = 900'000;
        specs.push_back(spec);
        if (kind != WindowKind::hopping && kind != WindowKind::session) continue;
        spec.early_ms = 15'000;
        specs.push_back(std::move(spec));
    }
    std::mt19937_64 random(17);
    const char* types[] = {"paid", "paid", "returned", "created"};
    std::vector<Row> rows;
    std::int64_t watermark_ms = kLeast;
    for (std::int64_t i = 0; i < 3'000; ++i) {
        const auto draw = [&random](std::int64_t below) {
            return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(below));
        };
        const std::int64_t time_ms = i * 150 + draw(30'000);
        Row row{.time_ms = time_ms,
                .type = types[draw(4)],
                .units = draw(1'000) - 20,
                .watermark_ms = watermark_ms};
        if (draw(9) != 0) row.sku = "sku " + std::to_string(draw(30));
        if (draw(9) != 0) row.customer = "a customer with a long name " + std::to_string(draw(6));
        if (draw(9) != 0) row.store = draw(3) - 1;
        if (draw(9) != 0) row.gift = draw(2) == 0;
        if (draw(9) != 0) row.amount = draw(500) * 100;
        rows.push_back(std::move(row));
        watermark_ms = std::max(watermark_ms, time_ms - 20'000);
    }
    for (const WindowSpec& spec : specs) {
        Dictionaries dictionaries;
        Window whole = window(spec);
        push(&whole, rows, dictionaries);
        const std::string expected = closed_by(&whole, kMost);
        std::string got;
        Window none = window(spec);
        Parts saved = snapshot_of(none);
        for (std::size_t begin = 0; begin < rows.size();) {
            const std::size_t end = std::min(rows.size(), begin + 1 + random() % 600);
            Window part = window(spec);
            CHECK(part.restore(saved).ok());
            push(&part,
                 {rows.begin() + static_cast<std::ptrdiff_t>(begin),
                  rows.begin() + static_cast<std::ptrdiff_t>(end)},
                 dictionaries);
            got += closed_by(&part, rows[end - 1].watermark_ms);
            saved = snapshot_of(part);
            begin = end;
        }
        Window last = window(spec);
        CHECK(last.restore(saved).ok());
        got += closed_by(&last, kMost);
        CHECK(got == expected);
        CHECK(last.counts().aggregated == whole.counts().aggregated &&
              last.counts().late == whole.counts().late);
    }
}

// A new measure knows the rows from the restore on, or all where it is made of what is there.
void test_measures_are_added() {
    for (const bool sessions : {false, true}) {
        Dictionaries dictionaries;
        WindowSpec spec = minutes({"sku"}, {{"units", Operation::sum, "units", {}}});
        if (sessions) {
            spec.kind = WindowKind::session;
            spec.size_ms = 0;
            spec.gap_ms = 60'000;
        }
        Window before = window(spec);
        push(&before, {{.sku = "a", .units = 5}, {.sku = "b", .units = 7}}, dictionaries);
        const Parts saved = snapshot_of(before);
        spec.measures = {
            {"rows", Operation::count, "", {}},       {"units", Operation::sum, "units", {}},
            {"least", Operation::min, "units", {}},   {"again", Operation::sum, "units", {}},
            {"paid", Operation::sum, "units", kPaid}, {"stores", Operation::distinct, "store", {}}};
        Window after = window(spec);
        CHECK(after.restore(saved).ok());
        push(&after, {{.sku = "a", .store = 1, .type = "paid", .units = 9}}, dictionaries);
        Window again = window(spec);
        CHECK(again.restore(snapshot_of(after)).ok());
        CHECK(closed_by(&again, kMost) == "0 60000 a 1 14 9 14 9 1\n0 60000 b 0 7 null 7 0 0\n");
        CHECK(before.restore(snapshot_of(after)).code() == Code::state);  // none is ever taken away
    }
}

void test_snapshot_refused() {
    Dictionaries dictionaries;
    WindowSpec spec = minutes({"sku"}, {{"units", Operation::sum, "units", kPaid}});
    Window sales = window(spec);
    push(&sales, {{.sku = "a", .type = "paid", .units = 1}}, dictionaries);
    const Parts saved = snapshot_of(sales);

    WindowSpec other = spec;
    other.measures[0].condition = kNet;
    Status status = window(other).restore(saved);
    CHECK(status.code() == Code::state && status.message().find("-'returned'") != std::string::npos);
    other = spec;
    other.measures.push_back({"middle", Operation::mean, "units", kPaid});
    status = window(other).restore(saved);
    CHECK(status.code() == Code::state &&
          status.message().find("measure 'middle' cannot be added") != std::string::npos);
    other = spec;
    other.measures.clear();
    other.measures.push_back({"rows", Operation::count, "", {}});
    CHECK(window(other).restore(saved).code() == Code::state);
    other = spec;
    other.size_ms = 3'600'000;
    status = window(other).restore(saved);
    CHECK(status.code() == Code::state && status.message().find("size_ms 60000") != std::string::npos);
    auto broken = saved;
    broken.erase(broken.begin() + 2);
    CHECK(window(spec).restore(broken).code() == Code::state);

    // A window that is not empty takes the saved state in place of its own.
    push(&sales, {{.sku = "b", .type = "paid", .units = 5}}, dictionaries);
    CHECK(sales.restore(saved).ok());
    push(&sales, {{.sku = "a", .type = "paid", .units = 2}}, dictionaries);
    CHECK(closed_by(&sales, kMost) == "0 60000 a 3\n");
}

// A key that holds no null is its own key words, and blocks of consecutive rows are read where they stand:
// both give what the long way gives, and each takes the other's state.
void test_required_keys() {
    const std::vector<Measure> measures = {
        {"rows", Operation::count, "", {}},     {"units", Operation::sum, "units", {}},
        {"least", Operation::min, "units", {}}, {"amount", Operation::sum, "amount", {}},
        {"mean", Operation::mean, "units", {}}, {"kinds", Operation::distinct, "customer", {}}};
    for (const std::vector<std::string>& keys :
         {std::vector<std::string>{"store"}, std::vector<std::string>{"sku", "store"}}) {
        WindowSpec spec = minutes(keys, measures);
        spec.name = "sales";
        WindowSpec strict = spec;
        strict.required = {"store", "event_time"};
        Dictionaries dictionaries;
        std::mt19937_64 random(7);
        std::vector<Row> rows;
        constexpr std::int64_t kExtremes[] = {kLeast, kMost, 0, -1};
        for (std::int64_t i = 0; i < 3'000; ++i) {
            const auto store = static_cast<std::int64_t>(random() % 40);
            rows.push_back({.time_ms = i * 50,
                            .sku = random() % 2 == 0 ? "a" : "b",
                            .customer = std::to_string(random() % 5),
                            .store = store < 4 ? kExtremes[store] : store * 1'000'003,
                            .units = static_cast<std::int64_t>(random() % 100) - 50,
                            .amount = static_cast<std::int64_t>(random() % 1'000)});
        }
        Window whole = window(strict);
        Window apart = window(spec);
        push(&whole, rows, dictionaries);
        CleanBatch clean = clean_batch(rows, dictionaries);
        const std::vector<std::int32_t> all(clean.rows.begin(), clean.rows.end());
        for (const std::int32_t odd : {0, 1}) {  // rows that do not follow one another
            clean.rows.clear();
            for (const std::int32_t row : all)
                if (row % 2 == odd) clean.rows.push_back(row);
            clean.watermark_ms.assign(clean.rows.size(), kLeast);
            std::vector<std::int32_t> late;
            CHECK(apart.push(clean, &late).ok() && late.empty());
        }
        Window taken = window(spec);
        CHECK(taken.restore(snapshot_of(whole)).ok());
        Window given = window(strict);
        CHECK(given.restore(snapshot_of(apart)).ok());
        CHECK(whole.memory_bytes() <= apart.memory_bytes());
        const std::string expected = closed_by(&apart, kMost);
        CHECK(closed_by(&whole, kMost) == expected);
        CHECK(closed_by(&taken, kMost) == expected);
        CHECK(closed_by(&given, kMost) == expected);

        std::vector<std::int32_t> late;
        Window open = window(strict);
        const Status refused = open.push(clean_batch({{.store = std::nullopt}}, dictionaries), &late);
        CHECK(refused.code() == Code::schema && refused.message().find("'store'") != std::string::npos);
        Window nullable = window(spec);
        push(&nullable, {{.store = std::nullopt}}, dictionaries);
        CHECK(open.restore(snapshot_of(nullable)).code() == Code::state);
    }
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
    test_amount();
    test_amounts_of_any_size();
    test_byte_order();
    test_model();
    test_many_groups();
    test_any_batching_of_any_kind();
    test_required_keys();
    test_measures_are_added();
    test_snapshot_refused();
    return report("window");
}
