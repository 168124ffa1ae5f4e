// Windows and what they keep.
#include "omnistream/window.hpp"

#include <map>
#include <utility>

#include "arrow.hpp"
#include "options.hpp"

namespace omnistream::python {
namespace {

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

WindowSpec window_spec_of(const py::dict& options) {
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
    for (const auto& measure : get<std::vector<py::dict>>(options, "measures")) {
        spec.measures.push_back(measure_of(measure));
        spec.measures.back().by_type = types_of(options, {spec.measures.back().by})[0];
    }
    return spec;
}

Window::Parts state_parts(const std::map<std::string, py::object>& parts) {
    Window::Parts batches;
    for (const auto& [name, part] : parts) batches.emplace_back(name, state_batch(part));
    return batches;
}

py::dict parts_of(FrozenWindow& frozen) {
    Window::Parts batches;
    without_gil([&] { return frozen.write(&batches); });
    py::dict parts;
    for (auto& [name, batch] : batches) parts[name.c_str()] = batch;
    return parts;
}

}  // namespace

void bind_window(py::module_& m) {
    py::class_<FrozenWindow>(m, "FrozenWindow").def("write", &parts_of);

    py::class_<Window>(m, "Window")
        .def(py::init([](const py::dict& options) {
            WindowSpec spec = window_spec_of(options);
            std::vector<std::string> measured;
            for (const Measure& measure : spec.measures) measured.push_back(measure.column);
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
            [](Window& window, std::int32_t owner) {
                std::unique_ptr<FrozenWindow> frozen;
                without_gil([&] { return window.freeze(&frozen, owner); });
                return parts_of(*frozen);
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
}

}  // namespace omnistream::python
