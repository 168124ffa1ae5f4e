// The fast path: producers repeat one layout, so the bytes between two values are guessed from the messages
// before.
//
// A Slot is a place in a message: behind the value of one key. Its edges hold what followed there: the
// literal bytes up to the next value, and how to read that value. One compare checks separators, key, colon
// and opening quote together. Slots know their place in the nesting (a key has one path), so equal bytes mean
// equal structure. Optional fields, several producers and any number of lines are further edges. Whatever is
// not known, or is wrong, is left to the Reader: this path never rejects a message.
//
// Included by decode_<isa>.cpp after decode_reader.hpp.
#pragma once

#include "decode_columns.hpp"
#include "decode_index.hpp"
#include "decode_open.hpp"
#include "decode_reader.hpp"

namespace omnistream::OMNI_ISA {

// What may be loaded behind a message: a literal, then a number, a time or the first block of a string.
inline constexpr std::ptrdiff_t kReach = 128;

// Whether [p, stop), behind which kReach bytes can be loaded, is valid UTF-8. Sequences are told by their
// lengths alone, which decides unless a lead byte restricts what may follow it or the text is long: rare in
// any language but Korean.
inline bool is_utf8(const char* p, const char* stop) {
    constexpr std::ptrdiff_t kLongest = 60;  // the longest sequence at its end still fits a word
    const auto lead_is = [p](unsigned byte) {
        return Simd::at_least(p, byte) & ~Simd::at_least(p, byte + 1);
    };
    if (stop - p <= kLongest) {
        const std::uint64_t inside = (std::uint64_t{1} << (stop - p)) - 1;
        const std::uint64_t two = Simd::at_least(p, 0xc2) & inside;
        const std::uint64_t three = Simd::at_least(p, 0xe0) & inside;
        const std::uint64_t four = Simd::at_least(p, 0xf0) & inside;
        const std::uint64_t high = Simd::at_least(p, 0x80) & inside;
        const std::uint64_t never = Simd::at_least(p, 0xc0) & ~two & inside;
        const std::uint64_t choosy =
            (lead_is(0xe0) | lead_is(0xed) | lead_is(0xf0) | Simd::at_least(p, 0xf4)) & inside;
        if ((never | choosy) == 0) return (two << 1 | three << 2 | four << 3) == (high & ~two);
    }
    return json::utf8_fault(p, stop) == stop;
}

// Behind a string of no interest, whose content begins at p, or nullptr. Its escapes are checked.
inline const char* skip_string(const char* p, const char* end, bool strict_utf8) {
    for (;;) {
        bool high = false;
        p = string_stop(p, end, end + kReach, &high);
        if (p == end || (high && strict_utf8)) return nullptr;
        if (*p == '"') return p + 1;
        if (*p != '\\' || end - p < json::kLongestEscape) return nullptr;
        const std::size_t size = json::escape_size(p);
        if (size == 0) return nullptr;
        p += size;
    }
}

// Whether the string [p, stop) of a message, which ends at its closing quote, is what it looks like: no
// escape, no fault.
inline bool is_copyable(const char* p, const char* stop, const char* end) {
    bool high = false;
    return string_stop(p, end, end + kReach, &high) == stop && (!high || is_utf8(p, stop));
}

// Copies a string that is what it looks like; the lane has room.
inline void copy_string(const char* p, const char* stop, Lane& lane, std::size_t row) {
    const auto start = static_cast<std::size_t>(lane.offsets[row]);
    char* to = lane.bytes.data() + start;
    lane.offsets[row + 1] = static_cast<std::int32_t>(start + static_cast<std::size_t>(stop - p));
    do {
        Simd::copy(to, p);
        to += Simd::kWidth;
        p += Simd::kWidth;
    } while (p < stop);
}

// Behind a number without exponent, of few digits, or a word; nullptr where the value has another form. That
// it ends there is for the text behind it to tell.
inline const char* skip_scalar(const char* p) {
    const auto word = [&](const char* text) {
        std::uint32_t found, wanted;
        std::memcpy(&found, p, sizeof found);
        std::memcpy(&wanted, text, sizeof wanted);
        return found == wanted;
    };
    switch (*p) {
        case 'n':
            return word("null") ? p + 4 : nullptr;
        case 't':
            return word("true") ? p + 4 : nullptr;
        case 'f':
            return word("fals") && p[4] == 'e' ? p + 5 : nullptr;
        default: {
            std::int64_t number;
            return read_number(&p, kDecimalScale, &number) ? p : nullptr;
        }
    }
}

class Layouts {
    static constexpr std::size_t kLiteral = 64;       // longest text between two values that is learnt
    static constexpr std::size_t kMostEdges = 4;      // ways on from one place
    static constexpr std::size_t kMostSlots = 1'024;  // places: fields and unknown keys
    static constexpr std::size_t kNowhere = ~std::size_t{0};
    static constexpr std::ptrdiff_t kPrefetch = 32 << 10;

public:
    struct Edge {
        alignas(64) std::array<char, kLiteral> literal;
        std::uint64_t mask = ~std::uint64_t{0};  // a bit for each byte of it
        std::uint64_t bit;                       // of the field whose value follows, unless that is null
        const Edge* next;                        // the first of the slot behind the value
        Lane* lane;
        std::uint8_t size;
        std::uint8_t lead;    // bytes before its first quote
        std::uint8_t quotes;  // none: the message ends here
        std::uint8_t counts;  // 1 where `bit` is set
        Op op = Op::none;
        bool unknown;     // leads to an unknown field's value, or to the first one in it
        bool structural;  // what follows says something:
        std::uint8_t depth;
        Level level;  // behind the marks
        Marks marks;
        std::uint16_t field;
        std::uint64_t entered;
        std::uint64_t forbidden;         // nodes that must not have been entered,
        std::uint64_t forbidden_fields;  // and fields that must not have been seen: of `level`

