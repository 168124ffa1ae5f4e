#include "omnistream/watermark.hpp"

namespace omnistream {

std::int32_t Watermark::slot(const std::string& source, std::int32_t partition) {
    const auto next = static_cast<std::int32_t>(partitions_.size());
    const auto [found, added] = slots_.try_emplace({source, partition}, next);
    // Idle: it holds nothing back before its first row.
    if (added) partitions_.push_back({source, partition, kNone, true});
    return found->second;
}

void Watermark::declare(const std::string& source, std::int32_t partition) {
    Partition& declared = partitions_[slot(source, partition)];
    if (declared.max_event_time_ms != kNone) return;
    declared.idle = false;
    minimum_ = kNone;
}

void Watermark::observe(std::int32_t slot, std::int64_t event_time_ms) {
    Partition& seen = partitions_[slot];
    max_event_time_ms_ = std::max(max_event_time_ms_, event_time_ms);
    const std::int64_t before = seen.max_event_time_ms;
    const bool joins = seen.idle;
    seen.idle = false;
    seen.max_event_time_ms = std::max(before, event_time_ms);
    // The minimum moves only when the partition that was the minimum does.
    if (joins || (before == minimum_ && event_time_ms > before)) refresh();
}

Watermark::Run Watermark::begin(std::int32_t slot) const {
    Run run;
    run.newest_ = partitions_[slot].max_event_time_ms;
    run.others_ = kEnd;
    for (const Partition& other : partitions_)
        if (!other.idle && &other != &partitions_[slot])
            run.others_ = std::min(run.others_, other.max_event_time_ms);
    run.value_ = value_;
    run.max_disorder_ms_ = max_disorder_ms_;
    return run;
}

namespace {

// In four chains, as each step waits for the one before.
template <class TimeOf>
std::int64_t newest_of(std::size_t count, TimeOf time_of) {
    std::int64_t newest[4] = {Watermark::kNone, Watermark::kNone, Watermark::kNone, Watermark::kNone};
    std::size_t i = 0;
    for (; i + 4 <= count; i += 4)
        for (std::size_t chain = 0; chain < 4; ++chain)
            newest[chain] = std::max(newest[chain], time_of(i + chain));
    for (; i < count; ++i) newest[0] = std::max(newest[0], time_of(i));
    return std::max(std::max(newest[0], newest[1]), std::max(newest[2], newest[3]));
}

}  // namespace

void Watermark::Run::observe(const std::int64_t* times_ms, const std::int32_t* rows, std::size_t count) {
    if (count == 0) return;
    observe(rows == nullptr ? newest_of(count, [=](std::size_t i) { return times_ms[i]; })
                            : newest_of(count, [=](std::size_t i) { return times_ms[rows[i]]; }));
}

void Watermark::Run::meet(const std::int64_t* times_ms, const std::int32_t* rows, std::size_t count,
                          std::int64_t* met_ms) {
    Run local = *this;
    for (std::size_t i = 0; i < count; ++i) {
        met_ms[i] = local.value();
        local.observe(times_ms[rows == nullptr ? i : static_cast<std::size_t>(rows[i])]);
    }
    *this = local;
}

void Watermark::end(std::int32_t slot, const Run& run) {
    partitions_[slot].max_event_time_ms = run.newest_;
    partitions_[slot].idle = false;
    max_event_time_ms_ = std::max(max_event_time_ms_, run.newest_);
    minimum_ = std::min(run.newest_, run.others_);
    value_ = run.value_;
}

void Watermark::set_idle(std::int32_t slot) {
    partitions_[slot].idle = true;
    refresh();
}

void Watermark::advance(std::int64_t value_ms) {
    value_ = std::max(value_, value_ms);
}

void Watermark::refresh() {
    minimum_ = kEnd;
    bool any = false;
    for (const Partition& partition : partitions_) {
        if (partition.idle) continue;
        any = true;
        minimum_ = std::min(minimum_, partition.max_event_time_ms);
    }
    if (any) value_ = std::max(value_, lagged(minimum_, max_disorder_ms_));
}

void Watermark::drop(std::int32_t slot) {
    partitions_[slot].max_event_time_ms = kNone;
    partitions_[slot].idle = true;
    refresh();
}

std::int32_t Watermark::take(const Partition& partition, std::int64_t value_ms) {
    const std::int32_t taken = slot(partition.source, partition.partition);
    Partition& ours = partitions_[taken];
    ours.max_event_time_ms = std::max(ours.max_event_time_ms, partition.max_event_time_ms);
    ours.idle = partition.idle;
    max_event_time_ms_ = std::max(max_event_time_ms_, partition.max_event_time_ms);
    value_ = std::min(value_, value_ms);
    refresh();
    return taken;
}

void Watermark::restore(std::vector<Partition> partitions, std::int64_t value_ms,
                        std::int64_t max_event_time_ms) {
    partitions_ = std::move(partitions);
    slots_.clear();
    minimum_ = kEnd;
    for (std::size_t i = 0; i < partitions_.size(); ++i) {
        const Partition& partition = partitions_[i];
        slots_[{partition.source, partition.partition}] = static_cast<std::int32_t>(i);
        if (!partition.idle) minimum_ = std::min(minimum_, partition.max_event_time_ms);
    }
    value_ = value_ms;
    max_event_time_ms_ = max_event_time_ms;
}

}  // namespace omnistream
