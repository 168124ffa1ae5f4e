// Rules, duplicates and watermarks.
#include "omnistream/clean.hpp"

#include <optional>

#include "arrow.hpp"
#include "omnistream/rejects.hpp"
#include "options.hpp"

namespace omnistream::python {
namespace {

Rule rule_of(const py::dict& options) {
    static const std::pair<const char*, RuleKind> kKinds[] = {
        {"less_than", RuleKind::less_than}, {"range", RuleKind::range},       {"ahead", RuleKind::ahead},
        {"behind", RuleKind::behind},       {"required", RuleKind::required}, {"allowed", RuleKind::allowed},
    };
    const auto kind = get<std::string>(options, "kind");
    for (const auto& [name, value] : kKinds) {
        if (kind != name) continue;
        Rule rule;
        rule.kind = value;
        rule.column = get<std::string>(options, "column");
        rule.other = get_or<std::string>(options, "other", "");
        rule.reason = get<std::string>(options, "reason");
        rule.low = get_or(options, "low", rule.low);
        rule.high = get_or(options, "high", rule.high);
        rule.low_float = get_or(options, "low_float", rule.low_float);
        rule.high_float = get_or(options, "high_float", rule.high_float);
        rule.values = get_or<std::vector<std::string>>(options, "values", {});
        return rule;
    }
    throw py::value_error("unknown kind of rule '" + kind + "'");
}

Watermark::Partition partition_of(const py::dict& item) {
    return {get<std::string>(item, "source"), get<std::int32_t>(item, "partition"),
            get<std::int64_t>(item, "max_event_time_ms"), get<bool>(item, "idle")};
}

py::dict watermark_state(const Watermark& w) {
    py::list partitions;
    for (const Watermark::Partition& p : w.partitions()) {
        py::dict item;
        item["source"] = p.source;
        item["partition"] = p.partition;
        item["max_event_time_ms"] = p.max_event_time_ms;
        item["idle"] = p.idle;
        partitions.append(item);
    }
    py::dict state;
    state["partitions"] = partitions;
    state["value_ms"] = w.value();
    state["max_event_time_ms"] = w.max_event_time_ms();
    return state;
}

struct PythonCleaner {
    std::shared_ptr<Watermark> watermark;
    std::shared_ptr<DuplicateFilter> duplicates;
    std::vector<std::string> reasons;
    std::unique_ptr<Cleaner> cleaner;
    std::unique_ptr<Cleaner> without_rules;  // for rows that have passed them elsewhere
};

std::unique_ptr<PythonCleaner> cleaner_of(const std::vector<py::dict>& rules, const std::string& time_column,
                                          std::shared_ptr<Watermark> marks,
                                          const std::optional<py::dict>& duplicates) {
    auto out = std::make_unique<PythonCleaner>();
    std::vector<Rule> list;
    for (const py::dict& rule : rules) {
        list.push_back(rule_of(rule));
        out->reasons.push_back(list.back().reason);
    }
    out->reasons.emplace_back("duplicate");
    out->reasons.emplace_back("amount_overflow");
    out->watermark = std::move(marks);
    if (duplicates)
        out->duplicates = std::make_shared<DuplicateFilter>(get<std::vector<std::string>>(*duplicates, "key"),
                                                            get<std::int64_t>(*duplicates, "within_ms"));
    out->cleaner = std::make_unique<Cleaner>(std::move(list), time_column, out->watermark, out->duplicates);
    out->without_rules =
        std::make_unique<Cleaner>(std::vector<Rule>{}, time_column, out->watermark, out->duplicates);
    return out;
}

}  // namespace

void bind_clean(py::module_& m) {
    py::class_<Watermark, std::shared_ptr<Watermark>> watermark(m, "Watermark");
    watermark.def(py::init<std::int64_t>(), py::arg("max_disorder_ms"))
        .def("declare", &Watermark::declare)
        .def("set_idle", [](Watermark& w, const std::string& source,
                            std::int32_t partition) { w.set_idle(w.slot(source, partition)); })
        .def("advance", &Watermark::advance)
        .def("slot", &Watermark::slot)
        .def("drop", &Watermark::drop)
        .def("take", [](Watermark& w, const py::dict& partition,
                        std::int64_t value_ms) { return w.take(partition_of(partition), value_ms); })
        .def_property_readonly("value_ms", &Watermark::value)
        .def_property_readonly("max_event_time_ms", &Watermark::max_event_time_ms)
        .def("snapshot", &watermark_state)
        .def("restore", [](Watermark& w, const py::dict& state) {
            std::vector<Watermark::Partition> partitions;
            for (const py::handle item : state["partitions"])
                partitions.push_back(partition_of(item.cast<py::dict>()));
            w.restore(std::move(partitions), get<std::int64_t>(state, "value_ms"),
                      get<std::int64_t>(state, "max_event_time_ms"));
        });
    watermark.attr("NONE") = Watermark::kNone;
    watermark.attr("END") = Watermark::kEnd;

    py::class_<PythonCleaner>(m, "Cleaner")
        .def(py::init(&cleaner_of), py::arg("rules"), py::arg("time_column"), py::arg("watermark"),
             py::arg("duplicates") = py::none())
        .def(
            "clean",
            [](PythonCleaner& self, const std::shared_ptr<Batch>& batch, std::int64_t now_ms,
               const std::vector<std::int32_t>& overflowed) {
                Cleaned cleaned;
                without_gil([&] { return self.cleaner->clean(batch, now_ms, overflowed, &cleaned); });
                py::dict counts;
                counts["rows"] = cleaned.counts.rows;
                counts["rejected"] = cleaned.counts.rejected;
                counts["duplicates"] = cleaned.counts.duplicates;
                return py::make_tuple(cleaned.batch,
                                      reject_table(*batch, cleaned.rejects, "clean", self.reasons), counts);
            },
            py::arg("batch"), py::arg("now_ms"), py::arg("overflowed") = std::vector<std::int32_t>{})
        .def("drop_duplicates",
             [](PythonCleaner& self, const std::shared_ptr<Batch>& batch) {
                 Cleaned cleaned;
                 without_gil([&] { return self.without_rules->clean(batch, 0, {}, &cleaned); });
                 return cleaned.batch;
             })
        .def_property_readonly(
            "remembered",
            [](const PythonCleaner& self) { return self.duplicates ? self.duplicates->size() : 0; })
        .def_property_readonly(
            "memory_bytes",
            [](const PythonCleaner& self) { return self.duplicates ? self.duplicates->memory_bytes() : 0; })
        .def(
            "snapshot",
            [](const PythonCleaner& self, std::int32_t owner) {
                return self.duplicates ? std::make_shared<Batch>(self.duplicates->snapshot(owner)) : nullptr;
            },
            py::arg("owner") = kAllOwners)
        .def("restore",
             [](PythonCleaner& self, const py::object& batch) {
                 if (self.duplicates) check(self.duplicates->restore(*state_batch(batch)));
             })
        .def("drop",
             [](PythonCleaner& self, std::int32_t owner) {
                 if (self.duplicates) self.duplicates->drop(owner);
             })
        .def("take", [](PythonCleaner& self, const py::object& batch, std::int32_t from, std::int32_t to,
                        std::int64_t watermark_ms) {
            if (self.duplicates) check(self.duplicates->take(*state_batch(batch), from, to, watermark_ms));
        });
}

}  // namespace omnistream::python
