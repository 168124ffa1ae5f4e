// Native tests of decode: what only the core can show. The meaning of every value and reason is held against
// the reference in tests/conformance/.
#include <sys/mman.h>
#include <unistd.h>

#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "check.hpp"
#include "decoded.hpp"

namespace omnistream {
namespace {

using Texts = std::vector<std::string_view>;

void same(const Outcome& expected, const Outcome& found, const std::string& what) {
    const std::string difference = expected.difference(found);
    if (!difference.empty()) std::fprintf(stderr, "%s: %s\n", what.c_str(), difference.c_str());
    CHECK(difference.empty());
}

Outcome messages(Decoder& decoder, const Texts& texts) {
    std::vector<std::int32_t> ordinals;
    for (std::size_t i = 0; i < texts.size(); ++i) ordinals.push_back(static_cast<std::int32_t>(i));
    Outcome out;
    decode_messages(decoder, texts, ordinals, &out);
    return out;
}
Outcome messages(const Schema& schema, const Texts& texts) {
    Decoder decoder(schema, dictionaries_of(schema));
    return messages(decoder, texts);
}
Outcome lines(Decoder& decoder, std::string_view block, std::int64_t first_position = 1) {
    Outcome out;
    decode_lines(decoder, block, first_position, &out);
    return out;
}
Outcome lines(const Schema& schema, std::string_view block, std::int64_t first_position = 1) {
    Decoder decoder(schema, dictionaries_of(schema));
    return lines(decoder, block, first_position);
}

// Each message by a decoder that has learnt nothing: the careful reader alone.
Outcome carefully(const Schema& schema, const Texts& texts) {
    const Dictionaries dictionaries = dictionaries_of(schema);
    Outcome out;
    for (std::size_t i = 0; i < texts.size(); ++i) {
        Decoder decoder(schema, dictionaries);
        decode_messages(decoder, {texts[i]}, {static_cast<std::int32_t>(i)}, &out);
    }
    CHECK(out.counts.speculated == 0);
    return out;
}

std::string joined(const Texts& texts, std::string_view end = "\n") {
    std::string out;
    for (const std::string_view text : texts) out.append(text).append(end);
    return out;
}

void on_every_isa(const std::function<void()>& test) {
    for (const std::string& isa : decode_isas()) {
        CHECK(force_decode_isa(isa).ok());
        CHECK(decode_isa() == isa);
        test();
    }
}

Schema flat() {
    Schema schema;
    schema.fields = {field("id", Type::string),    field("type", Type::dictionary),
                     timestamp("time", kIso8601),  field("n", Type::int32),
                     field("qty", Type::int64),    field("price", Type::decimal),
                     field("rate", Type::float64), field("ok", Type::boolean),
                     field("c.x", Type::int64),    field("c.name", Type::string)};
    return schema;
}

Schema order() {
    Schema schema;
    schema.explode = {{{"lines"}, "lines[]"}};
    schema.fields = {field("id", Type::string), field("sku", Type::int64, 1, true),
                     field("note", Type::string, 1), field("c.x", Type::int64, 1)};
    return schema;
}

Schema nested() {
    Schema schema;
    schema.explode = {{{"lines"}, "lines[]"}, {{"items"}, "lines[].items[]"}};
    schema.fields = {field("id", Type::string), field("qty", Type::int64, 1),
                     field("sku", Type::dictionary, 2), field("note", Type::string, 2)};
    return schema;
}

const Texts kFlat = {
    R"({"id":"a","type":"created","time":"2024-02-29T12:00:00.000Z","n":1,"qty":2,"price":19.99,"rate":0.5,"ok":true,"c":{"x":3,"name":"b"}})",
    R"({"id":"深圳市","type":"paid","time":"2024-03-01T00:00:00.001Z","n":-1,"qty":-2,"price":0,"rate":1e3,"ok":false,"c":{"x":null,"name":""}})",
    R"({"qty":5,"id":"\u00e9\n","new":[1,{"a":"}"}],"c":null,"price":1.5})",
    R"({ "id" : "spaced" , "qty" : 7 })",
};
const Texts kOrders = {
    R"({"id":"a","lines":[{"sku":1,"note":"first","c":{"x":1}},{"sku":2,"note":"second"}]})",
    R"({"id":"b","lines":[{"sku":3}]})",
    R"({"id":"c","lines":[]})",
    R"({"lines":[{"note":null,"sku":4,"c":{"x":2}},{"c":null,"sku":5}],"id":"d"})",
};
const Texts kNested = {
    R"({"id":"a","lines":[{"qty":1,"items":[{"sku":"A","note":"n"},{"sku":"B"}]},{"qty":2,"items":[]}]})",
    R"({"id":"b","lines":[{"items":[{"note":"m"}],"qty":3}]})",
    R"({"id":"c","lines":[]})",
};

// Values of no interest, with values inside.
const Texts kUnknown = {
    R"({"u":{"a":-0.5,"b":"x\/y\u00e9","c":{"":[{"k":true},{"k":null}],"d":[]}},"qty":1,"v":["p","q"],"w":[1,[2,3],"r"]})",
    R"({"u":{"a":1e2,"b":"深圳","c":{"":{"k":12},"d":{}}},"qty":2,"v":[],"w":[{"a":"]"}]})",
    R"({"id":"a","u":{"a":{"b":{"c":"d"},"e":false}},"v":[[{"a":"b"}],["c"]],"c":{"x":1,"z":[{"y":"w"},{"y":{"t":0}}]}})",
};
const Texts kUnknownLines = {
    R"({"m":{"a":"b"},"lines":[{"t":[{"p":"1","q":2}],"sku":1,"u":{"a":"b"}},{"t":[{"p":"3","q":4}],"sku":2,"u":{"a":"c"}}],"id":"a"})",
    R"({"lines":[{"sku":1,"u":{"a":["b",{"c":1}]}},{"sku":2,"u":{"a":["d",{"c":3}]}}],"m":[{"a":1}]})",
};

