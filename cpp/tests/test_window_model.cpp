// Windows against a model of std::maps that keeps every value of every group, and against themselves by
// another way.
#include <algorithm>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "windows.hpp"

using namespace omnistream;

namespace {

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

std::string name_of_measure(Operation operation, const char* column) {
    return std::to_string(static_cast<int>(operation)) + " " + column;
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
    test_model();
    test_many_groups();
    test_any_batching_of_any_kind();
    test_required_keys();
    return report("window model");
}
