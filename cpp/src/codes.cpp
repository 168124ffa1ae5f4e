#include "omnistream/codes.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>
#include <utility>

namespace omnistream {

void Codes::meet(const std::shared_ptr<const Dictionary>& batch) {
    if (batch == nullptr) return;
    translated_ = nullptr;
    if (!met_any_ && own_ == nullptr) {
        met_any_ = true;
        home_ = batch;
    }
    if (batch == home_) return;
    Dictionary& mine = own();
    if (batch != foreign_) {
        foreign_ = batch;
        foreign_codes_.clear();
    }
    for (auto code = static_cast<std::int32_t>(foreign_codes_.size()); code < batch->size(); ++code)
        foreign_codes_.push_back(mine.encode(batch->value(code)));
    translated_ = foreign_codes_.data();
}

Dictionary& Codes::own() {
    if (own_ == nullptr) {
        own_ = std::make_shared<Dictionary>();
        for (std::int32_t code = 0; code < home_->size(); ++code) own_->encode(home_->value(code));
        home_ = own_;
    }
    return *own_;
}

std::int64_t Codes::memory_bytes() const {
    return static_cast<std::int64_t>(foreign_codes_.capacity() * sizeof(std::int32_t)) +
           (own_ == nullptr ? 0 : own_->memory_bytes());
}

namespace {

// The first bytes as a number: most comparisons need no more than this.
std::uint64_t prefix_of(std::string_view text) {
    std::uint64_t prefix = 0;
    if (!text.empty()) std::memcpy(&prefix, text.data(), std::min(text.size(), sizeof prefix));
    return std::endian::native == std::endian::little ? __builtin_bswap64(prefix) : prefix;
}

}  // namespace

const std::vector<std::int32_t>& ByteOrder::ranks(const Dictionary& dictionary) {
    const std::size_t known = places_.size();
    const auto size = static_cast<std::size_t>(dictionary.size());
    if (known == size) return ranks_;
    const auto before = [&dictionary](const Place& a, const Place& b) {
        return a.prefix != b.prefix ? a.prefix < b.prefix
                                    : dictionary.value(a.code) < dictionary.value(b.code);
    };

    std::vector<Place> added;
    added.reserve(size - known);
    for (std::size_t code = known; code < size; ++code) {
        const auto at = static_cast<std::int32_t>(code);
        added.push_back({prefix_of(dictionary.value(at)), at});
    }
    std::sort(added.begin(), added.end(), before);

    // From the last one down, in place: few are new among many, so their places are searched for, and what
    // lies behind each is moved unread. What stands before the first keeps its rank.
    places_.resize(size);
    std::size_t rest = known;  // the first `rest` places are where they were
    for (std::size_t left = added.size(); left > 0; --left) {
        const auto place = std::upper_bound(
            places_.begin(), places_.begin() + static_cast<std::ptrdiff_t>(rest), added[left - 1], before);
        const auto at = static_cast<std::size_t>(place - places_.begin());
        std::move_backward(place, places_.begin() + static_cast<std::ptrdiff_t>(rest),
                           places_.begin() + static_cast<std::ptrdiff_t>(rest + left));
        places_[at + left - 1] = added[left - 1];
        rest = at;
    }
    ranks_.resize(size);
    for (std::size_t rank = rest; rank < size; ++rank)
        ranks_[static_cast<std::size_t>(places_[rank].code)] = static_cast<std::int32_t>(rank);
    return ranks_;
}

std::int64_t ByteOrder::memory_bytes() const {
    return static_cast<std::int64_t>(places_.capacity() * sizeof(Place) +
                                     ranks_.capacity() * sizeof(std::int32_t));
}

}  // namespace omnistream
