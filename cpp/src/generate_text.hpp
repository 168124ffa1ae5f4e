// One event of an order as JSON, and how it is damaged.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "generate_chance.hpp"
#include "generate_digits.hpp"
#include "generate_shop.hpp"
#include "omnistream/generate.hpp"

namespace omnistream::shop {

inline char* put(char* at, std::string_view text) {
    std::memcpy(at, text.data(), text.size());
    return at + text.size();
}

inline char* put_cents(char* at, std::uint64_t cents) {
    at = put_digits(at, cents / 100, 1);
    *at++ = '.';
    return put_pair(at, cents % 100);
}

inline char* put_hex(char* at, std::uint64_t value) {
    for (int i = 60; i >= 0; i -= 4) *at++ = "0123456789abcdef"[value >> i & 15];
    return at;
}

// Event times of a stream share their day nearly always.
class Days {
public:
    // "2026-11-11"
    std::string_view dashed(std::int64_t day) { return {of(day).dashed, 10}; }
    // "20261111"
    std::string_view plain(std::int64_t day) { return {of(day).plain, 8}; }

private:
    struct Text {
        std::int64_t day = -1;
        char dashed[10];
        char plain[8];
    };
    const Text& of(std::int64_t day) {
        Text& text = texts_[day & 63];
        if (text.day != day) {
            const std::chrono::year_month_day date{std::chrono::sys_days{std::chrono::days{day}}};
            const auto year = static_cast<std::uint64_t>(static_cast<int>(date.year()));
            const auto month = static_cast<unsigned>(date.month());
            const auto day_of_month = static_cast<unsigned>(date.day());
            put_pair(put_pair(put_digits(text.plain, year, 4), month), day_of_month);
            std::memcpy(text.dashed, text.plain, 4);
            text.dashed[4] = text.dashed[7] = '-';
            std::memcpy(text.dashed + 5, text.plain + 4, 2);
            std::memcpy(text.dashed + 8, text.plain + 6, 2);
            text.day = day;
        }
        return text;
    }
    Text texts_[64];
};

inline char* put_time(char* at, std::int64_t time_ms, Days* days) {
    at = put(at, days->dashed(time_ms / kDay));
    const auto of_day = static_cast<std::uint32_t>(time_ms % kDay);
    const std::uint32_t seconds = of_day / 1000;
    *at++ = 'T';
    at = put_pair(at, seconds / 3600);
    *at++ = ':';
    at = put_pair(at, seconds / 60 % 60);
    *at++ = ':';
    at = put_pair(at, seconds % 60);
    *at++ = '.';
    at = put_digits(at, of_day % 1000, 3);
    *at++ = 'Z';
    return at;
}

constexpr std::string_view kStreets[] = {
    "上海市浦东新区世纪大道", "北京市朝阳区建国路",
    "广州市天河区体育西路",   "深圳市南山区科技园南路",
    "杭州市西湖区文三路",     "成都市武侯区天府大道",
    "福建省晋江市长兴路",     "厦门市思明区湖滨南路",
    "南京市鼓楼区中山北路",   "武汉市洪山区珞喻路",
    "西安市雁塔区小寨东路",   "重庆市渝中区解放碑步行街",
    "天津市和平区南京路",     "苏州市姑苏区观前街",
    "青岛市市南区香港中路",   "内蒙古自治区呼和浩特市新城区新华大街",
};

inline char* put_line_fields(char* at, const OrderLine& line) {
    at = put(at, R"("sku":")");
    at = put(at, {line.option->sku, sizeof line.option->sku});
    at = put(at, line.size);
    at = put(at, R"(","size":")");
    at = put(at, line.size);
    at = put(at, R"(","qty":)");
    at = put_digits(at, line.quantity, 1);
    at = put(at, R"(,"unit_price":)");
    at = put_cents(at, line.option->price_cents);
    at = put(at, R"(,"unit_cost":)");
    at = put_cents(at, line.cost_cents);
    at = put(at, R"(,"discount":)");
    return put_cents(at, line.discount_percent);
}

// One message without its newline. Both shapes are in the order of their keys in the built-in schemas.
inline char* put_event(char* at, const Order& order, Stage stage, std::uint64_t id_seed, std::int64_t time_ms,
                       bool nested, Days* days) {
    at = put(at, R"({"event_id":")");
    at = put_hex(at, mix(id_seed));
    at = put_hex(at, mix(~id_seed));
    at = put(at, R"(","event_type":")");
    at = put(at, kEventTypes[static_cast<int>(stage)]);
    at = put(at, R"(","event_time":")");
    at = put_time(at, time_ms, days);
    at = put(at, R"(","order_id":"O)");
    at = put(at, days->plain(order.created_ms / kDay));
    at = put_digits(at, order.number, 7);
    at = put(at, R"(","channel":")");
    at = put(at, kChannels[order.channel]);
    at = put(at, R"(","store_id":"S)");
    at = put_digits(at, order.store, 4);
    if (!nested) {
        at = put(at, R"(","customer_id":"C)");
        at = put_digits(at, order.customer, 7);
        at = put(at, R"(",)");
        at = put_line_fields(at, order.lines[0]);
        return put(at, R"(,"currency":"CNY"})");
    }
    const std::uint64_t person = mix(order.customer);
    at = put(at, R"(","customer":{"id":"C)");
    at = put_digits(at, order.customer, 7);
    at = put(at, R"(","phone":"1)");
    at = put_digits(at, 3'000'000'000 + person % 7'000'000'000, 10);
    at = put(at, R"(","address":")");
    at = put(at, kStreets[person >> 40 & 15]);
    at = put_digits(at, 1 + (person >> 48) % 1999, 1);
    at = put(at, R"(号"},"currency":"CNY","lines":[)");
    for (int i = 0; i < order.line_count; ++i) {
        if (i != 0) *at++ = ',';
        *at++ = '{';
        at = put_line_fields(at, order.lines[i]);
        *at++ = '}';
    }
    return put(at, "]}");
}

// The longest message that put_event writes is about 1,200 bytes.
constexpr std::size_t kRoomForEvent = 2048;
// Blocks up to this size are built without growing.
constexpr std::size_t kMostReserved = 64 << 20;

// ---- dirt ----

constexpr int kTooDeep = 200;

// The first value of a key, quotes included; every key of the two shapes is there once or in the first line.
inline void replace_value(std::string* message, std::string_view key, std::string_view value) {
    const std::size_t start = message->find(key) + key.size();
    const bool quoted = (*message)[start] == '"';
    const std::size_t end = quoted ? message->find('"', start + 1) + 1 : message->find_first_of(",}", start);
    message->replace(start, end - start, value);
}

inline void damage(std::string* message, int kind, std::uint64_t random) {
    constexpr std::string_view store = R"("store_id":"S)";
    const std::string_view name = kDirtKinds[kind].name;
    if (name == "truncated") {
        message->resize(1 + random % (message->size() - 1));
    } else if (name == "glued") {
        message->append(*message);
    } else if (name == "nul_byte") {
        (*message)[message->find(store) + store.size()] = '\0';
    } else if (name == "invalid_utf8") {
        (*message)[message->find(store) + store.size()] = '\xff';
    } else if (name == "wrong_type") {
        replace_value(message, R"("unit_price":)", R"("N/A")");
    } else if (name == "missing_field") {
        const std::size_t start = message->find(R"("sku":)");
        message->erase(start, message->find(R"("size":)") - start);
    } else if (name == "null_field") {
        replace_value(message, R"("sku":)", "null");
    } else if (name == "bad_timestamp") {
        replace_value(message, R"("event_time":)", R"("2026-13-32T25:61:00Z")");
    } else if (name == "out_of_range") {
        replace_value(message, R"("unit_price":)", "1e30");
    } else if (name == "inexact_number") {
        replace_value(message, R"("qty":)", "1.5");
    } else if (name == "not_an_object") {
        *message = R"("heartbeat")";
    } else if (name == "deep_nesting") {
        message->pop_back();
        message->append(R"(,"trace":)").append(kTooDeep, '[').append(kTooDeep, ']').append("}");
    } else if (name == "duplicate_keys") {
        message->insert(message->find(R"("qty":)"), R"("qty":null,)");
    } else if (name == "negative_quantity") {
        replace_value(message, R"("qty":)", "-1");
    } else if (name == "absurd_price") {
        replace_value(message, R"("unit_price":)", "12345678.90");
    } else if (name == "unknown_event_type") {
        replace_value(message, R"("event_type":)", R"("refund_pending")");
    } else {  // wrong_clock
        replace_value(message, R"("event_time":)", R"("1970-01-01T00:00:12.345Z")");
    }
}

}  // namespace omnistream::shop
