#include "omnistream/rejects.hpp"

#include <charconv>
#include <cmath>
#include <cstdio>

#include "omnistream/dictionary.hpp"

namespace omnistream {
namespace {

class TextColumn {
public:
    explicit TextColumn(std::string name, Type type = Type::string) {
        column_.name = std::move(name);
        column_.type = type;
        offsets_.push_back(0);
    }
    void add(std::string_view text) { add(text, true); }
    void add(std::string_view text, bool valid) {
        const std::size_t row = offsets_.size() - 1;
        bytes_.append(text.data(), text.size());
        offsets_.push_back(static_cast<std::int32_t>(bytes_.size()));
        if ((row & 7) == 0) bits_.push_back(0);
        bits_.back() |= static_cast<std::uint8_t>(static_cast<unsigned>(valid) << (row & 7));
        column_.null_count += !valid;
    }
    Column finish() {
        column_.length = static_cast<std::int64_t>(offsets_.size()) - 1;
        if (column_.null_count != 0) column_.validity = bits_.finish();
        column_.offsets = offsets_.finish();
        column_.values = bytes_.finish();
        return std::move(column_);
    }

private:
    Column column_;
    Array<std::int32_t> offsets_;
    Array<char> bytes_;
    Array<std::uint8_t> bits_;
};

template <class T>
class LaneColumn {
public:
    LaneColumn(std::string name, Type type) {
        column_.name = std::move(name);
        column_.type = type;
    }
    void add(T value, bool valid = true) {
        const std::size_t row = lanes_.size();
        lanes_.push_back(value);
        if ((row & 7) == 0) bits_.push_back(0);
        bits_.back() |= static_cast<std::uint8_t>(static_cast<unsigned>(valid) << (row & 7));
        column_.null_count += !valid;
    }
    Column finish() {
        column_.length = static_cast<std::int64_t>(lanes_.size());
        column_.values = lanes_.finish();
        if (column_.null_count != 0) column_.validity = bits_.finish();
        return std::move(column_);
    }

private:
    Column column_;
    Array<T> lanes_;
    Array<std::uint8_t> bits_;
};

void append_string(std::string_view text, std::string* out) {
    out->push_back('"');
    for (const char c : text) {
        if (c == '"' || c == '\\') {
            out->push_back('\\');
            out->push_back(c);
        } else if (static_cast<unsigned char>(c) < 0x20) {
            char escape[8];
            std::snprintf(escape, sizeof escape, "\\u%04x", c);
            *out += escape;
        } else {
            out->push_back(c);
        }
    }
    out->push_back('"');
}

void append_integer(std::int64_t value, std::string* out) {
    char digits[24];
    const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
    out->append(digits, end);
}

void append_decimal(std::int64_t value, std::string* out) {
    const auto magnitude =
        value < 0 ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
    char digits[32];
    std::snprintf(digits, sizeof digits, "%s%llu.%04llu", value < 0 ? "-" : "",
                  static_cast<unsigned long long>(magnitude / kDecimalOne),
                  static_cast<unsigned long long>(magnitude % kDecimalOne));
    *out += digits;
}

void append_timestamp(std::int64_t ms, std::string* out) {
    constexpr std::int64_t kDay = 86'400'000;
    std::int64_t days = ms / kDay - (ms % kDay < 0);
    const std::int64_t rest = ms - days * kDay;
    // Civil date from days, after Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    days += 719'468;
    const std::int64_t era = (days >= 0 ? days : days - 146'096) / 146'097;
    const std::int64_t doe = days - era * 146'097;
    const std::int64_t yoe = (doe - doe / 1'460 + doe / 36'524 - doe / 146'096) / 365;
    const std::int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    const std::int64_t mp = (5 * doy + 2) / 153;
    const std::int64_t month = mp < 10 ? mp + 3 : mp - 9;
    char text[96];
    std::snprintf(text, sizeof text, "\"%04lld-%02lld-%02lldT%02lld:%02lld:%02lld.%03lldZ\"",
                  static_cast<long long>(yoe + era * 400 + (month <= 2)), static_cast<long long>(month),
                  static_cast<long long>(doy - (153 * mp + 2) / 5 + 1),
                  static_cast<long long>(rest / 3'600'000), static_cast<long long>(rest / 60'000 % 60),
                  static_cast<long long>(rest / 1'000 % 60), static_cast<long long>(rest % 1'000));
    *out += text;
}

void append_value(const Column& column, std::int64_t row, std::string* out) {
    if (!column.valid(row)) {
        *out += "null";
        return;
    }
    switch (column.type) {
        case Type::boolean:
            *out += column.lanes<std::uint8_t>()[row] != 0 ? "true" : "false";
            break;
        case Type::int32:
            append_integer(column.lanes<std::int32_t>()[row], out);
            break;
        case Type::int64:
            append_integer(column.lanes<std::int64_t>()[row], out);
            break;
        case Type::decimal:
            append_decimal(column.lanes<std::int64_t>()[row], out);
            break;
        case Type::timestamp_ms:
            append_timestamp(column.lanes<std::int64_t>()[row], out);
            break;
        case Type::dictionary:
            append_string(column.dictionary->value(column.lanes<std::int32_t>()[row]), out);
            break;
        case Type::string:
        case Type::binary:
            append_string(column.text(row), out);
            break;
        case Type::float64: {
            const double value = column.lanes<double>()[row];
            char digits[32];
            if (std::isfinite(value)) {
                out->append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
            } else {
                *out += "null";  // JSON has no word for it
            }
        }
    }
}

}  // namespace

std::string row_json(const Batch& batch, std::int64_t row) {
    std::string out = "{";
    for (const Column& column : batch.columns) {
        if (out.size() > 1) out.push_back(',');
        append_string(column.name, &out);
        out.push_back(':');
        append_value(column, row, &out);
    }
    out.push_back('}');
    return out;
}

std::int32_t line_of(const Batch& batch, std::int32_t row) {
    if (!batch.exploded) return -1;
    std::int32_t first = row;
    while (first > 0 && batch.message_of(first - 1) == batch.message_of(row)) --first;
    return row - first;
}

std::shared_ptr<Batch> reject_table(const Batch& batch, const std::vector<Reject>& rejects,
                                    const std::string& stage, const std::vector<std::string>& reasons) {
    const Origin& origin = *batch.origin;
    TextColumn source("source"), stages("stage"), reason("reason"), bytes("bytes", Type::binary);
    LaneColumn<std::int32_t> partition("partition", Type::int32), line("line", Type::int32);
    LaneColumn<std::int64_t> position("position", Type::int64), byte_offset("byte_offset", Type::int64),
        size("size_bytes", Type::int64);
    TextColumn field("field"), key("key", Type::binary);

    for (const Reject& reject : rejects) {
        source.add(origin.source);
        partition.add(origin.partition);
        stages.add(stage);
        reason.add(reasons[static_cast<std::size_t>(reject.reason)]);
        const std::int32_t number = origin.rows_of_message ? reject.message : reject.line;
        line.add(number, number >= 0);
        byte_offset.add(reject.byte_offset, reject.byte_offset >= 0);
        field.add(reject.field, !reject.field.empty());
        const std::string_view key_of_message =
            origin.keys.empty() ? std::string_view() : origin.keys[static_cast<std::size_t>(reject.message)];
        key.add(key_of_message, key_of_message.data() != nullptr);
        if (origin.messages.empty()) {
            position.add(origin.first_position + (origin.rows_of_message ? 0 : reject.message));
            const std::string json = row_json(batch, reject.message);
            size.add(static_cast<std::int64_t>(json.size()));
            bytes.add(json);
        } else {
            const Message& message = origin.messages[static_cast<std::size_t>(reject.message)];
            position.add(origin.first_position + message.ordinal);
            size.add(message.size);
            bytes.add({message.data, message.size});
        }
    }

    auto table = std::make_shared<Batch>();
    table->rows = static_cast<std::int64_t>(rejects.size());
    table->origin = batch.origin;
    table->columns.push_back(source.finish());
    table->columns.push_back(partition.finish());
    table->columns.push_back(position.finish());
    table->columns.push_back(line.finish());
    table->columns.push_back(stages.finish());
    table->columns.push_back(reason.finish());
    table->columns.push_back(field.finish());
    table->columns.push_back(byte_offset.finish());
    table->columns.push_back(size.finish());
    table->columns.push_back(key.finish());
    table->columns.push_back(bytes.finish());
    return table;
}

}  // namespace omnistream