        [[nodiscard]] Simd::Literal text() const { return {literal.data(), size, mask}; }
        [[nodiscard]] bool stands_at(const char* p) const { return text().at(p); }
    };
    // A value on the way of a message: what led to it, and the quotes before that.
    struct Footstep {
        const Edge* edge;
        std::uint32_t quotes;
    };

    Layouts(const DecodePlan& plan, Lanes& lanes, Reader& reader)
        : plan_(plan), lanes_(lanes), reader_(reader) {
        forget();
    }

    void forget() {
        slots_.clear();
        slots_.resize(1 + plan_.fields.size());
        first_ = slots_[0].edges.data();
        keys_.clear();
    }

    // Follows the message [begin, end), whose quotes are [quote, last_quote) of the index. True with its rows
    // complete, or false with nothing done. Bytes up to kReach behind the message may be loaded.
    //
    // Where a value starts, and mostly where it ends, is known from the index and not from the value before:
    // so the CPU works on several at a time.
    // trail() has its way afterwards.
    bool follow(const char* begin, const char* end, const QuoteIndex& index, const std::uint32_t* quote,
                const std::uint32_t* last_quote, bool holds_feeds) {
        const std::uint32_t* const first_quote = quote;
        trail_.clear();
        const char* const text = index.text();
        const char* p = begin;  // behind the last value
        const Edge* edge = first_;
        std::uint64_t seen = 0;  // fields of the element that is open, and how often one was seen
        std::uint64_t times = 0;
        Path path;
        path.bounds = {begin, end, holds_feeds ? nullptr : &index};
        for (Level level = 0; level < plan_.levels; ++level) path.row[level] = lanes_.rows[level];
        lanes_.ensure(kMessage, path.row[kMessage]);
        std::size_t row = path.row[kMessage];
        const bool all_plain = path.bounds.plain(begin, end);
        unknown_ = 0;
        // What is indexed next comes from memory meanwhile.
        for (const char* far = begin + kPrefetch; far < end + kPrefetch; far += 64) __builtin_prefetch(far);

        for (;;) {
            const char* at = text + *quote - edge->lead;
            if (at != p || !edge->stands_at(at)) {
                edge = other_way(edge, p, text + *quote, end);
                if (edge == nullptr) return leave(path);
                at = p;
            }
            trail_.push_back({edge, static_cast<std::uint32_t>(quote - first_quote)});
            const char* const value = at + edge->size;
            quote += edge->quotes;
            if (quote > last_quote) return leave(path);
            if (edge->structural) {
                path.seen[path.level] = seen;
                path.times[path.level] = times;
                if (!enter(*edge, &path)) return leave(path);
                seen = path.seen[path.level];
                times = path.times[path.level];
                row = path.row[path.level];
            }
            seen |= edge->bit;
            times += edge->counts;

            const char* const stop = text + *quote;  // of a string
            switch (edge->op) {
                case Op::string:
                    if (all_plain || path.bounds.plain(value, stop)) {
                        copy_string(value, stop, *edge->lane, row);
                        p = stop + 1;
                    } else {
                        p = odd_string(edge, value, stop, end, row);
                    }
                    ++quote;
                    break;
                case Op::dictionary:
                    if (all_plain || path.bounds.plain(value, stop) || is_copyable(value, stop, end)) {
                        edge->lane->texts[row - lanes_.encoded[path.level]] = {
                            value, static_cast<std::uint32_t>(stop - value)};
                        p = stop + 1;
                    } else {
                        p = read_anew(edge, value - 1, end, row);
                    }
                    ++quote;
                    break;
                case Op::iso_time:
                    if (stop - value == json::IsoMillis::kSize &&
                        clock_.read(value, &edge->lane->wide[row])) {
                        p = stop + 1;
                    } else {
                        p = read_anew(edge, value - 1, end, row);
                    }
                    ++quote;
                    break;
                case Op::integer64:
                    p = value;
                    if (!read_number(&p, 0, &edge->lane->wide[row])) p = read_anew(edge, value, end, row);
                    break;
                case Op::decimal:
                    p = value;
                    if (!read_number(&p, kDecimalScale, &edge->lane->wide[row]))
                        p = read_anew(edge, value, end, row);
                    break;
                case Op::any:
                    p = read_anew(edge, value, end, row);
                    while (quote != last_quote && text + *quote < p) ++quote;
                    break;
                case Op::null:
                    p = load4(value) == load4("null") ? value + 4 : nullptr;
                    break;
                case Op::skip_string:
                    unknown_ += edge->unknown;
                    ++quote;
                    p = stop + 1;
                    if (!all_plain && !path.bounds.legal(value, stop) &&
                        skip_string(value, end, plan_.schema.strict_utf8) != p)
                        return leave(path);
                    break;
                case Op::skip_any:
                    unknown_ += edge->unknown;
                    p = skip_scalar(value);
                    if (p == nullptr) p = reader_.skip_single(value, end, end + kReach, edge->depth);
                    while (quote != last_quote && text + *quote < p) ++quote;
                    break;
                case Op::end:
                    if (value != end) return leave(path);
                    path.seen[path.level] = seen;
                    path.times[path.level] = times;
                    return complete(&path);
                case Op::none:
                    return leave(path);
                default:
                    __builtin_unreachable();
            }
            if (p == nullptr) return leave(path);
            edge = edge->next;
        }
    }

