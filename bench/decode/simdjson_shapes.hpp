// What the documents of each workload hold, and how their fields are found.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "simdjson_columns.hpp"
#include "simdjson_dictionary.hpp"
#include "simdjson_plain.hpp"

namespace peer {

enum class Find { ordered, unordered, iterate };

template <Find find>
simdjson_inline Value field(ondemand::object& object, std::string_view key) {
    return find == Find::ordered ? object.find_field(key) : object.find_field_unordered(key);
}

constexpr bool kMessage = false;
constexpr bool kLine = true;

// What the columns of an order are.
struct FastColumns {
    using Text = Strings;
    using Category = Strings;
    using Time = Timestamps;
    using Integer = Integers;
    using Decimal = Decimals;
};
struct CodedColumns : FastColumns {
    using Category = Codes;
};
struct PlainColumns {
    using Text = PlainStrings;
    using Category = PlainStrings;
    using Time = PlainTimestamps;
    using Integer = PlainIntegers;
    using Decimal = PlainDecimals;
};

// read() takes one document; each() visits the columns with their names and levels, in any order.

template <class Columns, Find find>
struct Flat {
    typename Columns::Text event_id, order_id, customer_id;
    typename Columns::Time event_time;
    typename Columns::Category event_type, channel, store_id, sku, size, currency;
    typename Columns::Integer quantity;
    typename Columns::Decimal unit_price, unit_cost, discount;

    simdjson_inline void read(ondemand::parser& parser, ondemand::object object) {
        if constexpr (find == Find::iterate) return read_any(parser, object);
        event_id.read(parser, field<find>(object, "event_id"));
        event_type.read(parser, field<find>(object, "event_type"));
        event_time.read(parser, field<find>(object, "event_time"));
        order_id.read(parser, field<find>(object, "order_id"));
        channel.read(parser, field<find>(object, "channel"));
        store_id.read(parser, field<find>(object, "store_id"));
        customer_id.read(parser, field<find>(object, "customer_id"));
        sku.read(parser, field<find>(object, "sku"));
        size.read(parser, field<find>(object, "size"));
        quantity.read(parser, field<find>(object, "qty"));
        unit_price.read(parser, field<find>(object, "unit_price"));
        unit_cost.read(parser, field<find>(object, "unit_cost"));
        discount.read(parser, field<find>(object, "discount"));
        currency.read(parser, field<find>(object, "currency"));
    }

    // Every field as it comes, its column found in a table of keys.
    simdjson_inline void read_any(ondemand::parser& parser, ondemand::object object) {
        unsigned seen = 0;
        for (auto each : object) {
            const std::string_view key = each.escaped_key();
            if (key.size() > sizeof(Words)) continue;
            const Words words = load_words(key.data(), key.size());
            const std::int32_t which = keys.code(words, hash(words));
            const unsigned bit = which < kFields ? 1u << which : 0;
            if ((seen & bit) != 0) continue;
            seen |= bit;
            switch (which) {
                case 0:
                    event_id.read(parser, each.value());
                    break;
                case 1:
                    event_type.read(parser, each.value());
                    break;
                case 2:
                    event_time.read(parser, each.value());
                    break;
                case 3:
                    order_id.read(parser, each.value());
                    break;
                case 4:
                    channel.read(parser, each.value());
                    break;
                case 5:
                    store_id.read(parser, each.value());
                    break;
                case 6:
                    customer_id.read(parser, each.value());
                    break;
                case 7:
                    sku.read(parser, each.value());
                    break;
                case 8:
                    size.read(parser, each.value());
                    break;
                case 9:
                    quantity.read(parser, each.value());
                    break;
                case 10:
                    unit_price.read(parser, each.value());
                    break;
                case 11:
                    unit_cost.read(parser, each.value());
                    break;
                case 12:
                    discount.read(parser, each.value());
                    break;
                case 13:
                    currency.read(parser, each.value());
                    break;
                default:
                    break;
            }
        }
        if (seen == (1u << kFields) - 1) [[likely]]
            return;
        int which = 0;
        each([&](const char*, auto& column, bool) {
            if ((seen >> which++ & 1) == 0) column.push_null();
        });
    }

