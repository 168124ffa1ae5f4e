// Any bytes, split into messages, must decode to the same result with every instruction set, and a decoder
// that has learnt the layouts of these very messages must agree with one that sees each for the first time
// (which only the careful reader of the portable build judges).
//
// The first byte of an input picks the schema (low three bits) and how the rest is fed (next two bits).
// Messages end at a line feed; free-standing messages, which may hold line feeds, at a record separator.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "../../cpp/tests/decoded.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace omnistream {
namespace {

// Keys are few and the same in all schemas, so that one seed means something to each.
Schema flat() {
    Schema schema;
    schema.fields = {field("id", Type::string, 0, true), field("type", Type::dictionary),
                     timestamp("time", kIso8601),        field("n", Type::int32),
                     field("qty", Type::int64, 0, true), field("price", Type::decimal),
                     field("rate", Type::float64),       field("ok", Type::boolean),
                     timestamp("at", kEpochMillis),      field("c.x", Type::int64),
                     field("c.name", Type::string),      field("c.d.y", Type::decimal)};
    return schema;
}

Schema strict_and_small() {
    Schema schema = flat();
    schema.strict_utf8 = true;
    schema.max_depth = 3;
    schema.max_message_bytes = 120;
    for (Field& column : schema.fields) {
        column.required = false;
        column.has_default = column.name != "price";
        column.default_integer = 1;
        column.default_float = 0.5;
        column.default_string = "default";
    }
    return schema;
}

Schema coerce() {
    Schema schema = flat();
    for (Field& column : schema.fields) column.coerce = true;
    schema.fields[2].timestamp_forms = kIso8601 | kIso8601Utc | kEpochSeconds;
    schema.fields[8].timestamp_forms = kIso8601 | kEpochMillis;
    return schema;
}

Schema exploded() {
    Schema schema;
    schema.explode = {{{"lines"}, "lines[]"}};
    schema.fields = {field("id", Type::string, 0, true), timestamp("time", kIso8601),
                     field("c.x", Type::int64),          field("sku", Type::dictionary, 1, true),
                     field("qty", Type::int64, 1),       field("price", Type::decimal, 1),
                     field("note", Type::string, 1),     field("c.name", Type::string, 1),
                     field("ok", Type::boolean, 1)};
    return schema;
}

Schema exploded_twice() {
    Schema schema;
    schema.explode = {{{"c", "lines"}, "c.lines[]"}, {{"items"}, "c.lines[].items[]"}};
    schema.fields = {field("id", Type::string),          field("c.name", Type::string),
                     field("type", Type::dictionary, 1), field("c.x", Type::int64, 1),
                     field("qty", Type::int64, 1),       field("sku", Type::dictionary, 2),
                     field("price", Type::decimal, 2),   field("note", Type::string, 2, true),
                     field("c.d.y", Type::float64, 2)};
    schema.fields[4].has_default = true;
    return schema;
}

Schema exploded_thrice() {
    Schema schema;
    schema.explode = {
        {{"lines"}, "lines[]"}, {{"c", "items"}, "lines[].c.items[]"}, {{"c"}, "lines[].c.items[].c[]"}};
    schema.fields = {field("id", Type::int32),
                     field("qty", Type::int64, 1),
                     field("note", Type::string, 1),
                     field("c.x", Type::int64, 1),
                     field("sku", Type::dictionary, 2),
                     field("n", Type::int32, 3),
                     field("rate", Type::float64, 3, true)};
    schema.max_message_bytes = 200;
    return schema;
}

Schema arrays_of_messages() {
    Schema schema = flat();
    schema.array_messages = true;
    schema.max_message_bytes = 120;
    return schema;
}

Schema arrays_of_orders() {
    Schema schema = exploded();
    schema.array_messages = true;
    schema.strict_utf8 = true;
    for (Field& column : schema.fields) column.coerce = true;
    return schema;
}

Schema schema_of(unsigned pick) {
    constexpr Schema (*kSchemas[])() = {flat,
                                        strict_and_small,
                                        coerce,
                                        exploded,
                                        exploded_twice,
                                        exploded_thrice,
                                        arrays_of_messages,
                                        arrays_of_orders};
    return kSchemas[pick % std::size(kSchemas)]();
}

enum class Feed : std::uint8_t { lines, messages, both, later_lines };  // later: not at a file's begin

struct Piece {
    std::string_view text;
    std::int32_t ordinal;
};

// NDJSON, cut the slow way.
std::vector<Piece> cut_lines(std::string_view block, std::int64_t first_position) {
    if (first_position == 1 && block.substr(0, 3) == "\xef\xbb\xbf") block.remove_prefix(3);
    std::vector<Piece> out;
    for (std::int32_t ordinal = 0; !block.empty(); ++ordinal) {
        const std::size_t feed = block.find('\n');
        std::string_view line = block.substr(0, feed);
        block.remove_prefix(feed == std::string_view::npos ? block.size() : feed + 1);
        if (feed != std::string_view::npos && !line.empty() && line.back() == '\r') line.remove_suffix(1);
        if (line.find_first_not_of(" \t\r") != std::string_view::npos) out.push_back({line, ordinal});
    }
    return out;
}

std::vector<Piece> cut_messages(std::string_view block) {
    std::vector<Piece> out;
    for (std::int32_t ordinal = 0;; ++ordinal) {
        const std::size_t cut = block.find('\x1e');
        out.push_back({block.substr(0, cut), ordinal});
        if (cut == std::string_view::npos) return out;
        block.remove_prefix(cut + 1);
    }
}

void decode_messages(Decoder& decoder, const std::vector<Piece>& pieces, Outcome* out) {
    std::vector<std::string_view> texts;
    std::vector<std::int32_t> ordinals;
    for (const Piece& piece : pieces) {
        texts.push_back(piece.text);
        ordinals.push_back(piece.ordinal);
    }
    decode_messages(decoder, texts, ordinals, out);
}

void fail(const std::string& what, const std::string& difference) {
    std::fprintf(stderr, "%s: %s\n", what.c_str(), difference.c_str());
    std::abort();
}

void check(std::string_view input) {
    const auto pick = static_cast<unsigned char>(input[0]);
    const Schema schema = schema_of(pick);
    const auto feed = static_cast<Feed>(pick / 8 % 4);
    const std::string_view block = input.substr(1);
    const std::int64_t first_position = feed == Feed::later_lines ? 1'000 : 1;
    const bool as_lines = feed != Feed::messages;
    const bool as_messages = feed == Feed::messages || feed == Feed::both;

    const std::vector<Piece> lines = cut_lines(block, first_position);
    const std::vector<Piece> messages = cut_messages(block);
    constexpr std::size_t kMostMessages = 32;  // the reference makes a decoder for each
    if (lines.size() > kMostMessages || messages.size() > kMostMessages) return;

    (void)force_decode_isa("portable");
    Outcome expected;
    expected.columns.resize(schema.fields.size());
    const Dictionaries dictionaries = dictionaries_of(schema);
    const auto afresh = [&](const std::vector<Piece>& pieces) {
        for (const Piece& piece : pieces) {
            Decoder decoder(schema, dictionaries);
            decode_messages(decoder, {piece}, &expected);
        }
    };
    if (as_lines) afresh(lines);
    if (as_messages) afresh(messages);

    for (const std::string& isa : decode_isas()) {
        (void)force_decode_isa(isa);
        Decoder decoder(schema, dictionaries_of(schema));
        constexpr int kRounds = 3;  // the first two teach
        for (int round = 0; round < kRounds; ++round) {
            Outcome learnt;
            if (as_lines) decode_lines(decoder, block, first_position, &learnt);
            if (as_messages) decode_messages(decoder, messages, &learnt);
            if (const std::string difference = expected.difference(learnt); !difference.empty())
                fail(isa + " in round " + std::to_string(round), difference);
        }
    }
}

// ---- mutation ----

// Messages that repeat with a small change are what the fast path is about, and what a mutator of bytes
// seldom makes: copy a piece of a message over a piece elsewhere, pieces being what stands between JSON's
// punctuation.
std::size_t splice(std::uint8_t* data, std::size_t size, std::size_t max_size, unsigned seed) {
    std::minstd_rand random(seed);
    std::vector<std::size_t> cuts{1};
    const bool whole = random() % 3 == 0;  // messages
    for (std::size_t i = 1; i < size; ++i)
        if (std::string_view(whole ? "\n\x1e" : "{}[],\n\x1e").find(static_cast<char>(data[i])) !=
            std::string_view::npos)
            cuts.push_back(i);
    cuts.push_back(size);
    const auto any = [&] { return cuts[random() % cuts.size()]; };
    const auto [from, to] = std::minmax({any(), any()});
    const auto [begin, end] =
        random() % 2 == 0 ? std::pair(any(), std::size_t{0}) : std::minmax({any(), any()});
    const std::string text(reinterpret_cast<char*>(data), size);
    std::string out =
        text.substr(0, begin) + text.substr(from, to - from) + text.substr(std::max(begin, end));
    out.resize(std::min(out.size(), max_size));
    std::memcpy(data, out.data(), out.size());
    return out.size();
}

}  // namespace
}  // namespace omnistream

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
    if (size > 1 && seed % 3 == 0) return omnistream::splice(data, size, max_size, seed / 3 + 1);
    return LLVMFuzzerMutate(data, size, max_size);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size != 0) omnistream::check({reinterpret_cast<const char*>(data), size});
    return 0;
}
