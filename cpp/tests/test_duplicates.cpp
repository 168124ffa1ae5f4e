#include <algorithm>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "check.hpp"
#include "omnistream/duplicates.hpp"
#include "omnistream/watermark.hpp"

using namespace omnistream;

namespace {

constexpr std::int64_t kMin = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();

void the_bound_is_included() {
    DuplicateFilter filter({"event_id"}, 1'000);
    CHECK(!filter.seen("a", 5'000, Watermark::kNone));
    CHECK(filter.seen("a", 5'000, Watermark::kNone));
    CHECK(filter.seen("a", 5'000, 6'000));   // the watermark has reached the bound, not passed it
    CHECK(filter.seen("a", 90'000, 6'000));  // a duplicate whatever its own time is
    filter.expire(6'000);
    CHECK(filter.seen("a", 5'000, 6'000));
    CHECK(!filter.seen("a", 7'000, 6'001));  // forgotten, and remembered again at its new time
    CHECK(filter.seen("a", 7'000, 8'000));
    CHECK(!filter.seen("a", 8'500, 8'001));
    CHECK(!filter.seen("b", 7'000, 8'001));  // passed already: nothing to remember
    CHECK(!filter.seen("b", 7'000, 8'001));
    CHECK(filter.size() == 1);
    CHECK(filter.seen("a", 8'500, 8'000));  // the watermark never moves back
    CHECK(filter.snapshot().rows == 1);
}

void keys_are_bytes() {
    DuplicateFilter filter({"event_id"}, 1'000);
    std::vector<std::string> keys;
    for (std::size_t size = 0; size <= 40; ++size) {
        keys.emplace_back(size, '\0');
        if (size > 0) keys.emplace_back(size, 'k');
    }
    for (const std::string& key : keys) CHECK(!filter.seen(key, 0, 0));
    for (const std::string& key : keys) CHECK(filter.seen(key, 0, 0));
    CHECK(filter.size() == static_cast<std::int64_t>(keys.size()));
}

// Two keys with one hash are still two keys.
void equal_hashes_are_not_equal_keys() {
    DuplicateFilter filter({"event_id"}, 1'000);
    CHECK(!filter.seen("first", 42, 0, 0, 0));
    CHECK(!filter.seen("second", 42, 0, 0, 0));
    CHECK(!filter.seen("firsts", 42, 0, 0, 0));
    CHECK(filter.seen("first", 42, 0, 0, 0));
    CHECK(filter.seen("second", 42, 0, 0, 0));
    CHECK(filter.size() == 3);
}

void extreme_times() {
    for (const std::int64_t within : {std::int64_t{0}, std::int64_t{1}, kMax}) {
        DuplicateFilter filter({"event_id"}, within);
        for (const std::int64_t time : {kMin, kMin + 1, std::int64_t{-1}, std::int64_t{0}, kMax - 1, kMax}) {
            const std::string key = std::to_string(time);
            CHECK(!filter.seen(key, time, Watermark::kNone));
            CHECK(filter.seen(key, time, Watermark::kNone));
        }
        CHECK(filter.size() == 6);
        filter.expire(Watermark::kNone);
        CHECK(filter.size() == 6);
        filter.expire(-1);
        CHECK(filter.seen("0", 0, -1));
        CHECK(filter.seen("-1", -1, -1));
        CHECK(filter.seen(std::to_string(kMin), kMin, -1) == (within == kMax));  // kMin + kMax is -1
    }
}

struct Oracle {
    std::unordered_map<std::string, std::int64_t> times;
    bool seen(const std::string& key, std::int64_t time, std::int64_t watermark, std::int64_t within) {
        const auto found = times.find(key);
        if (found != times.end() && watermark <= found->second + within) return true;
        times[key] = time;
        return false;
    }
};

bool same(const Batch& a, const Batch& b) {
    if (a.rows != b.rows) return false;
    for (std::int64_t row = 0; row < a.rows; ++row)
        if (a.columns[0].text(row) != b.columns[0].text(row) ||
            a.columns[1].lanes<std::int64_t>()[row] != b.columns[1].lanes<std::int64_t>()[row])
            return false;
    return true;
}

// A stream that moves on by about 40 bounds, with keys repeated soon, late and never. `expire` and a restart
// from a snapshot in the middle change no answer; memory does not follow the length.
void against_an_oracle() {
    constexpr std::int64_t kWithin = 20'000;
    std::mt19937_64 random(3);
    DuplicateFilter expired({"event_id"}, kWithin);
    DuplicateFilter kept({"event_id"}, kWithin);
    DuplicateFilter restarted({"event_id"}, kWithin);
    Oracle oracle;
    bool answers = true;
    bool snapshots = true;
    std::int64_t largest = 0;
    std::int64_t watermark = -400'000;
    for (int i = 0; i < 200'000; ++i) {
        watermark += static_cast<std::int64_t>(random() % 9);
        const std::int64_t time = watermark - 25'000 + static_cast<std::int64_t>(random() % 35'000);
        std::string key =
            std::to_string(random() % 3 == 0 ? static_cast<std::uint64_t>(i) : random() % 9'000);
        if (random() % 2 == 0) key += "-a tail that makes it long";
        const bool expected = oracle.seen(key, time, watermark, kWithin);
        answers = answers && expired.seen(key, time, watermark) == expected &&
                  kept.seen(key, time, watermark) == expected &&
                  restarted.seen(key, time, watermark) == expected;
        if (i % 1'000 == 999) {
            expired.expire(watermark);
            snapshots = snapshots && same(expired.snapshot(), kept.snapshot());
            largest = std::max(largest, expired.size());
        }
        if (i % 30'000 == 29'999) {
            const Batch snapshot = restarted.snapshot();
            snapshots = snapshots && restarted.restore(snapshot).ok() && same(restarted.snapshot(), snapshot);
        }
    }
    CHECK(answers);
    CHECK(snapshots);
    CHECK(largest < 20'000);
    CHECK(kept.size() > 60'000);
    CHECK(expired.memory_bytes() < kept.memory_bytes());
    expired.expire(Watermark::kEnd);
    CHECK(expired.size() == 0);
    CHECK(expired.snapshot().rows == 0);
}

void snapshot_is_ordered() {
    DuplicateFilter filter({"event_id"}, 1'000'000);
    std::mt19937_64 random(5);
    std::vector<std::pair<std::int64_t, std::string>> expected;
    for (int i = 0; i < 2'000; ++i) {
        const std::int64_t time = static_cast<std::int64_t>(random() % 400'000) - 200'000;
        expected.emplace_back(time / 1'000, "key " + std::to_string(i));
        filter.seen(expected.back().second, expected.back().first, 0);
    }
    std::sort(expected.begin(), expected.end());
    const Batch snapshot = filter.snapshot();
    CHECK(snapshot.origin != nullptr);
    CHECK(snapshot.find("key")->type == Type::binary);
    CHECK(snapshot.find("event_time_ms")->type == Type::int64);
    CHECK(snapshot.rows == 2'000);
    for (std::int64_t row = 0; row < snapshot.rows; ++row) {
        CHECK(snapshot.columns[0].text(row) == expected[row].second);
        CHECK(snapshot.columns[1].lanes<std::int64_t>()[row] == expected[row].first);
    }
}

void refused_restores() {
    DuplicateFilter filter({"event_id"}, 1'000);
    filter.seen("a", 1, 0);
    filter.seen("b", 2, 0);
    Batch snapshot = filter.snapshot();
    CHECK(filter.restore(snapshot).ok());
    CHECK(filter.size() == 2);
    CHECK(filter.seen("a", 1, 0));

    Batch nameless = snapshot;
    nameless.columns[0].name = "keys";
    CHECK(filter.restore(nameless).code() == Code::state);
    Batch mistyped = snapshot;
    mistyped.columns[1].type = Type::timestamp_ms;
    CHECK(filter.restore(mistyped).code() == Code::state);
    CHECK(filter.size() == 2);  // refused before anything was forgotten

    static const std::uint8_t first_only = 1;
    Batch with_null = snapshot;
    with_null.columns[0].validity = Buffer{nullptr, &first_only, 1};
    CHECK(filter.restore(with_null).code() == Code::state);
    Batch repeated = snapshot;
    static const char bytes[] = "aa";
    repeated.columns[0].values = Buffer{nullptr, reinterpret_cast<const std::uint8_t*>(bytes), 2};
    CHECK(filter.restore(repeated).code() == Code::state);
}

}  // namespace

int main() {
    the_bound_is_included();
    keys_are_bytes();
    equal_hashes_are_not_equal_keys();
    extreme_times();
    against_an_oracle();
    snapshot_is_ordered();
    refused_restores();
    return report("duplicates");
}
