#include "omnistream/row_keys.hpp"

#include "omnistream/dictionary.hpp"

namespace omnistream {

namespace {

constexpr std::string_view kNullKey = "\xFF";
constexpr std::uint32_t kNullSize = 0xFFFFFFFF;

std::string_view key_text(const Column& column, std::int64_t row) {
    return column.type == Type::dictionary ? column.dictionary->value(column.lanes<std::int32_t>()[row])
                                           : column.text(row);
}

std::int64_t key_integer(const Column& column, std::int64_t row) {
    switch (column.type) {
        case Type::boolean:
            return column.lanes<std::uint8_t>()[row];
        case Type::int32:
            return column.lanes<std::int32_t>()[row];
        default:
            return column.lanes<std::int64_t>()[row];
    }
}

void append_key(const std::vector<const Column*>& columns, std::int64_t row, Array<char>* keys) {
    const auto append = [keys](std::string_view bytes) {
        const auto size = static_cast<std::uint32_t>(bytes.size());
        keys->append(reinterpret_cast<const char*>(&size), sizeof size);
        keys->append(bytes.data(), bytes.size());
    };
    for (const Column* column : columns) {
        if (!column->valid(row)) {
            keys->append(reinterpret_cast<const char*>(&kNullSize), sizeof kNullSize);
        } else if (is_text(column->type)) {
            append(key_text(*column, row));
        } else {
            const std::int64_t value = key_integer(*column, row);
            append({reinterpret_cast<const char*>(&value), sizeof value});
        }
    }
}

}  // namespace

Status find_key_columns(const std::vector<std::string>& names, const std::string& what, const Batch& batch,
                        std::vector<const Column*>* columns) {
    for (const std::string& name : names) {
        const Column* const column = batch.find(name);
        if (column == nullptr)
            return {Code::schema, what + " names column '" + name + "', which the batch does not have"};
        if (column->type == Type::float64 || column->type == Type::binary)
            return {Code::schema,
                    what + " cannot contain column '" + name + "' of type " + type_name(column->type)};
        columns->push_back(column);
    }
    if (columns->empty()) return {Code::schema, what + " names no column"};
    return {};
}

void read_keys(const std::vector<const Column*>& columns, const std::int32_t* rows, std::size_t count,
               Array<char>* scratch, std::string_view* keys) {
    const Column& first = *columns.front();
    if (columns.size() == 1 && is_text(first.type)) {
        for (std::size_t i = 0; i < count; ++i)
            keys[i] = first.valid(rows[i]) ? key_text(first, rows[i]) : kNullKey;
        return;
    }
    std::size_t ends[kKeysAtOnce];
    scratch->clear();
    for (std::size_t i = 0; i < count; ++i) {
        append_key(columns, rows[i], scratch);
        ends[i] = scratch->size();
    }
    for (std::size_t i = 0, begin = 0; i < count; begin = ends[i++])
        keys[i] = {scratch->data() + begin, ends[i] - begin};
}

}  // namespace omnistream
