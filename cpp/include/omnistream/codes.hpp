// Codes of strings that stay comparable from batch to batch, and their order.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "omnistream/dictionary.hpp"

namespace omnistream {

// One numbering for a dictionary column whose batches may bring different dictionaries. As long as there is
// one dictionary, its codes are taken as they are. When a second one comes, the first is copied into a
// dictionary of our own with the same codes, so that nothing stored changes, and from then on the codes of
// every batch are translated through their strings.
class Codes {
public:
    // The dictionary of the next batch; null when the batch holds no value.
    void meet(const std::shared_ptr<const Dictionary>& batch);
    // By code of the batch met last: its code here. Null when they are the same.
    [[nodiscard]] const std::int32_t* translation() const { return translated_; }
    [[nodiscard]] const Dictionary& dictionary() const { return *home_; }
    // A dictionary of our own to add strings to.
    Dictionary& own();
    // What the shared dictionary takes is its owner's.
    [[nodiscard]] std::int64_t memory_bytes() const;

private:
    std::shared_ptr<const Dictionary> home_ = std::make_shared<const Dictionary>();
    std::shared_ptr<Dictionary> own_;
    bool met_any_ = false;
    std::shared_ptr<const Dictionary> foreign_;  // held, so that its address stays its name
    std::vector<std::int32_t> foreign_codes_;
    const std::int32_t* translated_ = nullptr;
};

// The rank of each code of a dictionary among its strings, ordered by bytes. A dictionary only grows, so only
// what is new is sorted, and then merged.
class ByteOrder {
public:
    const std::vector<std::int32_t>& ranks(const Dictionary& dictionary);
    [[nodiscard]] std::int64_t memory_bytes() const;

private:
    struct Place {
        std::uint64_t prefix;  // decides most comparisons
        std::int32_t code;
    };

    std::vector<Place> places_;        // by rank
    std::vector<std::int32_t> ranks_;  // by code
};

}  // namespace omnistream
