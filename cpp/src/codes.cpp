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
    const std::size_t known = codes_.size();
    const auto size = static_cast<std::size_t>(dictionary.size());
    if (known == size) return ranks_;

    std::vector<std::pair<std::uint64_t, std::int32_t>> added;
    added.reserve(size - known);
    for (std::size_t code = known; code < size; ++code) {
        const auto at = static_cast<std::int32_t>(code);
        added.emplace_back(prefix_of(dictionary.value(at)), at);
    }
    std::sort(added.begin(), added.end(), [&dictionary](const auto& a, const auto& b) {
        if (a.first != b.first) return a.first < b.first;
        return dictionary.value(a.second) < dictionary.value(b.second);
    });

    // Few are new among many, so their places are searched for, and what lies between is moved unread.
    std::vector<std::int32_t> merged;
    merged.reserve(size);
    auto rest = codes_.cbegin();
    for (const auto& [prefix, code] : added) {
        const auto place =
            std::lower_bound(rest, codes_.cend(), code, [&dictionary](std::int32_t a, std::int32_t b) {
                return dictionary.value(a) < dictionary.value(b);
            });
        merged.insert(merged.end(), rest, place);
        merged.push_back(code);
        rest = place;
    }
    merged.insert(merged.end(), rest, codes_.cend());
    codes_ = std::move(merged);
    ranks_.resize(size);
    for (std::size_t rank = 0; rank < size; ++rank)
        ranks_[static_cast<std::size_t>(codes_[rank])] = static_cast<std::int32_t>(rank);
    return ranks_;
}

std::int64_t ByteOrder::memory_bytes() const {
    return static_cast<std::int64_t>((codes_.capacity() + ranks_.capacity()) * sizeof(std::int32_t));
}

}  // namespace omnistream
