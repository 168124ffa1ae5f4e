// encode: string columns become codes of persistent dictionaries; lines get their amounts.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
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

// Whether there is nothing for encode_columns to do.
[[nodiscard]] bool encoded(const Batch& batch,
                           const std::map<std::string, std::shared_ptr<Dictionary>>& dictionaries);

// The codes of a dictionary that another thread adds to, in one of ours. It is never read here: its owner
// hands its strings over, so that the two threads share nothing.
class Translation {
public:
    explicit Translation(std::shared_ptr<Dictionary> ours) : ours_(std::move(ours)) {}
    // The strings that the other one has got since the last call, in the order of their codes.
    void learn(const Column& texts);
    [[nodiscard]] Column translate(const Column& column) const;

private:
    std::shared_ptr<Dictionary> ours_;
    std::vector<std::int32_t> codes_;  // by the other one's
};

Status translate_columns(const Batch& batch,
                         const std::map<std::string, std::shared_ptr<Translation>>& translations,
                         std::shared_ptr<Batch>* out);

// Two more columns: gross_amount = quantity x unit_price, amount = the same x (1 - discount), rounded
// half-even, or those of them that are wanted. Rows whose amount int64 cannot hold, wanted or not, have nulls
// there and are listed.
Status add_amounts(const Batch& batch, const std::string& quantity, const std::string& unit_price,
                   const std::string& discount, const std::vector<std::string>& wanted,
                   std::shared_ptr<Batch>* out, std::vector<std::int32_t>* overflowed);

}  // namespace omnistream
