// simdjson On-Demand on the work of workloads.py: every wanted field into columns, batch after batch.
//
//     simdjson_peer WORKLOAD ordered|unordered|iterate FILE
//
// It answers the lines of its standard input as worker.py describes. Written to be as fast as On-Demand
// allows: iterate_many over batches of 1 MiB, columns allocated once and without bounds checks, strings
// unescaped straight into the column, timestamps read from the raw bytes. README.md lists what it leaves out.
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "simdjson.h"
#ifdef __SSE2__
#include <immintrin.h>
#endif

namespace ondemand = simdjson::ondemand;
using Value = simdjson::simdjson_result<ondemand::value>;

namespace {

constexpr std::size_t kBatchBytes = 1 << 20;
// A batch of columns is cleared after the document in which kBatchBytes of input are passed, and no document
// is longer than that: so no column ever holds more bytes, or values.
constexpr std::size_t kColumnBytes = 2 * kBatchBytes;
constexpr std::size_t kColumnValues = kColumnBytes / 8;
constexpr double kScale = 1e4;

// ---- answers: checksums that do not depend on how a program holds its columns ----

class Crc32 {
public:
    void add(const void* data, std::size_t size) {
        static const Table kTable;
        const auto* byte = static_cast<const unsigned char*>(data);
        for (std::size_t i = 0; i < size; ++i) state_ = kTable.at[(state_ ^ byte[i]) & 255] ^ (state_ >> 8);
    }
    std::uint32_t value() const { return ~state_; }

private:
    struct Table {
        std::uint32_t at[256];
        Table() {
            for (std::uint32_t i = 0; i < 256; ++i) {
                at[i] = i;
                for (int bit = 0; bit < 8; ++bit)
                    at[i] = (at[i] >> 1) ^ ((at[i] & 1) != 0 ? 0xEDB88320u : 0u);
            }
        }
    };
    std::uint32_t state_ = 0xFFFFFFFF;
};

struct Digest {
    std::int64_t nulls = 0;
    Crc32 values;   // int64 lanes (decimals times 10^4, ms since 1970), or the bytes of strings
    Crc32 lengths;  // of strings, as int32
    bool strings = false;

    void add_number(std::int64_t value) { values.add(&value, sizeof value); }
    void add_string(std::string_view text) {
        const auto size = static_cast<std::int32_t>(text.size());
        strings = true;
        lengths.add(&size, sizeof size);
        values.add(text.data(), text.size());
    }
};

// ---- columns ----

struct Nulls {
    std::vector<std::uint32_t> rows;
    std::size_t digested = 0;
    // Rows are asked for in ascending order, perhaps more than once.
    bool at(std::size_t row) {
        while (digested < rows.size() && rows[digested] < row) ++digested;
        return digested < rows.size() && rows[digested] == row;
    }
    void clear() {
        rows.clear();
        digested = 0;
    }
    void repeat(const std::vector<std::size_t>& ends) {
        std::vector<std::uint32_t> lines;
        for (const std::uint32_t row : rows)
            for (std::size_t line = row == 0 ? 0 : ends[row - 1]; line < ends[row]; ++line)
                lines.push_back(static_cast<std::uint32_t>(line));
        rows = std::move(lines);
    }
};

// A value that could not be read is null when it is missing or says null; else the run ends.
[[gnu::noinline]] void expect_null(Value value) {
    if (value.error() == simdjson::NO_SUCH_FIELD) return;
    if (!value.value_unsafe().is_null()) throw std::runtime_error("a value of another type");
}

template <class T>
struct Lane {
    std::unique_ptr<T[]> values{new T[kColumnValues]};
    std::unique_ptr<T[]> repeated{new T[kColumnValues]};
    const T* shown = values.get();  // either of them
    std::size_t size = 0;
    Nulls nulls;

