// When a sale was, for the corrections that do not say.
#include "omnistream/sales.hpp"

#include "arrow.hpp"
#include "options.hpp"

namespace omnistream::python {

void bind_sales(py::module_& m) {
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
}

}  // namespace omnistream::python
