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
        if (mostly_unusual_) [[unlikely]] {
            const Cursor behind = by_eights<Simd>();
            cursor = behind;
        } else if (size != 0) {
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
        mostly_unusual_ = Simd::kSeesPlanes && cursor.unusual > size / kBlock / 3;
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
    static constexpr std::size_t kEight = 8 * kBlock;
    static constexpr std::size_t kBefore = 3;           // bytes of a character that ends in the next block
    static constexpr std::ptrdiff_t kPrefetch = 4'096;  // where the CPU's own look-ahead ends

    // A bit per block.
    class Blocks {
    public:
        void clear(std::size_t size) { bits_.assign(size / kBlock / 8 + sizeof(std::uint64_t) + 1, 0); }
        void add(std::size_t at) {
            bits_[at / kBlock / 8] |= static_cast<std::uint8_t>(1U << (at / kBlock % 8));
        }
        // Of eight blocks, from an eighth on, those that have a bit.
        void set_eight(std::size_t at, unsigned blocks) {
            bits_[at / kBlock / 8] = static_cast<std::uint8_t>(blocks);
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

    // Bytes behind kBefore others, as a copy: spaces where they are not of the text.
    template <std::size_t count>
    class Edge {
    public:
        [[nodiscard]] const char* copy(const char* text, std::size_t size, std::size_t at) {
            const std::size_t before = std::min(at, kBefore);
            bytes_.fill(' ');
            std::memcpy(bytes_.data() + kBefore - before, text + at - before,
                        before + std::min(size - at, count));
            return bytes_.data() + kBefore;
        }

    private:
        std::array<char, kBefore + count> bytes_;
    };

    // Where quotes and lines are noted next, and what the next block must know of those before it. Copies of
    // it are local, so that the loop over blocks keeps it in registers.
    struct Cursor {
        std::uint32_t* quote;
        Line* line;
        std::uint64_t escaped = 0;  // whether its first byte is
        std::uint64_t open = 0;     // whether a character may end in it
        std::size_t unusual = 0;    // blocks that hold escapes or what is not ASCII
        bool plain = true;
        bool legal = true;
    };

    // Where many blocks are unusual the CPU often guesses wrong whether one is, and notices only when it has
    // come from memory: so it is told for eight at once.
    template <class Simd>
    [[nodiscard, gnu::noinline]] Cursor by_eights() {
        Cursor cursor{quotes_.data(), lines_.data()};
        if constexpr (Simd::kSeesPlanes) {
            std::uint64_t escaped = 0;
            const auto eight = [&](const char* p, std::size_t at) __attribute__((always_inline)) {
                const auto base = static_cast<std::uint32_t>(at);
                typename Simd::Eight found;
                found.read(p, &escaped);
                std::array<std::uint32_t*, 8> quote;  // by block
                for (std::uint32_t i = 0; i < 8; ++i) {
                    quote[i] = cursor.quote;
                    cursor.quote = Simd::flatten(found.quotes[i], base + i * 64, cursor.quote);
                }
                for (unsigned with = found.with_feeds; with != 0; with &= with - 1) {
                    const auto i = static_cast<std::uint32_t>(std::countr_zero(with));
                    const auto before = static_cast<std::uint32_t>(quote[i] - quotes_.data());
                    for (std::uint64_t feeds = found.feeds[i]; feeds != 0; feeds &= feeds - 1) {
                        const std::uint64_t below = feeds ^ (feeds - 1);
                        *cursor.line++ = {
                            base + i * 64 + static_cast<std::uint32_t>(std::countr_zero(feeds)),
                            before + static_cast<std::uint32_t>(std::popcount(found.quotes[i] & below))};
                    }
                }
                unsigned no_text = 0;
                const unsigned open = static_cast<unsigned>(cursor.open) | found.with_open << 1;
                for (unsigned with = (found.with_specials | open) & 0xff; with != 0; with &= with - 1) {
                    const int i = std::countr_zero(with);
                    no_text |= unsigned{!Simd::is_text(p + kBlock * static_cast<std::size_t>(i))} << i;
                }
                cursor.open = open >> 8;
                const unsigned odd = found.with_backslashes | no_text;
                const unsigned doubtful = found.with_odd_escapes | no_text;
                odd_.set_eight(at, odd);
                doubtful_.set_eight(at, doubtful);
                cursor.unusual +=
                    static_cast<std::size_t>(std::popcount(found.with_specials | found.with_backslashes));
                cursor.plain &= odd == 0;
                cursor.legal &= doubtful == 0;
            };
            Edge<kEight> edge;
            if (size_ != 0) eight(edge.copy(text_, size_, 0), 0);
            std::size_t at = kEight;
            for (; at + kEight <= size_; at += kEight) {
                for (std::size_t i = 0; i < kEight; i += kBlock)
                    __builtin_prefetch(text_ + at + i + kPrefetch);
                eight(text_ + at, at);
            }
            if (at < size_) eight(edge.copy(text_, size_, at), at);
        }
        return Cursor(cursor);
    }

    // kBlock bytes, behind kBefore others.
    [[gnu::always_inline]] void block(const char* p, std::size_t at, Cursor* cursor) {
        const Simd::Classes found = Simd::classify(p);
        const auto base = static_cast<std::uint32_t>(at);
        std::uint64_t quotes = found.quotes;
        if ((found.specials | found.backslashes | cursor->open | cursor->escaped) != 0) {
            const std::uint64_t escaped = json::escapes(found.backslashes, &cursor->escaped);
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
            cursor->unusual += (specials | found.backslashes) != 0;
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

    const char* text_ = nullptr;
    Array<std::uint32_t> quotes_;
    Blocks odd_;       // not plain
    Blocks doubtful_;  // perhaps not legal in a string
    Array<Line> lines_;
    std::uint32_t size_ = 0;
    bool mostly_unusual_ = false;  // the last text, so perhaps the next
    bool plain_ = false;
    bool legal_ = false;
};

}  // namespace omnistream::OMNI_ISA
