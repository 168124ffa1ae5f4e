// Avro, to rows and from them.
#include "omnistream/avro.hpp"

#include "arrow.hpp"
#include "messages.hpp"
#include "omnistream/kafka.hpp"
#include "options.hpp"

namespace omnistream::python {
namespace {

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

}  // namespace

void bind_avro(py::module_& m) {
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
}

}  // namespace omnistream::python
