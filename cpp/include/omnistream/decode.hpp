// decode: JSON messages to columns, by a decoder compiled from a schema.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "omnistream/batch.hpp"
#include "omnistream/dictionary.hpp"
#include "omnistream/schema.hpp"
#include "omnistream/status.hpp"

namespace omnistream {

// Why a message is not decoded. The set is closed; docs/rejects.md explains each. Order is the wire order.
enum class DecodeReason : std::int32_t {
    message_too_large,
    truncated_json,  // the text ends before the value does
    invalid_json,    // a byte that no JSON text can have here
    trailing_data,   // something after the value
    nesting_too_deep,
    not_an_object,  // the message is JSON, but no object
    missing_field,
    null_field,
    wrong_type,
    invalid_utf8,    // bad UTF-8, or an escape that stands for no character (a lone surrogate)
    out_of_range,    // a number that the column's type cannot hold
    inexact_number,  // a number with more digits than the column's scale, or a fraction for an integer
    invalid_timestamp,
    truncated_avro,  // the message ends before its writer schema does
    invalid_avro,    // a byte that no value of its writer schema can have here
    unknown_schema,  // the id of a writer schema that cannot be had
    invalid_arrow,   // no Arrow IPC stream
};
inline constexpr const char* kDecodeReasons[] = {
    "message_too_large", "truncated_json", "invalid_json",      "trailing_data",  "nesting_too_deep",
    "not_an_object",     "missing_field",  "null_field",        "wrong_type",     "invalid_utf8",
    "out_of_range",      "inexact_number", "invalid_timestamp", "truncated_avro", "invalid_avro",
    "unknown_schema",    "invalid_arrow",
};
[[nodiscard]] const std::vector<std::string>& decode_reasons();  // the same

struct DecodeCounts {
    std::int64_t messages = 0;
    std::int64_t decoded = 0;
    std::int64_t rejected = 0;
    std::int64_t rows = 0;
    std::int64_t empty = 0;           // decoded messages with no line
    std::int64_t unknown_fields = 0;  // values skipped because the schema has no such field
    std::int64_t speculated = 0;      // messages that followed a layout learnt before

    DecodeCounts& operator+=(const DecodeCounts& more) {
        messages += more.messages;
        decoded += more.decoded;
        rejected += more.rejected;
        rows += more.rows;
        empty += more.empty;
        unknown_fields += more.unknown_fields;
        speculated += more.speculated;
        return *this;
    }
};

struct Decoded {
    std::shared_ptr<Batch> batch;
    std::vector<Reject> rejects;
    DecodeCounts counts;
};

class Decoder {
public:
    // `dictionaries[i]` receives the strings of fields[i] when its type is dictionary, else is null.
    Decoder(Schema schema, std::vector<std::shared_ptr<Dictionary>> dictionaries);
    ~Decoder();
    Decoder(const Decoder&) = delete;
    Decoder& operator=(const Decoder&) = delete;

    // NDJSON: every line is a message; the last may lack its newline. Blank lines (white space only) are no
    // messages. A byte-order mark at ordinal 0 and a CR before LF are white space.
    Status decode_lines(std::string_view block, std::shared_ptr<Origin> origin, Decoded* out);
    // origin->messages, one by one.
    Status decode_messages(std::shared_ptr<Origin> origin, Decoded* out);

private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

// The instruction set that the decoder runs with: OMNISTREAM_FORCE_ISA, or the best that this CPU has.
[[nodiscard]] std::string decode_isa();
[[nodiscard]] std::vector<std::string> decode_isas();  // those this build and CPU can run
Status force_decode_isa(const std::string& name);      // for tests; affects decoders made afterwards

}  // namespace omnistream
