// Schemas, messages and what decoding them by any way must give, in short, for the tests of decode.
#pragma once

#include <cstdio>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "check.hpp"
#include "decoded.hpp"

namespace omnistream {

using Texts = std::vector<std::string_view>;

inline void same(const Outcome& expected, const Outcome& found, const std::string& what) {
    const std::string difference = expected.difference(found);
    if (!difference.empty()) std::fprintf(stderr, "%s: %s\n", what.c_str(), difference.c_str());
    CHECK(difference.empty());
}

inline Outcome messages(Decoder& decoder, const Texts& texts) {
    std::vector<std::int32_t> ordinals;
    for (std::size_t i = 0; i < texts.size(); ++i) ordinals.push_back(static_cast<std::int32_t>(i));
    Outcome out;
    decode_messages(decoder, texts, ordinals, &out);
    return out;
}
inline Outcome messages(const Schema& schema, const Texts& texts) {
    Decoder decoder(schema, dictionaries_of(schema));
    return messages(decoder, texts);
}
inline Outcome lines(Decoder& decoder, std::string_view block, std::int64_t first_position = 1) {
    Outcome out;
    decode_lines(decoder, block, first_position, &out);
    return out;
}
inline Outcome lines(const Schema& schema, std::string_view block, std::int64_t first_position = 1) {
    Decoder decoder(schema, dictionaries_of(schema));
    return lines(decoder, block, first_position);
}

// Each message by a decoder that has learnt nothing: the careful reader alone.
inline Outcome carefully(const Schema& schema, const Texts& texts) {
    const Dictionaries dictionaries = dictionaries_of(schema);
    Outcome out;
    for (std::size_t i = 0; i < texts.size(); ++i) {
        Decoder decoder(schema, dictionaries);
        decode_messages(decoder, {texts[i]}, {static_cast<std::int32_t>(i)}, &out);
    }
    CHECK(out.counts.speculated == 0);
    return out;
}

inline std::string joined(const Texts& texts, std::string_view end = "\n") {
    std::string out;
    for (const std::string_view text : texts) out.append(text).append(end);
    return out;
}

inline void on_every_isa(const std::function<void()>& test) {
    for (const std::string& isa : decode_isas()) {
        CHECK(force_decode_isa(isa).ok());
        CHECK(decode_isa() == isa);
        test();
    }
}

inline Schema flat() {
    Schema schema;
    schema.fields = {field("id", Type::string),    field("type", Type::dictionary),
                     timestamp("time", kIso8601),  field("n", Type::int32),
                     field("qty", Type::int64),    field("price", Type::decimal),
                     field("rate", Type::float64), field("ok", Type::boolean),
                     field("c.x", Type::int64),    field("c.name", Type::string)};
    return schema;
}

inline Schema order() {
    Schema schema;
    schema.explode = {{{"lines"}, "lines[]"}};
    schema.fields = {field("id", Type::string), field("sku", Type::int64, 1, true),
                     field("note", Type::string, 1), field("c.x", Type::int64, 1)};
    return schema;
}

inline Schema nested() {
    Schema schema;
    schema.explode = {{{"lines"}, "lines[]"}, {{"items"}, "lines[].items[]"}};
    schema.fields = {field("id", Type::string), field("qty", Type::int64, 1),
                     field("sku", Type::dictionary, 2), field("note", Type::string, 2)};
    return schema;
}

inline const Texts kFlat = {
    R"({"id":"a","type":"created","time":"2024-02-29T12:00:00.000Z","n":1,"qty":2,"price":19.99,"rate":0.5,"ok":true,"c":{"x":3,"name":"b"}})",
    R"({"id":"深圳市","type":"paid","time":"2024-03-01T00:00:00.001Z","n":-1,"qty":-2,"price":0,"rate":1e3,"ok":false,"c":{"x":null,"name":""}})",
    R"({"qty":5,"id":"\u00e9\n","new":[1,{"a":"}"}],"c":null,"price":1.5})",
    R"({ "id" : "spaced" , "qty" : 7 })",
};
inline const Texts kOrders = {
    R"({"id":"a","lines":[{"sku":1,"note":"first","c":{"x":1}},{"sku":2,"note":"second"}]})",
    R"({"id":"b","lines":[{"sku":3}]})",
    R"({"id":"c","lines":[]})",
    R"({"lines":[{"note":null,"sku":4,"c":{"x":2}},{"c":null,"sku":5}],"id":"d"})",
};
inline const Texts kNested = {
    R"({"id":"a","lines":[{"qty":1,"items":[{"sku":"A","note":"n"},{"sku":"B"}]},{"qty":2,"items":[]}]})",
    R"({"id":"b","lines":[{"items":[{"note":"m"}],"qty":3}]})",
    R"({"id":"c","lines":[]})",
};

// Values of no interest, with values inside.
inline const Texts kUnknown = {
    R"({"u":{"a":-0.5,"b":"x\/y\u00e9","c":{"":[{"k":true},{"k":null}],"d":[]}},"qty":1,"v":["p","q"],"w":[1,[2,3],"r"]})",
    R"({"u":{"a":1e2,"b":"深圳","c":{"":{"k":12},"d":{}}},"qty":2,"v":[],"w":[{"a":"]"}]})",
    R"({"id":"a","u":{"a":{"b":{"c":"d"},"e":false}},"v":[[{"a":"b"}],["c"]],"c":{"x":1,"z":[{"y":"w"},{"y":{"t":0}}]}})",
};
inline const Texts kUnknownLines = {
    R"({"m":{"a":"b"},"lines":[{"t":[{"p":"1","q":2}],"sku":1,"u":{"a":"b"}},{"t":[{"p":"3","q":4}],"sku":2,"u":{"a":"c"}}],"id":"a"})",
    R"({"lines":[{"sku":1,"u":{"a":["b",{"c":1}]}},{"sku":2,"u":{"a":["d",{"c":3}]}}],"m":[{"a":1}]})",
};

struct RejectCase {
    std::string_view text;
    const char* expected;  // line, byte, reason, field
};

inline void check_rejects(const Schema& schema, const std::vector<RejectCase>& cases, const Texts& teachers) {
    for (const RejectCase& test : cases) {
        // Alone, and after messages whose layout is known.
        Texts texts = {test.text};
        for (int round = 0; round < 2; ++round) {
            const Outcome found = messages(schema, texts);
            const std::string expected = std::to_string(texts.size() - 1) + test.expected;
            const bool good = found.rejects == std::vector<std::string>{expected};
            if (!good)
                std::fprintf(stderr, "%.*s:\n  %s\n  %s\n", static_cast<int>(test.text.size()),
                             test.text.data(), expected.c_str(),
                             found.rejects.empty() ? "decoded" : found.rejects[0].c_str());
            CHECK(good);
            CHECK(found.counts.messages == found.counts.decoded + found.counts.rejected);
            texts = teachers;
            texts.insert(texts.end(), teachers.begin(), teachers.end());
            texts.push_back(test.text);
        }
    }
}

// Messages are decoded three times by one decoder, so that each follows a known layout if it ever does, and
// then each once more behind every other.
inline void check_learning(const Schema& schema, const Texts& texts) {
    Texts all;
    for (int round = 0; round < 3; ++round) all.insert(all.end(), texts.begin(), texts.end());
    for (const std::string_view one : texts)
        for (const std::string_view other : texts) all.insert(all.end(), {one, other});
    CHECK(force_decode_isa("portable").ok());
    const Outcome expected = carefully(schema, all);
    on_every_isa([&] { same(expected, messages(schema, all), decode_isa() + " after learning"); });
}

}  // namespace omnistream
