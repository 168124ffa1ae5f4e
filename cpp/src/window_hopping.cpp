// Hopping windows: slices as long as the greatest common divisor of size and hop, shared by the windows that
// overlap. A row is added once, to its slice; a window that closes merges its slices.
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
        if (window >= open_from) return {};
        const std::int64_t begin = window * slices_per_hop_;
        const auto first = open_.lower_bound(begin);
        const auto past = open_.lower_bound(begin + slices_per_window_);
        if (first != past) {
            const Wide start = static_cast<Wide>(window) * spec.hop_ms + spec.offset_ms;
            Slice* whole = first->second.get();
            std::unique_ptr<Slice> merged;
            const std::int64_t final_ms = saturate(start + spec.size_ms + spec.allowed_lateness_ms);
            if (std::next(first) != past || has_closed(*whole, final_ms)) {
                merged = make_slice(interval_of(begin));
                for (auto at = first; at != past; ++at)
                    OMNI_RETURN_NOT_OK(absorb(merged.get(), *at->second, final_ms));
                whole = merged.get();
            }
            if (whole->groups.size() != 0)
                closed->push_back(write(whole, saturate(start), saturate(start + spec.size_ms)));
        }
        ++window;
        open_.erase(open_.begin(), open_.lower_bound(window * slices_per_hop_));
    }
    return {};
}

}  // namespace omnistream
