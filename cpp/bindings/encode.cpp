// Rows of others, their codes and their amounts.
#include "omnistream/encode.hpp"

#include "arrow.hpp"
#include "messages.hpp"
#include "options.hpp"

namespace omnistream::python {

void bind_encode(py::module_& m) {
    m.def(
        "import_rows",
        [](const py::object& rows, const py::dict& options, std::string source, std::int32_t partition,
           std::int64_t first_position) {
            const Imported in = arrow_array(rows);
            auto batch = std::make_shared<Batch>();
            batch->origin = origin_of(std::move(source), partition, first_position);
            const Schema schema = schema_of(options);
            without_gil([&] { return import_batch(*in.schema, in.array, schema.fields, batch.get()); });
            return batch;
        },
        py::arg("rows"), py::arg("schema"), py::arg("source") = "push", py::arg("partition") = 0,
        py::arg("first_position") = 0);
    py::class_<Translation, std::shared_ptr<Translation>>(m, "Translation")
        .def(py::init<std::shared_ptr<Dictionary>>(), py::arg("ours"))
        .def("learn", [](Translation& translation, const Batch& texts) {
            without_gil([&] {
                translation.learn(texts.columns.at(0));
                return Status();
            });
        });
    m.def("translate_columns", [](const std::shared_ptr<Batch>& batch,
                                  const std::map<std::string, std::shared_ptr<Translation>>& translations) {
        std::shared_ptr<Batch> translated;
        without_gil([&] { return translate_columns(*batch, translations, &translated); });
        return translated;
    });
    m.def("encode_columns", [](const std::shared_ptr<Batch>& batch,
                               const std::map<std::string, std::shared_ptr<Dictionary>>& dictionaries) {
        if (encoded(*batch, dictionaries)) return batch;  // a copy would copy the origin of each row
        std::shared_ptr<Batch> out;
        without_gil([&] { return encode_columns(*batch, dictionaries, &out); });
        return out;
    });
    m.def(
        "add_amounts",
        [](const std::shared_ptr<Batch>& batch, const std::string& quantity, const std::string& unit_price,
           const std::string& discount, const std::vector<std::string>& wanted) {
            std::shared_ptr<Batch> out;
            std::vector<std::int32_t> overflowed;
            without_gil([&] {
                return add_amounts(*batch, quantity, unit_price, discount, wanted, &out, &overflowed);
            });
            return std::make_pair(out, overflowed);
        },
        py::arg("batch"), py::arg("quantity"), py::arg("unit_price"), py::arg("discount"),
        py::arg("wanted") = std::vector<std::string>{"gross_amount", "amount"});
}

}  // namespace omnistream::python
