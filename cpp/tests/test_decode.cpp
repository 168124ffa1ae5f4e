// Native tests of decode: what only the core can show. The meaning of every value and reason is held against
// the reference in tests/conformance/.
#include <sys/mman.h>
#include <unistd.h>

#include <string>
#include <string_view>
#include <vector>

#include "decoding.hpp"

namespace omnistream {
namespace {

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

// ---- rejects ----

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

// ---- instruction sets ----

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
    });
    test_epochs();
    test_lines();
    test_split_invariance();
    test_nothing_is_read_behind_the_end();
    test_isa_names();
    return report("test_decode");
}
