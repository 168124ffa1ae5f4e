// Demand against hand-checked values and a model that keeps every day in a std::map.
#include <cmath>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "check.hpp"
#include "omnistream/column_writer.hpp"
#include "omnistream/demand.hpp"

using namespace omnistream;

namespace {

constexpr std::int64_t kDay = 86'400'000;
constexpr std::int64_t kStart = 20'000 * kDay;

struct Row {
    std::string sku;  // "": null
    std::int64_t store;
    std::int64_t demand;
};

std::shared_ptr<Batch> day_batch(std::int64_t start_ms, const std::vector<Row>& rows,
                                 Type type = Type::int64) {
    ColumnWriter start("window_start", Type::timestamp_ms), end("window_end", Type::timestamp_ms),
        sku("sku", Type::string), store("store", Type::int64), units("units", type);
    for (const Row& row : rows) {
        start.put(start_ms);
        end.put(start_ms + kDay);
        if (row.sku.empty())
            sku.put_null();
        else
            sku.put_text(row.sku);
        store.put(row.store);
        units.put(row.demand);
    }
    auto batch = std::make_shared<Batch>();
    batch->rows = static_cast<std::int64_t>(rows.size());
    for (ColumnWriter* writer : {&start, &end, &sku, &store, &units})
        batch->columns.push_back(writer->finish());
    return batch;
}

DemandSpec spec(std::int32_t horizon) {
    return {horizon, {"sku", "store"}, "units", 2.0, 4.0};
}

std::int64_t lane(const Batch& batch, const char* column, std::int64_t row) {
    const Column* found = batch.find(column);
    return found->type == Type::int32 ? found->lanes<std::int32_t>()[row] : found->lanes<std::int64_t>()[row];
}

double real(const Batch& batch, const char* column, std::int64_t row) {
    return batch.find(column)->lanes<double>()[row];
}

std::string text_of(const Batch& batch) {
    std::string text;
    for (std::int64_t row = 0; row < batch.rows; ++row) {
        for (const Column& column : batch.columns) {
            char number[64];
            if (!column.valid(row))
                text += "null";
            else if (column.type == Type::string)
                text += column.text(row);
            else if (column.type == Type::float64) {
                std::snprintf(number, sizeof number, "%.17g", column.lanes<double>()[row]);
                text += number;
            } else
                text += std::to_string(lane(batch, column.name.c_str(), row));
            text += ' ';
        }
        text += '\n';
    }
    return text;
}

void test_by_hand() {
    Demand demand(spec(4), {Type::dictionary, Type::int64}, Type::int64);
    std::shared_ptr<Batch> out;
    CHECK(demand.push(*day_batch(kStart, {{"b", 1, 3}, {"a", 1, 5}}), &out).ok());
    CHECK(out->rows == 2 && out->columns[1].text(0) == "b");  // in the order of the input
    CHECK(lane(*out, "days", 0) == 1 && real(*out, "mean", 0) == 3 && real(*out, "std", 0) == 0);
    CHECK(lane(*out, "day", 0) == kStart);

    // Two days later: demands 5, 0, 2 over three days; mean 7/3, variance (3 * 29 - 49) / 6 = 19/3.
    CHECK(demand.push(*day_batch(kStart + 2 * kDay, {{"a", 1, 2}}), &out).ok());
    CHECK(lane(*out, "days", 0) == 3 && lane(*out, "demand", 0) == 2);
    CHECK(std::abs(real(*out, "mean", 0) - 7.0 / 3) < 1e-15);
    CHECK(std::abs(real(*out, "std", 0) - std::sqrt(19.0 / 3)) < 1e-15);
    CHECK(std::abs(real(*out, "safety_stock", 0) - 2 * std::sqrt(19.0 / 3) * 2) < 1e-14);
    CHECK(demand.current(&out).ok() && out->rows == 2);
    CHECK(out->columns[1].text(0) == "a" && out->columns[1].text(1) == "b");
    CHECK(lane(*out, "days", 1) == 3 && lane(*out, "demand", 1) == 0 && real(*out, "mean", 1) == 1);

    // Day 4: b (last demand on day 0) is forgotten; a has 0, 2, 0, 0 in the last four days.
    CHECK(demand.push(*day_batch(kStart + 4 * kDay, {{"c", 1, 1}}), &out).ok());
    CHECK(demand.keys() == 2);
    CHECK(demand.current(&out).ok() && out->rows == 2 && out->columns[1].text(0) == "a");
    CHECK(lane(*out, "days", 0) == 4 && real(*out, "mean", 0) == 0.5);

    // A zero on the day of forgetting still has its statistics; then b comes back as new.
    CHECK(demand.push(*day_batch(kStart + 6 * kDay, {{"a", 1, 0}, {"b", 1, -4}}), &out).ok());
    CHECK(lane(*out, "days", 0) == 4 && real(*out, "mean", 0) == 0 && lane(*out, "days", 1) == 1);
    CHECK(real(*out, "mean", 1) == -4 && demand.keys() == 2);
    CHECK(demand.push(*day_batch(kStart + 7 * kDay, {{"a", 1, 0}}), &out).ok());
    CHECK(lane(*out, "days", 0) == 1 && demand.keys() == 2);
}

void test_decimal_scale() {
    Demand demand(spec(28), {Type::dictionary, Type::int64}, Type::decimal);
    std::shared_ptr<Batch> out;
    CHECK(demand.push(*day_batch(0, {{"", 1, 15'000}}, Type::decimal), &out).ok());
    CHECK(!out->columns[1].valid(0));
    CHECK(demand.push(*day_batch(kDay, {{"", 1, 25'000}}, Type::decimal), &out).ok());
    CHECK(real(*out, "mean", 0) == 2.0 && std::abs(real(*out, "std", 0) - std::sqrt(0.5)) < 1e-16);
}

void test_refused() {
    Demand demand(spec(4), {Type::dictionary, Type::int64}, Type::int64);
    std::shared_ptr<Batch> out;
    CHECK(demand.push(*day_batch(kStart, {{"a", 1, 1}}), &out).ok());
    CHECK(demand.push(*day_batch(kStart, {{"a", 1, 1}}), &out).code() == Code::state);
    CHECK(demand.push(*day_batch(kStart + kDay / 2, {{"a", 1, 1}}), &out).code() == Code::state);
    CHECK(demand.push(*day_batch(kStart + kDay + kDay / 2, {{"a", 1, 1}}), &out).code() == Code::state);
    CHECK(demand.push(*day_batch(kStart + kDay, {}), &out).ok() && out->rows == 0);
    CHECK(demand.push(*day_batch(kStart + kDay, {{"a", 1, 1}, {"a", 1, 1}}), &out).code() == Code::state);
    CHECK(demand.push(*day_batch(kStart + 2 * kDay, {{"a", 1, 1}}, Type::decimal), &out).code() ==
          Code::schema);

    Demand broad(spec(4), {Type::dictionary, Type::int64}, Type::int64);
    const std::int64_t most = std::numeric_limits<std::int64_t>::max();
    CHECK(broad.push(*day_batch(kStart, {{"a", 1, most}}), &out).ok());
    CHECK(broad.push(*day_batch(kStart + kDay, {{"a", 1, 1}}), &out).code() == Code::state);

    CHECK(Demand(spec(0), {Type::dictionary, Type::int64}, Type::int64).validate().code() == Code::schema);
    CHECK(Demand(spec(4), {Type::dictionary, Type::float64}, Type::int64).validate().code() == Code::schema);
    CHECK(Demand(spec(4), {Type::dictionary, Type::int64}, Type::float64).validate().code() == Code::schema);
    Demand shorter(spec(3), {Type::dictionary, Type::int64}, Type::int64);
    CHECK(shorter.restore(*demand.snapshot()).code() == Code::state);
}

// The model keeps all demands of a key since its first day, and forgets by looking at every one of the last
// days.
void test_model(unsigned seed, int keys, std::int32_t horizon, int days) {
    std::mt19937_64 random(seed);
    auto demand = std::make_unique<Demand>(spec(horizon), std::vector<Type>{Type::dictionary, Type::int64},
                                           Type::int64);
    struct History {
        std::int64_t first;
        std::map<std::int64_t, std::int64_t> demands;
    };
    std::map<std::pair<std::string, std::int64_t>, History> model;
    std::int64_t day = 0;
    for (int step = 0; step < days; ++step) {
        day += random() % 5 == 0 ? static_cast<std::int64_t>(random() % 4) + 1 : 1;
        const auto forget = [&](std::int64_t as_of) {
            for (auto at = model.begin(); at != model.end();) {
                bool any = false;
                for (std::int64_t d = as_of - horizon + 1; d <= as_of; ++d)
                    any |= at->second.demands.count(d) != 0 && at->second.demands[d] != 0;
                at = any ? std::next(at) : model.erase(at);
            }
        };
        forget(day - 1);
        std::vector<Row> rows;
        std::string expected;
        for (int key = 0; key < keys; ++key) {
            // Keys fall silent for long, so that many are forgotten and come back.
            if (random() % 7 != 0 || (day / 9 + key) % 3 == 0) continue;
            const std::string sku = "sku" + std::to_string(key % 10);
            const Row row{sku, key / 10 - 3, static_cast<std::int64_t>(random() % 6) - 1};
            rows.push_back(row);
            model.try_emplace({row.sku, row.store}, History{day, {}}).first->second.demands[day] = row.demand;
        }
        const auto statistics = [&](const std::string& sku, std::int64_t store, History& history) {
            const std::int64_t n = std::min<std::int64_t>(horizon, day - history.first + 1);
            std::int64_t sum = 0, squares = 0;
            for (std::int64_t d = day - n + 1; d <= day; ++d) {
                const std::int64_t value = history.demands.count(d) != 0 ? history.demands[d] : 0;
                sum += value;
                squares += value * value;
            }
            const double mean = static_cast<double>(sum) / static_cast<double>(n);
            const double std_dev =
                n < 2 ? 0
                      : static_cast<double>(std::sqrt(static_cast<long double>(n * squares - sum * sum) /
                                                      static_cast<long double>(n * (n - 1))));
            char line[256];
            std::snprintf(line, sizeof line, "%lld %s %lld %lld %lld %.17g %.17g %.17g \n",
                          static_cast<long long>(day * kDay), sku.c_str(), static_cast<long long>(store),
                          static_cast<long long>(n),
                          static_cast<long long>(history.demands.count(day) != 0 ? history.demands[day] : 0),
                          mean, std_dev, 2.0 * std_dev * 2.0);
            return std::string(line);
        };
        if (rows.empty()) continue;
        for (const Row& row : rows)
            expected += statistics(row.sku, row.store, model.at({row.sku, row.store}));
        std::shared_ptr<Batch> out;
        CHECK(demand->push(*day_batch(day * kDay, rows), &out).ok());
        CHECK(text_of(*out) == expected);
        forget(day);
        CHECK(demand->keys() == static_cast<std::int64_t>(model.size()));
        if (step % 10 != 0) continue;
        std::string all;
        for (auto& [key, history] : model) all += statistics(key.first, key.second, history);
        CHECK(demand->current(&out).ok() && text_of(*out) == all);

        const std::shared_ptr<Batch> saved = demand->snapshot();
        auto restored = std::make_unique<Demand>(
            spec(horizon), std::vector<Type>{Type::dictionary, Type::int64}, Type::int64);
        CHECK(restored->restore(*saved).ok());
        CHECK(text_of(*restored->snapshot()) == text_of(*saved));
        demand = std::move(restored);
    }
}

// Keys that come once and go do not stay in memory.
void test_forgotten_memory() {
    Demand demand(spec(3), {Type::string, Type::int64}, Type::int64);
    std::shared_ptr<Batch> out;
    std::int64_t early = 0;
    for (int day = 0; day < 60; ++day) {
        std::vector<Row> rows;
        for (int i = 0; i < 2000; ++i) rows.push_back({"key-" + std::to_string(day * 2000 + i), i, 1});
        CHECK(demand.push(*day_batch(day * kDay, rows), &out).ok());
        CHECK(demand.keys() == 2000 * std::min(day + 1, 3));
        if (day == 20) early = demand.memory_bytes();
    }
    CHECK(demand.memory_bytes() < 2 * early);
    CHECK(demand.current(&out).ok() && out->rows == 6000);
    CHECK(real(*out, "mean", 0) > 0);
}

}  // namespace

int main() {
    test_by_hand();
    test_decimal_scale();
    test_refused();
    for (unsigned seed = 1; seed <= 6; ++seed)
        test_model(seed, 40, static_cast<std::int32_t>(seed * 3 - 2), 120);
    test_forgotten_memory();
    return report("demand");
}