    simdjson_inline void push(T value) { values[size++] = value; }
    void push_null() {
        nulls.rows.push_back(static_cast<std::uint32_t>(size));
        push(T{});
    }
    void clear() {
        size = 0;
        shown = values.get();
        nulls.clear();
    }
    // A value for each line: message i has the lines [ends[i - 1], ends[i]). Most have few, so that a fixed
    // number of copies, some of them overwritten by the next, is faster than a loop that stops in time.
    void repeat(const std::vector<std::size_t>& ends) {
        constexpr std::size_t kCopies = 8;
        std::size_t line = 0;
        for (std::size_t i = 0; i < ends.size(); ++i) {
            const T value = values[i];
            for (; line < ends[i]; line += kCopies)
                for (std::size_t copy = 0; copy < kCopies; ++copy) repeated[line + copy] = value;
            line = ends[i];
        }
        shown = repeated.get();
        nulls.repeat(ends);
    }
};

struct Integers : Lane<std::int64_t> {
    simdjson_inline void read(ondemand::parser&, Value value) {
        std::int64_t number = 0;
        if (value.get(number) != simdjson::SUCCESS) [[unlikely]]
            return expect_null(value), push_null();
        push(number);
    }
    void digest(std::size_t row, Digest* out) {
        out->nulls += nulls.at(row);
        out->add_number(shown[row]);
    }
};

struct Decimals : Lane<double> {
    simdjson_inline void read(ondemand::parser&, Value value) {
        double number = 0;
        if (value.get(number) != simdjson::SUCCESS) [[unlikely]]
            return expect_null(value), push_null();
        push(number);
    }
    void digest(std::size_t row, Digest* out) {
        out->nulls += nulls.at(row);
        out->add_number(std::llround(shown[row] * kScale));
    }
};

struct DecimalsInStrings : Decimals {
    simdjson_inline void read(ondemand::parser&, Value value) {
        double number = 0;
        if (value.get_double_in_string().get(number) != simdjson::SUCCESS) [[unlikely]]
            return expect_null(value), push_null();
        push(number);
    }
};

simdjson_inline int two_digits(const char* text) {
    return (text[0] - '0') * 10 + text[1] - '0';
}

// YYYY-MM-DDThh:mm:ss to s since 1970; digits are taken on trust.
simdjson_inline std::int64_t seconds_since_epoch(const char* text) {
    int year = two_digits(text) * 100 + two_digits(text + 2);
    const int month = two_digits(text + 5);
    const int day = two_digits(text + 8);
    year -= month <= 2;
    const int era = year / 400;
    const int year_of_era = year - era * 400;
    const int day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    const int day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    const std::int64_t days = era * 146097LL + day_of_era - 719468;
    return ((days * 24 + two_digits(text + 11)) * 60 + two_digits(text + 14)) * 60 + two_digits(text + 17);
}

// Only the form that the file has: with milliseconds and Z.
struct Timestamps : Integers {
    simdjson_inline void read(ondemand::parser&, Value value) {
        ondemand::raw_json_string raw;
        if (value.get(raw) != simdjson::SUCCESS) [[unlikely]]
            return expect_null(value), push_null();
        const char* text = raw.raw();
        if (text[10] != 'T' || text[23] != 'Z' || text[24] != '"')
            throw std::runtime_error("not a timestamp");
        const int ms = (text[20] - '0') * 100 + two_digits(text + 21);
        push(seconds_since_epoch(text) * 1000 + ms);
    }
};

// Only the form that the file has: no fraction, an offset east of Greenwich.
struct LocalTimestamps : Integers {
    simdjson_inline void read(ondemand::parser&, Value value) {
        ondemand::raw_json_string raw;
        if (value.get(raw) != simdjson::SUCCESS) [[unlikely]]
            return expect_null(value), push_null();
        const char* text = raw.raw();
        if (text[10] != 'T' || text[19] != '+' || text[25] != '"')
            throw std::runtime_error("not a timestamp");
        const int offset_minutes = two_digits(text + 20) * 60 + two_digits(text + 23);
        push((seconds_since_epoch(text) - offset_minutes * 60) * 1000);
    }
};

struct Strings {
    static constexpr std::int32_t kBlock = 16;  // copied at a time
    // The unescape of simdjson writes 32 bytes at a time.
    std::unique_ptr<std::uint8_t[]> bytes{new std::uint8_t[kColumnBytes + simdjson::SIMDJSON_PADDING]};
    std::unique_ptr<std::uint8_t[]> repeated;
    std::size_t repeated_size = 0;
    const std::uint8_t* shown = bytes.get();  // either of them
    std::uint8_t* end = bytes.get();
    Lane<std::int32_t> ends;

