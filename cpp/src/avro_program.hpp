// A writer schema compiled against the schema of a job: what to do with each value, in the order of the
// bytes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "decode_plan.hpp"
#include "omnistream/avro.hpp"
#include "omnistream/status.hpp"

namespace omnistream {

// Where a value goes.
struct AvroPlace {
    enum Kind : std::uint8_t { nowhere, message, field, object, explode, element };
    Kind kind = nowhere;
    Level level = kMessage;    // of the field; of the elements for explode and element
    std::uint16_t index = 0;   // of the field, or of the node
    bool holds_array = false;  // object: an exploded array is below
    std::uint64_t below = 0;   // object: the bits of all fields below
};

struct AvroStep {
    enum Op : std::uint8_t {
        nothing,  // takes no bytes, and nobody asks for it
        call,     // another step, at `first`
        wrong,    // a value that its place cannot take: skip it by the step at `first`
        null,
        boolean,
        integer,
        float32,
        float64,
        bytes,
        string,
        fixed,
        enumeration,
        record,
        array,
        map,
        either,
    };
    Op op = nothing;
    bool item_has_bytes = true;  // array
    AvroPlace place;
    std::uint32_t type = 0;   // in the writer schema
    std::uint32_t first = 0;  // steps of fields, branches, items; of a map: its values, by key of `keys`
    std::uint32_t count = 0;
    std::int64_t size = 0;  // fixed: bytes; record: its fields that nobody asks for
};

class AvroProgram {
public:
    static Status compile(const DecodePlan& plan, AvroSchema writer, AvroProgram* out);

    AvroSchema writer;
    std::vector<AvroStep> steps;  // [0]: the message

    // The step for a map's value below `key` of a node, or nullptr.
    [[nodiscard]] const AvroStep* member(const AvroStep& map, std::string_view key) const;

private:
    class Compiler;
    // By the map's step: what stands behind each known key.
    std::map<std::uint32_t, std::map<std::string, std::uint32_t, std::less<>>> members_;
};

}  // namespace omnistream
