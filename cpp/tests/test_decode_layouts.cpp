// A layout that was learnt makes decoding fast, and changes nothing that it gives.
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "decoding.hpp"

namespace omnistream {
namespace {

// ---- one message ----

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

// ---- many messages ----

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
        for (int i = 0; i < 4'500; ++i) {
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
        CHECK(expected.counts.decoded > 4'200 && (expected.counts.rejected == 0) == (broken == 0));
        on_every_isa([&] { same(expected, messages(schema, texts), decode_isa() + " mixed layouts"); });
    }
}

}  // namespace
}  // namespace omnistream

int main() {
    using namespace omnistream;
    on_every_isa([] { test_size_limit_on_fast_path(); });
    test_learning();
    test_departures();
    test_duplicate_keys();
    test_fast_path_leaves_no_trace();
    test_spaces_behind_messages();
    test_line_feeds_are_not_learnt_for_lines();
    test_unusual_blocks();
    test_cut_characters();
    test_many_messages();
    test_runs_that_break();
    test_mixed_layouts();
    return report("test_decode_layouts");
}
