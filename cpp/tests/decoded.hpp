// What decoding gave, in a form that compares bit for bit: for the tests and the fuzzer of decode.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "omnistream/decode.hpp"

namespace omnistream {

using Dictionaries = std::vector<std::shared_ptr<Dictionary>>;

// "c.x" at level 0 is the key x of the message's object c.
inline Field field(std::string_view path, Type type, std::uint8_t level = 0, bool required = false) {
    Field out;
    out.name = path;
    out.type = type;
    out.level = level;
    out.required = required;
    for (std::size_t dot; (dot = path.find('.')) != std::string_view::npos; path.remove_prefix(dot + 1))
        out.path.emplace_back(path.substr(0, dot));
    out.path.emplace_back(path);
    return out;
}

inline Field timestamp(std::string_view path, std::uint8_t forms, std::uint8_t level = 0) {
    Field out = field(path, Type::timestamp_ms, level);
    out.timestamp_forms = forms;
    return out;
}

inline Dictionaries dictionaries_of(const Schema& schema) {
    Dictionaries out;
    for (const Field& field : schema.fields)
        out.push_back(field.type == Type::dictionary ? std::make_shared<Dictionary>() : nullptr);
    return out;
}

// Bytes that end where their allocation ends, so that AddressSanitizer sees any load behind them.
class ExactBytes {
public:
    explicit ExactBytes(std::string_view text) : size_(text.size()), data_(new char[size_]) {
        if (size_ != 0) std::memcpy(data_.get(), text.data(), size_);
    }
    [[nodiscard]] std::string_view view() const { return {data_.get(), size_}; }

private:
    std::size_t size_;
    std::unique_ptr<char[]> data_;
};

// Everything that a caller can see of one or more calls in a row, but `speculated`: how a message was read is
// not part of its meaning.
struct Outcome {
    DecodeCounts counts;
    std::vector<std::string> messages;  // ordinal and bytes
    std::vector<std::string> rejects;
    std::vector<std::string> columns;  // per row its validity and its lane
    std::vector<std::int32_t> row_message;
    std::string status;

    void add(const Status& result, const Decoded& decoded) {
        const auto first = static_cast<std::int32_t>(messages.size());
        if (!result.ok()) status += result.message();
        counts.messages += decoded.counts.messages;
        counts.decoded += decoded.counts.decoded;
        counts.rejected += decoded.counts.rejected;
        counts.rows += decoded.counts.rows;
        counts.empty += decoded.counts.empty;
        counts.unknown_fields += decoded.counts.unknown_fields;
        counts.speculated += decoded.counts.speculated;
        for (const Message& message : decoded.batch->origin->messages)
            messages.push_back(std::to_string(message.ordinal) + ": " +
                               std::string(message.data, message.size));
        for (const Reject& reject : decoded.rejects)
            rejects.push_back(std::to_string(first + reject.message) + " line " +
                              std::to_string(reject.line) + " byte " + std::to_string(reject.byte_offset) +
                              " " + kDecodeReasons[reject.reason] + " " + reject.field);
        columns.resize(decoded.batch->columns.size());
        for (std::size_t i = 0; i < columns.size(); ++i) add(decoded.batch->columns[i], &columns[i]);
        for (std::int64_t row = 0; row < decoded.batch->rows; ++row)
            row_message.push_back(first + decoded.batch->message_of(row));
    }

    // Where two outcomes differ, in words; empty where they do not.
    [[nodiscard]] std::string difference(const Outcome& other) const {
        if (status != other.status) return "status: " + status + " | " + other.status;
        if (std::string found = differing("message", messages, other.messages); !found.empty()) return found;
        if (std::string found = differing("reject", rejects, other.rejects); !found.empty()) return found;
        if (std::string found = differing("column", columns, other.columns); !found.empty()) return found;
        if (row_message != other.row_message) return "row_message";
        const DecodeCounts& a = counts;
        const DecodeCounts& b = other.counts;
        if (a.messages != b.messages || a.decoded != b.decoded || a.rejected != b.rejected ||
            a.rows != b.rows || a.empty != b.empty)
            return "counts";
        if (a.unknown_fields != b.unknown_fields) return "unknown_fields";
        return {};
    }

private:
    static std::string differing(const char* what, const std::vector<std::string>& a,
                                 const std::vector<std::string>& b) {
        for (std::size_t i = 0; i < a.size() || i < b.size(); ++i) {
            const std::string mine = i < a.size() ? a[i] : "(none)";
            const std::string theirs = i < b.size() ? b[i] : "(none)";
            if (mine != theirs)
                return std::string(what) + " " + std::to_string(i) + ":\n  " + mine + "\n  " + theirs;
        }
        return {};
    }

    static void add(const Column& column, std::string* out) {
        std::int64_t nulls = 0;
        for (std::int64_t row = 0; row < column.length; ++row) {
            nulls += !column.valid(row);
            *out += column.valid(row) ? " " : " null:";
            switch (column.type) {
                case Type::boolean:
                    *out += std::to_string(column.lanes<std::uint8_t>()[row]);
                    break;
                case Type::int32:
                case Type::dictionary:
                    *out += std::to_string(column.lanes<std::int32_t>()[row]);
                    break;
                case Type::string:
                case Type::binary:
                    *out += std::to_string(column.text(row).size()) + ":";
                    *out += column.text(row);
                    break;
                default:
                    *out += std::to_string(column.lanes<std::int64_t>()[row]);
            }
        }
        if (nulls != column.null_count) *out += " null_count " + std::to_string(column.null_count);
    }
};

inline std::shared_ptr<Origin> origin_at(std::int64_t first_position) {
    auto origin = std::make_shared<Origin>();
    origin->source = "test";
    origin->first_position = first_position;
    return origin;
}

// The bytes are copied to an allocation of their own: `out` must not outlive a look at its origin.
inline void decode_lines(Decoder& decoder, std::string_view block, std::int64_t first_position,
                         Outcome* out) {
    const ExactBytes bytes(block);
    Decoded decoded;
    const Status status = decoder.decode_lines(bytes.view(), origin_at(first_position), &decoded);
    out->add(status, decoded);
}

// Every message in an allocation of its own, too.
inline void decode_messages(Decoder& decoder, const std::vector<std::string_view>& messages,
                            const std::vector<std::int32_t>& ordinals, Outcome* out) {
    std::vector<ExactBytes> bytes;
    auto origin = origin_at(0);
    for (std::size_t i = 0; i < messages.size(); ++i) {
        const std::string_view at = bytes.emplace_back(messages[i]).view();
        origin->messages.push_back({at.data(), static_cast<std::uint32_t>(at.size()), ordinals[i]});
    }
    Decoded decoded;
    const Status status = decoder.decode_messages(std::move(origin), &decoded);
    out->add(status, decoded);
}

}  // namespace omnistream
