// clean: rules as data, duplicates by key within a time bound, and the watermark.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "omnistream/batch.hpp"
#include "omnistream/buffer.hpp"
#include "omnistream/dictionary.hpp"
#include "omnistream/duplicates.hpp"
#include "omnistream/status.hpp"
#include "omnistream/watermark.hpp"

namespace omnistream {

enum class RuleKind : std::uint8_t {
    less_than,  // reject where column < other (two lanes of one type); nulls pass
    range,      // reject lanes outside [low, high], ends included, and NaN; nulls pass
    ahead,      // reject timestamps later than now + high; nulls pass
    behind,     // reject timestamps earlier than now - low; nulls pass
    required,   // reject nulls
    allowed,    // reject strings and dictionary values outside `values`; nulls pass
};

struct Rule {
    RuleKind kind = RuleKind::required;
    std::string column;
    std::string other;                                            // less_than
    std::string reason;                                           // the reason code of a reject
    std::int64_t low = std::numeric_limits<std::int64_t>::min();  // in the lane's unit; ahead/behind: ms
    std::int64_t high = std::numeric_limits<std::int64_t>::max();
    double low_float = -std::numeric_limits<double>::infinity();  // range over float64
    double high_float = std::numeric_limits<double>::infinity();
    std::vector<std::string> values;
};

struct CleanCounts {
    std::int64_t rows = 0;
    std::int64_t rejected = 0;  // by rules and for overflow
    std::int64_t duplicates = 0;
};

struct Cleaned {
    std::shared_ptr<CleanBatch> batch;
    // One per row, in order, duplicates as well. reason: index of the rule that failed; for a duplicate the
    // number of rules; for an amount that overflowed one more. field: the rule's column, else empty. line: of
    // an exploded batch the row's place among the rows of its message, else -1.
    std::vector<Reject> rejects;
    CleanCounts counts;
};

// Rows are taken in order. A row that fails a rule (the first in the list names the reason) is a reject; then
// a row whose message is a duplicate is a duplicate (rows of one message share its fate: the message is
// looked up once, at its first surviving row, with that row's key and event time); what is left meets the
// watermark of the moment and then moves it. The rows of a message stand together.
// The key of a duplicate: see row_keys.hpp.
class Cleaner {
public:
    Cleaner(std::vector<Rule> rules, std::string time_column, std::shared_ptr<Watermark> watermark,
            std::shared_ptr<DuplicateFilter> duplicates /* may be null */);

    // A batch that does not fit the rules is an error before anything has changed.
    // `overflowed`: rows whose amount int64 cannot hold (add_amounts() lists them); rejected unless a rule
    // did so.
    Status clean(std::shared_ptr<const Batch> batch, std::int64_t now_ms,
                 const std::vector<std::int32_t>& overflowed, Cleaned* out);
    [[nodiscard]] const std::vector<Rule>& rules() const { return rules_; }

private:
    // The strings of an `allowed` rule, and what they mean for the codes of the dictionary seen last.
    struct Allowed {
        Dictionary values;
        std::shared_ptr<const Dictionary> dictionary;
        std::vector<std::uint8_t> refused;  // by code, grown with the dictionary
    };

    void apply(std::size_t rule_index, const Batch& batch, std::int64_t now_ms);
    void mark_refused(std::size_t rule_index, const Column& column, std::int64_t rows);
    // Returns how many rows it took out of clean->rows.
    std::int64_t drop_duplicates(const Batch& batch, const std::vector<const Column*>& key_columns,
                                 const std::int64_t* times, Watermark::Run* run, CleanBatch* clean);

    std::vector<Rule> rules_;
    std::string time_column_;
    std::shared_ptr<Watermark> watermark_;
    std::shared_ptr<DuplicateFilter> duplicates_;
    std::vector<std::unique_ptr<Allowed>> allowed_;  // per rule, null for the other kinds
    Array<std::uint16_t> failed_;                    // per row of the batch: the rule it failed
    Array<char> keys_;                               // of a group of rows
};

}  // namespace omnistream