    simdjson_inline void read(ondemand::parser& parser, Value value) {
        ondemand::raw_json_string raw;
        if (value.get(raw) != simdjson::SUCCESS) [[unlikely]]
            return expect_null(value), push_null();
        if (parser.unescape(raw, end).error() != simdjson::SUCCESS) throw std::runtime_error("not a string");
        ends.push(static_cast<std::int32_t>(end - bytes.get()));
    }
    void push_null() {
        ends.nulls.rows.push_back(static_cast<std::uint32_t>(ends.size));
        ends.push(static_cast<std::int32_t>(end - bytes.get()));
    }
    void clear() {
        end = bytes.get();
        shown = bytes.get();
        ends.clear();
    }
    std::int32_t size_at(std::size_t i) const { return ends.values[i] - (i == 0 ? 0 : ends.values[i - 1]); }
    void repeat(const std::vector<std::size_t>& lines) {
        std::size_t total = 0;
        for (std::size_t i = 0, line = 0; i < lines.size(); line = lines[i++])
            total += (lines[i] - line) * static_cast<std::size_t>(size_at(i));
        if (total + kBlock > repeated_size) {
            repeated_size = 2 * total + kBlock;
            repeated.reset(new std::uint8_t[repeated_size]);
        }
        std::size_t line = 0;
        std::int32_t at = 0;
        for (std::size_t i = 0; i < lines.size(); ++i) {
            const std::int32_t size = size_at(i);
            const std::uint8_t* text = bytes.get() + ends.values[i] - size;
            for (; line < lines[i]; ++line) {
                for (std::int32_t done = 0; done < size; done += kBlock)
                    std::memcpy(repeated.get() + at + done, text + done, kBlock);
                at += size;
                ends.repeated[line] = at;
            }
        }
        ends.shown = ends.repeated.get();
        ends.nulls.repeat(lines);
        shown = repeated.get();
    }
    void digest(std::size_t row, Digest* out) {
        const std::int32_t begin = row == 0 ? 0 : ends.shown[row - 1];
        out->nulls += ends.nulls.at(row);
        out->add_string({reinterpret_cast<const char*>(shown) + begin,
                         static_cast<std::size_t>(ends.shown[row] - begin)});
    }
};

// ---- dictionaries: the best table known to us for keys of up to 16 bytes ----

struct Words {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
    bool operator==(const Words&) const = default;
};

// Up to 16 bytes, zeros behind; 16 bytes can be read from `text` on, as simdjson pads all its buffers.
simdjson_inline Words load_words(const char* text, std::size_t size) {
    static constexpr std::uint64_t kMasks[] = {
        0, 0xFF, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF, 0xFFFFFFFFFF, 0xFFFFFFFFFFFF, 0xFFFFFFFFFFFFFF, ~0ull};
    Words words;
    std::memcpy(&words, text, sizeof words);
    words.low &= kMasks[size < 8 ? size : 8];
    words.high &= kMasks[size < 8 ? 0 : size - 8];
    return words;
}

simdjson_inline std::uint64_t hash(Words words) {
    const auto product =
        static_cast<unsigned __int128>(words.low ^ 0xa0761d6478bd642f) * (words.high ^ 0xe7037ed1a0b428db);
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

// Open addressing, keys inside the slots, at most half full, two slots to a cache line.
class Dictionary {
public:
    simdjson_inline void prefetch(std::uint64_t hash) const { __builtin_prefetch(&slots_[hash & mask_]); }

    simdjson_inline std::int32_t code(Words words, std::uint64_t hash) {
        for (std::size_t at = hash & mask_;; at = (at + 1) & mask_) {
            const Slot& slot = slots_[at];
            if (slot.words == words && slot.code >= 0) [[likely]]
                return slot.code;
            if (slot.code < 0) return insert(words, at);
        }
    }
    std::string_view text(std::int32_t code) const {
        const auto* bytes = reinterpret_cast<const char*>(&texts_[static_cast<std::size_t>(code)]);
        return {bytes, strnlen(bytes, sizeof(Words))};
    }

private:
    struct alignas(32) Slot {
        Words words;
        std::int32_t code = -1;
    };

    [[gnu::noinline]] std::int32_t insert(Words words, std::size_t at) {
        const auto code = static_cast<std::int32_t>(texts_.size());
        texts_.push_back(words);
        slots_[at] = {words, code};
        if (texts_.size() * 2 > slots_.size()) grow();
        return code;
    }
    void grow() {
        slots_.assign(slots_.size() * 2, Slot{});
        mask_ = slots_.size() - 1;
        for (std::size_t i = 0; i < texts_.size(); ++i) {
            std::size_t at = hash(texts_[i]) & mask_;
            while (slots_[at].code >= 0) at = (at + 1) & mask_;
            slots_[at] = {texts_[i], static_cast<std::int32_t>(i)};
        }
    }

    std::vector<Slot> slots_ = std::vector<Slot>(64);
    std::size_t mask_ = 63;
    std::vector<Words> texts_;
};

// The size of a string of up to 15 bytes that has no escape, found with one compare; else kNotShort.
// On-Demand has no such thing: without it every string goes through its unescape.
constexpr std::size_t kNotShort = 16;
simdjson_inline std::size_t short_size(const char* text) {
#ifdef __SSE2__
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(text));
    const auto quotes = static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'))));
    const auto escapes = static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'))));
    const unsigned before_quote = quotes & (0 - quotes);
    if (quotes == 0 || (escapes & (before_quote - 1)) != 0) return kNotShort;
    return static_cast<std::size_t>(__builtin_ctz(quotes));
#else
    return kNotShort;
#endif
}

// Codes of a categorical column. Lookups wait in groups, so that their cache misses overlap.
struct Codes {
    static constexpr std::size_t kGroup = 32;

