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

#include "decode_reader.hpp"

namespace omnistream::OMNI_ISA {

class Layouts {
public:
    Layouts(const DecodePlan& plan, Lanes& lanes, Reader& reader)
        : plan_(plan), lanes_(lanes), reader_(reader) {
        forget();
    }

    void forget() {
        slots_.clear();
        slots_.resize(1 + plan_.fields.size());
        keys_.clear();
    }

    // Follows the message at p. Behind its closing brace with its rows complete, or nullptr with nothing
    // done.
    const char* follow(const char* p, const char* end, const char* readable) {
        const char* const begin = p;
        const Slot* slot = &slots_[0];
        std::uint64_t seen[kMostLevels] = {};
        std::uint64_t entered = 0;
        std::size_t row[kMostLevels];
        for (Level level = 0; level < plan_.levels; ++level) row[level] = lanes_.rows[level];
        lanes_.ensure(kMessage, row[kMessage]);
        unknown_ = 0;

        for (;;) {
            if (readable - p < kReach) return leave(row);
            const Edge* edge = match(*slot, p);
            if (edge == nullptr) return leave(row);
            p += edge->size;

            for (Marks marks = edge->marks; marks != 0; marks >>= kMarkBits) {
                const auto level = static_cast<Level>(marks & kLevelBits);
                if ((marks & kEndOfElement) == 0) {
                    seen[level] = 0;
                    entered &= ~plan_.inner_nodes[level];
                    lanes_.ensure(level, row[level]);
                } else if (!end_element(level, seen, entered, row)) {
                    return leave(row);
                }
            }
            // A key that this message has shown already: which one counts is the Reader's business.
            if ((seen[edge->level] & edge->bit) != 0 || (entered & edge->forbidden) != 0) return leave(row);
            entered |= edge->entered;

            const std::size_t at = row[edge->level];
            const char* value = p;
            switch (edge->op) {
                case Op::string:
                    p = read_string(p, readable, *edge->lane, at);
                    if (p == nullptr) p = read_anew(edge, value - 1, end, readable, row);
                    break;
                case Op::dictionary: {
                    bool high = false;
                    const char* stop = string_stop(p, end, readable, &high);
                    if (stop == end || *stop != '"' || (high && json::utf8_fault(p, stop) != stop)) {
                        p = read_anew(edge, value - 1, end, readable, row);
                        break;
                    }
                    edge->lane->texts[at - lanes_.encoded[edge->level]] = {
                        p, static_cast<std::uint32_t>(stop - p)};
                    p = stop + 1;
                    break;
                }
                case Op::iso_time:
                    if (p[json::IsoMillis::kSize] == '"' && clock_.read(p, &edge->lane->wide[at])) {
                        p += json::IsoMillis::kSize + 1;
                    } else {
                        p = read_anew(edge, value - 1, end, readable, row);
                    }
                    break;
                case Op::integer64:
                    if (!read_number(&p, 0, &edge->lane->wide[at]) || json::continues_number(*p))
                        p = read_anew(edge, value, end, readable, row);
                    break;
                case Op::decimal:
                    if (!read_number(&p, kDecimalScale, &edge->lane->wide[at]) || json::continues_number(*p))
                        p = read_anew(edge, value, end, readable, row);
                    break;
                case Op::any:
                    p = read_anew(edge, p, end, readable, row);
                    break;
                case Op::null:
                    p = load4(p) == load4("null") ? p + 4 : nullptr;
                    break;
                case Op::skip_string:
                    p = skip_string(p, end, readable);
                    ++unknown_;
                    break;
                case Op::skip_any:
                    p = reader_.skip_single(p, end, readable, edge->depth);
                    // Lines of NDJSON end at a line feed, wherever it stands.
                    if (p != nullptr && lines_ && std::find(value, p, '\n') != p) p = nullptr;
                    ++unknown_;
                    break;
                case Op::end:
                    if (!ends(p, end) || p - begin > plan_.schema.max_message_bytes) return leave(row);
                    return complete(begin, p, seen, entered, row);
            }
            if (p == nullptr) return leave(row);
            if (edge->op < Op::null) seen[edge->level] |= edge->bit;
            slot = edge->next;
        }
    }

    // Adds what a message has shown to be possible.
    void learn(const char* begin, const std::vector<Step>& steps) {
        std::size_t slot = 0;
        const char* from = begin;
        for (const Step& step : steps) {
            const auto size = static_cast<std::size_t>(step.begin - from);
            if (size == 0 || size > kLiteral) return;
            const std::size_t target = slot_of(step);
            if (target == kNowhere) return;
            add(slot, from, size, step, target);
            slot = target;
            from = step.end;
        }
    }

    [[nodiscard]] std::int64_t unknown_fields() const { return unknown_; }
    // Text learnt in free-standing messages may hold line feeds, which end a message where messages are
    // lines.
    void expect_lines(bool lines) {
        if (lines != lines_) forget();
        lines_ = lines;
    }

private:
    static constexpr std::size_t kLiteral = 64;       // longest text between two values that is learnt
    static constexpr std::size_t kMostEdges = 4;      // ways on from one place
    static constexpr std::size_t kMostSlots = 1'024;  // places: fields and unknown keys
    static constexpr std::size_t kNowhere = ~std::size_t{0};
    // What one turn of the loop may load without asking: a literal, then a number, a time or the first block
    // of a string.
    static constexpr std::ptrdiff_t kReach = 2 * kLiteral;

