// What the two binding files share.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <utility>

#include "omnistream/arrow_abi.hpp"
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

// An Arrow array or record batch, and the capsules that own it until it is moved out.
struct Imported {
    py::object schema_owner, array_owner;
    ArrowSchema* schema;
    ArrowArray* array;
};
Imported arrow_array(const py::object& object);

void bind_kafka(py::module_& m);

}  // namespace omnistream::python
