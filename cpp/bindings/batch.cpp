// Rows between stages: decoded ones, and those that passed cleaning.
#include "omnistream/batch.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <tuple>

#include "arrow.hpp"
#include "buffers.hpp"
#include "omnistream/clean.hpp"

namespace omnistream::python {
namespace {

// How often each text of a column stands there.
std::vector<std::pair<std::string_view, std::int64_t>> count_texts(const Batch& batch,
                                                                   const std::string& column) {
    const Column* const texts = batch.find(column);
    if (texts == nullptr || texts->type != Type::string)
        throw py::key_error("no text column '" + column + "'");
    const py::gil_scoped_release release;
    std::vector<std::pair<std::string_view, std::int64_t>> counts;  // of a few different ones
    for (std::int64_t row = 0; row < batch.rows; ++row) {
        const std::string_view text = texts->text(row);
        const auto known =
            std::find_if(counts.begin(), counts.end(), [&](const auto& each) { return each.first == text; });
        if (known == counts.end()) {
            counts.emplace_back(text, 1);
        } else {
            ++known->second;
        }
    }
    return counts;
}

std::shared_ptr<CleanBatch> clean_batch_of(std::shared_ptr<Batch> batch, const py::object& rows,
                                           const py::object& watermarks_ms, std::int32_t owner) {
    const HeldLanes<std::int32_t> row(rows);
    const HeldLanes<std::int64_t> watermark_ms(watermarks_ms);
    if (row.size() != watermark_ms.size()) throw py::value_error("rows and watermarks differ in number");
    for (std::size_t i = 0; i < row.size(); ++i)
        if (row[i] < 0 || row[i] >= batch->rows) throw py::index_error("a row outside the batch");
    auto clean = std::make_shared<CleanBatch>();
    clean->batch = std::move(batch);
    clean->rows.assign(row.data(), row.data() + row.size());
    clean->watermark_ms.assign(watermark_ms.data(), watermark_ms.data() + watermark_ms.size());
    clean->owner = owner;
    return clean;
}

// The rows that passed, by number, and the watermark that each met.
std::shared_ptr<Batch> survivors_of(const CleanBatch& clean) {
    auto batch = std::make_shared<Batch>();
    batch->rows = static_cast<std::int64_t>(clean.size());
    batch->origin = clean.batch->origin;
    const KeptVector<std::int32_t> numbers = clean.row_numbers();
    Array<std::int32_t> rows;
    rows.append(numbers.data(), numbers.size());
    const KeptVector<std::int64_t> met = clean.watermarks_ms();
    Array<std::int64_t> watermarks;
    watermarks.append(met.data(), met.size());
    for (auto& [name, type, lanes] : {std::tuple{"row", Type::int32, rows.finish()},
                                      std::tuple{"watermark_ms", Type::int64, watermarks.finish()}}) {
        Column column;
        column.name = name;
        column.type = type;
        column.length = batch->rows;
        column.values = lanes;
        batch->columns.push_back(std::move(column));
    }
    return batch;
}

}  // namespace

void bind_batches(py::module_& m) {
    m.attr("ALL_OWNERS") = kAllOwners;

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
        .def("count_texts", &count_texts)
        .def("__arrow_c_schema__", [](const Batch& batch) { return schema_capsule(batch.columns); })
        .def(
            "__arrow_c_array__",
            [](const Batch& batch, const py::object&) {
                return py::make_tuple(schema_capsule(batch.columns), array_capsule(batch));
            },
            py::arg("requested_schema") = py::none());

    py::class_<CleanBatch, std::shared_ptr<CleanBatch>>(m, "CleanBatch")
        .def(py::init(&clean_batch_of), py::arg("batch"), py::arg("rows"), py::arg("watermarks_ms"),
             py::arg("owner"))
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
        .def("survivors", &survivors_of)
        .def("row_numbers", &CleanBatch::row_numbers)
        .def("watermarks_ms", &CleanBatch::watermarks_ms);
}

}  // namespace omnistream::python
