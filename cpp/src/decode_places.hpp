// Where the messages of an indexed text are, and which of its quotes are theirs.
//
// Included by decode_<isa>.cpp after its simd_<isa>.hpp.
#pragma once

#include "decode_index.hpp"

namespace omnistream::OMNI_ISA {

// A message in an indexed text.
struct Place {
    std::uint32_t begin;
    std::uint32_t end;
    std::uint32_t first_quote;
    std::uint32_t last_quote;  // behind its own
    bool holds_feeds;          // which the index takes for the end of a line, not for a fault inside a string
};

// Messages side by side, so that what is asked of all of them is asked of many at once. Up to a vector more
// can be read.
struct Places {
    const std::uint32_t* begin = nullptr;
    const std::uint32_t* end = nullptr;
    const std::uint32_t* first_quote = nullptr;
    const std::uint32_t* last_quote = nullptr;
    const std::uint8_t* holds_feeds = nullptr;
    std::size_t size = 0;

    Place operator[](std::size_t i) const {
        return {begin[i], end[i], first_quote[i], last_quote[i], holds_feeds[i] != 0};
    }
    [[nodiscard]] Places first(std::size_t count) const {
        return {begin, end, first_quote, last_quote, holds_feeds, count};
    }
    [[nodiscard]] Places behind(std::size_t i) const {
        return {begin + i, end + i, first_quote + i, last_quote + i, holds_feeds + i, size - i};
    }
};

class PlaceList {
public:
    void clear() { resize(0); }
    void resize(std::size_t size) {
        begin_.resize(size);
        end_.resize(size);
        first_quote_.resize(size);
        last_quote_.resize(size);
        holds_feeds_.resize(size);
    }
    void set(std::size_t i, const Place& place) {
        begin_[i] = place.begin;
        end_[i] = place.end;
        first_quote_[i] = place.first_quote;
        last_quote_[i] = place.last_quote;
        holds_feeds_[i] = place.holds_feeds;
    }
    void push_back(const Place& place) {
        resize(size() + 1);
        set(size() - 1, place);
    }

    // Lines that follow each other, from the beginning of their text on.
    void assign_lines(const Array<QuoteIndex::Line>& lines) {
        const std::size_t count = lines.size();
        resize(count);
        if (count == 0) return;
        std::memset(holds_feeds_.data(), 0, count);
        const QuoteIndex::Line* const line = lines.data();
        std::uint32_t* const begin = begin_.data();
        std::uint32_t* const first_quote = first_quote_.data();
        std::uint32_t* const end = end_.data();
        std::uint32_t* const last_quote = last_quote_.data();
        begin[0] = first_quote[0] = 0;
        for (std::size_t i = 0; i + 1 < count; ++i) {
            begin[i + 1] = line[i].end + 1;
            first_quote[i + 1] = line[i].quotes;
        }
        for (std::size_t i = 0; i < count; ++i) {
            end[i] = line[i].end;
            last_quote[i] = line[i].quotes;
        }
    }
    // Lines that end in a carriage return and a line feed end before the return.
    void strip_returns(const char* text, std::size_t size) {
        for (std::size_t i = 0; i < this->size(); ++i)
            end_[i] -= end_[i] != size && end_[i] != begin_[i] && text[end_[i] - 1] == '\r';
    }

    [[nodiscard]] std::size_t size() const { return begin_.size(); }
    [[nodiscard]] Places all() const {
        return {begin_.data(),      end_.data(),         first_quote_.data(),
                last_quote_.data(), holds_feeds_.data(), size()};
    }

private:
    Array<std::uint32_t> begin_, end_, first_quote_, last_quote_;
    Array<std::uint8_t> holds_feeds_;
};

}  // namespace omnistream::OMNI_ISA
