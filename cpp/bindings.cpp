// Where C++ meets Python, with bindings_kafka.cpp: arguments in, Status to exceptions, batches out as Arrow
// capsules. Every call that does work releases the GIL.
#include "bindings.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <optional>

#include "omnistream/arrow_abi.hpp"
#include "omnistream/avro.hpp"
#include "omnistream/clean.hpp"
#include "omnistream/decode.hpp"
#include "omnistream/demand.hpp"
#include "omnistream/dictionary.hpp"
#include "omnistream/encode.hpp"
#include "omnistream/generate.hpp"
#include "omnistream/kafka.hpp"
#include "omnistream/rejects.hpp"
#include "omnistream/sales.hpp"
#include "omnistream/shards.hpp"
#include "omnistream/window.hpp"

namespace py = pybind11;
using namespace omnistream;

namespace omnistream::python {

[[noreturn]] void raise_named(const char* name, const std::string& message) {
    const py::object type = py::module_::import("omnistream.errors").attr(name);
    PyErr_SetString(type.ptr(), message.c_str());
    throw py::error_already_set();
}

void check(const Status& status) {
    if (status.ok()) return;
    if (status.code() == Code::argument) throw py::value_error(status.message());
    const char* names[] = {"OmnistreamError", "SchemaError", "DecodeError", "StateError",
                           "ValueError",      "SourceError", "SinkError"};
    raise_named(names[static_cast<int>(status.code())], status.message());
}

Imported arrow_array(const py::object& object) {
    if (!py::hasattr(object, "__arrow_c_array__"))
        throw py::type_error("expected an Arrow array or record batch (an object with __arrow_c_array__)");
    const auto pair = object.attr("__arrow_c_array__")().cast<py::tuple>();
    Imported in{pair[0], pair[1], nullptr, nullptr};
    in.schema = static_cast<ArrowSchema*>(PyCapsule_GetPointer(in.schema_owner.ptr(), "arrow_schema"));
    in.array = static_cast<ArrowArray*>(PyCapsule_GetPointer(in.array_owner.ptr(), "arrow_array"));
    if (in.schema == nullptr || in.array == nullptr) throw py::error_already_set();
    return in;
}

}  // namespace omnistream::python

using namespace omnistream::python;

