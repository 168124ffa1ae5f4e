// Values of no interest are passed over, and what is wrong with them is found nevertheless.
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "decoding.hpp"

namespace omnistream {
namespace {

void test_unknown_fields_count() {
    const Texts texts = {R"({"qty":1,"u":{"v":1,"w":2},"z":"s"})"};
    Decoder decoder(flat(), dictionaries_of(flat()));
    for (int round = 0; round < 3; ++round) CHECK(messages(decoder, texts).counts.unknown_fields == 2);
}

// An array's element and an object's value of an empty key are not the same place.
void test_brackets_inside_unknown_values() {
    check_rejects(flat(),
                  {
                      {R"({"u":{"":1],"n":1})", " line -1 byte 10 invalid_json "},
                      {R"({"u":[1},"n":1})", " line -1 byte 7 invalid_json "},
                      {R"({"u":{"":"a","":"b"],"n":1})", " line -1 byte 19 invalid_json "},
                      {R"({"u":["a","b"},"n":1})", " line -1 byte 13 invalid_json "},
                  },
                  {R"({"u":{"":1},"n":1})", R"({"u":[1],"n":1})", R"({"u":{"":"a"},"n":1})",
                   R"({"u":{"":"a","":"b"},"n":1})", R"({"u":["a"],"n":1})", R"({"u":["a","b"],"n":1})"});
}

// Values of no interest whose layout is known: numbers of all forms, alone and in arrays, and what looks like
// them.
void test_unknown_numbers() {
    std::deque<std::string> all;
    const auto add = [&all](const std::string& value) {
        all.push_back(R"({"u":)" + value + R"(,"id":"a"})");
        all.push_back(R"({"u":[)" + value + R"(],"id":"a"})");
    };
    constexpr std::string_view kBytes = "01-., e]";
    for (std::size_t size = 0; size <= 4; ++size)
        for (std::size_t number = 0; number < std::size_t{1} << (3 * size); ++number) {
            std::string value;
            for (std::size_t at = 0; at < size; ++at) value += kBytes[number >> (3 * at) & 7];
            add(value);
        }
    const std::string several = " 12 ,-3.25,\t0.5, 100\r, -0,7 ";
    for (std::size_t at = 0; at < several.size(); ++at)
        for (const char byte : kBytes) {
            std::string changed = several;
            changed[at] = byte;
            add(changed);
            add(several.substr(0, at) + byte + several.substr(at));
            add(several.substr(0, at) + several.substr(at + 1));
        }
    for (std::size_t size = 50; size < 70; ++size) {
        add(std::string(size, '1'));
        add(std::string(size, '1') + ",");
        add(std::string(size, '1') + ",01");
        add("0." + std::string(size, '1') + ".");
        add(std::string(size, ' ') + "1");
    }
    for (const std::string_view word : {"true", "false", "null", "tru", "falsy", "nulll", "True"})
        add(word.data());
    for (const std::string_view teacher : {R"({"u":1,"id":"a"})", R"({"u":[1],"id":"a"})"}) {
        Texts texts;
        for (const std::string& text : all) texts.insert(texts.end(), {teacher, text});
        CHECK(force_decode_isa("portable").ok());
        const Outcome expected = carefully(flat(), texts);
        on_every_isa([&] { same(expected, messages(flat(), texts), decode_isa() + " unknown numbers"); });
    }
}

// Strings of no interest with escapes of all kinds, before and behind where a block of the index ends.
void test_escapes_in_unknown_strings() {
    std::deque<std::string> all;
    for (std::size_t before = 40; before < 70; ++before)
        for (std::size_t run = 0; run < 6; ++run)
            for (const std::string_view behind : {"\"", "/", "b", "r", "u0041", "uD800", "u00g0", "u12", "x",
                                                  " ", "\x1f", "\xff", "\xe6\xb7\xb1"})
                all.push_back(R"({"u":")" + std::string(before, 'x') + std::string(run, '\\') +
                              std::string(behind) + R"(y\n","id":"a"})");
    constexpr std::string_view kTeacher = R"({"u":"b","id":"a"})";
    for (const bool strict : {false, true}) {
        Schema schema = flat();
        schema.strict_utf8 = strict;
        Texts texts;
        for (const std::string& text : all) texts.insert(texts.end(), {kTeacher, text, kTeacher});
        CHECK(force_decode_isa("portable").ok());
        const Outcome expected = carefully(schema, texts);
        on_every_isa([&] {
            same(expected, messages(schema, texts), decode_isa() + " unknown strings");
            same(lines(schema, joined(texts)), messages(schema, texts),
                 decode_isa() + " unknown strings in lines");
        });
    }
}

// Objects whose keys are never the same are one value before long, and do not keep others from being learnt.
void test_unknown_values_of_many_shapes() {
    std::deque<std::string> all;
    for (int i = 0; i < 6'000; ++i) {
        std::string text = R"({"u":{)";
        for (int key = 0; key < 3; ++key)
            text += std::string(key == 0 ? "" : ",") + "\"k" + std::to_string((i * 7 + key) % 5'003) +
                    "\":" + std::to_string(key);
        all.push_back(text + (i % 50 == 49 ? "]" : "}") + R"(,"id":"a","n":)" + std::to_string(i) + "}");
    }
    const Texts texts(all.begin(), all.end());
    CHECK(force_decode_isa("portable").ok());
    const Outcome expected = carefully(flat(), texts);
    CHECK(expected.counts.rejected == 120 && expected.counts.unknown_fields == 5'880);
    on_every_isa([&] {
        const Outcome found = messages(flat(), texts);
        same(expected, found, decode_isa() + " many shapes");
        CHECK(found.counts.speculated > 3'000);
    });
}

}  // namespace
}  // namespace omnistream

int main() {
    using namespace omnistream;
    on_every_isa([] {
        test_unknown_fields_count();
        test_brackets_inside_unknown_values();
    });
    test_unknown_numbers();
    test_escapes_in_unknown_strings();
    test_unknown_values_of_many_shapes();
    return report("test_decode_unknown");
}