    // Adds what a message has shown to be possible.
    void learn(const char* begin, const std::vector<Step>& steps) {
        std::size_t slot = 0;
        std::size_t number = 0;
        Level level = kMessage;
        const char* from = begin;
        for (const Step& step : opener_.open(begin, steps)) {
            const auto size = static_cast<std::size_t>(step.begin - from);
            if (size == 0 || size > kLiteral) return;
            const std::size_t target = slot_of(step);
            if (target == kNowhere) return;
            for (Marks marks = step.marks; marks != 0; marks >>= kMarkBits) {
                level = static_cast<Level>(marks & kLevelBits);
                if ((marks & kEndOfElement) != 0 && level != kMessage) --level;
            }
            if (add(slot, {from, size}, step, level, target) && opener_.was_new(number)) return forget();
            slot = target;
            from = step.end;
            ++number;
        }
    }

    [[nodiscard]] std::int64_t unknown_fields() const { return unknown_; }
    [[nodiscard]] const std::vector<Footstep>& trail() const { return trail_; }

private:
    struct Slot {
        std::array<Edge, kMostEdges> edges{};  // those that are taken come first
        std::uint32_t count = 0;
        std::uint32_t given_up = 0;  // last, for another when all were taken
    };

    // The message being followed. Null for an index that cannot say what is plain: it takes a line feed for
    // the end of a line, not for a fault inside a string.
    struct Bounds {
        const char* begin;
        const char* end;
        const QuoteIndex* index;