namespace {

// ---- Python objects that hold memory of a batch ----

// A Python reference that C++ threads may drop: taking the GIL is the deleter's business.
std::shared_ptr<const void> keep(py::object object) {
    return {object.release().ptr(), [](const void* held) {
                const py::gil_scoped_acquire acquire;
                Py_DECREF(static_cast<PyObject*>(const_cast<void*>(held)));
            }};
}

struct HeldBuffer {
    Py_buffer view{};
    explicit HeldBuffer(const py::object& object) {
        if (PyObject_GetBuffer(object.ptr(), &view, PyBUF_SIMPLE) != 0) throw py::error_already_set();
    }
    HeldBuffer(const HeldBuffer&) = delete;
    HeldBuffer& operator=(const HeldBuffer&) = delete;
    ~HeldBuffer() {
        const py::gil_scoped_acquire acquire;
        PyBuffer_Release(&view);
    }
};

// ---- Arrow capsules ----

py::capsule schema_capsule(const std::vector<Column>& columns) {
    auto* schema = new ArrowSchema{};
    export_schema(columns, schema);
    return py::capsule(schema, "arrow_schema", [](PyObject* capsule) {
        auto* held = static_cast<ArrowSchema*>(PyCapsule_GetPointer(capsule, "arrow_schema"));
        if (held->release != nullptr) held->release(held);
        delete held;
    });
}

py::capsule array_capsule(const Batch& batch) {
    auto* array = new ArrowArray{};
    export_batch(batch, array);
    return py::capsule(array, "arrow_array", [](PyObject* capsule) {
        auto* held = static_cast<ArrowArray*>(PyCapsule_GetPointer(capsule, "arrow_array"));
        if (held->release != nullptr) held->release(held);
        delete held;
    });
}

std::shared_ptr<Batch> state_batch(const py::object& object) {
    const Imported in = arrow_array(object);
    auto batch = std::make_shared<Batch>();
    batch->origin = std::make_shared<Origin>();
    std::vector<Field> fields;
    check(fields_of(*in.schema, &fields));
    check(import_batch(*in.schema, in.array, fields, batch.get()));
    return batch;
}

Window::Parts state_parts(const std::map<std::string, py::object>& parts) {
    Window::Parts batches;
    for (const auto& [name, part] : parts) batches.emplace_back(name, state_batch(part));
    return batches;
}

// ---- dictionaries of options to the core's structs ----

Type type_of(const std::string& name) {
    static const std::pair<const char*, Type> kNames[] = {
        {"bool", Type::boolean},    {"int32", Type::int32},           {"int64", Type::int64},
        {"decimal", Type::decimal}, {"float64", Type::float64},       {"timestamp", Type::timestamp_ms},
        {"string", Type::string},   {"dictionary", Type::dictionary}, {"binary", Type::binary},
    };
    for (const auto& [key, type] : kNames)
        if (name == key) return type;
    throw py::value_error("unknown type '" + name + "'");
}

template <class T>
T get(const py::dict& options, const char* key) {
    if (!options.contains(key)) throw py::key_error(key);
    return options[key].cast<T>();
}

template <class T>
T get_or(const py::dict& options, const char* key, T otherwise) {
    return options.contains(key) && !options[key].is_none() ? options[key].cast<T>() : otherwise;
}

Schema schema_of(const py::dict& options) {
    Schema schema;
    for (const py::handle item : options["fields"]) {
        const auto field = item.cast<py::dict>();
        schema.fields.push_back(Field{
            .name = get<std::string>(field, "name"),
            .path = get<std::vector<std::string>>(field, "path"),
            .type = type_of(get<std::string>(field, "type")),
            .level = static_cast<std::uint8_t>(get<int>(field, "level")),
            .required = get<bool>(field, "required"),
            .coerce = get<bool>(field, "coerce"),
            .checked = field.contains("checked"),
            .timestamp_forms = static_cast<std::uint8_t>(get<int>(field, "timestamp_forms")),
            .has_default = get<bool>(field, "has_default"),
            .default_integer = get<std::int64_t>(field, "default_integer"),
            .default_float = get<double>(field, "default_float"),
            .default_string = get<std::string>(field, "default_string"),
        });
    }
    for (const py::handle item : options["explode"]) {
        const auto array = item.cast<py::dict>();
        schema.explode.push_back(
            {get<std::vector<std::string>>(array, "path"), get<std::string>(array, "name")});
    }
    schema.max_message_bytes = get<std::int64_t>(options, "max_message_bytes");
    schema.max_depth = get<std::int32_t>(options, "max_depth");
    schema.strict_utf8 = get<bool>(options, "strict_utf8");
    schema.array_messages = get<bool>(options, "array_messages");
    return schema;
}

Rule rule_of(const py::dict& options) {
    static const std::pair<const char*, RuleKind> kKinds[] = {
        {"less_than", RuleKind::less_than}, {"range", RuleKind::range},       {"ahead", RuleKind::ahead},
        {"behind", RuleKind::behind},       {"required", RuleKind::required}, {"allowed", RuleKind::allowed},
    };
    const auto kind = get<std::string>(options, "kind");
    for (const auto& [name, value] : kKinds) {
        if (kind != name) continue;
        Rule rule;
        rule.kind = value;
        rule.column = get<std::string>(options, "column");
        rule.other = get_or<std::string>(options, "other", "");
        rule.reason = get<std::string>(options, "reason");
        rule.low = get_or(options, "low", rule.low);
        rule.high = get_or(options, "high", rule.high);
        rule.low_float = get_or(options, "low_float", rule.low_float);
        rule.high_float = get_or(options, "high_float", rule.high_float);
        rule.values = get_or<std::vector<std::string>>(options, "values", {});
        return rule;
    }
    throw py::value_error("unknown kind of rule '" + kind + "'");
}

Condition condition_of(const py::dict& options, const char* name) {
    const auto condition = get_or<py::dict>(options, name, {});
    if (condition.empty()) return {};
    return {get<std::string>(condition, "column"), get<std::vector<std::string>>(condition, "plus"),
            get<std::vector<std::string>>(condition, "minus")};
}

Measure measure_of(const py::dict& options) {
    static const std::pair<const char*, Operation> kOperations[] = {
        {"count", Operation::count},
        {"sum", Operation::sum},
        {"min", Operation::min},
        {"max", Operation::max},
        {"mean", Operation::mean},
        {"std", Operation::std_dev},
        {"variance", Operation::variance},
        {"distinct", Operation::distinct},
        {"first", Operation::first},
        {"last", Operation::last},
        {"top", Operation::top},
        {"top_weight", Operation::top_weight},
        {"approx_distinct", Operation::approx_distinct},
        {"quantile", Operation::quantile},
        {"first", Operation::first},
        {"last", Operation::last},
        {"top", Operation::top},
        {"top_weight", Operation::top_weight},
        {"approx_distinct", Operation::approx_distinct},
        {"quantile", Operation::quantile},
    };
    const auto op = get<std::string>(options, "op");
    for (const auto& [name, value] : kOperations) {
        if (op != name) continue;
        Measure measure;
        measure.name = get<std::string>(options, "name");
        measure.operation = value;
        measure.column = get_or<std::string>(options, "column", "");
        measure.by = get_or<std::string>(options, "by", "");
        measure.argument = get_or<std::int64_t>(options, "argument", 0);
        measure.condition = condition_of(options, "condition");
        return measure;
    }
    throw py::value_error("unknown operation '" + op + "'");
}

WindowKind window_kind_of(const std::string& name) {
    for (const auto& [known, kind] : {std::pair<const char*, WindowKind>{"tumbling", WindowKind::tumbling},
                                      {"hopping", WindowKind::hopping},
                                      {"calendar", WindowKind::calendar},
                                      {"session", WindowKind::session},
                                      {"global", WindowKind::global}})
        if (name == known) return kind;
    throw py::value_error("unknown kind of window '" + name + "'");
}

std::vector<Type> types_of(const py::dict& options, const std::vector<std::string>& columns) {
    const auto types = get<std::map<std::string, std::string>>(options, "types");
    std::vector<Type> out;
    for (const std::string& column : columns)
        out.push_back(column.empty() ? Type::int64 : type_of(types.at(column)));
    return out;
}

Watermark::Partition partition_of(const py::dict& item) {
    return {get<std::string>(item, "source"), get<std::int32_t>(item, "partition"),
            get<std::int64_t>(item, "max_event_time_ms"), get<bool>(item, "idle")};
}

std::shared_ptr<Origin> origin_of(std::string source, std::int32_t partition, std::int64_t first_position) {
    auto origin = std::make_shared<Origin>();
    origin->source = std::move(source);
    origin->partition = partition;
    origin->first_position = first_position;
    return origin;
}

// A list of bytes, or an Arrow array of binary or text, one message each.
std::shared_ptr<Origin> origin_of_messages(const py::object& messages, std::string source,
                                           std::int32_t partition, std::int64_t first_position) {
    auto origin = origin_of(std::move(source), partition, first_position);
    if (py::isinstance<py::list>(messages) || py::isinstance<py::tuple>(messages)) {
        // A private list: the caller may change theirs while the bytes are still in use.
        py::list held;
        for (const py::handle item : messages) {
            char* data = nullptr;
            Py_ssize_t size = 0;
            if (PyBytes_AsStringAndSize(item.ptr(), &data, &size) != 0) throw py::error_already_set();
            origin->messages.push_back(
                {data, static_cast<std::uint32_t>(size), static_cast<std::int32_t>(origin->messages.size())});
            held.append(item);
        }
        origin->owner = keep(std::move(held));
    } else {
        const Imported in = arrow_array(messages);
        check(import_messages(*in.schema, in.array, origin.get()));
    }
    return origin;
}

// Lanes that Python hands over as a buffer.
template <class T>
struct HeldLanes : HeldBuffer {
    explicit HeldLanes(const py::object& object) : HeldBuffer(object) {
        if (static_cast<std::size_t>(view.len) % sizeof(T) != 0)
            throw py::value_error("a buffer that is cut off inside a value");
    }
    [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(view.len) / sizeof(T); }
    [[nodiscard]] const T* data() const { return static_cast<const T*>(view.buf); }
    const T& operator[](std::size_t at) const { return data()[at]; }
};

// Pieces of a block: piece i is [begins[i], ends[i]), at first_position + ordinals[i].
std::shared_ptr<Origin> origin_of_pieces(const py::object& block, const py::object& begins,
                                         const py::object& ends, const py::object& ordinals,
                                         std::string source, std::int32_t partition,
                                         std::int64_t first_position) {
    const auto held = std::make_shared<HeldBuffer>(block);
    const HeldLanes<std::int64_t> begin(begins), end(ends);
    const HeldLanes<std::int32_t> ordinal(ordinals);
    if (begin.size() != end.size() || begin.size() != ordinal.size())
        throw py::value_error("begins, ends and ordinals differ in number");
    auto origin = origin_of(std::move(source), partition, first_position);
    origin->owner = held;
    for (std::size_t i = 0; i < begin.size(); ++i) {
        if (begin[i] < 0 || end[i] < begin[i] || end[i] > held->view.len)
            throw py::index_error("a message outside its block");
        origin->messages.push_back({static_cast<const char*>(held->view.buf) + begin[i],
                                    static_cast<std::uint32_t>(end[i] - begin[i]), ordinal[i]});
    }
    return origin;
}

struct FrozenTexts {
    std::shared_ptr<const Dictionary> texts;
};

std::shared_ptr<Batch> batch_of(const Dictionary& dictionary, std::int32_t first = 0) {
    auto batch = std::make_shared<Batch>();
    batch->rows = dictionary.size() - first;
    batch->origin = std::make_shared<Origin>();
    batch->columns.push_back(dictionary.to_column("value", first));
    return batch;
}

std::vector<std::shared_ptr<Dictionary>> dictionaries_of(
    const Schema& schema, const std::map<std::string, std::shared_ptr<Dictionary>>& known) {
    std::vector<std::shared_ptr<Dictionary>> dictionaries;
    for (const Field& field : schema.fields) {
        const bool wanted = field.type == Type::dictionary && !field.checked;
        const auto found = known.find(field.name);
        if (wanted && found == known.end())
            throw py::value_error("no dictionary for the field '" + field.name + "'");
        dictionaries.push_back(wanted ? found->second : nullptr);
    }
    return dictionaries;
}

AvroSchema avro_schema_of(const py::list& types) {
    static const std::pair<const char*, AvroType::Kind> kKinds[] = {
        {"null", AvroType::null},        {"boolean", AvroType::boolean}, {"int", AvroType::integer},
        {"long", AvroType::integer},     {"float", AvroType::float32},   {"double", AvroType::float64},
        {"bytes", AvroType::bytes},      {"string", AvroType::string},   {"fixed", AvroType::fixed},
        {"enum", AvroType::enumeration}, {"record", AvroType::record},   {"array", AvroType::array},
        {"map", AvroType::map},          {"union", AvroType::either},
    };
    static const std::pair<const char*, AvroType::Logical> kLogicals[] = {
        {"", AvroType::plain},      {"decimal", AvroType::decimal}, {"moment", AvroType::moment},
        {"local", AvroType::local}, {"clock", AvroType::clock},     {"uuid", AvroType::uuid},
    };
    const auto named = [](const auto& table, const std::string& name) {
        for (const auto& [known, value] : table)
            if (name == known) return value;
        throw py::value_error("unknown Avro type '" + name + "'");
    };
    AvroSchema schema;
    for (const py::handle item : types) {
        const auto options = item.cast<py::dict>();
        AvroType& type = schema.emplace_back();
        type.kind = named(kKinds, get<std::string>(options, "kind"));
        type.logical = named(kLogicals, get_or<std::string>(options, "logical", ""));
        type.names = get_or<std::vector<std::string>>(options, "names", {});
        type.children = get_or<std::vector<std::uint32_t>>(options, "children", {});
        type.size = get_or<std::int64_t>(options, "size", 0);
        type.scale = get_or<std::int32_t>(options, "scale", 0);
    }
    return schema;
}

// `writer_of` gives the types of a schema id's writer, or None for an id that nobody knows.
struct PythonAvroDecoder {
    AvroDecoder decoder;
    py::object writer_of;

