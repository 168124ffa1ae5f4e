#include <algorithm>
#include <numeric>
#include <string>
#include <string_view>

#include "check.hpp"
#include "omnistream/generate.hpp"

using namespace omnistream;

namespace {

GenerateSpec busy(bool nested) {
    GenerateSpec spec;
    spec.events = 20'000;
    spec.nested = nested;
    spec.span_ms = 20 * 86'400'000LL;
    spec.styles = 50;
    spec.dirt = 0.05;
    spec.duplicates = 0.05;
    spec.below_cost = 0.02;
    return spec;
}

std::string all(const GenerateSpec& spec, std::size_t chunk, GenerateCounts* counts = nullptr) {
    Generator generator(spec);
    Array<char> out;
    std::string text;
    while (generator.next(chunk, &out)) text.append(out.data(), out.size());
    CHECK(out.empty());
    if (counts != nullptr) *counts = generator.counts();
    return text;
}

std::uint64_t fnv1a(std::string_view text) {
    std::uint64_t hash = 0xcbf29ce484222325;
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    return hash;
}

void test_chunks_and_seeds() {
    for (const bool nested : {false, true}) {
        const GenerateSpec spec = busy(nested);
        const std::string text = all(spec, 1 << 20);
        CHECK(text == all(spec, 1));
        CHECK(text == all(spec, 777));
        GenerateSpec other = spec;
        ++other.seed;
        CHECK(text != all(other, 1 << 20));
    }
}

// A spec stands for its bytes: recorded figures and fixtures rely on it. A change here is a change of the
// model.
void test_bytes_are_pinned() {
    CHECK(fnv1a(all(busy(false), 1 << 20)) == 0x769a9272056296dc);
    CHECK(fnv1a(all(busy(true), 1 << 20)) == 0x919b7342f9a3a82b);
}

void test_counts() {
    for (const bool nested : {false, true}) {
        GenerateCounts counts;
        const std::string text = all(busy(nested), 1 << 16, &counts);
        CHECK(counts.events == 20'000);
        CHECK(std::count(text.begin(), text.end(), '\n') == counts.events);
        const auto sent =
            std::accumulate(std::begin(counts.by_type), std::end(counts.by_type), std::int64_t{0});
        const auto broken =
            std::accumulate(std::begin(counts.broken), std::end(counts.broken), std::int64_t{0});
        CHECK(sent + broken == counts.events);
        for (const std::int64_t count : counts.by_type) CHECK(count > 0);
        for (const std::int64_t count : counts.broken) CHECK(count > 0);
        CHECK(broken > 800 && broken < 1200);
        CHECK(counts.duplicates > 750 && counts.duplicates < 1150);
        CHECK(nested ? counts.lines > sent : counts.lines == sent);
        CHECK(counts.below_cost_lines > counts.lines / 100 && counts.below_cost_lines < counts.lines / 33);
    }
}

void test_edges() {
    GenerateSpec spec;
    spec.events = 0;
    CHECK(all(spec, 1 << 20).empty());
    spec.events = 5;
    spec.styles = spec.stores = spec.customers = 1;
    spec.span_ms = 1;
    spec.max_disorder_ms = 0;
    spec.duplicates = spec.return_rate = 1;
    spec.zipf_exponent = 0;
    GenerateCounts counts;
    const std::string text = all(spec, 1 << 20, &counts);
    CHECK(counts.events == 5 && counts.duplicates == 2);
    // With no room for disorder a repeat follows at once.
    const std::size_t first = text.find('\n') + 1;
    CHECK(text.substr(0, first) == text.substr(first, first));
    spec.cancel_rate = 1;
    spec.dirt = 1;
    spec.events = 2'000;
    all(spec, 1 << 20, &counts);
    CHECK(counts.duplicates == 0 && counts.lines == 0);
    // Few events in a long span, and many in a short one.
    spec = GenerateSpec{};
    spec.events = 3;
    spec.span_ms = 365 * 86'400'000LL;
    all(spec, 1, &counts);
    CHECK(counts.events == 3);
    spec.events = 50'000;
    spec.span_ms = 1;
    all(spec, 1 << 20, &counts);
    CHECK(counts.events == 50'000);
}

}  // namespace

int main() {
    test_chunks_and_seeds();
    test_bytes_are_pinned();
    test_counts();
    test_edges();
    return report("generate");
}
