// Keys of a window shared out among threads.
#include "omnistream/shards.hpp"

#include <pybind11/stl.h>

#include "arrow.hpp"

namespace omnistream::python {

void bind_shards(py::module_& m) {
    py::class_<KeyShards>(m, "KeyShards")
        .def(py::init<std::vector<std::string>, std::int32_t>(), py::arg("keys"), py::arg("shards"))
        .def("split",
             [](KeyShards& self, const CleanBatch& clean) {
                 std::vector<std::shared_ptr<CleanBatch>> shards;
                 without_gil([&] { return self.split(clean, &shards); });
                 return shards;
             })
        .def(
            "shards_of",
            [](KeyShards& self, const py::object& batch, const std::string& prefix) {
                std::vector<std::int32_t> shards;
                check(self.shards_of(*state_batch(batch), prefix, &shards));
                return shards;
            },
            py::arg("batch"), py::arg("prefix") = "");

    m.def("merge_closed", [](const std::vector<std::shared_ptr<Batch>>& closed,
                             const std::vector<std::string>& by, bool each_start) {
        std::vector<std::shared_ptr<Batch>> merged;
        without_gil([&] { return merge_closed(closed, by, each_start, &merged); });
        return merged;
    });
}

}  // namespace omnistream::python
