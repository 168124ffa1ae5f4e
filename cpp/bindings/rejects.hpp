// Reasons and faults as Python names them.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace omnistream::python {

// What is wrong with rows, by number: a reason, and the column at fault or "".
using ReasonsAndFields = std::vector<std::pair<std::string, std::string>>;

inline std::vector<std::string> reasons_of(const ReasonsAndFields& known) {
    std::vector<std::string> reasons;
    for (const auto& [reason, field] : known) reasons.push_back(reason);
    return reasons;
}

}  // namespace omnistream::python
