// Memory of Python objects in hands of C++.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>

#include "bindings.hpp"

namespace omnistream::python {

// A Python reference that C++ threads may drop: taking the GIL is the deleter's business.
inline std::shared_ptr<const void> keep(py::object object) {
    return {object.release().ptr(), [](const void* held) {
                const py::gil_scoped_acquire acquire;
                Py_DECREF(static_cast<PyObject*>(const_cast<void*>(held)));
            }};
}

struct HeldBuffer {
    Py_buffer view{};
    explicit HeldBuffer(const py::object& object) {
        if (PyObject_GetBuffer(object.ptr(), &view, PyBUF_SIMPLE) != 0) throw py::error_already_set();
    }
    HeldBuffer(const HeldBuffer&) = delete;
    HeldBuffer& operator=(const HeldBuffer&) = delete;
    ~HeldBuffer() {
        const py::gil_scoped_acquire acquire;
        PyBuffer_Release(&view);
    }
};

// Lanes that Python hands over as a buffer.
template <class T>
struct HeldLanes : HeldBuffer {
    explicit HeldLanes(const py::object& object) : HeldBuffer(object) {
        if (static_cast<std::size_t>(view.len) % sizeof(T) != 0)
            throw py::value_error("a buffer that is cut off inside a value");
    }
    [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(view.len) / sizeof(T); }
    [[nodiscard]] const T* data() const { return static_cast<const T*>(view.buf); }
    const T& operator[](std::size_t at) const { return data()[at]; }
};

}  // namespace omnistream::python
