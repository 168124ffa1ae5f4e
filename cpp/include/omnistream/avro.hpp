// decode: Avro messages to the columns and rejects that their JSON would give. A writer schema is compiled
// once, against the schema of the job, to a tree of steps; each message is one walk over its steps.
// tests/reference/avro.py says what it means.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "omnistream/decode.hpp"
#include "omnistream/dictionary.hpp"
#include "omnistream/schema.hpp"
#include "omnistream/status.hpp"

namespace omnistream {

// A type of a writer schema, its names resolved. omnistream/avro.py parses the JSON of schemas.
struct AvroType {
    enum Kind : std::uint8_t {
        null,
        boolean,
        integer,  // int and long
        float32,
        float64,
        bytes,
        string,
        fixed,
        enumeration,
        record,
        array,
        map,
        either,  // a union
    };
    enum Logical : std::uint8_t {
        plain,
        decimal,  // of bytes and fixed
        moment,   // an integer: a timestamp
        local,    // an integer: a timestamp without a time zone
        clock,    // an integer: a date or a time of day
        uuid,     // of fixed
    };
    Kind kind = null;
    Logical logical = plain;
    std::vector<std::string> names;       // of a record's fields; an enumeration's symbols
    std::vector<std::uint32_t> children;  // types of fields, branches, items, values
    std::int64_t size = 0;                // fixed: bytes; moment, local: units per ms
    std::int32_t scale = 0;               // decimal
};

// [0] is the type of messages.
using AvroSchema = std::vector<AvroType>;

class AvroDecoder {
public:
    // `framed`: a message is a zero byte, four bytes of schema id, and a body. Else it is a body of schema 0.
    AvroDecoder(Schema schema, std::vector<std::shared_ptr<Dictionary>> dictionaries, bool framed);
    ~AvroDecoder();
    AvroDecoder(const AvroDecoder&) = delete;
    AvroDecoder& operator=(const AvroDecoder&) = delete;

    // Ids of the messages that neither learn() nor refuse() have heard of, each once.
    [[nodiscard]] std::vector<std::uint32_t> unknown_ids(const Origin& origin) const;
    // What messages of this id hold. Fails for schemas that are no trees of types, or are too large.
    Status learn(std::uint32_t id, AvroSchema writer);
    // Messages of this id are rejects.
    void refuse(std::uint32_t id);
    // origin->messages, one by one; those with an unknown id are rejects.
    Status decode_messages(std::shared_ptr<Origin> origin, Decoded* out);

private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

// Rows as Avro records, each behind the same `frame`: a binary column `value`. Every field is a union of null
// and its type, in the order of the columns.
Status encode_avro(const Batch& rows, std::string_view frame, Column* out);

}  // namespace omnistream
