// Rejects as a table: source position, stage, reason and the original bytes, so that nothing is lost.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "omnistream/batch.hpp"

namespace omnistream {

// Columns: source, partition, position, line, stage, reason, field, byte_offset, size_bytes, bytes.
// A row that was pushed as Arrow columns has no original bytes: it is written as a JSON object instead.
[[nodiscard]] std::shared_ptr<Batch> reject_table(const Batch& batch, const std::vector<Reject>& rejects,
                                                  const std::string& stage,
                                                  const std::vector<std::string>& reasons);

// One row of a batch as a JSON object, exact: decimals with their digits, timestamps in ISO-8601.
[[nodiscard]] std::string row_json(const Batch& batch, std::int64_t row);

// The index of a row among the rows of its message, or -1 when messages have one row each.
[[nodiscard]] std::int32_t line_of(const Batch& batch, std::int32_t row);

}  // namespace omnistream