    void learn(const Origin& origin) {
        for (const std::uint32_t id : decoder.unknown_ids(origin)) {
            const py::object types = writer_of(id);
            if (types.is_none()) {
                decoder.refuse(id);
            } else {
                check(decoder.learn(id, avro_schema_of(types)));
            }
        }
    }
};

// ---- results ----

const std::vector<std::string>& decode_reasons() {
    static const std::vector<std::string> kReasons(std::begin(kDecodeReasons), std::end(kDecodeReasons));
    return kReasons;
}

std::int32_t decode_reason(const std::string& name) {
    const auto& reasons = decode_reasons();
    const auto found = std::find(reasons.begin(), reasons.end(), name);
    if (found == reasons.end()) throw py::value_error("unknown reason '" + name + "'");
    return static_cast<std::int32_t>(found - reasons.begin());
}

// Messages that Python or a device decodes.
struct PythonMessages {
    std::shared_ptr<Origin> origin;

    const Message& at(std::size_t index) const {
        if (index >= origin->messages.size()) throw py::index_error("no such message");
        return origin->messages[index];
    }
};

py::tuple decoded_to_python(const Decoded& decoded) {
    const DecodeCounts& counts = decoded.counts;
    py::dict numbers;
    numbers["messages"] = counts.messages;
    numbers["decoded"] = counts.decoded;
    numbers["rejected"] = counts.rejected;
    numbers["rows"] = counts.rows;
    numbers["empty"] = counts.empty;
    numbers["unknown_fields"] = counts.unknown_fields;
    numbers["speculated"] = counts.speculated;
    return py::make_tuple(decoded.batch,
                          reject_table(*decoded.batch, decoded.rejects, "decode", decode_reasons()), numbers);
}

// What is wrong with rows, by number: a reason, and the column at fault or "".
using ReasonsAndFields = std::vector<std::pair<std::string, std::string>>;

std::vector<std::string> reasons_of(const ReasonsAndFields& known) {
    std::vector<std::string> reasons;
    for (const auto& [reason, field] : known) reasons.push_back(reason);
    return reasons;
}

std::vector<Reject> rejects_of(const Batch& batch, const std::vector<std::int32_t>& rows,
                               const std::string& field) {
    std::vector<Reject> rejects;
    for (const std::int32_t row : rows) {
        if (row < 0 || row >= batch.rows) throw py::index_error("a row outside the batch");
        rejects.push_back({batch.message_of(row), line_of(batch, row), -1, 0, field});
    }
    return rejects;
}

// ---- generate ----

py::dict generate_counts(const Generator& generator) {
    const GenerateCounts& counts = generator.counts();
    py::dict by_type;
    for (int i = 0; i < kEventTypeCount; ++i) by_type[kEventTypes[i]] = counts.by_type[i];
    py::dict broken;
    for (int i = 0; i < kDirtKindCount; ++i) broken[kDirtKinds[i].name] = counts.broken[i];
    py::dict out;
    out["events"] = counts.events;
    out["duplicates"] = counts.duplicates;
    out["lines"] = counts.lines;
    out["duplicate_lines"] = counts.duplicate_lines;
    out["below_cost_lines"] = counts.below_cost_lines;
    out["by_type"] = by_type;
    out["broken"] = broken;
    return out;
}

}  // namespace

