// Arrow capsules, in and out.
#pragma once

#include <memory>
#include <vector>

#include "bindings.hpp"
#include "omnistream/arrow_abi.hpp"
#include "omnistream/batch.hpp"
#include "omnistream/decode_stream.hpp"

namespace omnistream::python {

// An Arrow array or record batch, and the capsules that own it until it is moved out.
struct Imported {
    py::object schema_owner, array_owner;
    ArrowSchema* schema;
    ArrowArray* array;
};
Imported arrow_array(const py::object& object);

// A record batch of the columns' own types, as snapshots are.
std::shared_ptr<Batch> state_batch(const py::object& object);

py::capsule schema_capsule(const std::vector<Column>& columns);
py::capsule array_capsule(const Batch& batch);
py::capsule stream_capsule(std::shared_ptr<DecodeStream> batches);

}  // namespace omnistream::python
