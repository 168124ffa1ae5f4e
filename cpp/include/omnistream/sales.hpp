// sales: when each sale was, for the returns and cancellations that come after it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "omnistream/accumulate.hpp"
#include "omnistream/batch.hpp"
#include "omnistream/buffer.hpp"
#include "omnistream/duplicates.hpp"
#include "omnistream/status.hpp"

namespace omnistream {

// The column that look_up() adds. No schema has one of this name.
inline constexpr const char* kSaleTime = "sale time";

// Rows that the condition weighs +1 are sales, those of -1 correct one. The first sale of a key is remembered
// while watermark <= its event time + within. Rows are taken in order, each at the watermark that it met, so
// what a correction finds does not depend on how rows are batched.
class Sales {
public:
    Sales(std::vector<std::string> key_columns, std::int64_t within_ms, std::string time_column,
          Condition condition);

    // The batch with one column more, a timestamp: of a correction when its sale was, else null.
    Status look_up(const CleanBatch& clean, std::shared_ptr<Batch>* out);
    // Their keys and event times.
    [[nodiscard]] DuplicateFilter& remembered() { return remembered_; }

private:
    DuplicateFilter remembered_;
    std::string time_column_;
    BoundCondition condition_;
    Array<char> keys_;  // of a group of rows
};

}  // namespace omnistream
