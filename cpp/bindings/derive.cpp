// Demand and what follows from it.
#include "arrow.hpp"
#include "omnistream/demand.hpp"
#include "options.hpp"

namespace omnistream::python {

void bind_derive(py::module_& m) {
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
}

}  // namespace omnistream::python
