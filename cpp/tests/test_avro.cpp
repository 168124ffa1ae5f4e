// Avro on arbitrary bytes: nothing is read that is not there, and a broken message harms no other.
#include <random>
#include <string>
#include <vector>

#include "check.hpp"
#include "decoded.hpp"
#include "omnistream/avro.hpp"

using namespace omnistream;

namespace {

void put_long(std::int64_t value, std::string* out) {
    auto raw = static_cast<std::uint64_t>(value) << 1 ^ static_cast<std::uint64_t>(value >> 63);
    for (; raw > 0x7f; raw >>= 7) *out += static_cast<char>((raw & 0x7f) | 0x80);
    *out += static_cast<char>(raw);
}

void put_text(std::string_view text, std::string* out) {
    put_long(static_cast<std::int64_t>(text.size()), out);
    *out += text;
}

Schema order_schema() {
    Schema schema;
    schema.fields = {
        field("id", Type::string, 0, true), field("kind", Type::dictionary),
        timestamp("at", kIso8601),          field("customer.id", Type::string),
        field("paid", Type::boolean),       field("sku", Type::dictionary, 1, true),
        field("qty", Type::int32, 1),       field("price", Type::decimal, 1, true),
        field("weight", Type::float64, 1),  field("note", Type::string, 1),
    };
    schema.fields[6].coerce = true;
    schema.explode = {{{"lines"}, "lines[]"}};
    schema.max_depth = 12;
    return schema;
}

// What order_schema() asks for, and between it what it does not: maps, fixed bytes, a record that holds
// itself.
AvroSchema writer() {
    AvroSchema types(17);
    types[0] = {AvroType::record,
                AvroType::plain,
                {"trace", "id", "kind", "at", "customer", "paid", "hash", "lines", "previous"},
                {12, 2, 3, 4, 6, 7, 8, 9, 16},
                0,
                0};
    types[1] = {AvroType::null, AvroType::plain, {}, {}, 0, 0};
    types[2] = {AvroType::string, AvroType::plain, {}, {}, 0, 0};
    types[3] = {AvroType::enumeration, AvroType::plain, {"created", "paid"}, {}, 0, 0};
    types[4] = {AvroType::integer, AvroType::moment, {}, {}, 1'000, 0};
    types[5] = {AvroType::record, AvroType::plain, {"id"}, {2}, 0, 0};
    types[6] = {AvroType::either, AvroType::plain, {}, {1, 5}, 0, 0};
    types[7] = {AvroType::boolean, AvroType::plain, {}, {}, 0, 0};
    types[8] = {AvroType::fixed, AvroType::plain, {}, {}, 4, 0};
    types[9] = {AvroType::array, AvroType::plain, {}, {10}, 0, 0};
    types[10] = {AvroType::record,
                 AvroType::plain,
                 {"sku", "qty", "price", "weight", "note"},
                 {2, 11, 13, 14, 15},
                 0,
                 0};
    types[11] = {AvroType::integer, AvroType::plain, {}, {}, 0, 0};
    types[12] = {AvroType::map, AvroType::plain, {}, {9}, 0, 0};
    types[13] = {AvroType::bytes, AvroType::decimal, {}, {}, 0, 2};
    types[14] = {AvroType::float64, AvroType::plain, {}, {}, 0, 0};
    types[15] = {AvroType::either, AvroType::plain, {}, {2, 1}, 0, 0};
    types[16] = {AvroType::either, AvroType::plain, {}, {1, 0}, 0, 0};
    return types;
}

void put_lines(int lines, std::string* out) {
    if (lines != 0) put_long(lines, out);
    for (int line = 0; line < lines; ++line) {
        put_text("BOOT-" + std::to_string(line), out);
        put_long(line - 1, out);
        put_text(std::string("\x27\x0f", 2), out);  // 99.99
        out->append("\0\0\0\0\0\0\xf8\x3f", 8);     // 1.5
        put_long(line & 1, out);
        if ((line & 1) == 0) put_text("note", out);
    }
    put_long(0, out);
}

std::string order(int lines, int depth = 0) {
    std::string out;
    put_long(1, &out);
    put_text("where", &out);
    put_lines(lines, &out);
    put_long(0, &out);
    put_text("e-" + std::to_string(lines), &out);
    put_long(lines & 1, &out);
    put_long(1'700'000'000'000'000, &out);
    put_long(1, &out);
    put_text("c-1", &out);
    out += '\1';
    out += "hash";
    put_lines(lines, &out);
    put_long(depth != 0, &out);
    if (depth != 0) out += order(lines, depth - 1);
    return out;
}

std::string framed(std::uint32_t id, std::string_view body) {
    std::string out(1, '\0');
    for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(id >> shift & 0xff);
    return out.append(body);
}

struct Run {
    Decoded decoded;
    std::vector<ExactBytes> bytes;  // every message ends where its allocation ends
};

void decode(AvroDecoder* decoder, const std::vector<std::string>& messages, Run* run) {
    auto origin = std::make_shared<Origin>();
    for (const std::string& message : messages) {
        const std::string_view view = run->bytes.emplace_back(message).view();
        origin->messages.push_back({view.data(), static_cast<std::uint32_t>(view.size()),
                                    static_cast<std::int32_t>(origin->messages.size())});
    }
    CHECK(decoder->decode_messages(origin, &run->decoded).ok());
    const DecodeCounts& counts = run->decoded.counts;
    CHECK(counts.messages == static_cast<std::int64_t>(messages.size()));
    CHECK(counts.messages == counts.decoded + counts.rejected);
    CHECK(counts.rejected == static_cast<std::int64_t>(run->decoded.rejects.size()));
    for (const Reject& reject : run->decoded.rejects)
        CHECK(reject.byte_offset <=
              static_cast<std::int32_t>(messages[static_cast<std::size_t>(reject.message)].size()));
}

void test_orders() {
    const Schema schema = order_schema();
    AvroDecoder decoder(schema, dictionaries_of(schema), true);
    CHECK(decoder.learn(3, writer()).ok());
    Run run;
    decode(&decoder, {framed(3, order(2)), framed(3, order(0, 2)), framed(4, order(1)), framed(3, order(1))},
           &run);
    CHECK(run.decoded.counts.decoded == 3);
    CHECK(run.decoded.counts.empty == 1);
    CHECK(run.decoded.batch->rows == 3);
    CHECK(run.decoded.batch->find("price")->lanes<std::int64_t>()[1] == 999'900);
    CHECK(run.decoded.batch->find("at")->lanes<std::int64_t>()[2] == 1'700'000'000'000);
    CHECK(run.decoded.rejects[0].reason == static_cast<std::int32_t>(DecodeReason::unknown_schema));
}

// Every order broken at every byte, a whole one after each.
void test_broken_at_every_byte() {
    const Schema schema = order_schema();
    AvroDecoder decoder(schema, dictionaries_of(schema), true);
    CHECK(decoder.learn(3, writer()).ok());
    const std::string whole = framed(3, order(3, 1));
    std::mt19937 random(11);
    static constexpr std::int64_t kNumbers[] = {0, 1, -1, 64, 1 << 20, INT64_MAX, INT64_MIN, -(1LL << 40)};
    std::vector<std::string> messages;
    for (std::size_t at = 0; at <= whole.size(); ++at) {
        std::vector<std::string> broken{whole.substr(0, at)};
        for (const std::int64_t number : kNumbers) {
            std::string changed = whole.substr(0, at);
            put_long(number, &changed);
            broken.push_back(changed);
            broken.push_back(changed + whole.substr(at));
            if (at != whole.size()) broken.push_back(changed + whole.substr(at + 1));
        }
        for (int bit = 0; bit < 8 && at != whole.size(); ++bit) {
            broken.push_back(whole);
            broken.back()[at] = static_cast<char>(broken.back()[at] ^ (1 << bit));
        }
        for (int i = 0; i < 20; ++i) {
            std::string noise = whole.substr(0, at);
            for (std::size_t rest = random() % 40; rest != 0; --rest) noise += static_cast<char>(random());
            broken.push_back(noise);
        }
        for (std::string& each : broken) {
            messages.push_back(std::move(each));
            messages.push_back(whole);
        }
    }
    Run run;
    decode(&decoder, messages, &run);
    CHECK(run.decoded.counts.rejected > 1'000);
    std::vector<int> rows(messages.size());
    for (const std::int32_t message : run.decoded.batch->row_message)
        ++rows[static_cast<std::size_t>(message)];
    for (std::size_t i = 1; i < rows.size(); i += 2) CHECK(rows[i] == 3);
}

void test_schemas_that_are_none() {
    const Schema schema = order_schema();
    AvroDecoder decoder(schema, dictionaries_of(schema), true);
    CHECK(!decoder.learn(1, {}).ok());
    AvroSchema outside = writer();
    outside[0].children[2] = 99;
    CHECK(!decoder.learn(1, outside).ok());
    AvroSchema uneven = writer();
    uneven[0].names.pop_back();
    CHECK(!decoder.learn(1, uneven).ok());
}

}  // namespace

int main() {
    test_orders();
    test_broken_at_every_byte();
    test_schemas_that_are_none();
    return report("test_avro");
}
