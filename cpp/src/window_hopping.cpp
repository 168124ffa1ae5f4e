// Hopping windows: slices as long as the greatest common divisor of size and hop, shared by the windows that
// overlap. A row is added once, to its slice; a window that closes, or is told early, merges its slices.
#include <algorithm>

#include "window_impl.hpp"

namespace omnistream {

// Windows are numbered by their start: the window k starts at offset + k * hop.
std::int64_t Window::Impl::first_hop_over(std::int64_t slice_index) const {
    return static_cast<std::int64_t>(
               floor_divide(static_cast<Wide>(slice_index) - slices_per_window_, slices_per_hop_)) +
           1;
}

// The first window that is not final at this watermark.
std::int64_t Window::Impl::first_hop_open(std::int64_t watermark_ms) const {
    const Wide start = static_cast<Wide>(watermark_ms) - spec.allowed_lateness_ms - spec.size_ms;
    return saturate(floor_divide(start - spec.offset_ms, spec.hop_ms) + 1);
}

Status Window::Impl::close_hopping(std::int64_t watermark_ms, std::vector<std::shared_ptr<Batch>>* closed) {
    std::int64_t window = first_hop_open(closed_ms_);
    const std::int64_t open_from = first_hop_open(watermark_ms);
    while (!open_.empty()) {
        window = std::max(window, first_hop_over(open_.begin()->first));
        if (window >= open_from) break;
        const std::int64_t begin = window * slices_per_hop_;
        const auto first = open_.lower_bound(begin);
        const auto past = open_.lower_bound(begin + slices_per_window_);
        if (first != past) {
            const Interval interval = interval_of(begin);
            Slice* whole = first->second.get();
            std::unique_ptr<Slice> merged;
            if (early() || std::next(first) != past || has_closed(*whole, interval.final_ms)) {
                OMNI_RETURN_NOT_OK(merge_window(window, &merged));
                whole = merged.get();
            }
            if (whole->groups.size() != 0)
                closed->push_back(write(whole, interval.start_ms, hop_end_ms(window)));
        }
        ++window;
        open_.erase(open_.begin(), open_.lower_bound(window * slices_per_hop_));
    }
    told_.erase(told_.begin(), told_.lower_bound(open_from));
    return {};
}

// The slices of a window as one, with what has been told of it.
Status Window::Impl::merge_window(std::int64_t window, std::unique_ptr<Slice>* whole) {
    const std::int64_t begin = window * slices_per_hop_;
    const Interval interval = interval_of(begin);
    *whole = make_slice(interval);
    const auto past = open_.lower_bound(begin + slices_per_window_);
    for (auto at = open_.lower_bound(begin); at != past; ++at)
        OMNI_RETURN_NOT_OK(absorb(whole->get(), *at->second, interval.final_ms));
    const auto told = told_.find(window);
    return told == told_.end() ? Status() : absorb(whole->get(), *told->second, interval.final_ms);
}

// ---- Early results

Status Window::Impl::tell_hopping(std::int64_t watermark_ms, std::vector<std::shared_ptr<Batch>>* told) {
    std::int64_t window = first_hop_open(watermark_ms);
    while (true) {
        const auto next = open_.lower_bound(window * slices_per_hop_);
        if (next == open_.end()) break;
        window = std::max(window, first_hop_over(next->first));
        const auto past = open_.lower_bound(window * slices_per_hop_ + slices_per_window_);
        if (std::any_of(next, past, [](const auto& each) { return each.second->changed; })) {
            std::unique_ptr<Slice> whole;
            OMNI_RETURN_NOT_OK(merge_window(window, &whole));
            std::shared_ptr<Batch> changed =
                write(whole.get(), whole->start_ms, hop_end_ms(window), Told::what_changed);
            if (changed->rows != 0) told->push_back(std::move(changed));
            keep_told_alone(whole.get());
            told_[window] = std::move(whole);
        }
        ++window;
    }
    for (const auto& [index, slice] : open_) slice->changed = false;
    return {};
}

// Each group becomes one that holds no values, so that it adds none to those that it is merged with.
void Window::Impl::keep_told_alone(Slice* slice) const {
    for (std::size_t number = 0; number < slice->groups.size(); ++number) {
        std::uint64_t* words = slice->groups.row(number);
        const std::uint64_t rows = words[told_word_];
        const std::uint64_t revision = words[revision_word_];
        std::copy(fresh_.begin(), fresh_.end(), words + key_width_);
        words[told_word_] = rows;
        words[revision_word_] = revision;
    }
    slice->items = no_items();
}

}  // namespace omnistream
