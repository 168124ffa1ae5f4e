// Rows that are refused, with their reasons.
#include "omnistream/rejects.hpp"

#include <pybind11/stl.h>

#include <memory>

#include "buffers.hpp"
#include "rejects.hpp"

namespace omnistream::python {
namespace {

std::vector<Reject> rejects_of(const Batch& batch, const std::vector<std::int32_t>& rows,
                               const std::string& field) {
    std::vector<Reject> rejects;
    for (const std::int32_t row : rows) {
        if (row < 0 || row >= batch.rows) throw py::index_error("a row outside the batch");
        rejects.push_back({batch.message_of(row), line_of(batch, row), -1, 0, field});
    }
    return rejects;
}

}  // namespace

void bind_rejects(py::module_& m) {
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
}

}  // namespace omnistream::python
