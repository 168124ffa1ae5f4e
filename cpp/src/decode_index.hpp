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
        odd_.clear(size);
        doubtful_.clear(size);
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
        legal_ = cursor.legal;
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
    [[nodiscard]] bool plain(std::size_t begin, std::size_t end) const { return odd_.none(begin, end); }
    // Whether any string of the text is legal, but for its line feeds: plain except for escapes of two
    // bytes. May say no although it is so.
    [[nodiscard]] bool legal() const { return legal_; }
    [[nodiscard]] bool legal(std::size_t begin, std::size_t end) const { return doubtful_.none(begin, end); }

private:
    static constexpr std::size_t kBlock = 64;
    static constexpr std::size_t kBefore = 3;           // bytes of a character that ends in the next block
    static constexpr std::ptrdiff_t kPrefetch = 4'096;  // where the CPU's own look-ahead ends

    // A bit per block.
    class Blocks {
    public:
        void clear(std::size_t size) { bits_.assign(size / kBlock / 8 + sizeof(std::uint64_t) + 1, 0); }
        void add(std::size_t at) {
            bits_[at / kBlock / 8] |= static_cast<std::uint8_t>(1U << (at / kBlock % 8));
        }
        // Whether the bytes [begin, end] are in none of them. May say no although it is so.
        [[nodiscard]] bool none(std::size_t begin, std::size_t end) const {
            constexpr std::size_t kWidestSpan = 56;  // in blocks: what eight bytes hold behind any bit
            const std::size_t first = begin / kBlock;
            const std::size_t span = end / kBlock - first;
            if (span > kWidestSpan) return false;
            std::uint64_t bits;
            std::memcpy(&bits, bits_.data() + first / 8, sizeof bits);
            return (bits >> (first % 8) & ((std::uint64_t{2} << span) - 1)) == 0;
        }

    private:
        std::vector<std::uint8_t> bits_;
    };

    // Where quotes and lines are noted next, and what the next block must know of those before it. Copies of
    // it are local, so that the loop over blocks keeps it in registers.
    struct Cursor {
        std::uint32_t* quote;
        Line* line;
        std::uint64_t escaped = 0;  // whether its first byte is
        std::uint64_t open = 0;     // whether a character may end in it
        bool plain = true;
        bool legal = true;
    };

    // kBlock bytes, behind kBefore others.
    [[gnu::always_inline]] void block(const char* p, std::size_t at, Cursor* cursor) {
        const Simd::Classes found = Simd::classify(p);
        const auto base = static_cast<std::uint32_t>(at);
        std::uint64_t quotes = found.quotes;
        if ((found.specials | found.backslashes | cursor->open | cursor->escaped) != 0) {
            const std::uint64_t escaped = escapes(found.backslashes, cursor);
            quotes &= ~escaped;
            auto before = static_cast<std::uint32_t>(cursor->quote - quotes_.data());
            std::uint64_t rest = quotes;
            for (std::uint64_t feeds = found.feeds; feeds != 0; feeds &= feeds - 1) {
                const std::uint64_t below = feeds ^ (feeds - 1);
                before += static_cast<std::uint32_t>(std::popcount(rest & below));
                rest &= ~below;
                *cursor->line++ = {base + static_cast<std::uint32_t>(std::countr_zero(feeds)), before};
            }
            const std::uint64_t specials = found.specials & ~found.feeds;
            const bool text = (specials | cursor->open) == 0 || Simd::is_text(p);
            if (found.backslashes != 0 || !text) {
                odd_.add(at);
                cursor->plain = false;
            }
            if (!text || (escaped != 0 && (escaped & ~Simd::short_escapes(p)) != 0)) {
                doubtful_.add(at);
                cursor->legal = false;
            }
            cursor->open = specials >> (kBlock - kBefore);
        }
        cursor->quote = Simd::flatten(quotes, base, cursor->quote);
    }

    // The bytes that a backslash escapes: from the second on every other one of a run of backslashes and the
    // byte behind it.
    [[gnu::always_inline]] static std::uint64_t escapes(std::uint64_t backslashes, Cursor* cursor) {
        constexpr std::uint64_t kEven = 0x5555555555555555;
        const std::uint64_t runs = backslashes & ~cursor->escaped;
        const std::uint64_t starts = runs & ~(runs << 1);
        const std::uint64_t from_even = runs & ~(runs + (starts & kEven));  // adding ends a run behind it
        const std::uint64_t from_odd = runs & ~from_even;
        const std::uint64_t out = (from_even << 1 & ~kEven) | (from_odd << 1 & kEven) | cursor->escaped;
        cursor->escaped = from_odd >> (kBlock - 1);
        return out;
    }

    const char* text_ = nullptr;
    Array<std::uint32_t> quotes_;
    Blocks odd_;       // not plain
    Blocks doubtful_;  // perhaps not legal in a string
    Array<Line> lines_;
    std::uint32_t size_ = 0;
    bool plain_ = false;
    bool legal_ = false;
};

}  // namespace omnistream::OMNI_ISA