        [[nodiscard]] bool plain(const char* from, const char* to) const {
            return index != nullptr && index->plain(static_cast<std::size_t>(from - index->text()),
                                                    static_cast<std::size_t>(to - index->text()));
        }
        [[nodiscard]] bool legal(const char* from, const char* to) const {
            return index != nullptr && index->legal(static_cast<std::size_t>(from - index->text()),
                                                    static_cast<std::size_t>(to - index->text()));
        }
    };
    struct Path {
        Bounds bounds;
        Level level = kMessage;
        std::uint64_t entered = 0;
        // By level, of the element that is open:
        std::uint64_t seen[kMostLevels];
        std::uint64_t times[kMostLevels];  // values seen; more than bits in `seen`: a key came twice
        std::size_t row[kMostLevels];
    };

    static std::uint32_t load4(const char* p) {
        std::uint32_t word;
        std::memcpy(&word, p, sizeof word);
        return word;
    }
    // The edge, of those of a slot, whose literal stands at p.
    [[gnu::noinline]] static const Edge* other_way(const Edge* edge, const char* p, const char* quote,
                                                   const char* end) {
        for (std::size_t i = 0; i < kMostEdges && edge[i].size != 0; ++i) {
            const char* at = edge[i].quotes == 0 ? end - edge[i].size : quote - edge[i].lead;
            if (at == p && edge[i].stands_at(p)) return edge + i;
        }
        return nullptr;
    }

    // What an edge says of the elements and objects that it ends and begins. False when that is not as the
    // careful reader would have it, or is its business: a key that comes twice, for one.
    [[gnu::noinline]] bool enter(const Edge& edge, Path* path) {
        for (Marks marks = edge.marks; marks != 0; marks >>= kMarkBits) {
            const auto level = static_cast<Level>(marks & kLevelBits);
            if ((marks & kEndOfElement) == 0) {
                path->seen[level] = path->times[level] = 0;
                path->entered &= ~plan_.inner_nodes[level];
                lanes_.ensure(level, path->row[level]);
            } else if (!end_element(level, path)) {
                return false;
            }
        }
        path->level = edge.level;
        if ((path->entered & edge.forbidden) != 0) return false;
        if ((path->seen[edge.level] & edge.forbidden_fields) != 0) return false;
        path->entered |= edge.entered;
        return true;
    }

    // A string that may be anything; behind it, or nullptr.
    [[gnu::noinline]] const char* odd_string(const Edge* edge, const char* p, const char* stop,
                                             const char* end, std::size_t row) {
        if (!is_copyable(p, stop, end)) return read_anew(edge, p - 1, end, row);
        copy_string(p, stop, *edge->lane, row);
        return stop + 1;
    }

    // The value at p in whatever form it has.
    [[gnu::noinline]] const char* read_anew(const Edge* edge, const char* p, const char* end,
                                            std::size_t row) {
        return reader_.read_single(p, end, end + kReach, edge->field, row, edge->depth);
    }