    template <class Visit>
    void each(Visit&& visit) {
        visit("event_id", event_id, kMessage);
        visit("event_type", event_type, kMessage);
        visit("event_time", event_time, kMessage);
        visit("order_id", order_id, kMessage);
        visit("channel", channel, kMessage);
        visit("store_id", store_id, kMessage);
        visit("customer_id", customer_id, kMessage);
        visit("sku", sku, kMessage);
        visit("size", size, kMessage);
        visit("quantity", quantity, kMessage);
        visit("unit_price", unit_price, kMessage);
        visit("unit_cost", unit_cost, kMessage);
        visit("discount", discount, kMessage);
        visit("currency", currency, kMessage);
    }

    static constexpr int kFields = 14;
    Dictionary keys;
    Flat() {
        for (const std::string_view key :
             {"event_id", "event_type", "event_time", "order_id", "channel", "store_id", "customer_id", "sku",
              "size", "qty", "unit_price", "unit_cost", "discount", "currency"}) {
            char padded[sizeof(Words)] = {};
            std::memcpy(padded, key.data(), key.size());
            const Words words = load_words(padded, key.size());
            keys.code(words, hash(words));
        }
    }
};

template <class Columns>
struct Nested {
    typename Columns::Text event_id, order_id, customer_id, customer_phone, customer_address;
    typename Columns::Time event_time;
    typename Columns::Category event_type, channel, store_id, sku, size, currency;
    typename Columns::Integer quantity;
    typename Columns::Decimal unit_price, unit_cost, discount;
    std::vector<std::size_t> line_ends;

    simdjson_inline void read(ondemand::parser& parser, ondemand::object object) {
        event_id.read(parser, object.find_field("event_id"));
        event_type.read(parser, object.find_field("event_type"));
        event_time.read(parser, object.find_field("event_time"));
        order_id.read(parser, object.find_field("order_id"));
        channel.read(parser, object.find_field("channel"));
        store_id.read(parser, object.find_field("store_id"));
        ondemand::object customer = object.find_field("customer").get_object();
        customer_id.read(parser, customer.find_field("id"));
        customer_phone.read(parser, customer.find_field("phone"));
        customer_address.read(parser, customer.find_field("address"));
        currency.read(parser, object.find_field("currency"));
        for (ondemand::object line : object.find_field("lines").get_array()) {
            sku.read(parser, line.find_field("sku"));
            size.read(parser, line.find_field("size"));
            quantity.read(parser, line.find_field("qty"));
            unit_price.read(parser, line.find_field("unit_price"));
            unit_cost.read(parser, line.find_field("unit_cost"));
            discount.read(parser, line.find_field("discount"));
        }
        line_ends.push_back(quantity.rows());
    }

    template <class Visit>
    void each(Visit&& visit) {
        visit("event_id", event_id, kMessage);
        visit("event_type", event_type, kMessage);
        visit("event_time", event_time, kMessage);
        visit("order_id", order_id, kMessage);
        visit("channel", channel, kMessage);
        visit("store_id", store_id, kMessage);
        visit("customer_id", customer_id, kMessage);
        visit("customer_phone", customer_phone, kMessage);
        visit("customer_address", customer_address, kMessage);
        visit("currency", currency, kMessage);
        visit("sku", sku, kLine);
        visit("size", size, kLine);
        visit("quantity", quantity, kLine);
        visit("unit_price", unit_price, kLine);
        visit("unit_cost", unit_cost, kLine);
        visit("discount", discount, kLine);
    }
};

struct Wide {
    Strings event_id, channel, sku;
    Timestamps event_time;
    Integers quantity;
    Decimals unit_price;

