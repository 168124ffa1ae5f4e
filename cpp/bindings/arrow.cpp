#include "arrow.hpp"

#include <utility>

namespace omnistream::python {

Imported arrow_array(const py::object& object) {
    if (!py::hasattr(object, "__arrow_c_array__"))
        throw py::type_error("expected an Arrow array or record batch (an object with __arrow_c_array__)");
    const auto pair = object.attr("__arrow_c_array__")().cast<py::tuple>();
    Imported in{pair[0], pair[1], nullptr, nullptr};
    in.schema = static_cast<ArrowSchema*>(PyCapsule_GetPointer(in.schema_owner.ptr(), "arrow_schema"));
    in.array = static_cast<ArrowArray*>(PyCapsule_GetPointer(in.array_owner.ptr(), "arrow_array"));
    if (in.schema == nullptr || in.array == nullptr) throw py::error_already_set();
    return in;
}

std::shared_ptr<Batch> state_batch(const py::object& object) {
    const Imported in = arrow_array(object);
    auto batch = std::make_shared<Batch>();
    batch->origin = std::make_shared<Origin>();
    std::vector<Field> fields;
    check(fields_of(*in.schema, &fields));
    check(import_batch(*in.schema, in.array, fields, batch.get()));
    return batch;
}

py::capsule schema_capsule(const std::vector<Column>& columns) {
    auto* schema = new ArrowSchema{};
    export_schema(columns, schema);
    return py::capsule(schema, "arrow_schema", [](PyObject* capsule) {
        auto* held = static_cast<ArrowSchema*>(PyCapsule_GetPointer(capsule, "arrow_schema"));
        if (held->release != nullptr) held->release(held);
        delete held;
    });
}

py::capsule array_capsule(const Batch& batch) {
    auto* array = new ArrowArray{};
    export_batch(batch, array);
    return py::capsule(array, "arrow_array", [](PyObject* capsule) {
        auto* held = static_cast<ArrowArray*>(PyCapsule_GetPointer(capsule, "arrow_array"));
        if (held->release != nullptr) held->release(held);
        delete held;
    });
}

py::capsule stream_capsule(std::shared_ptr<DecodeStream> batches) {
    auto* stream = new ArrowArrayStream{};
    export_stream(std::move(batches), stream);
    return py::capsule(stream, "arrow_array_stream", [](PyObject* capsule) {
        auto* held = static_cast<ArrowArrayStream*>(PyCapsule_GetPointer(capsule, "arrow_array_stream"));
        if (held->release != nullptr) held->release(held);
        delete held;
    });
}

}  // namespace omnistream::python
