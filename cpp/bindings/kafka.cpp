// Kafka for Python: omnistream/source/kafka.py and omnistream/sink/kafka.py are its users.
#include "omnistream/kafka.hpp"

#include <pybind11/stl.h>

#include "arrow.hpp"
#include "bindings.hpp"

namespace omnistream::python {
namespace {

std::shared_ptr<const KafkaLibrary> library_at(const std::string& path) {
    std::shared_ptr<const KafkaLibrary> library;
    check(load_kafka_library(path, &library));
    return library;
}

// An Arrow array of texts, by row.
std::shared_ptr<const Origin> texts_of(const py::object& array) {
    if (array.is_none()) return nullptr;
    auto origin = std::make_shared<Origin>();
    const Imported in = arrow_array(array);
    check(import_messages(*in.schema, in.array, origin.get()));
    return origin;
}

// A checkpoint that is refused, after which a job can go on from the one before, is an exception of its own.
template <class Work>
void committing(Work&& work) {
    Status status;
    bool refused = false;
    {
        const py::gil_scoped_release release;
        status = work(&refused);
    }
    if (!status.ok() && refused) raise_named("NotCommittedError", status.message());
    check(status);
}

}  // namespace

void bind_kafka(py::module_& m) {
    m.attr("KAFKA_BEGINNING") = kKafkaBeginning;
    m.attr("KAFKA_END") = kKafkaEnd;
    m.attr("KAFKA_NO_OFFSET") = kKafkaNoOffset;
    m.def("kafka_library_version",
          [](const std::string& path) { return kafka_library_version(*library_at(path)); });

    py::class_<KafkaPartition>(m, "KafkaPartition")
        .def(py::init([](std::string topic, std::int32_t partition, std::int64_t offset, std::string metadata,
                         std::int64_t end) {
                 return KafkaPartition{std::move(topic), partition, offset, std::move(metadata), end};
             }),
             py::arg("topic"), py::arg("partition"), py::arg("offset") = kKafkaNoOffset,
             py::arg("metadata") = "", py::arg("end") = -1)
        .def_readonly("topic", &KafkaPartition::topic)
        .def_readonly("partition", &KafkaPartition::partition)
        .def_readonly("offset", &KafkaPartition::offset)
        .def_property_readonly("metadata",
                               [](const KafkaPartition& each) { return py::bytes(each.metadata); })
        .def_readonly("end", &KafkaPartition::end);

    py::class_<MessageBlock, std::shared_ptr<MessageBlock>>(m, "MessageBlock")
        .def_readonly("topic", &MessageBlock::topic)
        .def_readonly("partition", &MessageBlock::partition)
        .def_readonly("first_offset", &MessageBlock::first_offset)
        .def_readonly("next_offset", &MessageBlock::next_offset)
        .def_readonly("tombstones", &MessageBlock::tombstones)
        .def_readonly("value_bytes", &MessageBlock::value_bytes)
        .def_readonly("newest_ms", &MessageBlock::newest_ms)
        .def("__len__", [](const MessageBlock& block) { return block.count; })
        .def("to_batch", &batch_of_block);
    m.def("with_details", [](const std::shared_ptr<Batch>& batch, const MessageBlock& block,
                             const std::vector<std::pair<std::string, std::string>>& columns) {
        std::shared_ptr<Batch> out;
        without_gil([&] { return with_details(*batch, block, columns, &out); });
        return out;
    });

    py::class_<KafkaConsumer>(m, "KafkaConsumer")
        .def(py::init([](const std::string& library, const KafkaSettings& settings,
                         const KafkaSettings& defaults, bool timestamps, bool keys,
                         std::vector<std::string> headers) {
                 const auto loaded = library_at(library);
                 std::unique_ptr<KafkaConsumer> consumer;
                 without_gil([&] {
                     return KafkaConsumer::open(loaded, settings, defaults,
                                                {timestamps, keys, std::move(headers)}, &consumer);
                 });
                 return consumer;
             }),
             py::arg("library"), py::arg("settings"), py::arg("defaults") = KafkaSettings(),
             py::arg("timestamps") = false, py::arg("keys") = false,
             py::arg("headers") = std::vector<std::string>())
        .def("topics",
             [](KafkaConsumer& self, int timeout_ms) {
                 std::vector<std::pair<std::string, std::int32_t>> topics;
                 without_gil([&] { return self.topics(timeout_ms, &topics); });
                 py::dict out;
                 for (const auto& [topic, partitions] : topics) out[topic.c_str()] = partitions;
                 return out;
             })
        .def("range",
             [](KafkaConsumer& self, const std::string& topic, std::int32_t partition, int timeout_ms) {
                 std::int64_t low = 0, high = 0;
                 without_gil([&] { return self.range(topic, partition, timeout_ms, &low, &high); });
                 return std::make_pair(low, high);
             })
        .def("offsets_at",
             [](KafkaConsumer& self, std::vector<KafkaPartition> partitions, int timeout_ms) {
                 without_gil([&] { return self.offsets_at(&partitions, timeout_ms); });
                 return partitions;
             })
        .def("committed",
             [](KafkaConsumer& self, std::vector<KafkaPartition> partitions, int timeout_ms) {
                 without_gil([&] { return self.committed(&partitions, timeout_ms); });
                 return partitions;
             })
        .def("commit",
             [](KafkaConsumer& self, const std::vector<KafkaPartition>& partitions) {
                 committing([&](bool* refused) { return self.commit(partitions, refused); });
             })
        .def("subscribe",
             [](KafkaConsumer& self, const std::vector<std::string>& topics) {
                 without_gil([&] { return self.subscribe(topics); });
             })
        .def("assign",
             [](KafkaConsumer& self, const std::vector<KafkaPartition>& partitions) {
                 without_gil([&] { return self.assign(partitions); });
             })
        .def("unassign",
             [](KafkaConsumer& self, const std::vector<KafkaPartition>& partitions) {
                 without_gil([&] { return self.unassign(partitions); });
             })
        .def("seek", [](KafkaConsumer& self, const std::vector<KafkaPartition>& partitions,
                        int timeout_ms) { without_gil([&] { return self.seek(partitions, timeout_ms); }); })
        .def("pause",
             [](KafkaConsumer& self, const std::vector<KafkaPartition>& partitions) {
                 without_gil([&] { return self.pause(partitions); });
             })
        .def_property_readonly("cooperative", &KafkaConsumer::cooperative)
        .def("poll",
             [](KafkaConsumer& self, int timeout_ms, std::size_t bytes, std::size_t messages) {
                 PollResult result;
                 without_gil([&] { return self.poll(timeout_ms, {bytes, messages}, &result); });
                 return std::make_pair(std::move(result.blocks), std::move(result.ends));
             })
        .def("take_rebalance",
             [](KafkaConsumer& self) -> py::object {
                 static const char* kKinds[] = {"none", "assigned", "revoked", "lost"};
                 const Rebalance change = self.take_rebalance();
                 if (change.kind == RebalanceKind::none) return py::none();
                 return py::make_tuple(kKinds[static_cast<int>(change.kind)], change.partitions);
             })
        .def("high_watermark", &KafkaConsumer::high_watermark)
        .def("take_log", [](KafkaConsumer& self) { return self.log().take(); })
        .def("close", [](KafkaConsumer& self) { without_gil([&] { return self.close(); }); });

    py::class_<KafkaProducer>(m, "KafkaProducer")
        .def(py::init([](const std::string& library, const KafkaSettings& settings,
                         const KafkaSettings& defaults) {
                 const auto loaded = library_at(library);
                 std::unique_ptr<KafkaProducer> producer;
                 without_gil([&] { return KafkaProducer::open(loaded, settings, defaults, &producer); });
                 return producer;
             }),
             py::arg("library"), py::arg("settings"), py::arg("defaults") = KafkaSettings())
        .def("partitions",
             [](KafkaProducer& self, const std::string& topic, int timeout_ms) {
                 std::int32_t count = 0;
                 without_gil([&] { return self.partitions(topic, timeout_ms, &count); });
                 return count;
             })
        .def(
            "produce",
            [](KafkaProducer& self, const std::string& topic, const py::object& values,
               const py::object& keys, const std::vector<std::pair<std::string, std::string>>& headers,
               const std::vector<std::pair<std::string, py::object>>& row_headers) {
                const auto rows = static_cast<std::int32_t>(py::len(values));
                const auto value_texts = texts_of(values), key_texts = texts_of(keys);
                KafkaProducer::RowHeaders by_row;
                for (const auto& [name, texts] : row_headers) by_row.emplace_back(name, texts_of(texts));
                committing([&](bool* refused) {
                    return self.produce(topic, rows, key_texts.get(), *value_texts, headers, by_row, refused);
                });
            },
            py::arg("topic"), py::arg("values"), py::arg("keys") = py::none(),
            py::arg("headers") = std::vector<std::pair<std::string, std::string>>(),
            py::arg("row_headers") = std::vector<std::pair<std::string, py::object>>())
        .def("flush",
             [](KafkaProducer& self, int timeout_ms) { without_gil([&] { return self.flush(timeout_ms); }); })
        .def("init_transactions",
             [](KafkaProducer& self, int timeout_ms) {
                 without_gil([&] { return self.init_transactions(timeout_ms); });
             })
        .def("begin", [](KafkaProducer& self) { without_gil([&] { return self.begin(); }); })
        .def("send_offsets",
             [](KafkaProducer& self, const std::vector<KafkaPartition>& offsets, KafkaConsumer& group,
                int timeout_ms) {
                 committing(
                     [&](bool* refused) { return self.send_offsets(offsets, group, timeout_ms, refused); });
             })
        .def("commit",
             [](KafkaProducer& self, int timeout_ms) {
                 committing([&](bool* refused) { return self.commit(timeout_ms, refused); });
             })
        .def("abort",
             [](KafkaProducer& self, int timeout_ms) { without_gil([&] { return self.abort(timeout_ms); }); })
        .def("take_log", [](KafkaProducer& self) { return self.log().take(); });
}

}  // namespace omnistream::python
