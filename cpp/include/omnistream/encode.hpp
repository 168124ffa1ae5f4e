// encode: string columns become codes of persistent dictionaries; lines get their amounts.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "omnistream/batch.hpp"
#include "omnistream/dictionary.hpp"
#include "omnistream/status.hpp"

namespace omnistream {

// The string and foreign dictionary columns that `dictionaries` names, as codes of those dictionaries.
// Columns that were decoded with them already are shared as they are.
Status encode_columns(const Batch& batch,
                      const std::map<std::string, std::shared_ptr<Dictionary>>& dictionaries,
                      std::shared_ptr<Batch>* out);

// Two more columns: gross_amount = quantity x unit_price, amount = the same x (1 - discount), rounded
// half-even. Rows whose amount int64 cannot hold have nulls there and are listed.
Status add_amounts(const Batch& batch, const std::string& quantity, const std::string& unit_price,
                   const std::string& discount, std::shared_ptr<Batch>* out,
                   std::vector<std::int32_t>* overflowed);

}  // namespace omnistream