PYBIND11_MODULE(_core, m) {
    m.doc() = "The C++ core of omnistream.";

    py::class_<Batch, std::shared_ptr<Batch>>(m, "Batch")
        .def_readonly("rows", &Batch::rows)
        .def_property_readonly("source", [](const Batch& batch) { return batch.origin->source; })
        .def_property_readonly("partition", [](const Batch& batch) { return batch.origin->partition; })
        .def_property_readonly("positions", [](const Batch& batch) { return batch.origin->positions; })
        .def_property_readonly("names",
                               [](const Batch& batch) {
                                   std::vector<std::string> names;
                                   for (const Column& column : batch.columns) names.push_back(column.name);
                                   return names;
                               })
        .def("row_messages",
             [](const Batch& batch) {
                 std::vector<std::int32_t> messages;
                 for (std::int64_t row = 0; row < batch.rows; ++row)
                     messages.push_back(batch.message_of(row));
                 return py::bytes(reinterpret_cast<const char*>(messages.data()),
                                  messages.size() * sizeof(std::int32_t));
             })
        .def("count_texts",
             [](const Batch& batch, const std::string& column) {
                 const Column* const texts = batch.find(column);
                 if (texts == nullptr || texts->type != Type::string)
                     throw py::key_error("no text column '" + column + "'");
                 const py::gil_scoped_release release;
                 std::vector<std::pair<std::string_view, std::int64_t>> counts;  // of a few different ones
                 for (std::int64_t row = 0; row < batch.rows; ++row) {
                     const std::string_view text = texts->text(row);
                     const auto known = std::find_if(counts.begin(), counts.end(),
                                                     [&](const auto& each) { return each.first == text; });
                     if (known == counts.end()) {
                         counts.emplace_back(text, 1);
                     } else {
                         ++known->second;
                     }
                 }
                 return counts;
             })
        .def("__arrow_c_schema__", [](const Batch& batch) { return schema_capsule(batch.columns); })
        .def(
            "__arrow_c_array__",
            [](const Batch& batch, const py::object&) {
                return py::make_tuple(schema_capsule(batch.columns), array_capsule(batch));
            },
            py::arg("requested_schema") = py::none());

    py::class_<CleanBatch, std::shared_ptr<CleanBatch>>(m, "CleanBatch")
        .def(py::init([](std::shared_ptr<Batch> batch, const py::object& rows,
                         const py::object& watermarks_ms, std::int32_t owner) {
                 const HeldLanes<std::int32_t> row(rows);
                 const HeldLanes<std::int64_t> watermark_ms(watermarks_ms);
                 if (row.size() != watermark_ms.size())
                     throw py::value_error("rows and watermarks differ in number");
                 for (std::size_t i = 0; i < row.size(); ++i)
                     if (row[i] < 0 || row[i] >= batch->rows)
                         throw py::index_error("a row outside the batch");
                 auto clean = std::make_shared<CleanBatch>();
                 clean->batch = std::move(batch);
                 clean->rows.assign(row.data(), row.data() + row.size());
                 clean->watermark_ms.assign(watermark_ms.data(), watermark_ms.data() + watermark_ms.size());
                 clean->owner = owner;
                 return clean;
             }),
             py::arg("batch"), py::arg("rows"), py::arg("watermarks_ms"), py::arg("owner"))
        .def_property_readonly("rows", [](const CleanBatch& clean) { return clean.size(); })
        .def_readonly("owner", &CleanBatch::owner)
        .def_property_readonly(
            "batch", [](const CleanBatch& clean) { return std::const_pointer_cast<Batch>(clean.batch); })
        .def("with_batch",
             [](const CleanBatch& clean, std::shared_ptr<Batch> batch) {
                 auto replaced = std::make_shared<CleanBatch>(clean);
                 replaced->batch = std::move(batch);
                 return replaced;
             })
        .def("to_batch",
             [](const CleanBatch& clean) {
                 const py::gil_scoped_release release;
                 return std::make_shared<Batch>(clean.all ? *clean.batch : take(*clean.batch, clean.rows));
             })
        .def("survivors",
             [](const CleanBatch& clean) {
                 auto batch = std::make_shared<Batch>();
                 batch->rows = static_cast<std::int64_t>(clean.size());
                 batch->origin = clean.batch->origin;
                 const KeptVector<std::int32_t> numbers = clean.row_numbers();
                 Array<std::int32_t> rows;
                 rows.append(numbers.data(), numbers.size());
                 const KeptVector<std::int64_t> met = clean.watermarks_ms();
                 Array<std::int64_t> watermarks;
                 watermarks.append(met.data(), met.size());
                 for (auto& [name, type, lanes] :
                      {std::tuple{"row", Type::int32, rows.finish()},
                       std::tuple{"watermark_ms", Type::int64, watermarks.finish()}}) {
                     Column column;
                     column.name = name;
                     column.type = type;
                     column.length = batch->rows;
                     column.values = lanes;
                     batch->columns.push_back(std::move(column));
                 }
                 return batch;
             })
        .def("row_numbers", &CleanBatch::row_numbers)
        .def("watermarks_ms", &CleanBatch::watermarks_ms);

    py::class_<FrozenTexts>(m, "FrozenTexts").def("to_batch", [](const FrozenTexts& frozen) {
        return batch_of(*frozen.texts);
    });

    py::class_<Dictionary, std::shared_ptr<Dictionary>>(m, "Dictionary")
        .def(py::init<>())
        .def("__len__", &Dictionary::size)
        .def("encode",
             [](Dictionary& dictionary, const std::vector<std::string>& texts) {
                 std::vector<Text> views;
                 for (const std::string& text : texts)
                     views.push_back({text.data(), static_cast<std::uint32_t>(text.size())});
                 std::vector<std::int32_t> codes(texts.size());
                 dictionary.encode(views.data(), views.size(), codes.data());
                 return codes;
             })
        .def("values",
             [](const Dictionary& dictionary) {
                 py::list values;
                 for (std::int32_t code = 0; code < dictionary.size(); ++code)
                     values.append(py::bytes(dictionary.value(code).data(), dictionary.value(code).size()));
                 return values;
             })
        .def("freeze", [](const Dictionary& dictionary) { return FrozenTexts{dictionary.freeze()}; })
        .def(
            "to_batch",
            [](const Dictionary& dictionary, std::int32_t first) {
                if (first < 0 || first > dictionary.size())
                    throw py::value_error("the dictionary has no code " + std::to_string(first));
                return batch_of(dictionary, first);
            },
            py::arg("first") = 0)
        .def("restore",
             [](Dictionary& dictionary, const py::object& batch) {
                 const auto state = state_batch(batch);
                 check(dictionary.restore(state->columns.at(0)));
             })
        .def_property_readonly("memory_bytes", &Dictionary::memory_bytes);

    bind_kafka(m);

    // ---- decode ----

    py::class_<Decoder>(m, "Decoder")
        .def(py::init([](const py::dict& options,
                         const std::map<std::string, std::shared_ptr<Dictionary>>& known) {
                 Schema schema = schema_of(options);
                 auto dictionaries = dictionaries_of(schema, known);
                 return std::make_unique<Decoder>(std::move(schema), std::move(dictionaries));
             }),
             py::arg("schema"), py::arg("dictionaries"))
        .def(
            "decode_lines",
            [](Decoder& decoder, const py::object& block, std::string source, std::int32_t partition,
               std::int64_t first_position) {
                auto held = std::make_shared<HeldBuffer>(block);
                auto origin = origin_of(std::move(source), partition, first_position);
                origin->owner = held;
                const std::string_view bytes(static_cast<const char*>(held->view.buf),
                                             static_cast<std::size_t>(held->view.len));
                Decoded decoded;
                without_gil([&] { return decoder.decode_lines(bytes, origin, &decoded); });
                return decoded_to_python(decoded);
            },
            py::arg("block"), py::arg("source") = "push", py::arg("partition") = 0,
            py::arg("first_position") = 1)
        .def(
            "decode_messages",
            [](Decoder& decoder, const py::object& messages, std::string source, std::int32_t partition,
               std::int64_t first_position) {
                const auto origin =
                    origin_of_messages(messages, std::move(source), partition, first_position);
                Decoded decoded;
                without_gil([&] { return decoder.decode_messages(origin, &decoded); });
                return decoded_to_python(decoded);
            },
            py::arg("messages"), py::arg("source") = "push", py::arg("partition") = 0,
            py::arg("first_position") = 0)
        .def("decode_block",
             [](Decoder& decoder, const std::shared_ptr<MessageBlock>& block) {
                 Decoded decoded;
                 without_gil([&] { return decoder.decode_messages(origin_of_block(block), &decoded); });
                 return decoded_to_python(decoded);
             })
        .def("decode", [](Decoder& decoder, const PythonMessages& messages) {
            Decoded decoded;
            without_gil([&] { return decoder.decode_messages(messages.origin, &decoded); });
            return decoded_to_python(decoded);
        });
    py::class_<PythonAvroDecoder>(m, "AvroDecoder")
        .def(py::init([](const py::dict& options,
                         const std::map<std::string, std::shared_ptr<Dictionary>>& known,
                         const py::object& writer, bool framed) {
                 Schema schema = schema_of(options);
                 auto dictionaries = dictionaries_of(schema, known);
                 auto made = std::unique_ptr<PythonAvroDecoder>(new PythonAvroDecoder{
                     AvroDecoder(std::move(schema), std::move(dictionaries), framed), writer});
                 if (!framed) check(made->decoder.learn(0, avro_schema_of(writer)));
                 return made;
             }),
             py::arg("schema"), py::arg("dictionaries"), py::arg("writer"), py::arg("framed"))
        .def(
            "decode_messages",
            [](PythonAvroDecoder& self, const py::object& messages, std::string source,
               std::int32_t partition, std::int64_t first_position) {
                const auto origin =
                    origin_of_messages(messages, std::move(source), partition, first_position);
                self.learn(*origin);
                Decoded decoded;
                without_gil([&] { return self.decoder.decode_messages(origin, &decoded); });
                return decoded_to_python(decoded);
            },
            py::arg("messages"), py::arg("source") = "push", py::arg("partition") = 0,
            py::arg("first_position") = 0)
        .def("decode_block", [](PythonAvroDecoder& self, const std::shared_ptr<MessageBlock>& block) {
            const auto origin = origin_of_block(block);
            self.learn(*origin);
            Decoded decoded;
            without_gil([&] { return self.decoder.decode_messages(origin, &decoded); });
            return decoded_to_python(decoded);
        });
    m.def("encode_avro", [](const py::object& rows, const std::string& frame) {
        const auto batch = state_batch(rows);
        auto encoded = std::make_shared<Batch>();
        encoded->rows = batch->rows;
        encoded->origin = batch->origin;
        without_gil([&] { return encode_avro(*batch, frame, &encoded->columns.emplace_back()); });
        return encoded;
    });
    py::class_<PythonMessages>(m, "Messages")
        .def(py::init([](const py::object& messages, std::string source, std::int32_t partition,
                         std::int64_t first_position) {
                 return PythonMessages{
                     origin_of_messages(messages, std::move(source), partition, first_position)};
             }),
             py::arg("messages"), py::arg("source"), py::arg("partition"), py::arg("first_position"))
        .def_static(
            "of_block",
            [](const std::shared_ptr<MessageBlock>& block) { return PythonMessages{origin_of_block(block)}; })
        .def_property_readonly("source", [](const PythonMessages& self) { return self.origin->source; })
        .def_property_readonly("partition", [](const PythonMessages& self) { return self.origin->partition; })
        .def("__len__", [](const PythonMessages& self) { return self.origin->messages.size(); })
        .def("__getitem__",
             [](const PythonMessages& self, std::size_t index) {
                 const Message& message = self.at(index);
                 return py::bytes(message.data, message.size);
             })
        .def("import_rows",
             [](const PythonMessages& self, std::size_t index, const py::object& rows,
                const py::dict& options) {
                 const Origin& origin = *self.origin;
                 const Imported in = arrow_array(rows);
                 auto batch = std::make_shared<Batch>();
                 const auto own = origin_of(origin.source, origin.partition,
                                            origin.first_position + self.at(index).ordinal);
                 own->rows_of_message = true;
                 batch->origin = own;
                 const Schema schema = schema_of(options);
                 without_gil([&] { return import_batch(*in.schema, in.array, schema.fields, batch.get()); });
                 return batch;
             })
        .def_static(
            "of_pieces",
            [](const py::object& block, const py::object& begins, const py::object& ends,
               const py::object& ordinals, std::string source, std::int32_t partition,
               std::int64_t first_position) {
                return PythonMessages{origin_of_pieces(block, begins, ends, ordinals, std::move(source),
                                                       partition, first_position)};
            },
            py::arg("block"), py::arg("begins"), py::arg("ends"), py::arg("ordinals"), py::arg("source"),
            py::arg("partition"), py::arg("first_position"))
        .def("take",
             [](const PythonMessages& self, const py::object& indices) {
                 const HeldLanes<std::int64_t> at(indices);
                 auto taken = std::make_shared<Origin>(*self.origin);
                 taken->messages.clear();
                 for (std::size_t i = 0; i < at.size(); ++i)
                     taken->messages.push_back(self.at(static_cast<std::size_t>(at[i])));
                 return PythonMessages{taken};
             })
        .def("sizes",
             [](const PythonMessages& self) {
                 std::string lanes;
                 for (const Message& message : self.origin->messages)
                     lanes.append(reinterpret_cast<const char*>(&message.size), sizeof message.size);
                 return py::bytes(lanes);
             })
        .def("copy_to",
             [](const PythonMessages& self, const py::buffer& target) {
                 const py::buffer_info room = target.request(true);
                 auto* at = static_cast<char*>(room.ptr);
                 std::int64_t left = room.size * room.itemsize;
                 for (const Message& message : self.origin->messages) {
                     if (message.size > left)
                         throw py::value_error("the messages are longer than the buffer");
                     at = std::copy_n(message.data, message.size, at);
                     left -= message.size;
                 }
             })
        .def(
            "rows",
            [](const PythonMessages& self, const py::object& rows, const py::dict& options,
               const std::map<std::string, std::shared_ptr<Dictionary>>& known, const py::object& messages,
               bool exploded) {
                const Imported in = arrow_array(rows);
                const Schema schema = schema_of(options);
                const auto dictionaries = dictionaries_of(schema, known);
                auto batch = std::make_shared<Batch>();
                batch->origin = self.origin;
                batch->exploded = exploded;
                std::vector<Field> fields = schema.fields;
                for (Field& field : fields)
                    if (field.type == Type::dictionary) field.type = Type::int32;
                without_gil([&] { return import_batch(*in.schema, in.array, fields, batch.get()); });
                for (std::size_t i = 0; i < dictionaries.size(); ++i) {
                    if (dictionaries[i] == nullptr) continue;
                    batch->columns[i].type = Type::dictionary;
                    batch->columns[i].dictionary = dictionaries[i];
                }
                const HeldLanes<std::int32_t> message(messages);
                if (static_cast<std::int64_t>(message.size()) != batch->rows)
                    throw py::value_error("rows and their messages differ in number");
                for (std::size_t i = 0; i < message.size(); ++i) {
                    self.at(static_cast<std::size_t>(message[i]));
                    batch->row_message.push_back(message[i]);
                }
                return batch;
            },
            py::arg("rows"), py::arg("schema"), py::arg("dictionaries"), py::arg("messages"),
            py::arg("exploded"))
        .def(
            "refuse",
            [](const PythonMessages& self, const py::object& lines, const py::object& faults,
               const std::string& stage, const ReasonsAndFields& known) {
                const HeldLanes<std::int32_t> line(lines), fault(faults);
                if (line.size() != self.origin->messages.size() || fault.size() != line.size())
                    throw py::value_error("messages, lines and faults differ in number");
                Batch batch;
                batch.origin = self.origin;
                std::vector<Reject> rejects;
                for (std::size_t i = 0; i < line.size(); ++i)
                    rejects.push_back({static_cast<std::int32_t>(i), line[i], -1, fault[i],
                                       known.at(static_cast<std::size_t>(fault[i])).second});
                return reject_table(batch, rejects, stage, reasons_of(known));
            },
            py::arg("lines"), py::arg("faults"), py::arg("stage"), py::arg("known"))
        .def("rejects", [](const PythonMessages& self,
                           const std::vector<std::tuple<std::size_t, std::string, std::string>>& faults) {
            Batch batch;
            batch.origin = self.origin;
            std::vector<Reject> rejects;
            for (const auto& [index, reason, field] : faults) {
                self.at(index);
                rejects.push_back({static_cast<std::int32_t>(index), -1, -1, decode_reason(reason), field});
            }
            return reject_table(batch, rejects, "decode", decode_reasons());
        });
    m.def("decode_isa", &decode_isa);
    m.def("decode_isas", &decode_isas);
    m.def("force_decode_isa", [](const std::string& name) { check(force_decode_isa(name)); });

    // ---- encode ----

    m.def(
        "import_rows",
        [](const py::object& rows, const py::dict& options, std::string source, std::int32_t partition,
           std::int64_t first_position) {
            const Imported in = arrow_array(rows);
            auto batch = std::make_shared<Batch>();
            batch->origin = origin_of(std::move(source), partition, first_position);
            const Schema schema = schema_of(options);
            without_gil([&] { return import_batch(*in.schema, in.array, schema.fields, batch.get()); });
            return batch;
        },
        py::arg("rows"), py::arg("schema"), py::arg("source") = "push", py::arg("partition") = 0,
        py::arg("first_position") = 0);
    py::class_<Translation, std::shared_ptr<Translation>>(m, "Translation")
        .def(py::init<std::shared_ptr<Dictionary>>(), py::arg("ours"))
        .def("learn", [](Translation& translation, const Batch& texts) {
            without_gil([&] {
                translation.learn(texts.columns.at(0));
                return Status();
            });
        });
    m.def("translate_columns", [](const std::shared_ptr<Batch>& batch,
                                  const std::map<std::string, std::shared_ptr<Translation>>& translations) {
        std::shared_ptr<Batch> translated;
        without_gil([&] { return translate_columns(*batch, translations, &translated); });
        return translated;
    });
    m.def("encode_columns", [](const std::shared_ptr<Batch>& batch,
                               const std::map<std::string, std::shared_ptr<Dictionary>>& dictionaries) {
        if (encoded(*batch, dictionaries)) return batch;  // a copy would copy the origin of each row
        std::shared_ptr<Batch> out;
        without_gil([&] { return encode_columns(*batch, dictionaries, &out); });
        return out;
    });
    m.def(
        "add_amounts",
        [](const std::shared_ptr<Batch>& batch, const std::string& quantity, const std::string& unit_price,
           const std::string& discount, const std::vector<std::string>& wanted) {
            std::shared_ptr<Batch> out;
            std::vector<std::int32_t> overflowed;
            without_gil([&] {
                return add_amounts(*batch, quantity, unit_price, discount, wanted, &out, &overflowed);
            });
            return std::make_pair(out, overflowed);
        },
        py::arg("batch"), py::arg("quantity"), py::arg("unit_price"), py::arg("discount"),
        py::arg("wanted") = std::vector<std::string>{"gross_amount", "amount"});

    // ---- clean ----

    m.attr("ALL_OWNERS") = kAllOwners;
    py::class_<Watermark, std::shared_ptr<Watermark>> watermark(m, "Watermark");
    watermark.def(py::init<std::int64_t>(), py::arg("max_disorder_ms"))
        .def("declare", &Watermark::declare)
        .def("set_idle", [](Watermark& w, const std::string& source,
                            std::int32_t partition) { w.set_idle(w.slot(source, partition)); })
        .def("advance", &Watermark::advance)
        .def("slot", &Watermark::slot)
        .def("drop", &Watermark::drop)
        .def("take", [](Watermark& w, const py::dict& partition,
                        std::int64_t value_ms) { return w.take(partition_of(partition), value_ms); })
        .def_property_readonly("value_ms", &Watermark::value)
        .def_property_readonly("max_event_time_ms", &Watermark::max_event_time_ms)
        .def("snapshot",
             [](const Watermark& w) {
                 py::list partitions;
                 for (const Watermark::Partition& p : w.partitions()) {
                     py::dict item;
                     item["source"] = p.source;
                     item["partition"] = p.partition;
                     item["max_event_time_ms"] = p.max_event_time_ms;
                     item["idle"] = p.idle;
                     partitions.append(item);
                 }
                 py::dict state;
                 state["partitions"] = partitions;
                 state["value_ms"] = w.value();
                 state["max_event_time_ms"] = w.max_event_time_ms();
                 return state;
             })
        .def("restore", [](Watermark& w, const py::dict& state) {
            std::vector<Watermark::Partition> partitions;
            for (const py::handle item : state["partitions"])
                partitions.push_back(partition_of(item.cast<py::dict>()));
            w.restore(std::move(partitions), get<std::int64_t>(state, "value_ms"),
                      get<std::int64_t>(state, "max_event_time_ms"));
        });
    watermark.attr("NONE") = Watermark::kNone;
    watermark.attr("END") = Watermark::kEnd;

    struct PyCleaner {
        std::shared_ptr<Watermark> watermark;
        std::shared_ptr<DuplicateFilter> duplicates;
        std::vector<std::string> reasons;
        std::unique_ptr<Cleaner> cleaner;
        std::unique_ptr<Cleaner> without_rules;  // for rows that have passed them elsewhere
    };
    py::class_<PyCleaner>(m, "Cleaner")
        .def(py::init([](const std::vector<py::dict>& rules, const std::string& time_column,
                         std::shared_ptr<Watermark> marks, const std::optional<py::dict>& duplicates) {
                 auto out = std::make_unique<PyCleaner>();
                 std::vector<Rule> list;
                 for (const py::dict& rule : rules) {
                     list.push_back(rule_of(rule));
                     out->reasons.push_back(list.back().reason);
                 }
                 out->reasons.emplace_back("duplicate");
                 out->reasons.emplace_back("amount_overflow");
                 out->watermark = std::move(marks);
                 if (duplicates)
                     out->duplicates =
                         std::make_shared<DuplicateFilter>(get<std::vector<std::string>>(*duplicates, "key"),
                                                           get<std::int64_t>(*duplicates, "within_ms"));
                 out->cleaner =
                     std::make_unique<Cleaner>(std::move(list), time_column, out->watermark, out->duplicates);
                 out->without_rules = std::make_unique<Cleaner>(std::vector<Rule>{}, time_column,
                                                                out->watermark, out->duplicates);
                 return out;
             }),
             py::arg("rules"), py::arg("time_column"), py::arg("watermark"),
             py::arg("duplicates") = py::none())
        .def(
            "clean",
            [](PyCleaner& self, const std::shared_ptr<Batch>& batch, std::int64_t now_ms,
               const std::vector<std::int32_t>& overflowed) {
                Cleaned cleaned;
                without_gil([&] { return self.cleaner->clean(batch, now_ms, overflowed, &cleaned); });
                py::dict counts;
                counts["rows"] = cleaned.counts.rows;
                counts["rejected"] = cleaned.counts.rejected;
                counts["duplicates"] = cleaned.counts.duplicates;
                return py::make_tuple(cleaned.batch,
                                      reject_table(*batch, cleaned.rejects, "clean", self.reasons), counts);
            },
            py::arg("batch"), py::arg("now_ms"), py::arg("overflowed") = std::vector<std::int32_t>{})
        .def("drop_duplicates",
             [](PyCleaner& self, const std::shared_ptr<Batch>& batch) {
                 Cleaned cleaned;
                 without_gil([&] { return self.without_rules->clean(batch, 0, {}, &cleaned); });
                 return cleaned.batch;
             })
        .def_property_readonly(
            "remembered", [](const PyCleaner& self) { return self.duplicates ? self.duplicates->size() : 0; })
        .def_property_readonly(
            "memory_bytes",
            [](const PyCleaner& self) { return self.duplicates ? self.duplicates->memory_bytes() : 0; })
        .def(
            "snapshot",
            [](const PyCleaner& self, std::int32_t owner) {
                return self.duplicates ? std::make_shared<Batch>(self.duplicates->snapshot(owner)) : nullptr;
            },
            py::arg("owner") = kAllOwners)
        .def("restore",
             [](PyCleaner& self, const py::object& batch) {
                 if (self.duplicates) check(self.duplicates->restore(*state_batch(batch)));
             })
        .def("drop",
             [](PyCleaner& self, std::int32_t owner) {
                 if (self.duplicates) self.duplicates->drop(owner);
             })
        .def("take", [](PyCleaner& self, const py::object& batch, std::int32_t from, std::int32_t to,
                        std::int64_t watermark_ms) {
            if (self.duplicates) check(self.duplicates->take(*state_batch(batch), from, to, watermark_ms));
        });

    m.def("rejects", [](const std::shared_ptr<Batch>& batch, const std::vector<std::int32_t>& rows,
                        const std::string& stage, const std::string& reason, const std::string& field) {
        return reject_table(*batch, rejects_of(*batch, rows, field), stage, {reason});
    });

    m.def(
        "refuse_rows",
        [](const std::shared_ptr<Batch>& batch, const py::object& rows, const py::object& faults,
           const std::string& stage, const ReasonsAndFields& known) {
            const HeldLanes<std::int32_t> row(rows), fault(faults);
            if (row.size() != fault.size()) throw py::value_error("rows and faults differ in number");
            std::vector<Reject> rejects;
            for (std::size_t i = 0; i < row.size(); ++i) {
                if (row[i] < 0 || row[i] >= batch->rows) throw py::index_error("a row outside the batch");
                const auto& field = known.at(static_cast<std::size_t>(fault[i])).second;
                rejects.push_back({batch->message_of(row[i]), line_of(*batch, row[i]), -1, fault[i], field});
            }
            return reject_table(*batch, rejects, stage, reasons_of(known));
        },
        py::arg("batch"), py::arg("rows"), py::arg("faults"), py::arg("stage"), py::arg("known"));

    // ---- sales ----

    py::class_<Sales>(m, "Sales")
        .def(py::init([](const py::dict& options) {
            return std::make_unique<Sales>(
                get<std::vector<std::string>>(options, "key"), get<std::int64_t>(options, "within_ms"),
                get<std::string>(options, "time_column"), condition_of(options, "condition"));
        }))
        .def("look_up",
             [](Sales& sales, const CleanBatch& clean) {
                 std::shared_ptr<Batch> out;
                 without_gil([&] { return sales.look_up(clean, &out); });
                 return out;
             })
        .def_property_readonly("remembered", [](Sales& sales) { return sales.remembered().size(); })
        .def_property_readonly("memory_bytes", [](Sales& sales) { return sales.remembered().memory_bytes(); })
        .def(
            "snapshot",
            [](Sales& sales, std::int32_t owner) {
                return std::make_shared<Batch>(sales.remembered().snapshot(owner));
            },
            py::arg("owner") = kAllOwners)
        .def("restore",
             [](Sales& sales, const py::object& batch) {
                 check(sales.remembered().restore(*state_batch(batch)));
             })
        .def("drop", [](Sales& sales, std::int32_t owner) { sales.remembered().drop(owner); })
        .def("take", [](Sales& sales, const py::object& batch, std::int32_t from, std::int32_t to,
                        std::int64_t watermark_ms) {
            check(sales.remembered().take(*state_batch(batch), from, to, watermark_ms));
        });

    // ---- window ----

    const auto parts_of = [](FrozenWindow* frozen) {
        Window::Parts batches;
        without_gil([&] { return frozen->write(&batches); });
        py::dict parts;
        for (auto& [name, batch] : batches) parts[name.c_str()] = batch;
        return parts;
    };
    py::class_<FrozenWindow>(m, "FrozenWindow").def("write", [parts_of](FrozenWindow& frozen) {
        return parts_of(&frozen);
    });

    py::class_<Window>(m, "Window")
        .def(py::init([](const py::dict& options) {
            WindowSpec spec;
            spec.name = get<std::string>(options, "name");
            spec.kind = window_kind_of(get_or<std::string>(options, "kind", "tumbling"));
            spec.size_ms = get_or<std::int64_t>(options, "size_ms", 0);
            spec.hop_ms = get_or<std::int64_t>(options, "hop_ms", 0);
            spec.gap_ms = get_or<std::int64_t>(options, "gap_ms", 0);
            spec.early_ms = get_or<std::int64_t>(options, "early_ms", 0);
            spec.offset_ms = get_or<std::int64_t>(options, "offset_ms", 0);
            const auto unit = get_or<std::string>(options, "unit", "day");
            spec.unit = unit == "month"  ? CalendarUnit::month
                        : unit == "week" ? CalendarUnit::week
                                         : CalendarUnit::day;
            spec.time_zone = get_or<std::string>(options, "time_zone", "");
            for (const auto& [from_ms, offset_ms] :
                 get_or<std::vector<std::pair<std::int64_t, std::int64_t>>>(options, "zone", {}))
                spec.zone.push_back({from_ms, offset_ms});
            spec.allowed_lateness_ms = get_or<std::int64_t>(options, "allowed_lateness_ms", 0);
            spec.time_column = get<std::string>(options, "time_column");
            spec.original_time = get_or<std::string>(options, "original_time", "");
            spec.corrections = condition_of(options, "corrections");
            spec.keys = get<std::vector<std::string>>(options, "keys");
            spec.required = get_or<std::vector<std::string>>(options, "required", {});
            std::vector<std::string> measured;
            for (const auto& measure : get<std::vector<py::dict>>(options, "measures")) {
                spec.measures.push_back(measure_of(measure));
                spec.measures.back().by_type = types_of(options, {spec.measures.back().by})[0];
                measured.push_back(spec.measures.back().column);
            }
            std::vector<Type> key_types = types_of(options, spec.keys);
            std::vector<Type> measure_types = types_of(options, measured);
            auto window =
                std::make_unique<Window>(std::move(spec), std::move(key_types), std::move(measure_types));
            check(window->validate());
            return window;
        }))
        .def("push",
             [](Window& window, const CleanBatch& batch) {
                 std::vector<std::int32_t> late;
                 without_gil([&] { return window.push(batch, &late); });
                 return late;
             })
        .def("advance",
             [](Window& window, std::int64_t watermark_ms) {
                 std::vector<std::shared_ptr<Batch>> closed;
                 without_gil([&] { return window.advance(watermark_ms, &closed); });
                 return closed;
             })
        .def("empty_result", &Window::empty_result)
        .def_property_readonly("aggregated", [](const Window& window) { return window.counts().aggregated; })
        .def_property_readonly("late", [](const Window& window) { return window.counts().late; })
        .def_property_readonly("open_windows", &Window::open_windows)
        .def_property_readonly("groups", &Window::groups)
        .def_property_readonly("memory_bytes", &Window::memory_bytes)
        .def(
            "freeze",
            [](Window& window, std::int32_t owner) {
                std::unique_ptr<FrozenWindow> frozen;
                without_gil([&] { return window.freeze(&frozen, owner); });
                return frozen;
            },
            py::arg("owner") = kAllOwners)
        .def(
            "snapshot",
            [parts_of](Window& window, std::int32_t owner) {
                std::unique_ptr<FrozenWindow> frozen;
                without_gil([&] { return window.freeze(&frozen, owner); });
                return parts_of(frozen.get());
            },
            py::arg("owner") = kAllOwners)
        .def("restore",
             [](Window& window, const std::map<std::string, py::object>& parts) {
                 const Window::Parts batches = state_parts(parts);
                 without_gil([&] { return window.restore(batches); });
             })
        .def("drop",
             [](Window& window, std::int32_t owner) { without_gil([&] { return window.drop(owner); }); })
        .def("take", [](Window& window, const std::map<std::string, py::object>& parts, std::int32_t from,
                        std::int32_t to) {
            const Window::Parts batches = state_parts(parts);
            without_gil([&] { return window.take(batches, from, to); });
        });

    // ---- shards ----

    py::class_<KeyShards>(m, "KeyShards")
        .def(py::init<std::vector<std::string>, std::int32_t>(), py::arg("keys"), py::arg("shards"))
        .def("split",
             [](KeyShards& self, const CleanBatch& clean) {
                 std::vector<std::shared_ptr<CleanBatch>> shards;
                 without_gil([&] { return self.split(clean, &shards); });
                 return shards;
             })
        .def(
            "shards_of",
            [](KeyShards& self, const py::object& batch, const std::string& prefix) {
                std::vector<std::int32_t> shards;
                check(self.shards_of(*state_batch(batch), prefix, &shards));
                return shards;
            },
            py::arg("batch"), py::arg("prefix") = "");

    m.def("merge_closed", [](const std::vector<std::shared_ptr<Batch>>& closed,
                             const std::vector<std::string>& by, bool each_start) {
        std::vector<std::shared_ptr<Batch>> merged;
        without_gil([&] { return merge_closed(closed, by, each_start, &merged); });
        return merged;
    });

    // ---- derive ----

    py::class_<Demand>(m, "Demand")
        .def(py::init([](const py::dict& options) {
            DemandSpec spec;
            spec.horizon_days = get<std::int32_t>(options, "horizon_days");
            spec.keys = get<std::vector<std::string>>(options, "keys");
            spec.demand = get<std::string>(options, "demand");
            spec.z = get<double>(options, "z");
            spec.lead_time_days = get<double>(options, "lead_time_days");
            std::vector<Type> key_types = types_of(options, spec.keys);
            const Type demand_type = types_of(options, {spec.demand})[0];
            auto demand = std::make_unique<Demand>(std::move(spec), std::move(key_types), demand_type);
            check(demand->validate());
            return demand;
        }))
        .def("push",
             [](Demand& demand, const std::shared_ptr<Batch>& day) {
                 std::shared_ptr<Batch> changed;
                 without_gil([&] { return demand.push(*day, &changed); });
                 return changed;
             })
        .def("current",
             [](const Demand& demand) {
                 std::shared_ptr<Batch> all;
                 without_gil([&] { return demand.current(&all); });
                 return all;
             })
        .def("without_row",
             [](const Demand& demand) {
                 std::shared_ptr<Batch> some;
                 without_gil([&] { return demand.without_row(&some); });
                 return some;
             })
        .def("empty_result", &Demand::empty_result)
        .def_property_readonly("keys", &Demand::keys)
        .def_property_readonly("memory_bytes", &Demand::memory_bytes)
        .def("snapshot", &Demand::snapshot, py::arg("owner") = kAllOwners)
        .def("restore",
             [](Demand& demand, const py::object& batch) { check(demand.restore(*state_batch(batch))); })
        .def("drop", [](Demand& demand, std::int32_t owner) { check(demand.drop(owner)); })
        .def("take", [](Demand& demand, const py::object& batch, std::int32_t from, std::int32_t to) {
            check(demand.take(*state_batch(batch), from, to));
        });

    // ---- generate ----

    py::class_<Generator>(m, "Generator")
        .def(py::init([](const py::kwargs& options) {
            GenerateSpec spec;
            spec.seed = get_or(options, "seed", spec.seed);
            spec.events = get_or(options, "events", spec.events);
            spec.nested = get_or(options, "nested", spec.nested);
            spec.start_ms = get_or(options, "start_ms", spec.start_ms);
            spec.span_ms = get_or(options, "span_ms", spec.span_ms);
            spec.max_disorder_ms = get_or(options, "max_disorder_ms", spec.max_disorder_ms);
            spec.styles = get_or(options, "styles", spec.styles);
            spec.stores = get_or(options, "stores", spec.stores);
            spec.customers = get_or(options, "customers", spec.customers);
            spec.zipf_exponent = get_or(options, "zipf_exponent", spec.zipf_exponent);
            spec.dirt = get_or(options, "dirt", spec.dirt);
            spec.below_cost = get_or(options, "below_cost", spec.below_cost);
            spec.duplicates = get_or(options, "duplicates", spec.duplicates);
            spec.return_rate = get_or(options, "return_rate", spec.return_rate);
            spec.cancel_rate = get_or(options, "cancel_rate", spec.cancel_rate);
            return std::make_unique<Generator>(spec);
        }))
        .def("next",
             [](Generator& generator, std::size_t size_bytes) -> py::object {
                 Array<char> out;
                 bool more = false;
                 {
                     const py::gil_scoped_release release;
                     more = generator.next(size_bytes, &out);
                 }
                 return more ? py::object(py::bytes(out.data(), out.size())) : py::object(py::none());
             })
        .def_property_readonly("events", &Generator::events)
        .def("counts", &generate_counts);
}