    Dictionary dictionary;
    Lane<std::int32_t> lane;
    Words waiting[kGroup];
    std::uint64_t hashes[kGroup];
    std::size_t waits = 0;
    std::unique_ptr<std::uint8_t[]> unescaped{new std::uint8_t[kColumnBytes + simdjson::SIMDJSON_PADDING]};

    simdjson_inline void read(ondemand::parser& parser, Value value) {
        ondemand::raw_json_string raw;
        if (value.get(raw) != simdjson::SUCCESS) [[unlikely]]
            return expect_null(value), push_null();
        if (const std::size_t size = short_size(raw.raw()); size < kNotShort) [[likely]]
            return push({raw.raw(), size});
        std::uint8_t* end = unescaped.get();
        if (parser.unescape(raw, end).error() != simdjson::SUCCESS) throw std::runtime_error("not a string");
        push({reinterpret_cast<char*>(unescaped.get()), static_cast<std::size_t>(end - unescaped.get())});
    }
    simdjson_inline void push(std::string_view text) {
        if (text.size() > sizeof(Words)) throw std::runtime_error("a category of more than 16 bytes");
        waiting[waits] = load_words(text.data(), text.size());
        hashes[waits] = hash(waiting[waits]);
        dictionary.prefetch(hashes[waits]);
        if (++waits == kGroup) finish();
    }
    void finish() {
        for (std::size_t i = 0; i < waits; ++i) lane.push(dictionary.code(waiting[i], hashes[i]));
        waits = 0;
    }
    void push_null() {
        finish();
        lane.push_null();
    }
    void clear() {
        finish();
        lane.clear();
    }
    void repeat(const std::vector<std::size_t>& ends) {
        finish();
        lane.repeat(ends);
    }
    void digest(std::size_t row, Digest* out) {
        const bool null = lane.nulls.at(row);
        out->nulls += null;
        out->add_string(null ? std::string_view() : dictionary.text(lane.shown[row]));
    }
};

// ---- the shapes ----

enum class Find { ordered, unordered, iterate };

template <Find find>
simdjson_inline Value field(ondemand::object& object, std::string_view key) {
    return find == Find::ordered ? object.find_field(key) : object.find_field_unordered(key);
}

constexpr bool kMessage = false;
constexpr bool kLine = true;

// read() takes one document; each() visits the columns with their names and levels, in any order.

template <class Category, Find find>
struct Flat {
    Strings event_id, order_id, customer_id;
    Timestamps event_time;
    Category event_type, channel, store_id, sku, size, currency;
    Integers quantity;
    Decimals unit_price, unit_cost, discount;

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

template <class Category>
struct Nested {
    Strings event_id, order_id, customer_id, customer_phone, customer_address;
    Timestamps event_time;
    Category event_type, channel, store_id, sku, size, currency;
    Integers quantity;
    Decimals unit_price, unit_cost, discount;
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
        line_ends.push_back(quantity.size);
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
        line_ends.push_back(line_id.size);
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

// ---- the rounds ----

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
        rows += digest(shape, &digests, shape.quantity.size);
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

int serve_workload(const std::string& workload, const std::string& find, const char* path) {
    if (workload == "flat" || workload == "mixed" || workload == "shuffled") {
        if (find == "unordered") return serve<Flat<Strings, Find::unordered>>(path);
        if (find == "iterate") return serve<Flat<Strings, Find::iterate>>(path);
        return serve<Flat<Strings, Find::ordered>>(path);
    }
    if (workload == "flat_dictionary") return serve<Flat<Codes, Find::ordered>>(path);
    if (workload == "nested" || workload == "pretty") return serve<Nested<Strings>>(path);
    if (workload == "nested_dictionary") return serve<Nested<Codes>>(path);
    if (workload == "wide") return serve<Wide>(path);
    if (workload == "shopify") return serve<Shopify>(path);
    std::fprintf(stderr, "unknown workload %s\n", workload.c_str());
    return 2;
}

}  // namespace

int main(int count, char** arguments) {
    if (count == 4) return serve_workload(arguments[1], arguments[2], arguments[3]);
    std::fprintf(stderr, "usage: simdjson_peer WORKLOAD ordered|unordered|iterate FILE\n");
    return 2;
}