// ---- values ----

void test_values() {
    const Outcome found = messages(flat(), kFlat);
    CHECK(found.counts.messages == 4 && found.counts.decoded == 4 && found.counts.rows == 4);
    CHECK(found.counts.unknown_fields == 1 && found.counts.rejected == 0);
    CHECK(found.columns[0] == " 1:a 9:深圳市 3:é\n 6:spaced");
    CHECK(found.columns[1] == " 0 1 null:0 null:0");
    CHECK(found.columns[2] == " 1709208000000 1709251200001 null:0 null:0");
    CHECK(found.columns[3] == " 1 -1 null:0 null:0");
    CHECK(found.columns[4] == " 2 -2 5 7");
    CHECK(found.columns[5] == " 199900 0 15000 null:0");
    CHECK(found.columns[7] == " 1 0 null:0 null:0");
    CHECK(found.columns[8] == " 3 null:0 null:0 null:0");
    CHECK(found.columns[9] == " 1:b 0: null:0: null:0:");
}

void test_explode() {
    const Outcome found = messages(order(), kOrders);
    CHECK(found.counts.rows == 5 && found.counts.empty == 1);
    CHECK(found.columns[0] == " 1:a 1:a 1:b 1:d 1:d");
    CHECK(found.columns[1] == " 1 2 3 4 5");
    CHECK(found.columns[2] == " 5:first 6:second null:0: null:0: null:0:");
    CHECK(found.columns[3] == " 1 null:0 null:0 2 null:0");
    CHECK((found.row_message == std::vector<std::int32_t>{0, 0, 1, 3, 3}));
}

void test_explode_twice() {
    const Outcome found = messages(nested(), kNested);
    CHECK(found.counts.rows == 3 && found.counts.empty == 1);
    CHECK(found.columns[0] == " 1:a 1:a 1:b");
    CHECK(found.columns[1] == " 1 1 3");
    CHECK(found.columns[2] == " 0 1 null:0");
    CHECK(found.columns[3] == " 1:n null:0: 1:m");
}

void test_defaults() {
    Schema schema = nested();
    for (Field& column : schema.fields) column.has_default = true;
    schema.fields[1].default_integer = 9;
    schema.fields[2].default_string = "none";
    const Outcome found = messages(schema, {R"({"lines":[{"items":[{"sku":null},{}]},{"items":[]}]})"});
    CHECK(found.columns[0] == " 0: 0:");
    CHECK(found.columns[1] == " 9 9");
    CHECK(found.columns[2] == " 0 0");
}

void test_array_messages() {
    Schema schema = flat();
    schema.array_messages = true;
    schema.max_message_bytes = 30;
    const Outcome found = messages(
        schema, {R"( [{"qty":1}, {"qty":2},{"id":"more than thirty bytes here"},{"qty":"x"}] )",
                 R"({"qty":3})", "[]", R"([{"qty":4},{"qty":5})", R"([{"qty":6}] 7)", R"([{"qty":7} 8])"});
    CHECK(found.columns[4] == " 1 2 3 4 5 6 7");
    CHECK((found.rejects ==
           std::vector<std::string>{"2 line -1 byte -1 message_too_large ", "3 line -1 byte 7 wrong_type qty",
                                    "7 line -1 byte 0 truncated_json ", "9 line -1 byte 0 trailing_data ",
                                    "11 line -1 byte 0 invalid_json "}));
}

// ---- rejects ----

struct RejectCase {
    std::string_view text;
    const char* expected;  // line, byte, reason, field
};

