// What decoders take and what they give.
#pragma once

#include <pybind11/stl.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bindings.hpp"
#include "omnistream/batch.hpp"
#include "omnistream/decode.hpp"
#include "omnistream/dictionary.hpp"

namespace omnistream::python {

std::shared_ptr<Origin> origin_of(std::string source, std::int32_t partition, std::int64_t first_position);
// A list of bytes, or an Arrow array of binary or text, one message each.
std::shared_ptr<Origin> origin_of_messages(const py::object& messages, std::string source,
                                           std::int32_t partition, std::int64_t first_position);

// Messages that Python or a device decodes.
struct PythonMessages {
    std::shared_ptr<Origin> origin;

    const Message& at(std::size_t index) const {
        if (index >= origin->messages.size()) throw py::index_error("no such message");
        return origin->messages[index];
    }
};

// A dictionary for each field, null where it needs none.
std::vector<std::shared_ptr<Dictionary>> dictionaries_of(
    const Schema& schema, const std::map<std::string, std::shared_ptr<Dictionary>>& known);

py::dict counts_to_python(const DecodeCounts& counts);
// Rows, rejects and counts.
py::tuple decoded_to_python(const Decoded& decoded);

}  // namespace omnistream::python
