// Event time as far as it has come: which rows are still to be expected.
//
// State belongs to partitions: what a row adds that was not there (a key of an open window, a remembered
// event id, a key's demand) is owned by the partition of that row, and goes with it when another process
// takes the partition over. An owner is named by its slot in the watermark.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace omnistream {

// What has been seen of event time, per source partition. watermark = min over partitions of the largest
// event time seen there, less the bound on disorder: no row before it is expected any more. Until a partition
// has shown a row it does not hold the watermark back unless it was declared.
class Watermark {
public:
    static constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::min();
    static constexpr std::int64_t kEnd = std::numeric_limits<std::int64_t>::max();

    explicit Watermark(std::int64_t max_disorder_ms) : max_disorder_ms_(max_disorder_ms) {}

    // A partition that will send rows: holds the watermark where it is until its first row.
    void declare(const std::string& source, std::int32_t partition);
    // Index for observe(), and the name of an owner of state; stable until restore().
    std::int32_t slot(const std::string& source, std::int32_t partition);
    void observe(std::int32_t slot, std::int64_t event_time_ms);
    // An idle partition is left out of the minimum until its next row. When all are idle, the value stays.
    void set_idle(std::int32_t slot);
    // Never moves back, whatever partitions join later.
    [[nodiscard]] std::int64_t value() const { return value_; }
    // An explicit assertion by the caller that nothing before `value_ms` will come; kEnd ends the input.
    void advance(std::int64_t value_ms);
    [[nodiscard]] std::int64_t max_event_time_ms() const { return max_event_time_ms_; }

    // Many rows of one partition: as the others stand still meanwhile, the value depends on this one alone
    // and lives in registers. begin(), observe() at least once, end(); nothing else in between.
    class Run {
    public:
        [[nodiscard]] std::int64_t value() const { return value_; }
        void observe(std::int64_t event_time_ms) {
            newest_ = std::max(newest_, event_time_ms);
            value_ = std::max(value_, lagged(std::min(newest_, others_), max_disorder_ms_));
        }
        // The rows `rows` of times_ms, or where that is null its first `count`. Observing the newest of them
        // is the same as observing each.
        void observe(const std::int64_t* times_ms, const std::int32_t* rows, std::size_t count);
        // The same, and what value() was before each.
        void meet(const std::int64_t* times_ms, const std::int32_t* rows, std::size_t count,
                  std::int64_t* met_ms);

    private:
        friend class Watermark;
        std::int64_t newest_ = kNone;  // of this partition
        std::int64_t others_ = kEnd;  // the minimum of the others that are not idle; kEnd when there are none
        std::int64_t value_ = kNone;
        std::int64_t max_disorder_ms_ = 0;
    };
    [[nodiscard]] Run begin(std::int32_t slot) const;
    void end(std::int32_t slot, const Run& run);

    struct Partition {
        std::string source;
        std::int32_t partition = 0;
        std::int64_t max_event_time_ms = kNone;
        bool idle = false;  // also: known, neither declared nor seen
    };
    [[nodiscard]] const std::vector<Partition>& partitions() const { return partitions_; }
    // A partition goes: it is known no more than one that has never shown a row. The others may be ahead.
    void drop(std::int32_t slot);
    // A partition comes from another process, whose watermark was `value_ms`. Where that is behind, the value
    // moves back to it: rows of the newcomer must not be late for having moved.
    std::int32_t take(const Partition& partition, std::int64_t value_ms);
    void restore(std::vector<Partition> partitions, std::int64_t value_ms, std::int64_t max_event_time_ms);

private:
    static std::int64_t lagged(std::int64_t time_ms, std::int64_t max_disorder_ms) {
        return std::max(time_ms, kNone + max_disorder_ms) - max_disorder_ms;
    }
    void refresh();

    std::int64_t max_disorder_ms_;
    std::vector<Partition> partitions_;
    std::map<std::pair<std::string, std::int32_t>, std::int32_t> slots_;
    std::int64_t minimum_ = kEnd;  // over the partitions that are not idle
    std::int64_t value_ = kNone;
    std::int64_t max_event_time_ms_ = kNone;
};

}  // namespace omnistream
