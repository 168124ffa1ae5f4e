// What becomes of each row: it is kept and meets a watermark, or is refused, or has been there before.
#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "batches.hpp"

using namespace omnistream;

namespace {

bool mentions(const Status& status, std::initializer_list<const char*> words) {
    if (status.code() != Code::schema) return false;
    for (const char* word : words)
        if (status.message().find(word) == std::string::npos) return false;
    return true;
}

void batches_that_do_not_fit() {
    const auto batch =
        timed({strings("name", {"a"}), integers("n", Type::int64, {1}), integers("price", Type::decimal, {1}),
               floats("weight", {1.0}), codes("sku", std::make_shared<Dictionary>(), {"a"})});
    const auto refusal = [&](Rule one) {
        one.reason = "my_reason";
        Cleaned out;
        return cleaner({std::move(one)}).clean(batch, 0, {}, &out);
    };
    CHECK(mentions(refusal(range("gone", 0, 1)), {"\"my_reason\"", "range", "\"gone\""}));
    CHECK(mentions(refusal(range("name", 0, 1)), {"\"my_reason\"", "\"name\"", "string"}));
    CHECK(mentions(refusal(range("sku", 0, 1)), {"\"sku\"", "dictionary"}));
    CHECK(mentions(refusal(less_than("n", "gone")), {"less_than", "\"gone\""}));
    CHECK(mentions(refusal(less_than("n", "price")), {"\"n\"", "int64", "\"price\"", "decimal"}));
    CHECK(mentions(refusal(less_than("name", "name")), {"\"name\"", "string"}));
    CHECK(mentions(refusal(rule(RuleKind::ahead, "n")), {"ahead", "\"n\"", "int64"}));
    CHECK(mentions(refusal(rule(RuleKind::behind, "weight")), {"behind", "\"weight\"", "float64"}));
    CHECK(mentions(refusal(allowed("n", {"1"})), {"allowed", "\"n\"", "int64"}));
    CHECK(mentions(refusal(rule(RuleKind::required, "gone")), {"required", "\"gone\""}));

    Cleaned out;
    CHECK(mentions(cleaner({}).clean(batch_of({integers("n", Type::int64, {1})}), 0, {}, &out),
                   {"\"event_time\""}));
    CHECK(mentions(cleaner({}).clean(batch_of({integers("event_time", Type::int64, {1})}), 0, {}, &out),
                   {"\"event_time\""}));
    for (const char* column : {"gone", "weight"}) {
        auto filter = std::make_shared<DuplicateFilter>(std::vector<std::string>{"name", column}, 1'000);
        CHECK(mentions(cleaner({}, 0, filter).clean(batch, 0, {}, &out), {column}));
        CHECK(filter->size() == 0);
    }
    CHECK(mentions(cleaner({}, 0, std::make_shared<DuplicateFilter>(std::vector<std::string>{}, 1'000))
                       .clean(batch, 0, {}, &out),
                   {"no column"}));
    CHECK(cleaner(std::vector<Rule>(70'000, range("n", 0, 1))).clean(batch, 0, {}, &out).code() ==
          Code::argument);
}

void null_event_times() {
    const auto batch = batch_of({times({5, {}, 7})});
    auto watermark = std::make_shared<Watermark>(0);
    Cleaned out;
    CHECK(mentions(Cleaner({}, "event_time", watermark, nullptr).clean(batch, 0, {}, &out),
                   {"\"event_time\"", "null", "row 1"}));
    CHECK(watermark->value() == Watermark::kNone);
    Cleaner guarded({rule(RuleKind::required, "event_time")}, "event_time", watermark, nullptr);
    CHECK(guarded.clean(batch, 0, {}, &out).ok());
    CHECK(out.batch->row_numbers() == Rows({0, 2}));
    CHECK(watermark->value() == 7);
}

using Times = KeptVector<std::int64_t>;
constexpr std::int64_t kNone = Watermark::kNone;

void rows_meet_the_watermark_before_them() {
    auto watermark = std::make_shared<Watermark>(10);
    Cleaner one({range("n", 1, 9)}, "event_time", watermark, nullptr);
    Cleaned out;
    CHECK(one.clean(batch_of({times({100, 90, 500, 130, 120}), integers("n", Type::int64, {1, 1, 0, 1, 1})}),
                    0, {}, &out)
              .ok());
    CHECK(out.batch->row_numbers() == Rows({0, 1, 3, 4}));
    CHECK(out.batch->watermarks_ms() == Times({kNone, 90, 90, 120}));  // the rejected 500 has moved nothing
    CHECK(watermark->value() == 120);
    CHECK(watermark->max_event_time_ms() == 130);
    CHECK(one.clean(batch_of({times({125, 140}), integers("n", Type::int64, {1, 1})}), 0, {}, &out).ok());
    CHECK(out.batch->watermarks_ms() == Times({120, 120}));
    CHECK(watermark->value() == 130);
    CHECK(one.clean(batch_of({times({}), integers("n", Type::int64, {})}), 0, {}, &out).ok());
    CHECK(out.batch->row_numbers().empty());
    CHECK(out.counts.rows == 0);
    CHECK(watermark->value() == 130);
}

void duplicates_across_batches() {
    auto watermark = std::make_shared<Watermark>(0);
    auto filter = std::make_shared<DuplicateFilter>(std::vector<std::string>{"id"}, 100);
    Cleaner one({range("n", 1, 9)}, "event_time", watermark, filter);
    Cleaned out;
    // "b" fails a rule first, so it is not remembered; the duplicate at 900 moves nothing.
    CHECK(one.clean(batch_of({times({10, 20, 900, 30, 40}), strings("id", {"a", "b", "a", "b", {}}),
                              integers("n", Type::int64, {1, 0, 1, 1, 1})}),
                    0, {}, &out)
              .ok());
    CHECK(out.batch->row_numbers() == Rows({0, 3, 4}));
    CHECK(out.batch->watermarks_ms() == Times({kNone, 10, 30}));
    CHECK(out.counts.rejected == 1);
    CHECK(out.counts.duplicates == 1);
    CHECK(out.rejects.size() == 2);
    CHECK(out.rejects[0].message == 1 && out.rejects[0].reason == 0 && out.rejects[0].field == "n");
    CHECK(out.rejects[1].message == 2 && out.rejects[1].reason == 1 && out.rejects[1].field.empty());
    CHECK(one.clean(batch_of({times({50, 35}), strings("id", {"a", {}}), integers("n", Type::int64, {1, 1})}),
                    0, {}, &out)
              .ok());
    CHECK(out.batch->row_numbers().empty());
    CHECK(out.counts.duplicates == 2);  // null is a key like any other
    CHECK(watermark->value() == 40);
}

void duplicates_expire_within_a_batch() {
    auto filter = std::make_shared<DuplicateFilter>(std::vector<std::string>{"id"}, 100);
    Cleaner one = cleaner({}, 0, filter);
    Cleaned out;
    const auto batch =
        batch_of({times({10, 110, 60, 111, 60, 61}), strings("id", {"a", "b", "a", "c", "a", "a"})});
    CHECK(one.clean(batch, 0, {}, &out).ok());
    // Row 2 meets 110 = 10 + 100: a duplicate. Row 4 meets 111: accepted, and remembered until 160.
    CHECK(out.batch->row_numbers() == Rows({0, 1, 3, 4}));
    CHECK(out.counts.duplicates == 2);
}

// An amount that overflows is found before clean; what a rule rejects keeps the rule's reason.
void overflowed_rows() {
    auto filter = std::make_shared<DuplicateFilter>(std::vector<std::string>{"id"}, 1'000);
    Cleaner one = cleaner({range("n", 1, 9)}, 0, filter);
    Cleaned out;
    const auto batch = batch_of({times({10, 900, 20, 30, 40}), strings("id", {"a", "b", "c", "b", "a"}),
                                 integers("n", Type::int64, {1, 1, 0, 1, 1})});
    CHECK(one.clean(batch, 0, {1, 2}, &out).ok());
    CHECK(out.batch->row_numbers() == Rows({0, 3}));
    CHECK(out.batch->watermarks_ms() ==
          Times({kNone, 10}));  // 900 moved nothing, and its "b" was not remembered
    CHECK(out.counts.rejected == 2);
    CHECK(out.counts.duplicates == 1);
    CHECK(out.rejects.size() == 3);
    CHECK(out.rejects[0].message == 1 && out.rejects[0].reason == 2);
    CHECK(out.rejects[1].message == 2 && out.rejects[1].reason == 0);
    CHECK(out.rejects[2].message == 4 && out.rejects[2].reason == 1);
}

// Messages of several rows: 0 has rows 0 to 2, 1 has row 3, 2 has rows 4 and 5 and repeats 0.
void rows_of_a_message_share_its_fate() {
    const auto make = [](bool exploded) {
        auto batch = batch_of({times({10, 10, 10, 20, 30, 30}), strings("id", {"a", "a", "a", "b", "a", "a"}),
                               integers("n", Type::int64, {0, 1, 1, 1, 0, 1})});
        batch->row_message = {0, 0, 0, 1, 2, 2};
        batch->exploded = exploded;
        return batch;
    };
    for (const bool exploded : {true, false}) {
        auto filter = std::make_shared<DuplicateFilter>(std::vector<std::string>{"id"}, 1'000);
        Cleaner one = cleaner({range("n", 1, 9)}, 0, filter);
        Cleaned out;
        CHECK(one.clean(make(exploded), 0, {}, &out).ok());
        CHECK(out.batch->row_numbers() == Rows({1, 2, 3}));
        CHECK(out.batch->watermarks_ms() == Times({kNone, 10, 10}));
        CHECK(out.counts.rejected == 2);
        CHECK(out.counts.duplicates == 1);
        CHECK(out.rejects.size() == 3);
        const std::int32_t expected[3][3] = {{0, 0, 0}, {2, 0, 0}, {2, 1, 1}};  // message, line, reason
        for (std::size_t i = 0; i < 3; ++i) {
            CHECK(out.rejects[i].message == expected[i][0]);
            CHECK(out.rejects[i].line == (exploded ? expected[i][1] : -1));
            CHECK(out.rejects[i].reason == expected[i][2]);
        }
    }
}

// A message of more rows than are looked up together, before and after others.
void a_long_message() {
    auto filter = std::make_shared<DuplicateFilter>(std::vector<std::string>{"id"}, 1'000);
    Values<std::int64_t> at;
    Values<std::string> id;
    Rows messages;
    for (std::int32_t message = 0; message < 4; ++message)
        for (int row = 0; row < (message == 1 ? 100 : 1); ++row) {
            at.emplace_back(message);
            id.emplace_back(message == 3 ? "1" : std::to_string(message));
            messages.push_back(message);
        }
    auto batch = batch_of({times(at), strings("id", id)});
    batch->row_message = messages;
    Cleaner one = cleaner({}, 0, filter);
    Cleaned out;
    CHECK(one.clean(batch, 0, {}, &out).ok());
    CHECK(out.batch->row_numbers().size() == 102);
    CHECK(out.batch->watermarks_ms().back() == 1);
    CHECK(out.counts.duplicates == 1);
    CHECK(filter->size() == 3);
}

std::int64_t distinct_keys(std::vector<Column> columns, std::vector<std::string> key) {
    auto filter = std::make_shared<DuplicateFilter>(std::move(key), 1'000'000);
    Cleaned out;
    CHECK(cleaner({}, 1'000'000, filter).clean(timed(std::move(columns)), 0, {}, &out).ok());
    CHECK(filter->size() == static_cast<std::int64_t>(out.batch->row_numbers().size()));
    return filter->size();
}

void keys_of_each_type() {
    for (const Type type : kIntegers)
        CHECK(distinct_keys({integers("k", type, {0, {}, -99, 1, 0, {}, -99})}, {"k"}) == 4);
    CHECK(distinct_keys({integers("k", Type::boolean, {0, {}, 1, 0, {}, 1})}, {"k"}) == 3);
    const Values<std::string> texts = {"", {}, "a", std::string(1, '\0'), "a", {}, ""};
    CHECK(distinct_keys({strings("k", texts)}, {"k"}) == 4);
    CHECK(distinct_keys({codes("k", std::make_shared<Dictionary>(), texts)}, {"k"}) == 4);
    // The same text either way, null apart from empty, and no two pairs that run together alike.
    CHECK(distinct_keys({strings("k", {"ab", "a", {}, "", "ab"}), strings("l", {"c", "bc", "", {}, "c"})},
                        {"k", "l"}) == 4);
    CHECK(distinct_keys({strings("k", {"a", "a", "a", "b"}), integers("n", Type::int32, {1, 2, {}, 1})},
                        {"n", "k"}) == 4);
    // A dictionary column is known by its strings, whatever codes they have.
    auto filter = std::make_shared<DuplicateFilter>(std::vector<std::string>{"k"}, 1'000);
    Cleaner one = cleaner({}, 1'000, filter);
    Cleaned out;
    CHECK(one.clean(timed({codes("k", std::make_shared<Dictionary>(), {"a", "b"})}), 0, {}, &out).ok());
    CHECK(one.clean(timed({codes("k", std::make_shared<Dictionary>(), {"b", "a"})}), 0, {}, &out).ok());
    CHECK(out.counts.duplicates == 2);
    CHECK(one.clean(timed({strings("k", {"c", "b"})}), 0, {}, &out).ok());
    CHECK(out.counts.duplicates == 1);
}

// One stream cut into batches in many ways: always the rows, watermarks and rejects that the rules, said row
// by row, give.
void any_batches_give_the_same() {
    struct Row {
        std::int64_t time, n, price, cost;
        bool no_price;
        std::string id, channel;
        std::int32_t partition;
    };
    constexpr std::int64_t kWithin = 400;
    constexpr std::int64_t kDisorder = 50;
    std::mt19937_64 random(17);
    std::vector<Row> stream;
    for (int i = 0; i < 4'000; ++i) {
        Row row;
        row.time = i * 2 + static_cast<std::int64_t>(random() % 60);
        row.n = static_cast<std::int64_t>(random() % 10);
        row.price = static_cast<std::int64_t>(random() % 100);
        row.cost = static_cast<std::int64_t>(random() % 30);
        row.no_price = random() % 20 == 0;
        row.id = (random() % 2 == 0 ? "0123456789abcdef-" : "") + std::to_string(i / 2 + random() % 300);
        row.channel = random() % 15 == 0 ? "phone" : random() % 2 == 0 ? "web" : "store";
        row.partition = i / 100 % 3;
        stream.push_back(row);
    }

    std::vector<std::string> expected;
    std::unordered_map<std::string, std::int64_t> seen;
    std::int64_t newest[3] = {kNone, kNone, kNone};
    std::int64_t watermark = kNone;
    std::set<std::string> kinds;
    for (const Row& row : stream) {
        std::string verdict;
        const auto found = seen.find(row.id);
        if (row.n < 1) {
            verdict = "rejected 0";
        } else if (!row.no_price && row.price < row.cost) {
            verdict = "rejected 1";
        } else if (row.channel == "phone") {
            verdict = "rejected 2";
        } else if (found != seen.end() && watermark <= found->second + kWithin) {
            verdict = "rejected 3";
        } else {
            verdict = "met " + std::to_string(watermark);
            seen[row.id] = row.time;
            newest[row.partition] = std::max(newest[row.partition], row.time);
            std::int64_t least = Watermark::kEnd;
            for (const std::int64_t each : newest)
                if (each != kNone) least = std::min(least, each);
            watermark = std::max(watermark, least - kDisorder);
        }
        expected.push_back(verdict);
        kinds.insert(verdict.substr(0, verdict[0] == 'm' ? 3 : verdict.size()));
    }
    CHECK(kinds.size() == 5);

    for (const std::size_t longest : {1, 7, 33, 1'000}) {
        auto dictionary = std::make_shared<Dictionary>();
        auto mark = std::make_shared<Watermark>(kDisorder);
        auto filter = std::make_shared<DuplicateFilter>(std::vector<std::string>{"id"}, kWithin);
        Cleaner one({range("n", 1, 100), less_than("price", "cost"), allowed("channel", {"web", "store"})},
                    "event_time", mark, filter);
        std::vector<std::string> got;
        for (std::size_t begin = 0; begin < stream.size();) {
            std::size_t end = begin + 1 + random() % longest;
            end = std::min(end, stream.size());
            Values<std::int64_t> at, n, price, cost;
            Values<std::string> id, channel;
            for (std::size_t i = begin; i < end; ++i) {
                if (stream[i].partition != stream[begin].partition) {
                    end = i;
                    break;
                }
                at.emplace_back(stream[i].time);
                n.emplace_back(stream[i].n);
                price.push_back(stream[i].no_price ? std::nullopt : std::optional(stream[i].price));
                cost.emplace_back(stream[i].cost);
                id.emplace_back(stream[i].id);
                channel.emplace_back(stream[i].channel);
            }
            const auto batch =
                batch_of({times(at), integers("n", Type::int32, n), integers("price", Type::decimal, price),
                          integers("cost", Type::decimal, cost), strings("id", id),
                          codes("channel", dictionary, channel)},
                         "s", stream[begin].partition);
            Cleaned out;
            CHECK(one.clean(batch, 0, {}, &out).ok());
            std::vector<std::string> verdicts(end - begin);
            for (std::size_t i = 0; i < out.batch->row_numbers().size(); ++i)
                verdicts[out.batch->row_numbers()[i]] =
                    "met " + std::to_string(out.batch->watermarks_ms()[i]);
            for (const Reject& reject : out.rejects)
                verdicts[reject.message] = "rejected " + std::to_string(reject.reason);
            CHECK(out.counts.rows == static_cast<std::int64_t>(out.batch->row_numbers().size()) +
                                         out.counts.rejected + out.counts.duplicates);
            got.insert(got.end(), verdicts.begin(), verdicts.end());
            if (random() % 8 == 0) {  // a restart changes nothing
                auto restarted = std::make_shared<DuplicateFilter>(std::vector<std::string>{"id"}, kWithin);
                CHECK(restarted->restore(filter->snapshot()).ok());
                filter = restarted;
                auto same = std::make_shared<Watermark>(kDisorder);
                same->restore(mark->partitions(), mark->value(), mark->max_event_time_ms());
                mark = same;
                one = Cleaner(one.rules(), "event_time", mark, filter);
            }
            begin = end;
        }
        CHECK(got == expected);
        CHECK(mark->value() == watermark);
        CHECK(filter->size() < 1'000);
    }
}

}  // namespace

int main() {
    batches_that_do_not_fit();
    null_event_times();
    rows_meet_the_watermark_before_them();
    duplicates_across_batches();
    duplicates_expire_within_a_batch();
    overflowed_rows();
    rows_of_a_message_share_its_fate();
    a_long_message();
    keys_of_each_type();
    any_batches_give_the_same();
    return report("clean");
}
