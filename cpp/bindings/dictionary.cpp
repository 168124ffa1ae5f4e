// The texts of a column, by their codes.
#include "omnistream/dictionary.hpp"

#include <pybind11/stl.h>

#include "arrow.hpp"

namespace omnistream::python {
namespace {

struct FrozenTexts {
    std::shared_ptr<const Dictionary> texts;
};

std::shared_ptr<Batch> batch_of(const Dictionary& dictionary, std::int32_t first = 0) {
    auto batch = std::make_shared<Batch>();
    batch->rows = dictionary.size() - first;
    batch->origin = std::make_shared<Origin>();
    batch->columns.push_back(dictionary.to_column("value", first));
    return batch;
}

}  // namespace

void bind_dictionaries(py::module_& m) {
    py::class_<FrozenTexts>(m, "FrozenTexts").def("to_batch", [](const FrozenTexts& frozen) {
        return batch_of(*frozen.texts);
    });

    py::class_<Dictionary, std::shared_ptr<Dictionary>>(m, "Dictionary")
        .def(py::init<>())
        .def("__len__", &Dictionary::size)
        .def("encode",
             [](Dictionary& dictionary, const std::vector<std::string>& texts) {
                 std::vector<Text> views;
                 for (const std::string& text : texts)
                     views.push_back({text.data(), static_cast<std::uint32_t>(text.size())});
                 std::vector<std::int32_t> codes(texts.size());
                 dictionary.encode(views.data(), views.size(), codes.data());
                 return codes;
             })
        .def("values",
             [](const Dictionary& dictionary) {
                 py::list values;
                 for (std::int32_t code = 0; code < dictionary.size(); ++code)
                     values.append(py::bytes(dictionary.value(code).data(), dictionary.value(code).size()));
                 return values;
             })
        .def("freeze", [](const Dictionary& dictionary) { return FrozenTexts{dictionary.freeze()}; })
        .def(
            "to_batch",
            [](const Dictionary& dictionary, std::int32_t first) {
                if (first < 0 || first > dictionary.size())
                    throw py::value_error("the dictionary has no code " + std::to_string(first));
                return batch_of(dictionary, first);
            },
            py::arg("first") = 0)
        .def("restore",
             [](Dictionary& dictionary, const py::object& batch) {
                 const auto state = state_batch(batch);
                 check(dictionary.restore(state->columns.at(0)));
             })
        .def_property_readonly("memory_bytes", &Dictionary::memory_bytes);
}

}  // namespace omnistream::python
