// Messages, wherever they come from and whoever decodes them.
#include "messages.hpp"

#include <algorithm>
#include <tuple>
#include <utility>

#include "arrow.hpp"
#include "buffers.hpp"
#include "omnistream/kafka.hpp"
#include "omnistream/rejects.hpp"
#include "options.hpp"
#include "rejects.hpp"

namespace omnistream::python {

std::shared_ptr<Origin> origin_of(std::string source, std::int32_t partition, std::int64_t first_position) {
    auto origin = std::make_shared<Origin>();
    origin->source = std::move(source);
    origin->partition = partition;
    origin->first_position = first_position;
    return origin;
}

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

py::dict counts_to_python(const DecodeCounts& counts) {
    py::dict numbers;
    numbers["messages"] = counts.messages;
    numbers["decoded"] = counts.decoded;
    numbers["rejected"] = counts.rejected;
    numbers["rows"] = counts.rows;
    numbers["empty"] = counts.empty;
    numbers["unknown_fields"] = counts.unknown_fields;
    numbers["speculated"] = counts.speculated;
    return numbers;
}

py::tuple decoded_to_python(const Decoded& decoded) {
    return py::make_tuple(decoded.batch,
                          reject_table(*decoded.batch, decoded.rejects, "decode", decode_reasons()),
                          counts_to_python(decoded.counts));
}

namespace {

std::int32_t decode_reason(const std::string& name) {
    const auto& reasons = decode_reasons();
    const auto found = std::find(reasons.begin(), reasons.end(), name);
    if (found == reasons.end()) throw py::value_error("unknown reason '" + name + "'");
    return static_cast<std::int32_t>(found - reasons.begin());
}

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

// The rows of one message that Arrow has decoded: they share its position.
std::shared_ptr<Batch> import_rows_of_message(const PythonMessages& self, std::size_t index,
                                              const py::object& rows, const py::dict& options) {
    const Origin& origin = *self.origin;
    const Imported in = arrow_array(rows);
    auto batch = std::make_shared<Batch>();
    const auto own =
        origin_of(origin.source, origin.partition, origin.first_position + self.at(index).ordinal);
    own->rows_of_message = true;
    batch->origin = own;
    const Schema schema = schema_of(options);
    without_gil([&] { return import_batch(*in.schema, in.array, schema.fields, batch.get()); });
    return batch;
}

void copy_to(const PythonMessages& self, const py::buffer& target) {
    const py::buffer_info room = target.request(true);
    auto* at = static_cast<char*>(room.ptr);
    std::int64_t left = room.size * room.itemsize;
    for (const Message& message : self.origin->messages) {
        if (message.size > left) throw py::value_error("the messages are longer than the buffer");
        at = std::copy_n(message.data, message.size, at);
        left -= message.size;
    }
}

// Rows that a device has decoded, each with the number of its message.
std::shared_ptr<Batch> rows_of_device(const PythonMessages& self, const py::object& rows,
                                      const py::dict& options,
                                      const std::map<std::string, std::shared_ptr<Dictionary>>& known,
                                      const py::object& messages, bool exploded) {
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
}

auto refuse(const PythonMessages& self, const py::object& lines, const py::object& faults,
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
}

auto rejects_of_messages(const PythonMessages& self,
                         const std::vector<std::tuple<std::size_t, std::string, std::string>>& faults) {
    Batch batch;
    batch.origin = self.origin;
    std::vector<Reject> rejects;
    for (const auto& [index, reason, field] : faults) {
        self.at(index);
        rejects.push_back({static_cast<std::int32_t>(index), -1, -1, decode_reason(reason), field});
    }
    return reject_table(batch, rejects, "decode", decode_reasons());
}

}  // namespace

void bind_messages(py::module_& m) {
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
        .def("import_rows", &import_rows_of_message)
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
        .def("copy_to", &copy_to)
        .def("rows", &rows_of_device, py::arg("rows"), py::arg("schema"), py::arg("dictionaries"),
             py::arg("messages"), py::arg("exploded"))
        .def("refuse", &refuse, py::arg("lines"), py::arg("faults"), py::arg("stage"), py::arg("known"))
        .def("rejects", &rejects_of_messages);
}

}  // namespace omnistream::python