    simdjson_inline void read(ondemand::parser& parser, ondemand::object object) {
        event_id.read(parser, object.find_field("event_id"));
        event_time.read(parser, object.find_field("event_time"));
        channel.read(parser, object.find_field("channel"));
        sku.read(parser, object.find_field("sku"));
        quantity.read(parser, object.find_field("qty"));
        unit_price.read(parser, object.find_field("unit_price"));
    }

    template <class Visit>
    void each(Visit&& visit) {
        visit("event_id", event_id, kMessage);
        visit("event_time", event_time, kMessage);
        visit("channel", channel, kMessage);
        visit("sku", sku, kMessage);
        visit("quantity", quantity, kMessage);
        visit("unit_price", unit_price, kMessage);
    }
};

// Whether it is JSON, by reading it.
inline void check(ondemand::value value) {
    switch (value.type()) {
        case ondemand::json_type::object:
            for (auto each : value.get_object()) {
                each.unescaped_key().value();
                check(each.value());
            }
            break;
        case ondemand::json_type::array:
            for (auto each : value.get_array()) check(each.value());
            break;
        case ondemand::json_type::string:
            value.get_string().value();
            break;
        case ondemand::json_type::number:
            value.get_number().value();
            break;
        case ondemand::json_type::boolean:
            value.get_bool().value();
            break;
        default:
            if (!value.is_null()) throw std::runtime_error("not JSON");
    }
}

// Wide, but what is not wanted is read as well.
struct CheckedWide : Wide {
    simdjson_inline void read(ondemand::parser& parser, ondemand::object object) {
        constexpr const char* kKeys[] = {"event_id", "event_time", "channel", "sku", "qty", "unit_price", ""};
        std::size_t next = 0;
        for (auto each : object) {
            const std::string_view key = each.unescaped_key();
            if (key != kKeys[next]) {
                check(each.value());
                continue;
            }
            switch (next++) {
                case 0:
                    event_id.read(parser, each.value());
                    break;
                case 1:
                    event_time.read(parser, each.value());
                    break;
                case 2:
                    channel.read(parser, each.value());
                    break;
                case 3:
                    sku.read(parser, each.value());
                    break;
                case 4:
                    quantity.read(parser, each.value());
                    break;
                default:
                    unit_price.read(parser, each.value());
            }
        }
    }
};

struct Shopify {
    Integers order_id, customer_id, line_id, quantity;
    LocalTimestamps created_at;
    Strings currency, financial_status, order_name, source_name, sku;
    DecimalsInStrings unit_price, discount;
    std::vector<std::size_t> line_ends;

    simdjson_inline void read(ondemand::parser& parser, ondemand::object object) {
        order_id.read(parser, object.find_field("id"));
        created_at.read(parser, object.find_field("created_at"));
        currency.read(parser, object.find_field("currency"));
        financial_status.read(parser, object.find_field("financial_status"));
        order_name.read(parser, object.find_field("name"));
        source_name.read(parser, object.find_field("source_name"));
        ondemand::object customer = object.find_field("customer").get_object();
        customer_id.read(parser, customer.find_field("id"));
        for (ondemand::object line : object.find_field("line_items").get_array()) {
            line_id.read(parser, line.find_field("id"));
            unit_price.read(parser, line.find_field("price"));
            quantity.read(parser, line.find_field("quantity"));
            sku.read(parser, line.find_field("sku"));
            discount.read(parser, line.find_field("total_discount"));
        }
        line_ends.push_back(line_id.rows());
    }

    template <class Visit>
    void each(Visit&& visit) {
        visit("order_id", order_id, kMessage);
        visit("created_at", created_at, kMessage);
        visit("currency", currency, kMessage);
        visit("financial_status", financial_status, kMessage);
        visit("order_name", order_name, kMessage);
        visit("source_name", source_name, kMessage);
        visit("customer_id", customer_id, kMessage);
        visit("line_id", line_id, kLine);
        visit("unit_price", unit_price, kLine);
        visit("quantity", quantity, kLine);
        visit("sku", sku, kLine);
        visit("discount", discount, kLine);
    }
};

}  // namespace peer
