// Whose state a group is: the partition's whose row made it. So a partition can move to another process with
// what it brought, and as long as none moves there is one table, nothing to merge, and no cost a row.
#include <algorithm>
#include <cstring>

#include "window_impl.hpp"

namespace omnistream {

// The groups from number `first` on, if there are any, are `owner`'s.
void Window::Impl::own_from(Slice* slice, std::size_t first, std::int32_t owner) {
    if (slice->groups.size() == first) return;
    if (slice->owners.empty() || slice->owners.back().owner != owner)
        slice->owners.push_back({static_cast<std::uint32_t>(first), owner});
}

// By group.
std::vector<std::int32_t> Window::Impl::owners_of(const Slice& slice) {
    return owners_of(slice.owners, slice.groups.size());
}

std::vector<std::int32_t> Window::Impl::owners_of(const std::vector<OwnerRun>& runs, std::size_t groups) {
    std::vector<std::int32_t> owners(groups);
    for (std::size_t run = 0; run < runs.size(); ++run) {
        const std::size_t end = run + 1 < runs.size() ? runs[run + 1].first : groups;
        std::fill(owners.data() + runs[run].first, owners.data() + end, runs[run].owner);
    }
    return owners;
}

// ---- Owners that are ahead of the others

// Up to which watermark the windows of an owner are closed.
std::int64_t Window::Impl::closed_ms_of(std::int32_t owner) const {
    const auto found = floors_ms_.find(owner);
    return std::max(closed_ms_, found == floors_ms_.end() ? floor_ms_ : found->second);
}

// Whether some owner of a group in the slice has closed what is final at `final_ms`.
bool Window::Impl::has_closed(const Slice& slice, std::int64_t final_ms) const {
    if (floors_ms_.empty() && floor_ms_ == kLeast) return false;
    return std::any_of(slice.owners.begin(), slice.owners.end(),
                       [&](const OwnerRun& run) { return closed_ms_of(run.owner) >= final_ms; });
}

void Window::Impl::join_owner(std::int32_t owner, std::int64_t closed_ms) {
    if (closed_ms < closed_ms_) {
        for (auto& [other, floor_ms] : floors_ms_) floor_ms = std::max(floor_ms, closed_ms_);
        floor_ms_ = std::max(floor_ms_, closed_ms_);
        closed_ms_ = closed_ms;
    }
    next_step_ms_ = next_step_ms(closed_ms_);
    floors_ms_[owner] = closed_ms;
}

void Window::Impl::forget_floors() {
    if (floors_ms_.empty() || floor_ms_ > closed_ms_) return;
    const auto passed = [this](const auto& each) { return each.second <= closed_ms_; };
    if (!std::all_of(floors_ms_.begin(), floors_ms_.end(), passed)) return;
    floors_ms_.clear();
    floor_ms_ = kLeast;
}

// ---- A partition goes

Status Window::Impl::drop(std::int32_t owner) {
    OMNI_RETURN_NOT_OK(valid_);
    OMNI_RETURN_NOT_OK(failed_);
    for (auto* slices : {&open_, &told_})
        for (auto at = slices->begin(); at != slices->end();) {
            const std::vector<OwnerRun>& owners = at->second->owners;
            const auto is = [owner](const OwnerRun& run) { return run.owner == owner; };
            if (std::any_of(owners.begin(), owners.end(), is)) at->second = without(at->second.get(), owner);
            at = at->second->groups.size() == 0 ? slices->erase(at) : std::next(at);
        }
    if (in_sessions()) drop_sessions(owner);
    forget_near();
    return {};
}

// The slice anew, without the groups of one owner. Takes its texts over.
std::unique_ptr<Window::Impl::Slice> Window::Impl::without(Slice* slice, std::int32_t owner) const {
    constexpr std::uint32_t kGone = ~std::uint32_t{0};
    auto rest = make_slice({slice->start_ms, slice->end_ms, slice->final_ms});
    rest->key_texts = std::move(slice->key_texts);
    const std::vector<std::int32_t> owners = owners_of(*slice);
    std::vector<std::uint32_t> moved(owners.size(), kGone);
    const std::size_t row_words = key_width_ + fresh_.size();
    for (std::size_t number = 0; number < owners.size(); ++number) {
        if (owners[number] == owner) continue;
        const std::uint64_t* words = slice->groups.row(number);
        const std::size_t known = rest->groups.size();
        rest->groups.find_or_insert(words, 1, &moved[number]);
        std::memcpy(rest->groups.row(moved[number]), words, row_words * sizeof(std::uint64_t));
        own_from(rest.get(), known, owners[number]);
    }
    for (std::size_t i = 0; i < items_.size(); ++i) {
        const ItemColumn& column = items_[i];
        ItemSet& set = slice->items[i];
        rest->items[i].texts = std::move(set.texts);
        for (std::size_t number = 0; number < set.rows.size(); ++number) {
            const std::uint64_t* item = set.rows.row(number);
            const std::uint32_t group = moved[column.group_of(item)];
            if (group == kGone) continue;
            // Items are counted as they come; no two of one slice are to be added up.
            rest->groups.row(group)[accumulators_[column.accumulator].word] = 0;
        }
        for (std::size_t number = 0; number < set.rows.size(); ++number) {
            const std::uint64_t* item = set.rows.row(number);
            const std::uint32_t group = moved[column.group_of(item)];
            if (group != kGone) static_cast<void>(copy_item(set, item, rest.get(), i, group));
        }
    }
    return rest;
}

}  // namespace omnistream
