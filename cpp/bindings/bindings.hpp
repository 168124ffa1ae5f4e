// What every binding does: exceptions out of Status, and work without the GIL. Then one function for each
// file beside this one, which binds its part of the core.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "omnistream/status.hpp"

namespace py = pybind11;

namespace omnistream::python {

// Raises the exception of omnistream.errors that has this name.
[[noreturn]] void raise_named(const char* name, const std::string& message);
// Raises the exception of the status' code, unless it is ok.
void check(const Status& status);

template <class Work>
void without_gil(Work&& work) {
    Status status;
    {
        const py::gil_scoped_release release;
        status = work();
    }
    check(status);
}

void bind_batches(py::module_& m);
void bind_dictionaries(py::module_& m);
void bind_rejects(py::module_& m);
void bind_kafka(py::module_& m);
void bind_messages(py::module_& m);
void bind_decode(py::module_& m);
void bind_avro(py::module_& m);
void bind_encode(py::module_& m);
void bind_clean(py::module_& m);
void bind_sales(py::module_& m);
void bind_window(py::module_& m);
void bind_shards(py::module_& m);
void bind_derive(py::module_& m);
void bind_generate(py::module_& m);

}  // namespace omnistream::python