void check_rejects(const Schema& schema, const std::vector<RejectCase>& cases, const Texts& teachers) {
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

void test_rejects() {
    Schema schema = flat();
    schema.max_message_bytes = 150;
    schema.max_depth = 3;
    schema.fields[4].required = true;
    const std::string large = R"({"qty":1,"id":")" + std::string(150, 'x') + R"("})";
    check_rejects(
        schema,
        {
            {large, " line -1 byte -1 message_too_large "},
            {"", " line -1 byte 0 truncated_json "},
            {R"({"qty":1)", " line -1 byte 8 truncated_json "},
            {R"({"qty":1,"id":"a\)", " line -1 byte 17 truncated_json "},
            {R"({"qty":-)", " line -1 byte 8 truncated_json "},
            {R"({"qty":1 "id":"a"})", " line -1 byte 9 invalid_json "},
            {R"({"qty":01})", " line -1 byte 8 invalid_json "},
            {R"({"qty":1,})", " line -1 byte 9 invalid_json "},
            {R"({"qty":1,"u":tru})", " line -1 byte 16 invalid_json "},
            {R"({"qty":1,"u":NaN})", " line -1 byte 13 invalid_json "},
            {R"({"qty":1,"id":"a\x"})", " line -1 byte 17 invalid_json "},
            {R"({"qty":1,"id":"\u12x4"})", " line -1 byte 19 invalid_json "},
            {"{\"qty\":1,\"id\":\"a\tb\"}", " line -1 byte 16 invalid_json "},
            {"\xef\xbb\xbf{\"qty\":1}", " line -1 byte 0 invalid_json "},
            {R"({"qty":1} x)", " line -1 byte 10 trailing_data "},
            {R"({"qty":1,"u":[[[1]]]})", " line -1 byte 15 nesting_too_deep "},
            {R"({"qty":1,"u":{"v":{"w":{}}}})", " line -1 byte 23 nesting_too_deep "},
            {R"( [1])", " line -1 byte 1 not_an_object "},
            {R"("text")", " line -1 byte 0 not_an_object "},
            {R"({"id":"a"})", " line -1 byte -1 missing_field qty"},
            {R"({"id":5})", " line -1 byte 6 wrong_type id"},
            {R"({"qty":null})", " line -1 byte 7 null_field qty"},
            {R"({"qty":true})", " line -1 byte 7 wrong_type qty"},
            {R"({"qty":"1"})", " line -1 byte 7 wrong_type qty"},
            {R"({"qty":1,"c":[]})", " line -1 byte 13 wrong_type c.x"},
            {"{\"qty\":1,\"id\":\"\xff\"}", " line -1 byte 14 invalid_utf8 id"},
            {R"({"qty":1,"type":"\udc00"})", " line -1 byte 16 invalid_utf8 type"},
            {R"({"qty":9223372036854775808})", " line -1 byte 7 out_of_range qty"},
            {R"({"qty":1,"n":2147483648})", " line -1 byte 13 out_of_range n"},
            {R"({"qty":1,"rate":1e309})", " line -1 byte 16 out_of_range rate"},
            {R"({"qty":1.5})", " line -1 byte 7 inexact_number qty"},
            {R"({"qty":1,"price":0.00001})", " line -1 byte 17 inexact_number price"},
            {R"({"qty":1,"time":"2023-02-29T00:00:00Z"})", " line -1 byte 16 invalid_timestamp time"},
            {R"({"qty":1,"time":5})", " line -1 byte 16 wrong_type time"},
        },
        {R"({"qty":1})", R"({"qty":1,"id":"a"})", R"({"qty":1,"n":1})", R"({"qty":1,"c":{"x":1}})",
         R"({"qty":1,"rate":0.5})", R"({"qty":1,"price":2})", R"({"qty":1,"type":"t"})",
         R"({"qty":1,"u":[2]})", R"({"qty":1,"time":"2023-02-28T00:00:00.000Z"})", R"({"id":"a","qty":2})"});
}

void test_line_rejects() {
    check_rejects(order(),
                  {
                      {R"({"lines":[{"sku":1},{"note":"n"}]})", " line 1 byte -1 missing_field sku"},
                      {R"({"lines":[{"sku":1},{"sku":2.5}]})", " line 1 byte 27 inexact_number sku"},
                      {R"({"lines":[{"sku":1},7,{"sku":"x"}]})", " line 1 byte 20 wrong_type lines[]"},
                      {R"({"lines":null})", " line -1 byte 9 null_field lines[]"},
                      {R"({"lines":{}})", " line -1 byte 9 wrong_type lines[]"},
                      {R"({"id":"a"})", " line -1 byte -1 missing_field lines[]"},
                      // The message's own fields go before its lines, syntax goes before both.
                      {R"({"lines":[{"sku":"x"}],"id":1})", " line -1 byte 28 wrong_type id"},
                      {R"({"lines":[{"sku":"x"}]]})", " line -1 byte 22 invalid_json "},
                  },
                  {R"({"lines":[{"sku":1}]})", R"({"lines":[{"sku":1},{"sku":2}]})",
                   R"({"lines":[{"sku":1},{"note":"n","sku":2}]})", R"({"lines":[{"sku":1}],"id":"a"})",
                   R"({"id":"a","lines":[{"sku":1}]})"});
}

void test_strict_utf8() {
    Schema schema = flat();
    schema.strict_utf8 = true;
    check_rejects(schema,
                  {
                      {"{\"u\":\"\xff\"}", " line -1 byte 6 invalid_json "},
                      {"{\"u\":\"\xff\n\"}", " line -1 byte 6 invalid_json "},
                      {"{\"u\":\"\xff", " line -1 byte 6 invalid_json "},
                      {"{\"u\":\"\xe6\xb7", " line -1 byte 8 truncated_json "},
                      {"{\"k\\u0041\xff\":1}", " line -1 byte 9 invalid_json "},
                      {"{\"u\":\"\xff\\x\"}", " line -1 byte 6 invalid_json "},
                      {"{\"id\":\"\xff\"}", " line -1 byte 6 invalid_utf8 id"},
                  },
                  {R"({"u":"a"})", R"({"id":"a"})", R"({"kA":1})"});
    CHECK(messages(schema, {R"({"u":"\ud800"})", "{\"u\":\"\xe6\xb7\xb1\"}"}).counts.decoded == 2);
    schema.strict_utf8 = false;
    CHECK(messages(schema, {"{\"u\":\"\xff\"}", "{\"\xff\":1}"}).counts.decoded == 2);
}

// ---- learnt layouts ----

// Messages are decoded three times by one decoder, so that each follows a known layout if it ever does, and
// then each once more behind every other.
void check_learning(const Schema& schema, const Texts& texts) {
    Texts all;
    for (int round = 0; round < 3; ++round) all.insert(all.end(), texts.begin(), texts.end());
    for (const std::string_view one : texts)
        for (const std::string_view other : texts) all.insert(all.end(), {one, other});
    CHECK(force_decode_isa("portable").ok());
    const Outcome expected = carefully(schema, all);
    on_every_isa([&] { same(expected, messages(schema, all), decode_isa() + " after learning"); });
}

void test_learning() {
    check_learning(flat(), kFlat);
    check_learning(order(), kOrders);
    check_learning(nested(), kNested);
    check_learning(flat(), kUnknown);
    check_learning(order(), kUnknownLines);
    // A message that a layout is learnt from follows it the next time.
    on_every_isa([] {
        for (const auto& [schema, texts] : {std::pair{flat(), Texts{kFlat[0], kFlat[3]}},
                                            std::pair{order(), Texts{kOrders[0], kOrders[1], kOrders[2]}},
                                            std::pair{nested(), Texts{kNested[1], kNested[2]}}}) {
            Decoder decoder(schema, dictionaries_of(schema));
            (void)messages(decoder, texts);
            CHECK(messages(decoder, texts).counts.speculated == static_cast<std::int64_t>(texts.size()));
        }
    });
}

// One byte more, less or another, in each place of a message whose layout is known.
void test_departures() {
    for (const auto& [schema, teachers] :
         {std::pair{flat(), kFlat}, std::pair{order(), kOrders}, std::pair{nested(), kNested},
          std::pair{flat(), kUnknown}, std::pair{order(), kUnknownLines}}) {
        std::vector<std::string> changed;
        for (const std::string_view text : teachers)
            for (std::size_t at = 0; at <= text.size(); ++at) {
                const std::string before(text.substr(0, at));
                changed.push_back(before);
                if (at == text.size()) break;
                changed.push_back(before + std::string(text.substr(at + 1)));
                for (const char byte : {'"', '\\', ',', '}', ']', '0', ' ', '\n', '\x80', '\0'}) {
                    changed.push_back(before + byte + std::string(text.substr(at + 1)));
                    changed.push_back(before + byte + std::string(text.substr(at)));
                }
            }
        Texts all;
        for (const std::string& text : changed) {
            all.insert(all.end(), teachers.begin(), teachers.end());
            all.push_back(text);
        }
        CHECK(force_decode_isa("portable").ok());
        const Outcome expected = carefully(schema, all);
        on_every_isa([&] {
            const Outcome found = messages(schema, all);
            same(expected, found, decode_isa() + " departing");
            CHECK(3 * found.counts.speculated > found.counts.messages);
        });
    }
}

void test_duplicate_keys() {
    const Texts flat_texts = {R"({"qty":1,"c":{"x":1}})",         R"({"qty":1,"c":{"x":1},"c":{"name":"a"}})",
                              R"({"qty":1,"qty":2,"c":{"x":1}})", R"({"qty":1,"qty":"bad","qty":3})",
                              R"({"c":5,"qty":2,"c":{"x":1}})",   R"({"c":5,"qty":2})",
                              R"({"c":{"x":1},"c":null})",        R"({"qty":2,"c":{"x":"bad"},"c":{}})"};
    check_learning(flat(), flat_texts);
    const Outcome found = messages(flat(), flat_texts);
    CHECK(found.columns[4] == " 1 1 2 3 2 null:0 2");
    CHECK(found.columns[8] == " 1 null:0 1 null:0 1 null:0 null:0");
    CHECK((found.rejects == std::vector<std::string>{"5 line -1 byte 5 wrong_type c.x"}));

    const Texts order_texts = {R"({"lines":[{"sku":1,"c":{"x":1}},{"sku":2}]})",
                               R"({"lines":[{"c":{"x":1},"sku":3,"c":{}},{"sku":4}]})",
                               R"({"lines":[{"sku":5,"c":{}},{"sku":6}]})",
                               R"({"lines":[{"sku":1}],"lines":[{"sku":7},{"sku":8}]})",
                               R"({"lines":[{"sku":"bad"}],"lines":[]})",
                               R"({"id":"a","lines":null,"lines":[{"sku":9}]})",
                               R"({"lines":[{"sku":1}],"id":"a","lines":null})"};
    check_learning(order(), order_texts);
    const Outcome orders = messages(order(), order_texts);
    CHECK(orders.columns[1] == " 1 2 3 4 5 6 7 8 9");
    CHECK(orders.columns[3] == " 1 null:0 null:0 null:0 null:0 null:0 null:0 null:0 null:0");
    CHECK((orders.rejects == std::vector<std::string>{"6 line -1 byte 38 null_field lines[]"}));
}

// The fast path gives up in the middle of a message: no null that it noted for inner elements may stay.
void test_fast_path_leaves_no_trace() {
    check_learning(nested(), {R"({"lines":[{"qty":1,"items":[{"note":"a"}],"id":3}]})",
                              R"({"lines":[{"qty":1,"items":[{"note":"a"}],"qty":3}]})"});
    // Too large is known only when its end is reached.
    Schema schema = nested();
    schema.max_message_bytes = 60;
    const std::string large = R"({"lines":[{"u":1}],"id":")" + std::string(40, 'x') + R"("})";
    check_learning(schema, {R"({"lines":[{"u":1,"items":[{"sku":"A"}]}]})",
                            R"({"lines":[{"items":[{"sku":"A"}],"u":1}],"id":"a"})", large});
    check_learning(order(),
                   {R"({"lines":[{"sku":1},{"sku":2}]})", R"({"lines":[{"sku":1},{"note":"x"}]})",
                    R"({"lines":[{},{"sku":1,"note":"abc"}]})", R"({"lines":[1,{"sku":1,"note":"abc"}]})"});
}

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

void test_size_limit_on_fast_path() {
    Schema schema = flat();
    schema.max_message_bytes = 40;
    Decoder decoder(schema, dictionaries_of(schema));
    const std::string large = R"({"id":")" + std::string(40, 'x') + R"("})";
    (void)messages(decoder, {R"({"id":"x"})"});
    CHECK(messages(decoder, {large}).counts.rejected == 1);
    const std::string block = "{\"id\":\"x\"}\n" + large + "\n" + std::string(200, ' ');
    CHECK(
        (lines(decoder, block).rejects == std::vector<std::string>{"1 line -1 byte -1 message_too_large "}));
}

// Messages may end in spaces, which count as their bytes; nothing else may follow.
void test_spaces_behind_messages() {
    Schema schema = flat();
    schema.max_message_bytes = 30;
    std::deque<std::string> all;
    for (const std::string_view behind :
         {"", " ", "\n", "\r\n\t ", "\v", "\n}", " \n ,", "\\", "\"", "         ", "          "})
        for (const std::string_view text : {R"({"id":"a","qty":1})", R"({"id":"a"})", R"({"qty":12})"})
            all.push_back(std::string(text) + std::string(text.size() % 7, ' ') + std::string(behind));
    check_learning(schema, {all.begin(), all.end()});
    on_every_isa([&] {
        Decoder decoder(schema, dictionaries_of(schema));
        const Texts texts = {"{\"qty\":1}\n", "{\"qty\":2} ", "{\"qty\":3}"};
        (void)messages(decoder, texts);
        CHECK(messages(decoder, texts).counts.speculated == 3);
        const std::string large = "{\"qty\":3}" + std::string(22, ' ');
        CHECK((messages(decoder, {texts[0], large}).rejects ==
               std::vector<std::string>{"1 line -1 byte -1 message_too_large "}));
    });
}

void test_epochs() {
    Schema schema;
    schema.fields = {timestamp("t", kEpochMillis), field("a", Type::int64)};
    const Texts texts = {R"({"t":"2024-01-01T00:00:00.000Z","a":1,"t":5})",
                         R"({"t":5,"a":1})",
                         R"({"t":"2024-01-01T00:00:00.000Z","a":1})",
                         R"({"t":-9223372036854775808.5})",
                         R"({"t":-0.5})",
                         R"({"t":253402300799999.9})",
                         R"({"t":-62135596800000.1})"};
    check_learning(schema, texts);
    const Outcome found = messages(schema, texts);
    CHECK(found.columns[0] == " 5 5 -1 253402300799999");
    CHECK((found.rejects == std::vector<std::string>{"2 line -1 byte 5 wrong_type t",
                                                     "3 line -1 byte 5 out_of_range t",
                                                     "6 line -1 byte 5 out_of_range t"}));
}

// ---- lines ----

void test_lines() {
    const Texts texts = {R"({"qty":1})", R"({"qty":2})", R"({"qty":3})", R"({"qty":4})"};
    on_every_isa([&] {
        for (const std::string_view end : {"\n", "\r\n"}) {
            const std::string block = joined(texts, end);
            const Outcome found = lines(flat(), block);
            CHECK(found.columns[4] == " 1 2 3 4" && found.counts.rejected == 0);
            CHECK(found.messages[3] == R"(3: {"qty":4})");
            CHECK(found.counts.speculated > 0 || block.size() < 128);
        }
        const Outcome found =
            lines(flat(),
                  "\xef\xbb\xbf{\"qty\":1}\n\n \t\r\n{\"qty\":2}\r\n\xef\xbb\xbf{\"qty\":3}\n{\"qty\":4}\r");
        CHECK(found.columns[4] == " 1 2 4");
        CHECK((found.messages == std::vector<std::string>{R"(0: {"qty":1})", R"(3: {"qty":2})",
                                                          "4: \xef\xbb\xbf{\"qty\":3}", "5: {\"qty\":4}\r"}));
        CHECK((found.rejects == std::vector<std::string>{"2 line -1 byte 0 invalid_json "}));
        CHECK(lines(flat(), "\xef\xbb\xbf{\"qty\":1}", 2).counts.rejected == 1);
        CHECK(lines(flat(), "").counts.messages == 0);
        CHECK(lines(flat(), "\n\r\n  ").counts.messages == 0);
    });
}

// Text that free-standing messages taught may hold line feeds, which end a message where messages are lines.
void test_line_feeds_are_not_learnt_for_lines() {
    const Texts texts = {"{\"id\":\"a\",\n\"qty\":1}", "{\"id\":\"b\",\n\"qty\":2}",
                         "{\"u\":[1,\n2],\"qty\":3}"};
    on_every_isa([&] {
        Decoder decoder(flat(), dictionaries_of(flat()));
        (void)messages(decoder, texts);
        CHECK(messages(decoder, texts).counts.speculated == 3);
        const Outcome found = lines(decoder, joined(texts) + std::string(200, ' '));
        CHECK(found.counts.messages == 6 && found.counts.rejected == 6);
        CHECK(messages(decoder, texts).counts.decoded == 3);
    });
}

void test_split_invariance() {
    for (const auto& [schema, texts] :
         {std::pair{flat(), kFlat}, std::pair{order(), kOrders}, std::pair{nested(), kNested}}) {
        Texts all;
        for (int i = 0; i < 3; ++i) all.insert(all.end(), texts.begin(), texts.end());
        on_every_isa([&] {
            Outcome whole = lines(schema, joined(all));
            for (std::string& message : whole.messages) message.erase(0, message.find(':'));
            for (std::size_t cut = 0; cut <= all.size(); ++cut) {
                Decoder decoder(schema, dictionaries_of(schema));
                Outcome found;
                const auto at = all.begin() + static_cast<std::ptrdiff_t>(cut);
                decode_lines(decoder, joined({all.begin(), at}), 1, &found);
                decode_lines(decoder, joined({at, all.end()}), 1 + static_cast<std::int64_t>(cut), &found);
                for (std::string& message : found.messages) message.erase(0, message.find(':'));
                same(whole, found, decode_isa() + " cut before line " + std::to_string(cut));
            }
        });
    }
}

// ---- memory ----

// Bytes that end where a page ends that nobody may read.
class GuardedBytes {
public:
    GuardedBytes() {
        const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        size_ = 2 * page;
        base_ = static_cast<char*>(
            mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        CHECK(base_ != MAP_FAILED);
        CHECK(mprotect(base_ + page, page, PROT_NONE) == 0);
        end_ = base_ + page;
    }
    ~GuardedBytes() { munmap(base_, size_); }
    GuardedBytes(const GuardedBytes&) = delete;
    GuardedBytes& operator=(const GuardedBytes&) = delete;

    std::string_view put(std::string_view text) {
        char* begin = end_ - text.size();
        std::memcpy(begin, text.data(), text.size());
        return {begin, text.size()};
    }

private:
    char* base_;
    char* end_;
    std::size_t size_;
};

void test_nothing_is_read_behind_the_end() {
    GuardedBytes guarded;
    for (const auto& [schema, texts] :
         {std::pair{flat(), kFlat}, std::pair{order(), kOrders}, std::pair{nested(), kNested}}) {
        const std::string block = joined(texts);
        CHECK(force_decode_isa("portable").ok());
        std::vector<Outcome> expected;  // by size of the block
        for (std::size_t size = 0; size <= block.size(); ++size)
            expected.push_back(lines(schema, block.substr(0, size)));
        on_every_isa([&] {
            Decoder learnt(schema, dictionaries_of(schema));
            (void)lines(learnt, block);
            for (std::size_t size = 0; size <= block.size(); ++size) {
                const std::string_view bytes = guarded.put(std::string_view(block).substr(0, size));
                Decoded decoded;
                Outcome found;
                const Status status = learnt.decode_lines(bytes, origin_at(1), &decoded);
                found.add(status, decoded);
                same(expected[size], found, decode_isa() + " cut at byte " + std::to_string(size));
            }
            (void)messages(learnt, texts);
            for (const std::string_view text : texts)
                for (std::size_t size = 0; size <= text.size(); ++size) {
                    const std::string_view bytes = guarded.put(text.substr(0, size));
                    auto origin = origin_at(0);
                    origin->messages.push_back({bytes.data(), static_cast<std::uint32_t>(size), 0});
                    Decoded decoded;
                    CHECK(learnt.decode_messages(std::move(origin), &decoded).ok());
                    CHECK(decoded.counts.decoded == (size == text.size()));
                }
        });
    }
}

// Escapes, characters of several bytes and faults at every place of a block of 64 bytes and of eight of them,
// where most blocks hold some.
void test_unusual_blocks() {
    const std::vector<std::string> unusual = {R"(\/)",
                                              R"(\\)",
                                              R"(\\\")",
                                              R"(\u00e9)",
                                              R"(\ud83d\ude00)",
                                              R"(\x)",
                                              R"(\\\x)",
                                              "\"",
                                              "\\\"",
                                              "\t",
                                              "深圳市",
                                              "\xf0\x9f\x98\x80",
                                              "\xe6\xb7",
                                              "\xed\xa0\x80",
                                              "\x80",
                                              "\x01",
                                              std::string(130, '\\'),
                                              std::string(257, '\\')};
    std::vector<std::string> texts;
    for (std::size_t pad = 0; pad < 70; ++pad)
        for (const std::string& one : unusual)
            texts.push_back(R"({"id":"深\/)" + std::string(pad, 'x') + R"(","u":"圳\\)" + one +
                            R"(","v":[-1.5,true],"qty":)" + std::to_string(pad) + "}");
    const Texts all(texts.begin(), texts.end());
    CHECK(force_decode_isa("portable").ok());
    const Outcome expected = carefully(flat(), all);
    CHECK(expected.counts.rejected != 0 && 2 * expected.counts.decoded > expected.counts.messages);
    on_every_isa([&] {
        same(expected, messages(flat(), all), decode_isa() + " where most is unusual");
        const Outcome found = lines(flat(), joined(all));
        CHECK(found.columns == expected.columns && found.rejects == expected.rejects);
    });
}