    bool end_element(Level level, Path* path) {
        if (static_cast<std::uint64_t>(std::popcount(path->seen[level])) != path->times[level]) return false;
        const std::uint64_t missing = plan_.all[level] & ~path->seen[level];
        if ((missing & plan_.required[level]) != 0) return false;
        std::size_t& row = path->row[level];
        if (level != plan_.lines()) {
            if ((path->entered & plan_.array_bit[level + 1]) == 0) return false;
            lanes_.end[level][row] = static_cast<std::int32_t>(path->row[level + 1]);
        }
        if (missing != 0) lanes_.fill(level, row, missing);
        ++row;
        return true;
    }

    bool complete(Path* path) {
        if (!end_element(kMessage, path)) return leave(*path);
        const auto size = static_cast<std::size_t>(path->bounds.end - path->bounds.begin);
        if (lanes_.repeats_too_much(path->row, size)) return leave(*path);
        lanes_.complete(path->row);
        return true;
    }

    // Elements that ended left their nulls, of inner levels even before one of the first ended.
    [[gnu::noinline]] bool leave(const Path& path) {
        if (!std::equal(path.row, path.row + plan_.levels, lanes_.rows)) lanes_.rollback(lanes_.rows);
        return false;
    }

    // ---- learning ----

    std::size_t slot_of(const Step& step) {
        if (step.op == Op::end) return 0;
        if (step.object == nullptr) return 1 + step.field;
        const auto [known, added] = keys_.try_emplace({step.object, std::string(step.key)}, slots_.size());
        if (added) {
            if (slots_.size() == kMostSlots) {
                keys_.erase(known);
                return kNowhere;
            }
            slots_.emplace_back();
        }
        return known->second;
    }

    // False when it is known.
    bool add(std::size_t from, std::string_view literal, const Step& step, Level level, std::size_t target) {
        Slot& slot = slots_[from];
        for (std::uint32_t i = 0; i < slot.count; ++i) {
            const Edge& edge = slot.edges[i];
            if (edge.op == step.op && std::string_view(edge.literal.data(), edge.size) == literal)
                return false;
        }
        if (slot.count < kMostEdges) {
            slot.given_up = slot.count++;
        } else {
            slot.given_up = (slot.given_up + 1) % kMostEdges;
        }
        Edge& edge = slot.edges[slot.given_up];
        edge = {};
        std::copy(literal.begin(), literal.end(), edge.literal.begin());
        edge.mask = ~std::uint64_t{0} >> (kLiteral - literal.size());
        edge.size = static_cast<std::uint8_t>(literal.size());
        edge.lead = static_cast<std::uint8_t>(std::min(literal.find('"'), kLiteral));
        edge.quotes = static_cast<std::uint8_t>(std::count(literal.begin(), literal.end(), '"'));
        edge.next = slots_[target].edges.data();
        edge.lane = &lanes_.lane[step.field];
        edge.field = step.field;
        edge.op = step.op;
        edge.depth = step.depth;
        edge.level = level;
        edge.unknown = step.unknown;
        edge.marks = step.marks;
        edge.entered = step.entered;
        edge.forbidden = step.entered | step.forbidden;
        if (step.op < Op::null) {
            edge.bit = step.bit;
            edge.counts = 1;
        } else {
            edge.forbidden_fields = step.bit;
        }
        edge.structural = (edge.marks | edge.entered | edge.forbidden | edge.forbidden_fields) != 0;
        return true;
    }

    const DecodePlan& plan_;
    Lanes& lanes_;
    Reader& reader_;
    Opener opener_{kLiteral};
    const Edge* first_;       // of the place where a message begins
    std::deque<Slot> slots_;  // edges point into it
    std::map<std::pair<const void*, std::string>, std::size_t> keys_;
    json::IsoMillis clock_;
    std::int64_t unknown_ = 0;
    std::vector<Footstep> trail_;
};

}  // namespace omnistream::OMNI_ISA
