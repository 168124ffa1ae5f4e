// Rows to Avro records, each field a union of null and its type: what avro_schema() in
// omnistream/sink/avro.py says.
#include <bit>
#include <limits>

#include "omnistream/avro.hpp"

namespace omnistream {
namespace {

void put_long(std::int64_t value, Array<char>* out) {
    auto raw = static_cast<std::uint64_t>(value) << 1 ^ static_cast<std::uint64_t>(value >> 63);
    for (; raw > 0x7f; raw >>= 7) out->push_back(static_cast<char>((raw & 0x7f) | 0x80));
    out->push_back(static_cast<char>(raw));
}

void put_bytes(std::string_view bytes, Array<char>* out) {
    put_long(static_cast<std::int64_t>(bytes.size()), out);
    out->append(bytes.data(), bytes.size());
}

// The fewest bytes of two's complement, most significant first.
void put_decimal(std::int64_t value, Array<char>* out) {
    char bytes[sizeof value];
    std::size_t first = sizeof value;
    do {
        bytes[--first] = static_cast<char>(value & 0xff);
        value >>= 8;
    } while (value != (static_cast<signed char>(bytes[first]) < 0 ? -1 : 0));
    put_bytes({bytes + first, sizeof bytes - first}, out);
}

void put_value(const Column& column, std::int64_t row, Array<char>* out) {
    switch (column.type) {
        case Type::boolean:
            out->push_back(column.lanes<std::uint8_t>()[row] != 0 ? '\1' : '\0');
            break;
        case Type::int32:
            put_long(column.lanes<std::int32_t>()[row], out);
            break;
        case Type::int64:
        case Type::timestamp_ms:
            put_long(column.lanes<std::int64_t>()[row], out);
            break;
        case Type::decimal:
            put_decimal(column.lanes<std::int64_t>()[row], out);
            break;
        case Type::float64: {
            const auto raw = std::bit_cast<std::uint64_t>(column.lanes<double>()[row]);
            for (int shift = 0; shift < 64; shift += 8)
                out->push_back(static_cast<char>(raw >> shift & 0xff));
            break;
        }
        case Type::dictionary:
            put_bytes(column.dictionary->value(column.lanes<std::int32_t>()[row]), out);
            break;
        case Type::string:
        case Type::binary:
            put_bytes(column.text(row), out);
    }
}

}  // namespace

Status encode_avro(const Batch& rows, std::string_view frame, Column* out) {
    Array<std::int32_t> offsets;
    Array<char> bytes;
    offsets.reserve(static_cast<std::size_t>(rows.rows) + 1);
    offsets.push_back(0);
    for (std::int64_t row = 0; row < rows.rows; ++row) {
        bytes.append(frame.data(), frame.size());
        for (const Column& column : rows.columns) {
            put_long(column.valid(row), &bytes);
            if (column.valid(row)) put_value(column, row, &bytes);
        }
        if (bytes.size() > std::numeric_limits<std::int32_t>::max())
            return {Code::argument, "more than 2 GiB of Avro at once"};
        offsets.push_back(static_cast<std::int32_t>(bytes.size()));
    }
    out->name = "value";
    out->type = Type::binary;
    out->length = rows.rows;
    out->offsets = offsets.finish();
    out->values = bytes.finish();
    return {};
}

}  // namespace omnistream