// A character cut in front of plain text, where most is unusual: as lines, each message is cut one byte
// further behind a multiple of 512.
void test_cut_characters() {
    std::vector<std::string> texts;
    for (std::size_t i = 0; i < 256; ++i) {
        std::string text = R"({"id":")" + std::string(99, 'x');
        for (int j = 0; j < 300; ++j) text += "深";
        text += i % 2 == 0 ? "\xe6\xb7" : "xx";
        CHECK(text.size() == 2 * 512 - 16);
        texts.push_back(text + std::string(518, 'x') + R"(","qty":1})");
        CHECK(texts.back().size() + 1 == 3 * 512 + 1);
    }
    const Texts all(texts.begin(), texts.end());
    CHECK(force_decode_isa("portable").ok());
    const Outcome expected = carefully(flat(), all);
    CHECK(expected.counts.rejected != 0);
    on_every_isa([&] {
        const Outcome found = lines(flat(), joined(all));
        CHECK(found.columns == expected.columns && found.rejects == expected.rejects);
        CHECK(decode_isa() == "portable" || found.counts.speculated > found.counts.decoded / 2);
    });
}

// More messages than dictionaries are encoded at once, more rows than the lanes begin with, longer strings
// than a vector: alone and shorter, in any order.
void test_many_messages() {
    std::vector<std::string> texts;
    for (int i = 0; i < 3'000; ++i) {
        std::string text =
            R"({"id":")" + std::string(static_cast<std::size_t>(i * 37 % 200), 'x') + R"(","lines":[)";
        for (int line = 0; line < i % 4; ++line)
            text += std::string(line == 0 ? "" : ",") + R"({"sku":)" + std::to_string(i * 10 + line) +
                    (i % 3 == 0 ? R"(,"note":"n"})" : "}");
        texts.push_back(text + (i % 97 == 0 ? "" : "]}"));
    }
    Schema schema = order();
    Field tag = field("id", Type::dictionary);
    tag.name = "id_code";
    schema.fields[0] = tag;
    CHECK(force_decode_isa("portable").ok());
    const Outcome expected = carefully(schema, {texts.begin(), texts.end()});
    CHECK(expected.counts.rejected == 31 && expected.counts.rows > 4'000);
    on_every_isa(
        [&] { same(expected, messages(schema, {texts.begin(), texts.end()}), decode_isa() + " many"); });
}

// Messages of one layout, read a field at a time, of which some break anywhere: also where what follows a
// value would then begin in front of it.
void test_runs_that_break() {
    const std::pair<Schema, std::string> cases[] = {
        {flat(), std::string(kFlat[0])},
        {flat(), R"({"qty":1,      "price":2.5})"},
        {order(),
         R"({"id":"a","lines":[{"sku":1,"c":{"x":2}},{"sku":3,"c":{"x":4}},{"sku":5,"c":{"x":6}}]})"},
        {flat(), std::string(kUnknown[0])},
        {order(), std::string(kUnknownLines[0])},
    };
    for (const auto& [schema, text] : cases) {
        for (const std::size_t cut : {0, 1, 3, 8, 13}) {
            std::deque<std::string> broken;
            Texts texts;
            for (std::size_t at = 0; at + cut < text.size(); ++at) {
                texts.insert(texts.end(), 3 + at % 4, text);
                broken.push_back(text);
                broken.back().replace(at, cut, cut == 1 ? "\"" : cut == 8 ? "\"\"" : cut == 0 ? " " : "");
                texts.emplace_back(broken.back());
            }
            const Outcome expected = carefully(schema, texts);
            on_every_isa([&] { same(expected, messages(schema, texts), decode_isa() + " broken run"); });
        }
    }
}

// Messages of three producers, among each other by chance; some leave out what others say, some hold what no
// layout foretells, and some are broken.
void test_mixed_layouts() {
    Schema schema;
    schema.fields = {field("id", Type::string, 0, true), field("tag", Type::dictionary),
                     timestamp("time", kIso8601),        field("n", Type::int32),
                     field("price", Type::decimal),      field("note", Type::string),
                     field("ok", Type::boolean),         field("rate", Type::float64)};
    schema.fields[5].has_default = true;
    schema.fields[5].default_string = std::string(70, 'd');
    std::uint32_t state = 1;
    const auto below = [&state](std::uint32_t bound) {
        state = state * 1'664'525 + 1'013'904'223;
        return (state >> 16) % bound;
    };
    for (const std::uint32_t broken : {0U, 150U, 20U}) {
        std::deque<std::string> all;
        for (int i = 0; i < 1'500; ++i) {
            const std::string id =
                "\"id\":\"" + std::string(below(70), 'i') + (below(50) == 0 ? "\\n" : "") + '"';
            const std::string tag =
                "\"tag\":\"t" + std::to_string(below(20)) + (below(60) == 0 ? "\\u0041" : "") + '"';
            const std::string time = "\"time\":\"2026-11-11T00:00:0" + std::to_string(below(10)) + ".125Z\"";
            const std::string n = "\"n\":" + (below(40) == 0 ? "null" : std::to_string(below(9'000)));
            const std::string price =
                "\"price\":" + std::to_string(below(900)) + (below(30) == 0 ? "e-1" : ".25");
            std::string text;
            switch (below(3)) {
                case 0:
                    text = "{" + id + "," + tag + "," + time + "," + n + "," + price +
                           ",\"note\":\"x\",\"ok\":true}";
                    break;
                case 1:
                    text = "{\"v\":{\"app\":[" + std::to_string(below(2)) + ",\"a\"]}," + price + "," + tag +
                           "," + id + ",\"rate\":0.5,\"z\":null}";
                    break;
                default:
                    text = "{ " + time + " ," + n + ",\"u\":\"w\"," + id + " }";
            }
            if (broken != 0 && below(broken) == 0) text[below(static_cast<std::uint32_t>(text.size()))] = '}';
            all.push_back(text);
        }
        const Texts texts(all.begin(), all.end());
        const Outcome expected = carefully(schema, texts);
        CHECK(expected.counts.decoded > 1'400 && (expected.counts.rejected == 0) == (broken == 0));
        on_every_isa([&] { same(expected, messages(schema, texts), decode_isa() + " mixed layouts"); });
    }
}

void test_isa_names() {
    CHECK(!force_decode_isa("none").ok());
    CHECK(decode_isas().back() == "portable");
}

}  // namespace
}  // namespace omnistream

int main() {
    using namespace omnistream;
    on_every_isa([] {
        test_values();
        test_explode();
        test_explode_twice();
        test_defaults();
        test_array_messages();
        test_rejects();
        test_line_rejects();
        test_strict_utf8();
        test_unknown_fields_count();
        test_brackets_inside_unknown_values();
        test_size_limit_on_fast_path();
    });
    test_learning();
    test_departures();
    test_duplicate_keys();
    test_fast_path_leaves_no_trace();
    test_spaces_behind_messages();
    test_epochs();
    test_lines();
    test_line_feeds_are_not_learnt_for_lines();
    test_split_invariance();
    test_nothing_is_read_behind_the_end();
    test_unusual_blocks();
    test_cut_characters();
    test_many_messages();
    test_runs_that_break();
    test_mixed_layouts();
    test_unknown_numbers();
    test_escapes_in_unknown_strings();
    test_unknown_values_of_many_shapes();
    test_isa_names();
    return report("test_decode");
}
