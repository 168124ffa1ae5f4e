// Where C++ meets Python: arguments in, Status to exceptions, batches out as Arrow capsules. Every call that
// does work releases the GIL.
#include "bindings.hpp"

namespace omnistream::python {

[[noreturn]] void raise_named(const char* name, const std::string& message) {
    const py::object type = py::module_::import("omnistream.errors").attr(name);
    PyErr_SetString(type.ptr(), message.c_str());
    throw py::error_already_set();
}

void check(const Status& status) {
    if (status.ok()) return;
    if (status.code() == Code::argument) throw py::value_error(status.message());
    const char* names[] = {"OmnistreamError", "SchemaError", "DecodeError", "StateError",
                           "ValueError",      "SourceError", "SinkError"};
    raise_named(names[static_cast<int>(status.code())], status.message());
}

}  // namespace omnistream::python

PYBIND11_MODULE(_core, m) {
    using namespace omnistream::python;
    m.doc() = "The C++ core of omnistream.";
    // What goes from stage to stage.
    bind_batches(m);
    bind_dictionaries(m);
    bind_rejects(m);
    // The stages, in the order of the data.
    bind_kafka(m);
    bind_messages(m);
    bind_decode(m);
    bind_avro(m);
    bind_encode(m);
    bind_clean(m);
    bind_sales(m);
    bind_window(m);
    bind_shards(m);
    bind_derive(m);
    // What benchmarks and tests feed them with.
    bind_generate(m);
}
