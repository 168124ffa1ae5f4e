// clean: rules as data, duplicates by key within a time bound, and the watermark.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "omnistream/batch.hpp"
#include "omnistream/dictionary.hpp"
#include "omnistream/status.hpp"

namespace omnistream {

enum class RuleKind : std::uint8_t {
    less_than,  // reject where column < other (both of one type); nulls pass
    range,      // reject outside [low, high], ends included; nulls pass
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

// What has been seen of event time, per source partition. watermark = min over partitions of the largest
// event time seen there, less the bound on disorder: no row before it is expected any more.
// Until a partition has shown a row it does not hold the watermark back unless it was declared.
class Watermark {
public:
    static constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::min();
    static constexpr std::int64_t kEnd = std::numeric_limits<std::int64_t>::max();

    explicit Watermark(std::int64_t max_disorder_ms) : max_disorder_ms_(max_disorder_ms) {}

    // A partition that will send rows: holds the watermark at kNone until its first row.
    void declare(const std::string& source, std::int32_t partition);
    // Index for observe(); stable for the life of the watermark.
    std::int32_t slot(const std::string& source, std::int32_t partition);
    void observe(std::int32_t slot, std::int64_t event_time_ms);
    // An idle partition is left out of the minimum until its next row.
    void set_idle(std::int32_t slot);
    // Never moves back, whatever partitions join later.
    [[nodiscard]] std::int64_t value() const { return value_; }
    // An explicit assertion by the caller that nothing before `value_ms` will come; kEnd ends the input.
    void advance(std::int64_t value_ms);
    [[nodiscard]] std::int64_t max_event_time_ms() const { return max_event_time_ms_; }

    struct Partition {
        std::string source;
        std::int32_t partition = 0;
        std::int64_t max_event_time_ms = kNone;
        bool idle = false;
    };
    [[nodiscard]] const std::vector<Partition>& partitions() const { return partitions_; }
    void restore(std::vector<Partition> partitions, std::int64_t value_ms, std::int64_t max_event_time_ms);

private:
    void refresh();

    std::int64_t max_disorder_ms_;
    std::vector<Partition> partitions_;
    std::int64_t value_ = kNone;
    std::int64_t max_event_time_ms_ = kNone;
};

// Keys seen within a time bound, exact. A key accepted at event time t is remembered until the watermark
// passes t + within; until then the same key again is a duplicate.
class DuplicateFilter {
public:
    DuplicateFilter(std::vector<std::string> key_columns, std::int64_t within_ms);

    [[nodiscard]] const std::vector<std::string>& key_columns() const { return key_columns_; }
    // True when the key (any bytes) is remembered at this watermark; remembers it otherwise.
    bool seen(std::string_view key, std::int64_t event_time_ms, std::int64_t watermark_ms);
    void prefetch(std::uint64_t hash) const;
    static std::uint64_t hash(std::string_view key);
    // Frees what the watermark has passed. Changes no answer.
    void expire(std::int64_t watermark_ms);

    [[nodiscard]] std::int64_t size() const;
    [[nodiscard]] std::int64_t memory_bytes() const;
    // Columns: key (binary), event_time_ms (int64), ordered by event time, then key.
    [[nodiscard]] Batch snapshot() const;
    Status restore(const Batch& batch);

private:
    class Impl;
    std::vector<std::string> key_columns_;
    std::int64_t within_ms_;
    std::shared_ptr<Impl> impl_;
};

struct CleanCounts {
    std::int64_t rows = 0;
    std::int64_t rejected = 0;
    std::int64_t duplicates = 0;
};

struct Cleaned {
    std::shared_ptr<CleanBatch> batch;
    // reason: index of the rule that failed; for a duplicate the number of rules
    std::vector<Reject> rejects;
    CleanCounts counts;
};

// Rows are taken in order. A row that fails a rule (the first in the list names the reason) is a reject; then
// a row whose message is a duplicate is a duplicate (rows of one message share its fate: the message is
// looked up once, at its first surviving row, with that row's key and event time); what is left meets the
// watermark of the moment and then moves it.
class Cleaner {
public:
    Cleaner(std::vector<Rule> rules, std::string time_column, std::shared_ptr<Watermark> watermark,
            std::shared_ptr<DuplicateFilter> duplicates /* may be null */);

    Status clean(std::shared_ptr<const Batch> batch, std::int64_t now_ms, Cleaned* out);
    [[nodiscard]] const std::vector<Rule>& rules() const { return rules_; }

private:
    std::vector<Rule> rules_;
    std::string time_column_;
    std::shared_ptr<Watermark> watermark_;
    std::shared_ptr<DuplicateFilter> duplicates_;
    std::vector<std::vector<std::uint8_t>> allowed_codes_;  // per rule: by dictionary code, grown on demand
};

}  // namespace omnistream
