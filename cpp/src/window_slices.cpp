// The slices of event time that are open: how a time finds its own, when they close, and what they hold.
#include <algorithm>
#include <utility>

#include "window_impl.hpp"

namespace omnistream {

// Offset is in [0, size), so the index always fits.
std::int64_t Window::Impl::index_of(std::int64_t time_ms) const {
    if (spec.kind == WindowKind::global) return 0;
    if (spec.kind == WindowKind::calendar) return calendar_.index_of(time_ms);
    return static_cast<std::int64_t>(floor_divide(static_cast<Wide>(time_ms) - spec.offset_ms, slice_ms_));
}

Window::Impl::Interval Window::Impl::interval_of(std::int64_t index) const {
    if (spec.kind == WindowKind::global) return {kLeast, kMost, kMost};
    if (spec.kind == WindowKind::calendar) {
        const std::int64_t end_ms = calendar_.start_ms(index + 1);
        return {calendar_.start_ms(index), end_ms,
                saturate(static_cast<Wide>(end_ms) + spec.allowed_lateness_ms)};
    }
    const Wide start = static_cast<Wide>(index) * slice_ms_ + spec.offset_ms;
    Wide end = start + slice_ms_;
    if (spec.kind == WindowKind::hopping)
        end = floor_divide(index, slices_per_hop_) * spec.hop_ms + spec.offset_ms + spec.size_ms;
    const std::int64_t final_ms = saturate(static_cast<Wide>(saturate(end)) + spec.allowed_lateness_ms);
    return {saturate(start), saturate(start + slice_ms_), final_ms};
}

// Null when finding it takes a search, or it is closed.
Window::Impl::Slice* Window::Impl::slice_near(std::int64_t time_ms, std::int64_t watermark_ms) {
    const std::uint64_t since = static_cast<std::uint64_t>(time_ms) - near_start_ms_;
    if (since < near_span_ms_) {
        const std::int64_t ahead = static_cast<std::int64_t>(since) / slice_ms_;
        if (near_[ahead] == nullptr) near_[ahead] = find_or_open(near_index_ + ahead, watermark_ms);
        return near_[ahead];
    }
    const bool holds = recent_ != nullptr && time_ms >= recent_->start_ms && time_ms < recent_->end_ms;
    return holds ? recent_ : nullptr;
}

Window::Impl::Slice* Window::Impl::find_far(std::int64_t time_ms, std::int64_t watermark_ms) {
    const bool searched = spec.kind == WindowKind::calendar || spec.kind == WindowKind::global;
    if (searched && recent_ != nullptr && time_ms >= recent_->start_ms && time_ms < recent_->end_ms)
        return recent_;
    const std::int64_t index = index_of(time_ms);
    Slice* slice = find_or_open(index, watermark_ms);
    if (searched) {
        if (slice != nullptr) recent_ = slice;
        return slice;
    }
    if (++near_misses_ == kMissesToMove) move_near(index);
    return slice;
}

// Null when the slice is not open and its last window already final.
Window::Impl::Slice* Window::Impl::find_or_open(std::int64_t index, std::int64_t watermark_ms) {
    const auto found = open_.find(index);
    if (found != open_.end()) return found->second.get();
    const Interval interval = interval_of(index);
    if (interval.final_ms <= watermark_ms) return nullptr;
    return open_.emplace(index, make_slice(interval)).first->second.get();
}

std::unique_ptr<Window::Impl::Slice> Window::Impl::make_slice(const Interval& interval) const {
    auto slice = std::make_unique<Slice>(GroupTable(key_width_, fresh_));
    slice->start_ms = interval.start_ms;
    slice->end_ms = interval.end_ms;
    slice->final_ms = interval.final_ms;
    set_up(slice.get());
    if (open_.size() < kFewOpen) slice->groups.expect(groups_expected_);
    return slice;
}

void Window::Impl::set_up(Slice* slice) const {
    for (const Key& key : keys_)
        slice->key_texts.push_back(key.type == Type::string ? std::make_unique<Dictionary>() : nullptr);
    slice->items = no_items();
}

std::vector<Window::Impl::ItemSet> Window::Impl::no_items() const {
    std::vector<ItemSet> sets;
    for (const ItemColumn& items : items_)
        sets.push_back({GroupTable(items.key_words(), items.fresh(in_sessions())),
                        items.type == Type::string ? std::make_unique<Dictionary>() : nullptr});
    return sets;
}

void Window::Impl::move_near(std::int64_t index) {
    constexpr std::int64_t kMostTime = std::int64_t{1} << 61;  // so that differences cannot wrap around
    constexpr Wide kMostSpan = Wide{1} << 50;                  // see place()
    const Wide base = static_cast<Wide>(index) - kNearPast;
    const Wide start = base * slice_ms_ + spec.offset_ms;
    const Wide span = static_cast<Wide>(slice_ms_) * static_cast<std::int64_t>(kNear);
    near_span_ms_ = 0;
    near_misses_ = 0;
    if (start < -kMostTime || start > kMostTime || span > kMostSpan) return;
    near_index_ = static_cast<std::int64_t>(base);
    near_start_ms_ = static_cast<std::uint64_t>(static_cast<std::int64_t>(start));
    near_span_ms_ = static_cast<std::uint64_t>(span);
    std::fill(std::begin(near_), std::end(near_), nullptr);
    for (auto at = open_.lower_bound(near_index_); at != open_.end(); ++at) {
        if (at->first - near_index_ >= static_cast<std::int64_t>(kNear)) break;
        near_[at->first - near_index_] = at->second.get();
    }
}

// What near_ and recent_ point at is gone; near_ stays in place.
void Window::Impl::forget_near() {
    recent_ = nullptr;
    if (near_span_ms_ != 0) move_near(near_index_ + kNearPast);
}

// ---- advance: closed windows become batches

Status Window::Impl::advance(std::int64_t watermark_ms, std::vector<std::shared_ptr<Batch>>* closed) {
    OMNI_RETURN_NOT_OK(valid_);
    OMNI_RETURN_NOT_OK(failed_);
    closed->insert(closed->end(), stepped_.begin(), stepped_.end());
    stepped_.clear();
    return step(watermark_ms, closed);
}

Status Window::Impl::step(std::int64_t watermark_ms, std::vector<std::shared_ptr<Batch>>* closed) {
    const std::size_t slices = open_.size();
    const std::int64_t now_ms = std::max(closed_ms_, watermark_ms);
    const bool tells = early() && passes_early(now_ms);
    OMNI_RETURN_NOT_OK(spec.kind == WindowKind::hopping ? close_hopping(now_ms, closed)
                       : in_sessions()                  ? close_sessions(now_ms, closed)
                                                        : close_slices(now_ms, closed));
    if (open_.size() != slices) forget_near();
    if (tells && spec.kind == WindowKind::hopping) {
        OMNI_RETURN_NOT_OK(tell_hopping(now_ms, closed));
    } else if (tells && in_sessions()) {
        OMNI_RETURN_NOT_OK(tell_sessions(closed));
    } else if (tells) {
        for (const auto& [index, slice] : open_) {
            std::shared_ptr<Batch> changed =
                write(slice.get(), slice->start_ms, slice->end_ms, Told::what_changed);
            if (changed->rows != 0) closed->push_back(std::move(changed));
        }
    }
    closed_ms_ = now_ms;
    forget_floors();
    next_step_ms_ = next_step_ms(now_ms);
    return {};
}

// Whether a multiple of the interval of early results lies beyond closed_ms_ and not beyond this watermark.
bool Window::Impl::passes_early(std::int64_t watermark_ms) const {
    if (watermark_ms == kLeast || closed_ms_ == kMost) return false;
    if (closed_ms_ == kLeast) return true;
    return floor_divide(watermark_ms, spec.early_ms) > floor_divide(closed_ms_, spec.early_ms);
}

// The least watermark beyond this one that asks for a step.
std::int64_t Window::Impl::next_step_ms(std::int64_t watermark_ms) const {
    if (!steps()) return kMost;
    if (watermark_ms == kLeast || watermark_ms == kMost) return watermark_ms + (watermark_ms == kLeast);
    std::int64_t next_ms = kMost;
    if (early()) next_ms = saturate((floor_divide(watermark_ms, spec.early_ms) + 1) * spec.early_ms);
    if (spec.kind != WindowKind::hopping) return next_ms;
    const Wide start = static_cast<Wide>(first_hop_open(watermark_ms)) * spec.hop_ms + spec.offset_ms;
    return std::min(next_ms, saturate(start + spec.size_ms + spec.allowed_lateness_ms));
}

Status Window::Impl::close_slices(std::int64_t watermark_ms, std::vector<std::shared_ptr<Batch>>* closed) {
    while (!open_.empty() && open_.begin()->second->final_ms <= watermark_ms) {
        Slice* slice = open_.begin()->second.get();
        closed->push_back(write(slice, slice->start_ms, slice->end_ms));
        groups_expected_ = std::min(slice->groups.size(), kMostExpected);
        open_.erase(open_.begin());
    }
    return {};
}

// ---- What is held

std::int64_t Window::Impl::open_windows() const {
    if (in_sessions()) return groups();
    if (spec.kind != WindowKind::hopping) return static_cast<std::int64_t>(open_.size());
    std::int64_t windows = 0;
    std::int64_t next = first_hop_open(closed_ms_);
    for (const auto& [index, slice] : open_) {
        next = std::max(next, first_hop_over(index));
        const std::int64_t past = static_cast<std::int64_t>(floor_divide(index, slices_per_hop_)) + 1;
        windows += std::max(past - next, std::int64_t{0});
        next = std::max(next, past);
    }
    return windows;
}

std::int64_t Window::Impl::groups() const {
    if (in_sessions()) return static_cast<std::int64_t>(sessions_->slice.groups.size() - sessions_->dead);
    std::int64_t groups = 0;
    for (const auto& [index, slice] : open_) groups += static_cast<std::int64_t>(slice->groups.size());
    return groups;
}

std::int64_t Window::Impl::memory_bytes() const {
    std::size_t fixed = sizeof(Impl) + inputs_.capacity() * sizeof(Input) +
                        weighings_.capacity() * sizeof(Weighing) +
                        key_words_.capacity() * sizeof(std::uint64_t);
    for (const BoundCondition& condition : conditions_) fixed += condition.weights.capacity();
    auto bytes = static_cast<std::int64_t>(fixed);
    for (const auto& [name, codes] : codes_) bytes += codes.memory_bytes();
    for (const Key& key : keys_) bytes += key.byte_order.memory_bytes();
    const auto add = [&bytes](const Slice& slice) {
        bytes += static_cast<std::int64_t>(sizeof(Slice)) + slice.groups.memory_bytes();
        for (const auto& texts : slice.key_texts) bytes += texts == nullptr ? 0 : texts->memory_bytes();
        for (const ItemSet& set : slice.items)
            bytes += set.rows.memory_bytes() + (set.texts == nullptr ? 0 : set.texts->memory_bytes());
    };
    for (const auto& [index, slice] : open_) add(*slice);
    for (const auto& [window, slice] : told_) add(*slice);
    if (in_sessions()) {
        add(sessions_->slice);
        bytes +=
            sessions_->by_key.memory_bytes() +
            static_cast<std::int64_t>(sessions_->due.capacity() * sizeof sessions_->due[0] +
                                      sessions_->retractions.capacity() * sizeof sessions_->retractions[0]);
    }
    return bytes;
}

}  // namespace omnistream
