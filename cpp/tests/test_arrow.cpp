// Native tests of the Arrow C Data Interface: what a foreign producer may send, and who frees it.
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "check.hpp"
#include "omnistream/arrow_abi.hpp"
#include "omnistream/dictionary.hpp"

namespace omnistream {
namespace {

// A foreign array whose release is counted; the test owns the memory behind it.
int released = 0;
void count_release(ArrowArray* array) {
    ++released;
    array->release = nullptr;
}

struct Foreign {
    ArrowSchema schema{};
    ArrowArray array{};
    std::vector<const void*> buffers;
    std::vector<ArrowSchema*> child_schemas;
    std::vector<ArrowArray*> child_arrays;

    Foreign(const char* format, const char* name, std::int64_t length, std::vector<const void*> data,
            std::int64_t null_count = 0)
        : buffers(std::move(data)) {
        schema.format = format;
        schema.name = name;
        array.length = length;
        array.null_count = null_count;
        array.n_buffers = static_cast<std::int64_t>(buffers.size());
        array.buffers = buffers.data();
    }
    Foreign(const Foreign&) = delete;
    Foreign& operator=(const Foreign&) = delete;

    // As the outermost array of an import.
    Foreign& root(const std::vector<Foreign*>& children = {}) {
        for (Foreign* child : children) {
            child_schemas.push_back(&child->schema);
            child_arrays.push_back(&child->array);
        }
        schema.n_children = array.n_children = static_cast<std::int64_t>(children.size());
        schema.children = child_schemas.data();
        array.children = child_arrays.data();
        array.release = count_release;
        return *this;
    }
};

Field field(const char* name, Type type, bool required = false) {
    Field out;
    out.name = name;
    out.type = type;
    out.required = required;
    return out;
}

// Imports a struct of `child` as the one column `wanted`; whatever comes of it, the array is freed once.
Status import_one(Foreign* child, const Field& wanted, std::int64_t rows, Batch* batch) {
    released = 0;
    Foreign rows_array("+s", "", rows, {nullptr});
    rows_array.root({child});
    Status status = import_batch(rows_array.schema, &rows_array.array, {wanted}, batch);
    CHECK(rows_array.array.release == nullptr);
    CHECK(status.ok() || released == 1);
    return status;
}

constexpr std::int64_t kNumbers[] = {10, 11, 12, 13, 14};
constexpr std::uint8_t kOddBits[] = {0b0010'1010};

// ---- import ----

void test_import_lanes() {
    Foreign child("l", "a", 3, {kOddBits, kNumbers}, -1);  // -1: not counted
    child.array.offset = 1;
    {
        Batch batch;
        CHECK(import_one(&child, field("a", Type::int64), 3, &batch).ok());
        const Column& column = batch.columns[0];
        CHECK(batch.rows == 3 && column.length == 3 && column.null_count == 1);
        CHECK(column.valid(0) && !column.valid(1) && column.valid(2));
        CHECK(column.lanes<std::int64_t>()[0] == 11 && column.lanes<std::int64_t>()[2] == 13);
        CHECK(batch.message_of(0) == 0 && batch.message_of(2) == 2);
        CHECK(released == 0);  // a column still looks into it
    }
    CHECK(released == 1);
}

void test_import_booleans() {
    Foreign child("b", "a", 4, {nullptr, kOddBits});
    child.array.offset = 2;
    Batch batch;
    CHECK(import_one(&child, field("a", Type::boolean), 4, &batch).ok());
    const auto* lanes = batch.columns[0].lanes<std::uint8_t>();
    CHECK(lanes[0] == 0 && lanes[1] == 1 && lanes[2] == 0 && lanes[3] == 1);
    CHECK(batch.columns[0].null_count == 0 && !batch.columns[0].validity);
}

void test_import_decimals() {
    const std::int64_t words[] = {5, 0, -5, -1, INT64_MIN, -1, INT64_MAX, 0, 7, 1, INT64_MIN, 0};
    const auto import = [&](std::int64_t first, std::int64_t rows, const std::uint8_t* valid, Batch* batch) {
        Foreign child("d:19,4", "a", rows, {valid, words}, valid == nullptr ? 0 : -1);
        child.array.offset = first;
        return import_one(&child, field("a", Type::decimal), rows, batch);
    };
    Batch batch;
    CHECK(import(0, 4, nullptr, &batch).ok());
    const auto* lanes = batch.columns[0].lanes<std::int64_t>();
    CHECK(lanes[0] == 5 && lanes[1] == -5 && lanes[2] == INT64_MIN && lanes[3] == INT64_MAX);
    for (const std::int64_t wide : {4, 5}) {
        Batch refused, null;
        CHECK(import(wide, 1, nullptr, &refused).code() == Code::schema);
        const std::uint8_t none[] = {0};
        CHECK(import(wide, 1, none, &null).ok());  // what is below a null means nothing
    }
}

void test_import_strings() {
    const std::int32_t offsets[] = {0, 1, 3, 3, 6};
    Foreign child("u", "a", 3, {nullptr, offsets, "abbccc"});
    child.array.offset = 1;
    Batch batch;
    CHECK(import_one(&child, field("a", Type::string), 3, &batch).ok());
    const Column& column = batch.columns[0];
    CHECK(column.text(0) == "bb" && column.text(1).empty() && column.text(2) == "ccc");
    CHECK(column.offsets.size == 16 && column.values.size == 6);

    const std::int32_t nothing[] = {0};
    Foreign empty("u", "a", 0, {nullptr, nothing, nullptr});
    Batch no_rows;
    CHECK(import_one(&empty, field("a", Type::string), 0, &no_rows).ok() && no_rows.rows == 0);
}

void test_import_dictionary() {
    const std::int32_t offsets[] = {0, 1, 1, 2, 3};
    const std::uint8_t no_second[] = {0b1101};
    Foreign values("u", "", 4, {no_second, offsets, "aba"}, 1);
    const auto import = [&](std::vector<std::int32_t> codes, const std::uint8_t* valid, Batch* batch) {
        Foreign child("i", "a", static_cast<std::int64_t>(codes.size()), {valid, codes.data()},
                      valid == nullptr ? 0 : -1);
        child.schema.dictionary = &values.schema;
        child.array.dictionary = &values.array;
        return import_one(&child, field("a", Type::dictionary), child.array.length, batch);
    };
    Batch batch;
    CHECK(import({2, 0, 3}, nullptr, &batch).ok());
    const Column& column = batch.columns[0];
    const auto text = [&](std::int64_t row) {
        return column.dictionary->value(column.lanes<std::int32_t>()[row]);
    };
    CHECK(text(0) == "b" && text(1) == "a" && text(2) == "a");
    CHECK(column.lanes<std::int32_t>()[1] == column.lanes<std::int32_t>()[2]);  // two codes, one string
    const std::uint8_t none[] = {0};
    for (const std::int32_t code : {-1, 4, 1}) {  // 1 is the null among the values
        Batch refused, null;
        CHECK(import({code}, nullptr, &refused).code() == Code::schema);
        CHECK(import({code}, none, &null).ok() && null.columns[0].null_count == 1);
    }
}

void test_import_of_what_does_not_fit() {
    const Field wanted = field("a", Type::int64);
    const auto refused = [&](Foreign* child, const Field& as, const char* words) {
        Batch batch;
        const Status status = import_one(child, as, 3, &batch);
        CHECK(status.code() == Code::schema && status.message().find(words) != std::string::npos);
        CHECK(released == 1);
    };
    Foreign null_type("n", "a", 3, {}, 3);
    refused(&null_type, wanted, "format 'n'");
    Foreign narrow("i", "a", 3, {nullptr, kNumbers});
    refused(&narrow, wanted, "format 'i'");
    refused(&narrow, field("a", Type::dictionary), "format 'i'");  // codes without strings
    Foreign other("l", "b", 3, {nullptr, kNumbers});
    refused(&other, wanted, "missing");
    Foreign nameless("l", nullptr, 3, {nullptr, kNumbers});
    refused(&nameless, wanted, "missing");
    Foreign brief("l", "a", 2, {nullptr, kNumbers});
    refused(&brief, wanted, "shorter");
    const std::uint8_t none[] = {0};
    Foreign nulls("l", "a", 3, {none, kNumbers}, 3);
    refused(&nulls, field("a", Type::int64, true), "required");

    Foreign lasting("l", "a", 5, {nullptr, kNumbers});  // a child may be longer than its struct
    Batch batch;
    CHECK(import_one(&lasting, wanted, 3, &batch).ok());
    CHECK(batch.columns[0].length == 3 && batch.columns[0].values.size == 24);

    released = 0;
    Foreign plain("l", "", 3, {nullptr, kNumbers});
    plain.root();
    Batch none_of_it;
    CHECK(import_batch(plain.schema, &plain.array, {}, &none_of_it).code() == Code::schema && released == 1);
    Foreign child("l", "a", 3, {nullptr, kNumbers});
    Foreign sliced("+s", "", 2, {nullptr});
    sliced.root({&child});
    sliced.array.offset = 1;
    CHECK(import_batch(sliced.schema, &sliced.array, {wanted}, &none_of_it).code() == Code::schema &&
          released == 2);
}

void test_fields_of() {
    Foreign number("l", "n", 0, {}), amount("d:19,4", "d", 0, {}), code("i", "c", 0, {}),
        text("u", "", 0, {}), bytes("z", nullptr, 0, {}), strange("tDm", "x", 0, {});
    code.schema.dictionary = &text.schema;
    Foreign rows("+s", "", 0, {});
    rows.root({&number, &amount, &code, &bytes});
    std::vector<Field> fields;
    CHECK(fields_of(rows.schema, &fields).ok() && fields.size() == 4);
    CHECK(fields[0].name == "n" && fields[0].type == Type::int64);
    CHECK(fields[1].type == Type::decimal && fields[2].type == Type::dictionary);
    CHECK(fields[3].name.empty() && fields[3].type == Type::binary);
    Foreign other("+s", "", 0, {});
    other.root({&strange});
    CHECK(fields_of(other.schema, &fields).code() == Code::schema);
}

// ---- messages ----

template <class Offset>
void check_messages(const char* format) {
    released = 0;
    {
        const Offset offsets[] = {0, 2, 3, 3, 6};
        const std::uint8_t valid[] = {0b1011};
        Foreign messages(format, "", 3, {valid, offsets, "aabccc"}, 1);
        messages.array.offset = 1;
        messages.root();
        Origin origin;
        CHECK(import_messages(messages.schema, &messages.array, &origin).ok());
        // The null keeps its position.
        CHECK(origin.messages.size() == 2);
        CHECK(std::string_view(origin.messages[0].data, origin.messages[0].size) == "b");
        CHECK(origin.messages[0].ordinal == 0 && origin.messages[1].ordinal == 2);
        CHECK(std::string_view(origin.messages[1].data, origin.messages[1].size) == "ccc");
        CHECK(released == 0);
    }
    CHECK(released == 1);
}

void test_import_messages() {
    check_messages<std::int32_t>("z");
    check_messages<std::int32_t>("u");
    check_messages<std::int64_t>("Z");
    check_messages<std::int64_t>("U");
    {
        Foreign numbers("l", "", 3, {nullptr, kNumbers});
        numbers.root();
        Origin origin;
        CHECK(import_messages(numbers.schema, &numbers.array, &origin).code() == Code::decode);
    }
    CHECK(released == 2);
}

// ---- export, and back ----

template <class T>
Buffer buffer_of(const std::vector<T>& values) {
    Array<T> out;
    out.append(values.data(), values.size());
    return out.finish();
}

Column column_of(const char* name, Type type, std::int64_t length, Buffer values) {
    Column out;
    out.name = name;
    out.type = type;
    out.length = length;
    out.values = std::move(values);
    return out;
}

Batch sample() {
    Batch batch;
    batch.rows = 3;
    batch.origin = std::make_shared<Origin>();
    batch.row_message = {0, 1, 1};
    auto dictionary = std::make_shared<Dictionary>();
    (void)dictionary->encode("red");
    (void)dictionary->encode("blue");
    batch.columns.push_back(column_of("flag", Type::boolean, 3, buffer_of<std::uint8_t>({1, 0, 1})));
    batch.columns.push_back(column_of("n", Type::int32, 3, buffer_of<std::int32_t>({1, -2, 3})));
    batch.columns.push_back(
        column_of("wide", Type::int64, 3, buffer_of<std::int64_t>({INT64_MIN, 0, INT64_MAX})));
    batch.columns.push_back(
        column_of("price", Type::decimal, 3, buffer_of<std::int64_t>({-15'000, 0, INT64_MAX})));
    batch.columns.push_back(column_of("rate", Type::float64, 3, buffer_of<double>({0.5, -0.0, 1e300})));
    batch.columns.push_back(column_of("time", Type::timestamp_ms, 3, buffer_of<std::int64_t>({-1, 0, 1})));
    batch.columns.push_back(column_of("color", Type::dictionary, 3, buffer_of<std::int32_t>({1, 0, 1})));
    batch.columns.back().dictionary = dictionary;
    batch.columns.push_back(column_of("text", Type::string, 3, buffer_of<char>({'a', 'b', 'c'})));
    batch.columns.back().offsets = buffer_of<std::int32_t>({0, 1, 1, 3});
    for (Column& column : batch.columns) {
        column.validity = buffer_of<std::uint8_t>({0b101});
        column.null_count = 1;
    }
    return batch;
}

std::vector<Field> fields_of(const Batch& batch) {
    std::vector<Field> out;
    for (const Column& column : batch.columns) out.push_back(field(column.name.c_str(), column.type));
    return out;
}

void check_same(const Column& a, std::int64_t row, const Column& b, std::int64_t other) {
    CHECK(a.valid(row) == b.valid(other));
    if (!a.valid(row)) return;
    switch (a.type) {
        case Type::boolean:
            CHECK(a.lanes<std::uint8_t>()[row] == b.lanes<std::uint8_t>()[other]);
            break;
        case Type::int32:
            CHECK(a.lanes<std::int32_t>()[row] == b.lanes<std::int32_t>()[other]);
            break;
        case Type::dictionary:
            CHECK(a.dictionary->value(a.lanes<std::int32_t>()[row]) ==
                  b.dictionary->value(b.lanes<std::int32_t>()[other]));
            break;
        case Type::string:
        case Type::binary:
            CHECK(a.text(row) == b.text(other));
            break;
        default:
            CHECK(a.lanes<std::int64_t>()[row] == b.lanes<std::int64_t>()[other]);
    }
}

void test_round_trip() {
    const Batch batch = sample();
    ArrowSchema schema;
    ArrowArray array;
    export_schema(batch.columns, &schema);
    export_batch(batch, &array);
    CHECK(std::strcmp(schema.format, "+s") == 0 && schema.n_children == 8 && array.n_children == 8);
    CHECK(array.children[2]->buffers[1] == batch.columns[2].values.data);  // shared, not copied
    Batch back;
    CHECK(import_batch(schema, &array, fields_of(batch), &back).ok());
    CHECK(array.release == nullptr);
    for (std::size_t i = 0; i < batch.columns.size(); ++i) {
        CHECK(back.columns[i].null_count == 1);
        for (std::int64_t row = 0; row < batch.rows; ++row)
            check_same(batch.columns[i], row, back.columns[i], row);
    }
    std::vector<Field> fields;
    CHECK(fields_of(schema, &fields).ok());
    for (std::size_t i = 0; i < fields.size(); ++i)
        CHECK(fields[i].name == batch.columns[i].name && fields[i].type == batch.columns[i].type);
    schema.release(&schema);
    CHECK(schema.release == nullptr);
}

void test_export_outlives_the_batch() {
    auto batch = std::make_unique<Batch>(sample());
    ArrowSchema schema;
    ArrowArray array;
    export_schema(batch->columns, &schema);
    export_batch(*batch, &array);
    batch.reset();
    // A consumer may move a child out: it is released by itself then, and not again by its parent.
    ArrowArray moved = *array.children[2];
    array.children[2]->release = nullptr;
    ArrowSchema moved_schema = *schema.children[2];
    schema.children[2]->release = nullptr;
    array.release(&array);
    schema.release(&schema);
    CHECK(static_cast<const std::int64_t*>(moved.buffers[1])[2] == INT64_MAX);
    CHECK(std::strcmp(moved_schema.name, "wide") == 0);
    moved.release(&moved);
    moved_schema.release(&moved_schema);
}

void test_export_of_no_rows() {
    Batch batch = take(sample(), {});
    ArrowSchema schema;
    ArrowArray array;
    export_schema(batch.columns, &schema);
    export_batch(batch, &array);
    CHECK(array.length == 0);
    Batch back;
    CHECK(import_batch(schema, &array, fields_of(batch), &back).ok() && back.rows == 0);
    schema.release(&schema);
}

void test_take() {
    const Batch batch = sample();
    const KeptVector<std::int32_t> rows = {2, 1, 2, 0};
    const Batch taken = take(batch, rows);
    CHECK(taken.rows == 4 && (taken.row_message == KeptVector<std::int32_t>{1, 1, 1, 0}));
    for (std::size_t i = 0; i < batch.columns.size(); ++i) {
        CHECK(taken.columns[i].length == 4 && taken.columns[i].null_count == 1);
        for (std::size_t row = 0; row < rows.size(); ++row)
            check_same(batch.columns[i], rows[row], taken.columns[i], static_cast<std::int64_t>(row));
    }
    CHECK(take(batch, {0, 2}).columns[0].null_count == 0);
}

}  // namespace
}  // namespace omnistream

int main() {
    using namespace omnistream;
    test_import_lanes();
    test_import_booleans();
    test_import_decimals();
    test_import_strings();
    test_import_dictionary();
    test_import_of_what_does_not_fit();
    test_fields_of();
    test_import_messages();
    test_round_trip();
    test_export_outlives_the_batch();
    test_export_of_no_rows();
    test_take();
    return report("test_arrow");
}
