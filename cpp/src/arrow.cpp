// Batches to and from the Arrow C Data Interface.
#include <array>
#include <cstring>
#include <string>

#include "omnistream/arrow_abi.hpp"
#include "omnistream/dictionary.hpp"

namespace omnistream {
namespace {

constexpr std::int64_t kDecimalBytes = 16;
constexpr const char* kDecimalFormat = "d:19,4";
constexpr const char* kTimestampFormat = "tsm:UTC";

const char* format_of(Type type) {
    switch (type) {
        case Type::boolean:
            return "b";
        case Type::int32:
            return "i";
        case Type::int64:
            return "l";
        case Type::decimal:
            return kDecimalFormat;
        case Type::float64:
            return "g";
        case Type::timestamp_ms:
            return kTimestampFormat;
        case Type::string:
            return "u";
        case Type::dictionary:
            return "i";  // of the codes; the values hang below
        case Type::binary:
            return "z";
    }
    return "n";
}

// ---- export: schema ----

struct SchemaHolder {
    std::string name;
    std::vector<ArrowSchema> children;
    std::vector<ArrowSchema*> child_pointers;
    ArrowSchema dictionary{};
};

void release_schema(ArrowSchema* schema) {
    auto* holder = static_cast<SchemaHolder*>(schema->private_data);
    for (ArrowSchema& child : holder->children)
        if (child.release != nullptr) child.release(&child);
    if (holder->dictionary.release != nullptr) holder->dictionary.release(&holder->dictionary);
    delete holder;
    schema->release = nullptr;
}

SchemaHolder* make_schema(const char* format, std::string name, ArrowSchema* out) {
    auto* holder = new SchemaHolder{std::move(name), {}, {}, {}};
    *out = ArrowSchema{};
    out->format = format;
    out->name = holder->name.c_str();
    out->flags = kArrowNullable;
    out->release = release_schema;
    out->private_data = holder;
    return holder;
}

// ---- export: array ----

// Of one piece, but for what has children: a stream makes one for each column of each batch.
struct ArrayHolder {
    std::array<Buffer, 3> buffers;  // validity first
    std::array<const void*, 3> pointers;
    std::vector<ArrowArray> children;
    std::vector<ArrowArray*> child_pointers;
    ArrowArray dictionary{};
};

void release_array(ArrowArray* array) {
    auto* holder = static_cast<ArrayHolder*>(array->private_data);
    for (ArrowArray& child : holder->children)
        if (child.release != nullptr) child.release(&child);
    if (holder->dictionary.release != nullptr) holder->dictionary.release(&holder->dictionary);
    delete holder;
    array->release = nullptr;
}

ArrayHolder* make_array(std::int64_t length, std::int64_t null_count, std::array<Buffer, 3> buffers,
                        std::size_t buffer_count, ArrowArray* out) {
    auto* holder =
        new ArrayHolder{.buffers = std::move(buffers), .pointers = {}, .children = {}, .child_pointers = {}};
    for (std::size_t i = 0; i < buffer_count; ++i) holder->pointers[i] = holder->buffers[i].data;
    *out = ArrowArray{};
    out->length = length;
    out->null_count = null_count;
    out->n_buffers = static_cast<std::int64_t>(buffer_count);
    out->buffers = holder->pointers.data();
    out->release = release_array;
    out->private_data = holder;
    return holder;
}

Buffer pack_bits(const std::uint8_t* lanes, std::int64_t count) {
    Array<std::uint8_t> bits;
    bits.resize(static_cast<std::size_t>((count + 7) / 8), 0);
    for (std::int64_t i = 0; i < count; ++i)
        bits[i >> 3] |= static_cast<std::uint8_t>((lanes[i] & 1) << (i & 7));
    return bits.finish();
}

Buffer widen_decimals(const std::int64_t* lanes, std::int64_t count) {
    Array<std::int64_t> words;
    words.resize(static_cast<std::size_t>(2 * count));
    for (std::int64_t i = 0; i < count; ++i) {
        words[2 * i] = lanes[i];
        words[2 * i + 1] = lanes[i] >> 63;  // sign extension
    }
    return words.finish();
}

void export_column(const Column& column, ArrowArray* out) {
    std::array<Buffer, 3> buffers;
    std::size_t count = 0;
    buffers[count++] = column.null_count == 0 ? Buffer{} : column.validity;
    switch (column.type) {
        case Type::boolean:
            buffers[count++] = pack_bits(column.values.data, column.length);
            break;
        case Type::decimal:
            buffers[count++] = widen_decimals(column.lanes<std::int64_t>(), column.length);
            break;
        case Type::string:
        case Type::binary:
            buffers[count++] = column.offsets;
            [[fallthrough]];
        default:
            buffers[count++] = column.values;
    }
    ArrayHolder* holder = make_array(column.length, column.null_count, std::move(buffers), count, out);
    if (column.type == Type::dictionary) {
        export_column(column.dictionary->to_column(""), &holder->dictionary);
        out->dictionary = &holder->dictionary;
    }
}

}  // namespace

void export_schema(const std::vector<Column>& columns, ArrowSchema* schema) {
    SchemaHolder* root = make_schema("+s", "", schema);
    schema->flags = 0;
    root->children.resize(columns.size());
    for (std::size_t i = 0; i < columns.size(); ++i) {
        ArrowSchema* child = &root->children[i];
        SchemaHolder* holder = make_schema(format_of(columns[i].type), columns[i].name, child);
        if (columns[i].type == Type::dictionary) {
            make_schema("u", "", &holder->dictionary);
            child->dictionary = &holder->dictionary;
        }
        root->child_pointers.push_back(child);
    }
    schema->n_children = static_cast<std::int64_t>(columns.size());
    schema->children = root->child_pointers.data();
}

void export_batch(const Batch& batch, ArrowArray* array) {
    ArrayHolder* root = make_array(batch.rows, 0, {}, 1, array);
    root->children.resize(batch.columns.size());
    root->child_pointers.reserve(batch.columns.size());
    for (std::size_t i = 0; i < batch.columns.size(); ++i) {
        export_column(batch.columns[i], &root->children[i]);
        root->child_pointers.push_back(&root->children[i]);
    }
    array->n_children = static_cast<std::int64_t>(batch.columns.size());
    array->children = root->child_pointers.data();
}

// ---- take ----

namespace {

template <class T>
Buffer take_lanes(const T* lanes, const KeptVector<std::int32_t>& rows) {
    Array<T> out;
    out.resize(rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) out[i] = lanes[rows[i]];
    return out.finish();
}

Column take_column(const Column& column, const KeptVector<std::int32_t>& rows) {
    Column out;
    out.name = column.name;
    out.type = column.type;
    out.length = static_cast<std::int64_t>(rows.size());
    out.dictionary = column.dictionary;
    if (column.null_count != 0) {
        Array<std::uint8_t> bits;
        bits.resize((rows.size() + 7) / 8, 0);
        for (std::size_t i = 0; i < rows.size(); ++i) {
            const bool valid = column.valid(rows[i]);
            bits[i >> 3] |= static_cast<std::uint8_t>(static_cast<unsigned>(valid) << (i & 7));
            out.null_count += !valid;
        }
        out.validity = bits.finish();
    }
    switch (column.type) {
        case Type::boolean:
            out.values = take_lanes(column.lanes<std::uint8_t>(), rows);
            break;
        case Type::int32:
        case Type::dictionary:
            out.values = take_lanes(column.lanes<std::int32_t>(), rows);
            break;
        case Type::int64:
        case Type::decimal:
        case Type::float64:
        case Type::timestamp_ms:
            out.values = take_lanes(column.lanes<std::int64_t>(), rows);
            break;
        case Type::string:
        case Type::binary: {
            Array<std::int32_t> offsets;
            Array<char> bytes;
            offsets.reserve(rows.size() + 1);
            offsets.push_back(0);
            for (const std::int32_t row : rows) {
                const std::string_view text = column.text(row);
                bytes.append(text.data(), text.size());
                offsets.push_back(static_cast<std::int32_t>(bytes.size()));
            }
            out.offsets = offsets.finish();
            out.values = bytes.finish();
        }
    }
    return out;
}

}  // namespace

Batch take(const Batch& batch, const KeptVector<std::int32_t>& rows) {
    Batch out;
    out.rows = static_cast<std::int64_t>(rows.size());
    out.origin = batch.origin;
    out.exploded = batch.exploded;
    for (const Column& column : batch.columns) out.columns.push_back(take_column(column, rows));
    out.row_message.reserve(rows.size());
    for (const std::int32_t row : rows) out.row_message.push_back(batch.message_of(row));
    return out;
}

// ---- import ----

namespace {

// The imported array lives as long as any buffer that points into it.
std::shared_ptr<ArrowArray> adopt(ArrowArray* array) {
    auto* moved = new ArrowArray(*array);
    array->release = nullptr;
    return {moved, [](ArrowArray* a) {
                if (a->release != nullptr) a->release(a);
                delete a;
            }};
}

Buffer view(const std::shared_ptr<const void>& owner, const void* data, std::int64_t bytes) {
    return {owner, static_cast<const std::uint8_t*>(data), bytes};
}

bool bit(const std::uint8_t* bits, std::int64_t i) {
    return ((bits[i >> 3] >> (i & 7)) & 1) != 0;
}

void import_validity(const ArrowArray& array, Column* column) {
    const auto* bits = array.null_count == 0 ? nullptr : static_cast<const std::uint8_t*>(array.buffers[0]);
    if (bits == nullptr) return;
    Array<std::uint8_t> packed;  // copied, so that offsets that are no multiple of eight need no special case
    packed.resize(static_cast<std::size_t>((column->length + 7) / 8), 0);
    for (std::int64_t i = 0; i < column->length; ++i) {
        const bool valid = bit(bits, array.offset + i);
        packed[i >> 3] |= static_cast<std::uint8_t>(static_cast<unsigned>(valid) << (i & 7));
        column->null_count += !valid;
    }
    if (column->null_count != 0) column->validity = packed.finish();
}

Status wrong(const Field& field, const char* format) {
    return {Code::schema,
            "column '" + field.name + "' arrives with the Arrow format '" + format +
                "', which is not the one that the schema declares; cast it to Schema.arrow_schema()"};
}

Status import_column(const std::shared_ptr<const void>& owner, const ArrowSchema& schema,
                     const ArrowArray& array, std::int64_t rows, const Field& field, Column* column) {
    column->name = field.name;
    column->type = field.type;
    const bool dictionary = field.type == Type::dictionary;
    if (std::strcmp(schema.format, dictionary ? "i" : format_of(field.type)) != 0 ||
        dictionary != (schema.dictionary != nullptr))
        return wrong(field, schema.format);
    column->length = rows;
    import_validity(array, column);
    const auto lanes = [&](std::int64_t width) {
        const auto* base = static_cast<const std::uint8_t*>(array.buffers[1]);
        return view(owner, base + array.offset * width, rows * width);
    };
    switch (field.type) {
        case Type::boolean: {
            const auto* bits = static_cast<const std::uint8_t*>(array.buffers[1]);
            Array<std::uint8_t> out;
            out.resize(static_cast<std::size_t>(rows));
            for (std::int64_t i = 0; i < rows; ++i) out[i] = bit(bits, array.offset + i) ? 1 : 0;
            column->values = out.finish();
            break;
        }
        case Type::decimal: {
            const Buffer wide = lanes(kDecimalBytes);
            Array<std::int64_t> out;
            out.resize(static_cast<std::size_t>(rows));
            for (std::int64_t i = 0; i < rows; ++i) {
                const std::int64_t low = wide.as<std::int64_t>()[2 * i];
                const std::int64_t high = wide.as<std::int64_t>()[2 * i + 1];
                if (high != low >> 63 && column->valid(i))
                    return {Code::schema, "column '" + field.name + "': a decimal does not fit 64 bits"};
                out[i] = low;
            }
            column->values = out.finish();
            break;
        }
        case Type::int32:
            column->values = lanes(4);
            break;
        case Type::int64:
        case Type::float64:
        case Type::timestamp_ms:
            column->values = lanes(8);
            break;
        case Type::string:
        case Type::binary: {
            const auto* offsets = static_cast<const std::int32_t*>(array.buffers[1]) + array.offset;
            column->offsets = view(owner, offsets, (rows + 1) * 4);
            column->values = view(owner, array.buffers[2], rows == 0 ? 0 : offsets[rows]);
            break;
        }
        case Type::dictionary: {
            // Codes of a foreign dictionary: strings are looked up once, codes are mapped.
            Column strings;
            Field text = field;
            text.type = Type::string;
            OMNI_RETURN_NOT_OK(import_column(owner, *schema.dictionary, *array.dictionary,
                                             array.dictionary->length, text, &strings));
            auto own = std::make_shared<Dictionary>();
            std::vector<std::int32_t> codes;
            for (std::int64_t i = 0; i < strings.length; ++i)
                codes.push_back(strings.valid(i) ? own->encode(strings.text(i)) : -1);
            const Buffer foreign = lanes(4);
            Array<std::int32_t> out;
            out.resize(static_cast<std::size_t>(rows));
            for (std::int64_t i = 0; i < rows; ++i) {
                const std::int32_t code = foreign.as<std::int32_t>()[i];
                if (!column->valid(i)) {
                    out[i] = 0;
                } else if (code < 0 || code >= strings.length || codes[code] < 0) {
                    return {Code::schema, "column '" + field.name + "': a dictionary code has no string"};
                } else {
                    out[i] = codes[code];
                }
            }
            column->values = out.finish();
            column->dictionary = own;
            break;
        }
    }
    return {};
}

// The C Data Interface allows a name to be null.
bool is_named(const ArrowSchema& schema, const std::string& name) {
    return schema.name != nullptr && name == schema.name;
}

}  // namespace

Status import_batch(const ArrowSchema& schema, ArrowArray* array, const std::vector<Field>& fields,
                    Batch* batch) {
    const std::shared_ptr<ArrowArray> owner = adopt(array);
    if (std::strcmp(schema.format, "+s") != 0)
        return {Code::schema, "rows must arrive as a record batch (an Arrow struct array)"};
    if (owner->offset != 0) return {Code::schema, "a record batch with an offset; slice its columns instead"};
    batch->rows = owner->length;
    for (const Field& field : fields) {
        std::int64_t at = 0;
        while (at < schema.n_children && !is_named(*schema.children[at], field.name)) ++at;
        if (at == schema.n_children)
            return {Code::schema, "column '" + field.name + "' is missing from the rows"};
        if (owner->children[at]->length < batch->rows)
            return {Code::schema, "column '" + field.name + "' is shorter than the rows"};
        Column column;
        OMNI_RETURN_NOT_OK(
            import_column(owner, *schema.children[at], *owner->children[at], batch->rows, field, &column));
        if (field.required && column.null_count != 0)
            return {Code::schema, "column '" + field.name + "' is required and holds nulls"};
        batch->columns.push_back(std::move(column));
    }
    return {};
}

Status fields_of(const ArrowSchema& schema, std::vector<Field>* fields) {
    for (std::int64_t i = 0; i < schema.n_children; ++i) {
        const ArrowSchema& child = *schema.children[i];
        Field field;
        field.name = child.name == nullptr ? "" : child.name;
        constexpr Type kTypes[] = {Type::boolean, Type::int32,        Type::int64,  Type::decimal,
                                   Type::float64, Type::timestamp_ms, Type::string, Type::binary};
        bool known = false;
        for (const Type type : kTypes) {
            if (std::strcmp(child.format, format_of(type)) != 0) continue;
            field.type = child.dictionary != nullptr ? Type::dictionary : type;
            known = true;
        }
        if (!known) return wrong(field, child.format);
        fields->push_back(std::move(field));
    }
    return {};
}

namespace {

template <class Offset>
Status list_messages(const ArrowArray& array, Origin* origin) {
    const auto* offsets = static_cast<const Offset*>(array.buffers[1]) + array.offset;
    const auto* bytes = static_cast<const char*>(array.buffers[2]);
    const auto* valid = static_cast<const std::uint8_t*>(array.buffers[0]);
    for (std::int64_t i = 0; i < array.length; ++i) {
        if (valid != nullptr && array.null_count != 0 && !bit(valid, array.offset + i)) continue;
        const auto size = static_cast<std::uint64_t>(offsets[i + 1] - offsets[i]);
        if (size > UINT32_MAX) return {Code::decode, "a message of more than 4 GiB"};
        origin->messages.push_back(
            {bytes + offsets[i], static_cast<std::uint32_t>(size), static_cast<std::int32_t>(i)});
    }
    return {};
}

}  // namespace

Status import_messages(const ArrowSchema& schema, ArrowArray* array, Origin* origin) {
    const std::shared_ptr<ArrowArray> owner = adopt(array);
    origin->owner = owner;
    origin->messages.reserve(static_cast<std::size_t>(owner->length));
    const std::string format = schema.format;
    if (format == "z" || format == "u") return list_messages<std::int32_t>(*owner, origin);
    if (format == "Z" || format == "U") return list_messages<std::int64_t>(*owner, origin);
    return {Code::decode, "messages must be a binary or string array, not the Arrow format '" + format + "'"};
}

}  // namespace omnistream