    struct Slot;
    struct Edge {
        alignas(64) std::array<char, kLiteral> literal;
        std::uint64_t bit;
        std::uint64_t entered;
        std::uint64_t forbidden;
        const Slot* next;
        Lane* lane;
        Marks marks;
        std::uint16_t field;
        std::uint8_t size;
        Op op;
        std::uint8_t depth;
        Level level;
    };
    struct Slot {
        std::uint32_t count = 0;
        std::uint32_t next = 0;  // edge to give up when all are taken
        std::array<Edge, kMostEdges> edges;
    };

    static std::uint32_t load4(const char* p) {
        std::uint32_t word;
        std::memcpy(&word, p, sizeof word);
        return word;
    }
    // The message ends here: nothing follows, or a line feed where messages are lines.
    [[nodiscard]] bool ends(const char* p, const char* end) const {
        if (p >= end) return p == end;
        return lines_ && (*p == '\n' || (*p == '\r' && end - p > 1 && p[1] == '\n'));
    }

    static const Edge* match(const Slot& slot, const char* p) {
        for (std::uint32_t i = 0; i < slot.count; ++i)
            if (Simd::equal(p, slot.edges[i].literal.data(), slot.edges[i].size)) return &slot.edges[i];
        return nullptr;
    }

    // Scans and copies at once. nullptr when it takes more than copying.
    const char* read_string(const char* p, const char* readable, Lane& lane, std::size_t row) {
        const auto start = static_cast<std::size_t>(lane.offsets[row]);
        std::size_t size = 0;
        std::uint64_t high = 0;
        for (;;) {
            if (start + size + Simd::kWidth > lane.bytes.capacity() + kPadding)
                lane.bytes.reserve(2 * (start + size + Simd::kWidth));
            char* to = lane.bytes.data() + start;
            if (readable - (p + size) < static_cast<std::ptrdiff_t>(Simd::kWidth)) return nullptr;
            const Simd::Scan found = Simd::scan(p + size);
            Simd::copy(to + size, p + size);
            if (found.stop == 0) {
                high |= found.high;
                size += Simd::kWidth;
                continue;
            }
            high |= found.high & (found.stop ^ (found.stop - 1));
            size += static_cast<std::size_t>(std::countr_zero(found.stop));
            if (p[size] != '"' || (high != 0 && json::utf8_fault(p, p + size) != p + size)) return nullptr;
            lane.offsets[row + 1] = static_cast<std::int32_t>(start + size);
            return p + size + 1;
        }
    }

    // Escapes are checked on the way, as they are legal anywhere.
    [[nodiscard]] const char* skip_string(const char* p, const char* end, const char* readable) const {
        for (;;) {
            bool high = false;
            p = string_stop(p, end, readable, &high);
            if (p == end || (high && plan_.schema.strict_utf8)) return nullptr;
            if (*p == '"') return p + 1;
            if (*p != '\\' || end - p < json::kLongestEscape) return nullptr;
            const std::size_t size = json::escape_size(p);
            if (size == 0) return nullptr;
            p += size;
        }
    }

    // The value at p in whatever form it has.
    const char* read_anew(const Edge* edge, const char* p, const char* end, const char* readable,
                          const std::size_t* row) {
        return reader_.read_single(p, end, readable, edge->field, row[edge->level], edge->depth);
    }

    bool end_element(Level level, const std::uint64_t* seen, std::uint64_t entered, std::size_t* row) {
        const std::uint64_t missing = plan_.all[level] & ~seen[level];
        if ((missing & plan_.required[level]) != 0) return false;
        if (level != plan_.lines()) {
            if ((entered & plan_.array_bit[level + 1]) == 0) return false;
            lanes_.end[level][row[level]] = static_cast<std::int32_t>(row[level + 1]);
        }
        if (missing != 0) lanes_.fill(level, row[level], missing);
        ++row[level];
        return true;
    }

    const char* complete(const char* begin, const char* p, const std::uint64_t* seen, std::uint64_t entered,
                         std::size_t* row) {
        if (!end_element(kMessage, seen, entered, row)) return leave(row);
        if (lanes_.repeats_too_much(row, static_cast<std::size_t>(p - begin))) return leave(row);
        lanes_.complete(row);
        return p;
    }

    // Elements that ended left their nulls, of inner levels even before one of the first ended.
    const char* leave(const std::size_t* row) {
        if (!std::equal(row, row + plan_.levels, lanes_.rows)) lanes_.rollback(lanes_.rows);
        return nullptr;
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

    void add(std::size_t from, const char* literal, std::size_t size, const Step& step, std::size_t target) {
        Slot& slot = slots_[from];
        for (std::uint32_t i = 0; i < slot.count; ++i) {
            const Edge& edge = slot.edges[i];
            if (edge.size == size && edge.op == step.op &&
                std::memcmp(edge.literal.data(), literal, size) == 0)
                return;
        }
        if (slot.count < kMostEdges) {
            slot.next = slot.count++;
        } else {
            slot.next = (slot.next + 1) % kMostEdges;
        }
        Edge& edge = slot.edges[slot.next];
        edge = {};
        std::memcpy(edge.literal.data(), literal, size);
        edge.size = static_cast<std::uint8_t>(size);
        edge.bit = step.bit;
        edge.entered = step.entered;
        edge.forbidden = step.entered | step.forbidden;
        edge.next = &slots_[target];
        edge.lane = &lanes_.lane[step.field];
        edge.field = step.field;
        edge.op = step.op;
        edge.marks = step.marks;
        edge.depth = step.depth;
        edge.level = step.level;
    }

    const DecodePlan& plan_;
    Lanes& lanes_;
    Reader& reader_;
    std::deque<Slot> slots_;  // edges point into it
    std::map<std::pair<const void*, std::string>, std::size_t> keys_;
    json::IsoMillis clock_;
    std::int64_t unknown_ = 0;
    bool lines_ = false;
};

}  // namespace omnistream::OMNI_ISA
