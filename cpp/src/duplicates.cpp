#include "omnistream/duplicates.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <utility>

#include "omnistream/hash.hpp"
#include "omnistream/watermark.hpp"

namespace omnistream {

namespace {

constexpr std::size_t kFirstSlots = 1024;
constexpr std::uint32_t kFree = std::numeric_limits<std::uint32_t>::max();
// More buckets free memory sooner, fewer are cheaper to keep: at most an eighth more than the bound is held.
constexpr std::int64_t kBucketsPerBound = 8;
constexpr std::int64_t kMinBucketMs = 1'000;
constexpr std::size_t kHeaderWords = 2;
// Removals in flight at once.
constexpr std::size_t kGroup = 32;

constexpr std::size_t words_of(std::size_t bytes) {
    return (bytes + 7) / 8;
}

std::int64_t clamped(__int128 value) {
    if (value < std::numeric_limits<std::int64_t>::min()) return std::numeric_limits<std::int64_t>::min();
    if (value > std::numeric_limits<std::int64_t>::max()) return std::numeric_limits<std::int64_t>::max();
    return static_cast<std::int64_t>(value);
}

}  // namespace

DuplicateFilter::DuplicateFilter(std::vector<std::string> key_columns, std::int64_t within_ms)
    : key_columns_(std::move(key_columns)),
      within_ms_(within_ms),
      bucket_ms_(std::max(within_ms / kBucketsPerBound, kMinBucketMs)) {
    clear();
}

void DuplicateFilter::clear() {
    watermark_ms_ = Watermark::kNone;
    slots_.clear();
    slots_.resize(kFirstSlots, Slot{0, kFree, 0});
    mask_ = kFirstSlots - 1;
    count_ = 0;
    buckets_.clear();
    by_time_.clear();
    free_.clear();
    current_ = 0;
}

std::uint64_t DuplicateFilter::hash(std::string_view key) {
    return hash_text(key.data(), key.size());
}

bool DuplicateFilter::remembered(std::int64_t event_time_ms) const {
    std::int64_t until_ms;
    return __builtin_add_overflow(event_time_ms, within_ms_, &until_ms) || watermark_ms_ <= until_ms;
}

DuplicateFilter::Record DuplicateFilter::record(const Bucket& bucket, std::size_t at) {
    const std::uint64_t* const words = bucket.words.data() + at;
    const std::size_t size = static_cast<std::uint32_t>(words[1]);
    return {static_cast<std::int64_t>(words[0]),
            {reinterpret_cast<const char*>(words + kHeaderWords), size},
            static_cast<std::int32_t>(words[1] >> 32),
            at + kHeaderWords + words_of(size)};
}

bool DuplicateFilter::seen(std::string_view key, std::uint64_t hash, std::int64_t event_time_ms,
                           std::int64_t watermark_ms, std::int32_t owner) {
    watermark_ms_ = std::max(watermark_ms_, watermark_ms);
    std::size_t at = hash & mask_;
    for (; slots_[at].bucket != kFree; at = (at + 1) & mask_) {
        const Slot& slot = slots_[at];
        if (slot.hash != hash) continue;
        const Record found = record(buckets_[slot.bucket], slot.at);
        if (found.key != key) continue;
        if (remembered(found.event_time_ms)) return true;
        break;  // the watermark has passed it: the slot is its own again
    }
    if (!remembered(event_time_ms)) return false;  // the watermark has passed the new one, too

    // All that can fail comes before the slot is written.
    const bool added = slots_[at].bucket == kFree;
    if (added && (static_cast<std::size_t>(count_) + 1) * 2 > slots_.size()) {
        grow();
        at = hash & mask_;
        while (slots_[at].bucket != kFree) at = (at + 1) & mask_;
    }
    const std::uint32_t bucket = bucket_of(event_time_ms);
    slots_[at] = {hash, bucket, write(bucket, key, event_time_ms, owner)};
    count_ += added;
    return false;
}

bool DuplicateFilter::find(std::string_view key, std::uint64_t hash, std::int64_t watermark_ms,
                           std::int64_t* event_time_ms) {
    watermark_ms_ = std::max(watermark_ms_, watermark_ms);
    for (std::size_t at = hash & mask_; slots_[at].bucket != kFree; at = (at + 1) & mask_) {
        if (slots_[at].hash != hash) continue;
        const Record found = record(buckets_[slots_[at].bucket], slots_[at].at);
        if (found.key != key) continue;
        *event_time_ms = found.event_time_ms;
        return remembered(found.event_time_ms);
    }
    return false;
}

std::uint32_t DuplicateFilter::bucket_of(std::int64_t event_time_ms) {
    if (current_ < buckets_.size()) {
        const Bucket& current = buckets_[current_];
        if (event_time_ms >= current.first_ms && event_time_ms <= current.last_ms) return current_;
    }
    const std::int64_t number = event_time_ms / bucket_ms_ - (event_time_ms % bucket_ms_ < 0 ? 1 : 0);
    const std::int64_t first_ms = clamped(static_cast<__int128>(number) * bucket_ms_);
    const auto found = by_time_.find(first_ms);
    if (found != by_time_.end()) return current_ = found->second;

    std::uint32_t index;
    if (free_.empty()) {
        index = static_cast<std::uint32_t>(buckets_.size());
        buckets_.emplace_back();
        free_.reserve(buckets_.size());  // so that expire() cannot fail
        free_.push_back(index);
    }
    index = free_.back();
    by_time_.emplace(first_ms, index);
    free_.pop_back();
    buckets_[index].first_ms = first_ms;
    buckets_[index].last_ms = clamped(static_cast<__int128>(number + 1) * bucket_ms_ - 1);
    return current_ = index;
}

std::uint32_t DuplicateFilter::write(std::uint32_t bucket, std::string_view key, std::int64_t event_time_ms,
                                     std::int32_t owner) {
    Array<std::uint64_t>& words = buckets_[bucket].words;
    const std::size_t at = words.size();
    const std::size_t size = kHeaderWords + words_of(key.size());
    if (at > std::numeric_limits<std::uint32_t>::max()) throw std::bad_alloc();  // 32 GiB in one bucket
    words.resize(at + size);
    words[at] = static_cast<std::uint64_t>(event_time_ms);
    words[at + 1] = static_cast<std::uint64_t>(owner) << 32 | static_cast<std::uint32_t>(key.size());
    if (!key.empty()) std::memcpy(words.data() + at + kHeaderWords, key.data(), key.size());
    return static_cast<std::uint32_t>(at);
}

void DuplicateFilter::grow() {
    Array<Slot> grown;
    grown.resize(slots_.size() * 2, Slot{0, kFree, 0});
    const std::uint64_t mask = grown.size() - 1;
    for (const Slot& slot : slots_) {
        if (slot.bucket == kFree) continue;
        std::size_t at = slot.hash & mask;
        while (grown[at].bucket != kFree) at = (at + 1) & mask;
        grown[at] = slot;
    }
    slots_ = std::move(grown);
    mask_ = mask;
}

void DuplicateFilter::expire(std::int64_t watermark_ms) {
    watermark_ms_ = std::max(watermark_ms_, watermark_ms);
    while (!by_time_.empty()) {
        const std::uint32_t index = by_time_.begin()->second;
        Bucket& oldest = buckets_[index];
        if (remembered(oldest.last_ms)) break;
        forget(oldest, index);
        oldest = Bucket();
        by_time_.erase(by_time_.begin());
        free_.push_back(index);
    }
}

// Takes the records of a bucket out of the table.
void DuplicateFilter::forget(const Bucket& bucket, std::uint32_t index) {
    std::uint64_t hashes[kGroup];
    std::uint32_t places[kGroup];
    for (std::size_t at = 0; at < bucket.words.size();) {
        std::size_t count = 0;
        for (; count < kGroup && at < bucket.words.size(); ++count) {
            const Record next = record(bucket, at);
            hashes[count] = hash(next.key);
            places[count] = static_cast<std::uint32_t>(at);
            prefetch(hashes[count]);
            at = next.next;
        }
        for (std::size_t i = 0; i < count; ++i) remove(hashes[i], index, places[i]);
    }
}

void DuplicateFilter::remove(std::uint64_t hash, std::uint32_t bucket, std::uint32_t at) {
    std::size_t hole = hash & mask_;
    while (slots_[hole].bucket != bucket || slots_[hole].at != at) {
        if (slots_[hole].bucket == kFree) return;  // the key was accepted again later, and stands elsewhere
        hole = (hole + 1) & mask_;
    }
    // Close the gap instead of marking it: whoever probed past the hole moves into it.
    for (std::size_t next = (hole + 1) & mask_; slots_[next].bucket != kFree; next = (next + 1) & mask_) {
        const std::size_t home = slots_[next].hash & mask_;
        if (((next - home) & mask_) < ((next - hole) & mask_)) continue;
        slots_[hole] = slots_[next];
        hole = next;
    }
    slots_[hole].bucket = kFree;
    --count_;
}

std::int64_t DuplicateFilter::memory_bytes() const {
    std::size_t bytes = slots_.capacity() * sizeof(Slot) + buckets_.capacity() * sizeof(Bucket);
    for (const Bucket& bucket : buckets_) bytes += bucket.words.capacity() * sizeof(std::uint64_t);
    return static_cast<std::int64_t>(bytes);
}

Batch DuplicateFilter::snapshot(std::int32_t owner) const {
    std::vector<Record> records;
    std::size_t size = 0;
    for (const auto& [first_ms, index] : by_time_) {
        const Bucket& bucket = buckets_[index];
        for (std::size_t at = 0; at < bucket.words.size();) {
            const Record next = record(bucket, at);
            at = next.next;
            // A record that was replaced had been passed by the watermark, so each key is here once.
            if (!remembered(next.event_time_ms)) continue;
            if (owner != kAllOwners && next.owner != owner) continue;
            records.push_back(next);
            size += next.key.size();
        }
    }
    if (size > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) throw std::bad_alloc();
    std::sort(records.begin(), records.end(), [](const Record& a, const Record& b) {
        return a.event_time_ms != b.event_time_ms ? a.event_time_ms < b.event_time_ms : a.key < b.key;
    });

    Array<char> bytes;
    Array<std::int32_t> offsets;
    Array<std::int64_t> times;
    bytes.reserve(size);
    offsets.reserve(records.size() + 1);
    times.reserve(records.size());
    Array<std::int32_t> owners;
    owners.reserve(records.size());
    offsets.push_back(0);
    for (const Record& each : records) {
        bytes.append(each.key.data(), each.key.size());
        offsets.push_back(static_cast<std::int32_t>(bytes.size()));
        times.push_back(each.event_time_ms);
        owners.push_back(each.owner);
    }

    Batch batch;
    batch.rows = static_cast<std::int64_t>(records.size());
    batch.origin = std::make_shared<Origin>();
    batch.columns.resize(3);
    Column& key = batch.columns[0];
    key.name = "key";
    key.type = Type::binary;
    key.length = batch.rows;
    key.values = bytes.finish();
    key.offsets = offsets.finish();
    Column& time = batch.columns[1];
    time.name = "event_time_ms";
    time.type = Type::int64;
    time.length = batch.rows;
    time.values = times.finish();
    Column& owned = batch.columns[2];
    owned.name = "owner";
    owned.type = Type::int32;
    owned.length = batch.rows;
    owned.values = owners.finish();
    return batch;
}

namespace {

Status check_columns(const Batch& batch) {
    const Column* const key = batch.find("key");
    const Column* const time = batch.find("event_time_ms");
    const Column* const owners = batch.find("owner");
    if (key != nullptr && key->type == Type::binary && time != nullptr && time->type == Type::int64 &&
        owners != nullptr && owners->type == Type::int32)
        return {};
    return {
        Code::state,
        "a snapshot of duplicates needs the columns key (binary), event_time_ms (int64) and owner (int32)"};
}

}  // namespace

// The rows of `from` as `to`'s; kAllOwners: every row as its own owner's.
Status DuplicateFilter::add(const Batch& batch, std::int32_t from, std::int32_t to) {
    const Column* const key = batch.find("key");
    const Column* const time = batch.find("event_time_ms");
    const Column* const owners = batch.find("owner");
    for (std::int64_t row = 0; row < batch.rows; ++row) {
        const bool whole = key->valid(row) && time->valid(row) && owners->valid(row);
        const std::int32_t owner = whole ? owners->lanes<std::int32_t>()[row] : 0;
        if (whole && from != kAllOwners && owner != from) continue;
        const std::string_view text = whole ? key->text(row) : std::string_view();
        if (whole && (!seen(text, hash(text), time->lanes<std::int64_t>()[row], Watermark::kNone,
                            from == kAllOwners ? owner : to) ||
                      from != kAllOwners))
            continue;
        return {Code::state,
                "the snapshot of duplicates has a null or a repeated key in row " + std::to_string(row)};
    }
    return {};
}

Status DuplicateFilter::restore(const Batch& batch) {
    const Status whole = check_columns(batch);
    if (!whole.ok()) return whole;
    clear();
    const Status added = add(batch, kAllOwners, 0);
    if (!added.ok()) clear();
    return added;
}

Status DuplicateFilter::take(const Batch& batch, std::int32_t from, std::int32_t to,
                             std::int64_t watermark_ms) {
    const Status whole = check_columns(batch);
    if (!whole.ok()) return whole;
    watermark_ms_ = std::min(watermark_ms_, watermark_ms);
    return add(batch, from, to);
}

void DuplicateFilter::drop(std::int32_t owner) {
    const std::vector<Bucket> before = std::move(buckets_);
    const std::map<std::int64_t, std::uint32_t> by_time = std::move(by_time_);
    const std::int64_t watermark_ms = watermark_ms_;
    clear();
    watermark_ms_ = watermark_ms;
    for (const auto& [first_ms, index] : by_time) {
        for (std::size_t at = 0; at < before[index].words.size();) {
            const Record next = record(before[index], at);
            at = next.next;
            if (next.owner != owner)
                seen(next.key, hash(next.key), next.event_time_ms, watermark_ms, next.owner);
        }
    }
}

}  // namespace omnistream
