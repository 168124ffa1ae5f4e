// simdjson On-Demand on the work of workloads.py: every wanted field into columns, batch after batch.
//
//     simdjson_peer WORKLOAD ordered|unordered|iterate|plain|checking FILE
//
// It answers the lines of its standard input as worker.py describes. Written to be as fast as On-Demand
// allows: iterate_many over batches of 1 MiB into the columns of simdjson_columns.hpp. `plain` is the program
// that one writes first (simdjson_plain.hpp), `checking` reads what it skips, too. README.md lists what they
// leave out.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "simdjson.h"
#include "simdjson_answer.hpp"
#include "simdjson_shapes.hpp"

namespace peer {
namespace {

// Reads the whole input and hands over the columns after every batch.
template <class Shape, class Flush>
void decode(ondemand::parser& parser, const simdjson::padded_string& input, Shape& shape, Flush&& flush) {
    ondemand::document_stream documents = parser.iterate_many(input, kBatchBytes);
    std::size_t flushed_at = 0;
    for (auto document = documents.begin(); document != documents.end(); ++document) {
        if (document.current_index() - flushed_at >= kBatchBytes) {
            flush();
            flushed_at = document.current_index();
        }
        auto each = *document;
        shape.read(parser, each.get_object());
    }
    flush();
}

template <class Shape>
void clear(Shape& shape) {
    shape.each([](const char*, auto& column, bool) { column.clear(); });
    if constexpr (requires { shape.line_ends; }) shape.line_ends.clear();
}

// A row per line: what the message says is repeated for each.
template <class Shape>
void explode(Shape& shape) {
    shape.each([&](const char*, auto& column, bool level) {
        if constexpr (requires { column.finish(); }) column.finish();
        if constexpr (requires { shape.line_ends; })
            if (level == kMessage) column.repeat(shape.line_ends);
    });
}

// The rows of the batch added to the digests of its columns.
template <class Shape>
std::int64_t digest(Shape& shape, std::vector<std::pair<std::string, Digest>>* digests, std::size_t rows) {
    std::size_t at = 0;
    shape.each([&](const char* name, auto& column, bool) {
        if (at == digests->size()) digests->emplace_back(name, Digest{});
        Digest* out = &(*digests)[at++].second;
        for (std::size_t row = 0; row < rows; ++row) column.digest(row, out);
    });
    return static_cast<std::int64_t>(rows);
}

template <class Shape>
void answer(ondemand::parser& parser, const simdjson::padded_string& input) {
    Shape shape;
    std::vector<std::pair<std::string, Digest>> digests;
    std::int64_t rows = 0;
    decode(parser, input, shape, [&] {
        explode(shape);
        rows += digest(shape, &digests, shape.quantity.rows());
        clear(shape);
    });
    std::printf("{\"rows\": %lld, \"columns\": {", static_cast<long long>(rows));
    for (std::size_t i = 0; i < digests.size(); ++i) {
        const auto& [name, digest] = digests[i];
        std::printf("%s\"%s\": [%lld, %u", i == 0 ? "" : ", ", name.c_str(),
                    static_cast<long long>(digest.nulls), digest.values.value());
        if (digest.strings) std::printf(", %u", digest.lengths.value());
        std::printf("]");
    }
    std::printf("}}\n");
}

template <class Shape>
int serve(const char* path) {
    ondemand::parser parser;
    const simdjson::padded_string input = simdjson::padded_string::load(path);
    Shape shape;  // dictionaries live on from round to round, as ours do
    std::printf("{\"version\": \"%s (%s)\"}\n", SIMDJSON_VERSION,
                simdjson::builtin_implementation()->name().c_str());
    std::fflush(stdout);
    char request[16];
    while (std::fgets(request, sizeof request, stdin) != nullptr) {
        if (std::strcmp(request, "answer\n") == 0) {
            answer<Shape>(parser, input);
        } else {
            const auto begin = std::chrono::steady_clock::now();
            decode(parser, input, shape, [&] {
                explode(shape);
                asm volatile("" : : "r"(&shape) : "memory");  // as if somebody read the columns
                clear(shape);
            });
            const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
            std::printf("{\"seconds\": %.9f}\n", seconds.count());
        }
        std::fflush(stdout);
    }
    return 0;
}

int serve_workload(const std::string& workload, const std::string& way, const char* path) {
    if (workload == "flat" || workload == "mixed" || workload == "shuffled") {
        if (way == "unordered") return serve<Flat<FastColumns, Find::unordered>>(path);
        if (way == "iterate") return serve<Flat<FastColumns, Find::iterate>>(path);
        if (way == "plain") return serve<Flat<PlainColumns, Find::ordered>>(path);
        return serve<Flat<FastColumns, Find::ordered>>(path);
    }
    if (workload == "flat_dictionary") return serve<Flat<CodedColumns, Find::ordered>>(path);
    if (workload == "nested" && way == "plain") return serve<Nested<PlainColumns>>(path);
    if (workload == "nested" || workload == "pretty") return serve<Nested<FastColumns>>(path);
    if (workload == "nested_dictionary") return serve<Nested<CodedColumns>>(path);
    if (workload == "wide" && way == "checking") return serve<CheckedWide>(path);
    if (workload == "wide") return serve<Wide>(path);
    if (workload == "shopify") return serve<Shopify>(path);
    std::fprintf(stderr, "unknown workload %s\n", workload.c_str());
    return 2;
}

}  // namespace
}  // namespace peer

int main(int count, char** arguments) {
    if (count == 4) return peer::serve_workload(arguments[1], arguments[2], arguments[3]);
    std::fprintf(stderr, "usage: simdjson_peer WORKLOAD ordered|unordered|iterate|plain|checking FILE\n");
    return 2;
}
