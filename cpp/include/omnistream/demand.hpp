// derive: daily demand per key over a rolling horizon, as exact integer moments.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "omnistream/batch.hpp"
#include "omnistream/status.hpp"

namespace omnistream {

struct DemandSpec {
    std::int32_t horizon_days = 28;
    std::vector<std::string> keys;  // key columns of the daily window that feeds this
    std::string demand;             // its measure: int64 or decimal
    double z = 1.645;
    double lead_time_days = 7;
};

// Consumes closed one-day windows in order. The demand of a day on which a key is absent is zero, and so is a
// null. A key's statistics cover the last n = min(horizon, days since its first demand, both ends counted)
// days:
//   mean = sum d / n,  std = sqrt((n sum d^2 - (sum d)^2) / (n (n - 1))), 0 when n < 2,
//   safety_stock = z * std * sqrt(lead_time_days).
// A key whose last horizon_days were all zero is forgotten, after its statistics of that day; if it comes
// back, its first demand is the day on which it does.
class Demand {
public:
    Demand(DemandSpec spec, std::vector<Type> key_types, Type demand_type);
    ~Demand();
    Demand(const Demand&) = delete;
    Demand& operator=(const Demand&) = delete;

    // Whether such statistics can be computed; if not, push, current and restore say the same.
    [[nodiscard]] Status validate() const;
    // One closed day (columns window_start, window_end, keys, demand; strings as utf8). Days are whole days
    // apart, and a key's come in ascending order; else that is a Status state error. Only once a take() has
    // brought a partition that was behind, days come again, with its keys; a key that has such a day already
    // gets the sum. A batch with no rows changes nothing. The statistics of the keys that had a row on that
    // day, in the order of the input: columns day (timestamp), keys, days (int32), demand (the lane of the
    // day), mean, std, safety_stock (float64).
    Status push(const Batch& day, std::shared_ptr<Batch>* changed);
    // The statistics of all keys as of the last day pushed, ordered by key; `demand` is that day's.
    Status current(std::shared_ptr<Batch>* all) const;
    // Those of the keys that had no row on that day: what a sink that kept every push() still lacks.
    Status without_row(std::shared_ptr<Batch>* some) const;
    [[nodiscard]] std::shared_ptr<Batch> empty_result() const;

    [[nodiscard]] std::int64_t keys() const;
    [[nodiscard]] std::int64_t memory_bytes() const;
    // The keys of all owners or of one: their owner, how long they are known and silent, their values, and
    // their demands, the newest first. Row 0 is no key: it holds the last day alone.
    [[nodiscard]] std::shared_ptr<Batch> snapshot(std::int32_t owner = kAllOwners) const;
    Status restore(const Batch& batch);
    // A key belongs to the partition that owned its first demand. drop() forgets the keys of one owner;
    // take() adds those that `from` owned in a snapshot of another process, as `to`'s.
    Status drop(std::int32_t owner);
    Status take(const Batch& batch, std::int32_t from, std::int32_t to);

private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace omnistream
