// Outer values repeated: a message's values stand in each of its lines.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "decode_lanes.hpp"

namespace omnistream {

class Repetition {
public:
    // Row r of an outer level stands for the lines [ends[r - 1], ends[r]).
    explicit Repetition(std::span<const std::int32_t> ends);

    [[nodiscard]] std::size_t lines() const {
        return ends_.empty() ? 0 : static_cast<std::size_t>(ends_.back());
    }
    // False when strings would exceed 2 GiB.
    [[nodiscard]] bool repeat(Lane* values) const;
    void repeat(const std::int32_t* rows, KeptVector<std::int32_t>* lines) const;

private:
    [[nodiscard]] bool repeat_strings(Lane* values) const;
    [[nodiscard]] std::vector<std::int32_t> repeat_nulls(const std::vector<std::int32_t>& nulls) const;

    std::span<const std::int32_t> ends_;
    std::int32_t most_ = 0;  // lines of a row
};

}  // namespace omnistream
