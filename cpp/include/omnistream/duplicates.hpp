// Keys seen before, within a bound of event time.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "omnistream/batch.hpp"
#include "omnistream/buffer.hpp"
#include "omnistream/status.hpp"

namespace omnistream {

// Exact: keys are compared byte by byte. A key accepted at event time t is remembered while watermark <= t +
// within; until the watermark has passed that, the same key again is a duplicate, and does not prolong it.
// The watermark of the filter is the largest that it was ever given.
//
// Keys are written one after the other into a bucket of their event time, an eighth of the bound wide, which
// is freed as a whole: memory follows the bound, not the length of the input. A table finds a key in its
// bucket.
class DuplicateFilter {
public:
    DuplicateFilter(std::vector<std::string> key_columns, std::int64_t within_ms);
    DuplicateFilter(const DuplicateFilter&) = delete;
    DuplicateFilter& operator=(const DuplicateFilter&) = delete;

    [[nodiscard]] const std::vector<std::string>& key_columns() const { return key_columns_; }
    // True when the key (any bytes) is remembered at this watermark; remembers it otherwise.
    bool seen(std::string_view key, std::int64_t event_time_ms, std::int64_t watermark_ms) {
        return seen(key, hash(key), event_time_ms, watermark_ms, 0);
    }
    // With the hash known beforehand, so that several lookups can wait for memory together; a key that is
    // remembered now is `owner`'s.
    bool seen(std::string_view key, std::uint64_t hash, std::int64_t event_time_ms, std::int64_t watermark_ms,
              std::int32_t owner = 0);
    // Whether the key is remembered at this watermark, and when it came.
    bool find(std::string_view key, std::uint64_t hash, std::int64_t watermark_ms,
              std::int64_t* event_time_ms);
    static std::uint64_t hash(std::string_view key);
    void prefetch(std::uint64_t hash) const { __builtin_prefetch(&slots_[hash & mask_]); }
    // Frees what the watermark has passed. Changes no answer.
    void expire(std::int64_t watermark_ms);

    // Keys held; those that the watermark has passed count until they are freed.
    [[nodiscard]] std::int64_t size() const { return count_; }
    [[nodiscard]] std::int64_t memory_bytes() const;
    // What is remembered at the filter's watermark, by all owners or by one. Columns: key (binary),
    // event_time_ms (int64), owner (int32), ordered by event time, then key. More than 2 GiB of keys is
    // std::bad_alloc.
    [[nodiscard]] Batch snapshot(std::int32_t owner = kAllOwners) const;
    // Forgets what it held and starts again from a snapshot.
    Status restore(const Batch& batch);
    // Forgets what one owner brought; and remembers what `from` owned in a snapshot of another filter, whose
    // watermark was `watermark_ms`, as `to`'s.
    void drop(std::int32_t owner);
    Status take(const Batch& batch, std::int32_t from, std::int32_t to, std::int64_t watermark_ms);

private:
    struct Slot {
        std::uint64_t hash;
        std::uint32_t bucket;  // index into buckets_, kFree when the slot is free
        std::uint32_t at;      // of the record in the bucket's words
    };
    // A record is the event time, a word of the owner and the size of the key, and the key itself, padded to
    // whole words.
    struct Bucket {
        std::int64_t first_ms = 0;
        std::int64_t last_ms = -1;
        Array<std::uint64_t> words;
    };
    struct Record {
        std::int64_t event_time_ms;
        std::string_view key;
        std::int32_t owner;
        std::size_t next;
    };

    static Record record(const Bucket& bucket, std::size_t at);
    [[nodiscard]] bool remembered(std::int64_t event_time_ms) const;
    std::uint32_t bucket_of(std::int64_t event_time_ms);
    std::uint32_t write(std::uint32_t bucket, std::string_view key, std::int64_t event_time_ms,
                        std::int32_t owner);
    Status add(const Batch& batch, std::int32_t from, std::int32_t to);
    void forget(const Bucket& bucket, std::uint32_t index);
    void remove(std::uint64_t hash, std::uint32_t bucket, std::uint32_t at);
    void grow();
    void clear();

    std::vector<std::string> key_columns_;
    std::int64_t within_ms_;
    std::int64_t bucket_ms_;
    std::int64_t watermark_ms_;
    Array<Slot> slots_;  // open addressing, a power of two, at most half full
    std::uint64_t mask_ = 0;
    std::int64_t count_ = 0;
    std::vector<Bucket> buckets_;
    std::map<std::int64_t, std::uint32_t> by_time_;  // a bucket's first_ms to its index
    std::vector<std::uint32_t> free_;                // indexes of no bucket
    std::uint32_t current_ = 0;                      // the bucket written to last
};

}  // namespace omnistream
