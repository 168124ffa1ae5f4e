#include "decode_values.hpp"

#include <bit>
#include <charconv>

#include "json_values.hpp"

namespace omnistream {
namespace {

constexpr unsigned kIso = kIso8601 | kIso8601Utc;
constexpr unsigned kEpoch = kEpochSeconds | kEpochMillis;

Verdict put_float(std::string_view text, std::size_t row, Lane* lane) {
    const char* const end = text.data() + text.size();
    double parsed = 0;
    const auto result = std::from_chars(text.data(), end, parsed);
    // Out of range is both too large, which is a fault, and too small, which is zero.
    if (result.ec == std::errc::result_out_of_range) {
        if (json::exact_number(text.data(), end, 0).overflow) return refused(DecodeReason::out_of_range);
        parsed = text[0] == '-' ? -0.0 : 0.0;
    }
    lane->wide[row] = std::bit_cast<std::int64_t>(parsed);
    return {};
}

Verdict put_epoch(std::string_view text, const Field& field, std::size_t row, Lane* lane) {
    if ((field.timestamp_forms & kEpoch) == 0) return refused(DecodeReason::wrong_type);
    const int scale = (field.timestamp_forms & kEpochSeconds) != 0 ? 3 : 0;
    json::Exact ms = json::exact_number(text.data(), text.data() + text.size(), scale);
    // Floor; at the very end of int64 the moment is out of range anyway.
    if (ms.inexact && ms.negative && ms.value != INT64_MIN) --ms.value;
    if (ms.overflow || ms.value < json::kMinTimestampMs || ms.value > json::kMaxTimestampMs)
        return refused(DecodeReason::out_of_range);
    lane->wide[row] = ms.value;
    return {};
}

// A string that stands for a number, or for nothing, where the field asks for it; else it is refused.
Verdict put_coerced(std::string_view text, const Field& field, DecodeReason reason, std::size_t row,
                    Lane* lane) {
    if (!field.coerce || field.type == Type::boolean) return refused(reason);
    if (text.empty()) return {Verdict::null};
    const char* const end = text.data() + text.size();
    const char* bad = nullptr;
    if (!takes_numbers(field) || json::number_end(text.data(), end, &bad) != end) return refused(reason);
    return put_number(text, field, row, lane);
}

}  // namespace

bool takes_numbers(const Field& field) {
    if (field.type == Type::timestamp_ms) return (field.timestamp_forms & kEpoch) != 0;
    return !is_text(field.type) && field.type != Type::boolean;
}

Verdict put_number(std::string_view text, const Field& field, std::size_t row, Lane* lane) {
    switch (field.type) {
        case Type::float64:
            return put_float(text, row, lane);
        case Type::timestamp_ms:
            return put_epoch(text, field, row, lane);
        case Type::int32:
        case Type::int64:
        case Type::decimal: {
            const bool narrow = field.type == Type::int32;
            const int scale = field.type == Type::decimal ? kDecimalScale : 0;
            const json::Exact exact = json::exact_number(text.data(), text.data() + text.size(), scale);
            if (exact.overflow || (narrow && exact.value != static_cast<std::int32_t>(exact.value)))
                return refused(DecodeReason::out_of_range);
            if (exact.inexact) return refused(DecodeReason::inexact_number);
            if (narrow) {
                lane->narrow[row] = static_cast<std::int32_t>(exact.value);
            } else {
                lane->wide[row] = exact.value;
            }
            return {};
        }
        default:
            return refused(DecodeReason::wrong_type);
    }
}

Verdict put_text(std::string_view text, const Field& field, std::size_t row, std::size_t encoded,
                 Lane* lane) {
    switch (field.type) {
        case Type::string:
            lane->set_text(row, text);
            return {};
        case Type::dictionary:
            lane->texts[row - encoded] = {text.data(), static_cast<std::uint32_t>(text.size())};
            return {};
        case Type::timestamp_ms: {
            if ((field.timestamp_forms & kIso) == 0)
                return put_coerced(text, field, DecodeReason::wrong_type, row, lane);
            const bool utc = (field.timestamp_forms & kIso8601Utc) != 0;
            if (json::iso_timestamp(text, utc, &lane->wide[row])) return {};
            return put_coerced(text, field, DecodeReason::invalid_timestamp, row, lane);
        }
        default:
            return put_coerced(text, field, DecodeReason::wrong_type, row, lane);
    }
}

}  // namespace omnistream
