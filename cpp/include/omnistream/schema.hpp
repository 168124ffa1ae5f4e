// What a message holds: the fields that become columns, where they stand in the JSON, and how strict each is.
// omnistream/schema.py is the face of this; it validates, so the core may trust what it gets.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace omnistream {

enum class Type : std::uint8_t {
    boolean,       // lane: uint8 0/1            Arrow: bool
    int32,         // lane: int32                Arrow: int32
    int64,         // lane: int64                Arrow: int64
    decimal,       // lane: int64, scale 4       Arrow: decimal128(19, 4)
    float64,       // lane: double               Arrow: double
    timestamp_ms,  // lane: int64 ms since epoch Arrow: timestamp[ms, UTC]
    string,        // int32 offsets + bytes      Arrow: utf8
    dictionary,    // lane: int32 code           Arrow: dictionary<int32, utf8>
    binary,        // int32 offsets + bytes      Arrow: binary (state and rejects, never decoded)
};

// As users write it: "int64", "timestamp".
[[nodiscard]] const char* type_name(Type type);
[[nodiscard]] inline bool is_text(Type type) {
    return type == Type::string || type == Type::dictionary;
}

inline constexpr int kDecimalScale = 4;
inline constexpr std::int64_t kDecimalOne = 10'000;

// Accepted forms of a timestamp; a field names one or more.
enum TimestampForm : std::uint8_t {
    kIso8601 = 1,     // offset required: Z or +-hh[[:]mm]
    kIso8601Utc = 2,  // a missing offset means UTC
    kEpochSeconds = 4,
    kEpochMillis = 8,
};

struct Field {
    std::string name;
    std::vector<std::string> path;  // keys from the element of the field's level
    Type type = Type::string;
    std::uint8_t level = 0;  // 0: the message; k: an element of the k-th exploded array
    bool required = false;   // missing or null rejects the message
    bool coerce = false;     // a number in a string, a number as a string; "" is null
    bool checked = false;    // a text that nobody reads: it must be sound, and becomes no column
    std::uint8_t timestamp_forms = kIso8601;
    bool has_default = false;          // for missing and null
    std::int64_t default_integer = 0;  // in the lane's unit: bool, int32, int64, decimal, timestamp
    double default_float = 0;
    std::string default_string;
};

// An array whose elements become rows, the values of all outer levels repeated in each.
struct Explode {
    std::vector<std::string> path;  // keys from the element one level up
    std::string name;               // as written up to here, for reasons: "order.fulfillments[]"
};
inline constexpr std::size_t kMostLevels = 4;  // the message and three arrays

struct Schema {
    std::vector<Field> fields;
    std::vector<Explode>
        explode;  // the arrays on the way to the lines, outermost first; none: a row per message
    std::int64_t max_message_bytes = 1 << 20;
    std::int32_t max_depth = 64;
    bool strict_utf8 = false;     // validate skipped strings, too
    bool array_messages = false;  // a message is a JSON array of messages
};

}  // namespace omnistream
