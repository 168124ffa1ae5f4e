// Where the quotes of a text are: one pass over all its bytes, so that nothing after it has to look for the
// end of a string, and no value has to wait for the one before it.
//
// Included by decode_<isa>.cpp after its simd_<isa>.hpp.
#pragma once

namespace omnistream::OMNI_ISA {

class QuoteIndex {
public:
    // A line: up to its line feed, or to the end of the text.
    struct Line {
        std::uint32_t end;
        std::uint32_t quotes;  // of the text before it
    };

    // Reads no byte but those of the text, which must be smaller than 4 GiB.
    void build(const char* text, std::size_t size) {
        text_ = text;
        size_ = static_cast<std::uint32_t>(size);
        quotes_.reserve(size + kBlock + 1);
        lines_.reserve(size + 1);
        odd_.assign(size / kBlock / 8 + sizeof(std::uint64_t) + 1, 0);
        Cursor cursor{quotes_.data(), lines_.data()};
        if (size != 0) {
            // The first and the last block are read from a copy: nothing in front of the text is.
            char edge[kBefore + kBlock];
            std::memset(edge, ' ', sizeof edge);
            std::memcpy(edge + kBefore, text, std::min(size, kBlock));
            block(edge + kBefore, 0, &cursor);
            std::size_t at = kBlock;
            for (; at + kBlock <= size; at += kBlock) {
                __builtin_prefetch(text + at + kPrefetch);
                block(text + at, at, &cursor);
            }
            if (at < size) {
                std::memset(edge, ' ', sizeof edge);
                std::memcpy(edge, text + at - kBefore, kBefore + size - at);
                block(edge + kBefore, at, &cursor);
            }
        }
        lines_.resize(static_cast<std::size_t>(cursor.line - lines_.data()));
        const auto count = static_cast<std::uint32_t>(cursor.quote - quotes_.data());
        if (lines_.empty() || lines_.back().end + 1 != size) lines_.push_back({size_, count});
        plain_ = cursor.plain;
        *cursor.quote = size_;  // whoever looks one too far
    }

    // Forgets the last line if no line feed ends it. What is left of the text, which may be nothing.
    std::size_t drop_open_line() {
        if (!lines_.empty() && lines_.back().end == size_) lines_.resize(lines_.size() - 1);
        return lines_.empty() ? 0 : lines_.back().end + std::size_t{1};
    }

    [[nodiscard]] const char* text() const { return text_; }
    // Offsets of all quotes that no backslash escapes, and one more.
    [[nodiscard]] const std::uint32_t* quotes() const { return quotes_.data(); }
    [[nodiscard]] std::size_t quote_count() const { return lines_.back().quotes; }
    // Where line feeds are, and the end of the text unless a line feed is its last byte.
    [[nodiscard]] const Array<Line>& lines() const { return lines_; }
    // Whether all of the text is plain.
    [[nodiscard]] bool plain() const { return plain_; }
    // Whether the bytes [begin, end) hold neither backslash nor control character, and are valid UTF-8 if
    // what stands at `end` is ASCII. May say no although it is so.
    [[nodiscard]] bool plain(std::size_t begin, std::size_t end) const {
        const std::size_t first = begin / kBlock;
        const std::size_t span = end / kBlock - first;
        if (span > kWidestSpan) return false;
        std::uint64_t bits;
        std::memcpy(&bits, odd_.data() + first / 8, sizeof bits);
        return (bits >> (first % 8) & ((std::uint64_t{2} << span) - 1)) == 0;
    }

private:
    static constexpr std::size_t kBlock = 64;
    static constexpr std::size_t kWidestSpan = 56;  // in blocks: what eight bytes hold behind any bit

    static constexpr std::size_t kBefore = 3;           // bytes of a character that ends in the next block
    static constexpr std::ptrdiff_t kPrefetch = 4'096;  // where the CPU's own look-ahead ends

    // Where quotes and lines are noted next, and what the next block must know of those before it. Copies of
    // it are local, so that the loop over blocks keeps it in registers.
    struct Cursor {
        std::uint32_t* quote;
        Line* line;
        std::uint64_t escaped = 0;  // whether its first byte is
        std::uint64_t open = 0;     // whether a character may end in it
        bool plain = true;
    };

    // kBlock bytes, behind kBefore others.
    [[gnu::always_inline]] void block(const char* p, std::size_t at, Cursor* cursor) {
        const Simd::Classes found = Simd::classify(p);
        const auto base = static_cast<std::uint32_t>(at);
        std::uint64_t quotes = found.quotes;
        if ((found.specials | found.backslashes | cursor->open | cursor->escaped) != 0) {
            if ((found.backslashes | cursor->escaped) != 0) quotes &= ~escapes(found.backslashes, cursor);
            auto before = static_cast<std::uint32_t>(cursor->quote - quotes_.data());
            std::uint64_t rest = quotes;
            for (std::uint64_t feeds = found.feeds; feeds != 0; feeds &= feeds - 1) {
                const std::uint64_t below = feeds ^ (feeds - 1);
                before += static_cast<std::uint32_t>(std::popcount(rest & below));
                rest &= ~below;
                *cursor->line++ = {base + static_cast<std::uint32_t>(std::countr_zero(feeds)), before};
            }
            const std::uint64_t specials = found.specials & ~found.feeds;
            if ((specials | found.backslashes | cursor->open) != 0 &&
                (found.backslashes != 0 || !Simd::is_text(p))) {
                odd_[at / kBlock / 8] |= static_cast<std::uint8_t>(1U << (at / kBlock % 8));
                cursor->plain = false;
            }
            cursor->open = specials >> (kBlock - kBefore);
        }
        cursor->quote = Simd::flatten(quotes, base, cursor->quote);
    }

    // The bytes that a backslash escapes. Backslashes are rare: one at a time.
    [[gnu::always_inline]] static std::uint64_t escapes(std::uint64_t backslashes, Cursor* cursor) {
        std::uint64_t out = cursor->escaped;
        std::uint64_t left = backslashes & ~out;
        cursor->escaped = 0;
        while (left != 0) {
            const std::uint64_t next = (left & (0 - left)) << 1;
            if (next == 0) {
                cursor->escaped = 1;
                break;
            }
            out |= next;
            left &= (left - 1) & ~next;
        }
        return out;
    }

    const char* text_ = nullptr;
    Array<std::uint32_t> quotes_;
    std::vector<std::uint8_t> odd_;  // a bit per block
    Array<Line> lines_;
    std::uint32_t size_ = 0;
    bool plain_ = false;
};

}  // namespace omnistream::OMNI_ISA
