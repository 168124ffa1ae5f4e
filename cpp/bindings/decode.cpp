// Decoding JSON.
#include "omnistream/decode.hpp"

#include "arrow.hpp"
#include "buffers.hpp"
#include "messages.hpp"
#include "omnistream/kafka.hpp"
#include "options.hpp"

namespace omnistream::python {

void bind_decode(py::module_& m) {
    py::class_<Decoder, std::shared_ptr<Decoder>>(m, "Decoder")
        .def(py::init([](const py::dict& options,
                         const std::map<std::string, std::shared_ptr<Dictionary>>& known) {
                 Schema schema = schema_of(options);
                 auto dictionaries = dictionaries_of(schema, known);
                 return std::make_shared<Decoder>(std::move(schema), std::move(dictionaries));
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
    py::class_<DecodeStream, std::shared_ptr<DecodeStream>>(m, "DecodeStream")
        .def(py::init([](std::shared_ptr<Decoder> decoder, const py::object& lines, std::size_t block_bytes,
                         std::string source, std::int32_t partition, std::int64_t first_position) {
                 const auto held = std::make_shared<HeldBuffer>(lines);
                 const auto origin = origin_of(std::move(source), partition, first_position);
                 origin->owner = held;
                 return std::make_shared<DecodeStream>(
                     std::move(decoder),
                     std::string_view(static_cast<const char*>(held->view.buf),
                                      static_cast<std::size_t>(held->view.len)),
                     block_bytes, *origin);
             }),
             py::arg("decoder"), py::arg("lines"), py::arg("block_bytes"), py::arg("source") = "push",
             py::arg("partition") = 0, py::arg("first_position") = 1)
        .def(
            "__arrow_c_stream__",
            [](const std::shared_ptr<DecodeStream>& stream, const py::object&) {
                return stream_capsule(stream);
            },
            py::arg("requested_schema") = py::none())
        .def_property_readonly("counts",
                               [](const DecodeStream& stream) { return counts_to_python(stream.counts()); })
        .def("take_rejects", &DecodeStream::take_rejects);
    m.def("decode_isa", &decode_isa);
    m.def("decode_isas", &decode_isas);
    m.def("force_decode_isa", [](const std::string& name) { check(force_decode_isa(name)); });
}

}  // namespace omnistream::python
