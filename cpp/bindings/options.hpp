// Dictionaries of options to the core's structs: what more than one part of the core is told.
#pragma once

#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "bindings.hpp"
#include "omnistream/batch.hpp"
#include "omnistream/schema.hpp"
#include "omnistream/window.hpp"

namespace omnistream::python {

template <class T>
T get(const py::dict& options, const char* key) {
    if (!options.contains(key)) throw py::key_error(key);
    return options[key].cast<T>();
}

template <class T>
T get_or(const py::dict& options, const char* key, T otherwise) {
    return options.contains(key) && !options[key].is_none() ? options[key].cast<T>() : otherwise;
}

Type type_of(const std::string& name);
// The types of columns, of options["types"]; int64 for a column without a name.
std::vector<Type> types_of(const py::dict& options, const std::vector<std::string>& columns);
Schema schema_of(const py::dict& options);
// No condition, unless the options have one of this name.
Condition condition_of(const py::dict& options, const char* name);

}  // namespace omnistream::python
