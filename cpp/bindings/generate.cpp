// Generated orders.
#include "omnistream/generate.hpp"

#include "options.hpp"

namespace omnistream::python {
namespace {

GenerateSpec generate_spec_of(const py::dict& options) {
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
    return spec;
}

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

void bind_generate(py::module_& m) {
    py::class_<Generator>(m, "Generator")
        .def(py::init(
            [](const py::kwargs& options) { return std::make_unique<Generator>(generate_spec_of(options)); }))
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

}  // namespace omnistream::python
