// The fastest path: the way that one message took through the layouts (decode_layout.hpp), for all that go
// the same way.
//
// Producers send the same texts between values, in the same order, and any number of elements in their array.
// How many quotes a message has then tells how many elements, and from the index of quotes each value's place
// is known at once: what is left to do is to compare the texts and to read the values. Nothing of what the
// layouts keep track of (which fields were seen, where the path may lead) can differ, so none of it is done
// again.
//
// decode_run.hpp reads what follows each other on the same way, decode_spread.hpp what goes several.
//
// Included by decode_<isa>.cpp after decode_skip.hpp.
#pragma once

#include "decode_places.hpp"
#include "decode_skip.hpp"

namespace omnistream::OMNI_ISA {

class Track {
    using Edge = Layouts::Edge;

public:
    Track(const DecodePlan& plan, Lanes& lanes, Reader& reader)
        : plan_(plan), lanes_(lanes), reader_(reader) {}

    // Takes the way of a message with that many quotes. False when it cannot be a track: where the schema
    // explodes, the message must have two elements at least.
    bool learn(const std::vector<Layouts::Footstep>& trail, std::uint32_t quotes);

    // Reads a message. True with its rows complete, or false with nothing done.
    bool read(const QuoteIndex& index, const Place& place);
    // Reads as many of the messages as go this way, up to the first that does not, a field at a time. Their
    // number; their rows are complete.
    std::size_t read_run(const QuoteIndex& index, const Places& places);
    [[nodiscard]] std::int64_t unknown_fields() const { return unknown_fields_; }

    // Of a schema without explode: how many quotes its messages have, and whether one that has so many looks
    // like this way at its ends.
    [[nodiscard]] std::uint32_t quotes() const { return head_.quotes; }
    [[nodiscard]] bool seems_to_fit(const QuoteIndex& index, const Place& place) const {
        return !place.holds_feeds && place.end - place.begin >= end_.size &&
               head_.cells[0].edge.stands_at(index.text() + place.begin) &&
               end_.stands_at(index.text() + place.end - end_.size);
    }
    // The same way as another, into this one's lanes.
    void take_over(const Track& other);
    [[nodiscard]] std::uint32_t version() const { return version_; }  // changes with what is learnt

private:
    struct Cell {
        Edge edge{};
        std::uint32_t quote = 0;  // the first of the literal, from where the part begins
        std::uint32_t stop = 0;   // the first behind it: of a string, its end
        std::uint8_t reader =
            2 * static_cast<std::uint8_t>(Op::end);  // in walk(); the last cell of a part ends it

        // Whether the value ends where the next text begins, which is at no quote of its own.
        [[nodiscard]] bool stops_before_text() const {
            return edge.op != Op::string && edge.op != Op::dictionary && edge.op != Op::iso_time &&
                   edge.op != Op::skip_string;
        }
    };
    // A message is a head, a first element, any number of others, and a tail; without an array it is all
    // head.
    struct Part {
        std::vector<Cell> cells = std::vector<Cell>(1);
        std::uint32_t quotes = 0;
        std::uint64_t fields = 0;
        std::int64_t unknown_fields = 0;
    };
    static constexpr std::size_t kMostElements = 256;  // what more of them repeat must be weighed

    bool add(const Layouts::Footstep& step, std::uint32_t next_quotes, Part* part);
    static bool same(const Part& a, const Part& b);
    bool settle(Level level, std::uint64_t fields, std::uint64_t* missing) const;
    const char* walk(const Part& part, const char* p, const std::uint32_t* quotes, std::size_t row);
    bool copyable(const char* from, const char* stop) const;
    bool skippable(const char* from, const char* stop) const;
    const char* read_cell_anew(const Cell& cell, const char* at, std::size_t row);
    const char* skip_anything(const Cell& cell, const char* at);
    bool leave();

    // ---- runs ----

    // What a place of all units (messages, or elements) of a run is, by unit.
    struct Bound {
        const char* text;
        const std::uint32_t* at;
        const char* operator()(std::size_t i) const { return text + at[i]; }
    };
    static constexpr std::uint32_t kMostMessages = 512;
    static constexpr std::uint32_t kMostUnits = 2'048;
    // A value in each unit of a run: what leads to it, where that begins and where the value ends.
    struct Value {
        const Cell* cell;
        std::uint64_t mask;  // of its text's bytes; none where that was looked at already
        std::size_t size;
        Bound begin;
        Bound stop;
        std::size_t count;
        std::size_t row;  // of the first
    };

    bool even() const;
    std::size_t gather(const Places& places);
    std::size_t gather_elements(std::size_t count);
    std::uint32_t begin_of(const Cell& cell, std::uint32_t base) const;
    std::size_t read_head(std::size_t count, std::size_t row);
    std::size_t read_elements(std::size_t count, std::size_t row);
    std::size_t read_tail(std::size_t count, std::size_t row);
    std::size_t read_end(std::size_t count) const;
    Value value_of(const Part& part, const Cell& cell, std::size_t count, std::size_t row);
    std::size_t read_values(const Value& value);
    template <class Read>
    static std::size_t each(const Value& value, Read&& read);
    template <class Literal, class Read>
    static std::size_t each(const Value& value, Literal literal, Read&& read);
    template <class Read>
    static bool all(const Value& value, Read&& read);
    template <class Read>
    static bool all(const char* text, std::size_t size, std::uint64_t mask, Bound begin, std::size_t count,
                    Read&& read);
    template <class Literal, class Read>
    static bool all(Literal literal, Bound begin, std::size_t count, Read&& read);
    bool is_plain(const char* from, const char* stop) const;
    bool copy_strings(const Value& value);
    template <bool plain>
    std::size_t read_strings(const Value& value);
    template <bool plain>
    std::size_t read_texts(const Value& value);
    template <class Simd, class Together, class One>
    std::size_t read_together(const Value& value, Together&& together, One&& one);
    template <class Simd>
    std::size_t read_times(const Value& value);
    template <class Simd, int scale>
    std::size_t read_numbers(const Value& value);
    template <class Simd>
    std::size_t read_skipped(const Value& value);
    bool skip_odd(const Value& value, const char* from, const char* stop);
    bool read_odd(const Value& value, const char* from, const char* stop, std::size_t i);

    Places places_;  // the messages of the run
    // By message, where the schema explodes:
    std::array<std::uint32_t, kMostMessages> tail_at_, elements_end_;
    // By element of them all:
    std::array<std::uint32_t, kMostUnits> element_at_, element_begin_, element_stop_;
    std::array<std::uint8_t, kMostUnits> first_in_message_;
    std::array<std::uint32_t, kMostUnits> value_stop_, value_size_;  // of a field at a time
    QuoteColumns columns_;
    bool even_ = false;  // whether elements are all alike, but for the text in front of their first value

    const DecodePlan& plan_;
    Lanes& lanes_;
    Reader& reader_;
    json::IsoMillis clock_;
    Simd::Times day_;
    std::string_view last_skipped_;  // of this field in this run

    Part head_, first_, other_, tail_;
    Edge end_{};
    std::uint32_t version_ = 0;
    bool behind_string_ = true;      // while learning: what the last cell reads
    std::uint64_t missing_[2] = {};  // fields that the message, and that an element, leaves out

    // The message being read
    const QuoteIndex* index_ = nullptr;
    const char* end_at_ = nullptr;
    bool plain_ = false;
    bool legal_ = false;
    bool holds_feeds_ = false;
    std::int64_t unknown_fields_ = 0;
};

// ---- learning ----

inline bool Track::add(const Layouts::Footstep& step, std::uint32_t next_quotes, Part* part) {
    const Edge& edge = *step.edge;
    if (edge.op == Op::none || (part->fields & edge.bit) != 0) return false;
    const auto reader = static_cast<std::uint8_t>(2 * static_cast<int>(edge.op) + !behind_string_);
    part->cells.insert(part->cells.end() - 1, {edge, part->quotes, part->quotes + edge.quotes, reader});
    behind_string_ = edge.op == Op::string || edge.op == Op::dictionary || edge.op == Op::iso_time ||
                     edge.op == Op::skip_string;
    part->quotes += next_quotes - step.quotes;
    part->fields |= edge.bit;
    part->unknown_fields += edge.unknown;
    return true;
}

inline bool Track::same(const Part& a, const Part& b) {
    return std::equal(
        a.cells.begin(), a.cells.end(), b.cells.begin(), b.cells.end(), [](const Cell& x, const Cell& y) {
            return x.edge.field == y.edge.field && x.edge.op == y.edge.op &&
                   x.edge.literal == y.edge.literal && x.quote == y.quote && x.reader == y.reader;
        });
}

inline bool Track::settle(Level level, std::uint64_t fields, std::uint64_t* missing) const {
    *missing = plan_.all[level] & ~fields;
    return (*missing & plan_.required[level]) == 0;
}

inline bool Track::learn(const std::vector<Layouts::Footstep>& trail, std::uint32_t quotes) {
    constexpr Level kLine = 1;
    constexpr Marks kBegin = kLine;
    constexpr Marks kEnd = kLine | kEndOfElement;
    if (plan_.levels > 2) return false;
    ++version_;
    head_ = first_ = other_ = tail_ = {};
    behind_string_ = true;  // where the message begins is known as well
    Part* part = &head_;
    Part again;
    for (std::size_t i = 0; i < trail.size(); ++i) {
        const Edge& edge = *trail[i].edge;
        if (edge.marks == kBegin && part == &head_) {
            part = &first_;
        } else if (edge.marks == (kEnd | kBegin << kMarkBits) && part == &first_) {
            part = &other_;
        } else if (edge.marks == (kEnd | kBegin << kMarkBits) && (part == &other_ || part == &again)) {
            if (part == &again && !same(other_, again)) return false;
            again = {};
            part = &again;
        } else if (edge.marks == kEnd && (part == &other_ || part == &again)) {
            if (part == &again && !same(other_, again)) return false;
            part = &tail_;
        } else if (edge.marks != 0) {
            return false;
        }
        if (edge.op == Op::end) {
            end_ = edge;
            part->quotes += quotes - trail[i].quotes;
        } else if (!add(trail[i], trail[i + 1].quotes, part)) {
            return false;
        }
    }
    if ((head_.fields & tail_.fields) != 0) return false;
    if (!settle(kMessage, head_.fields | tail_.fields, &missing_[kMessage])) return false;
    even_ = even();
    if (!plan_.exploded()) return true;
    return part == &tail_ && other_.quotes != 0 && first_.fields == other_.fields &&
           settle(kLine, other_.fields, &missing_[kLine]);
}

inline void Track::take_over(const Track& other) {
    head_ = other.head_;
    first_ = other.first_;
    other_ = other.other_;
    tail_ = other.tail_;
    end_ = other.end_;
    behind_string_ = other.behind_string_;
    even_ = other.even_;
    std::copy(std::begin(other.missing_), std::end(other.missing_), missing_);
    for (Part* part : {&head_, &first_, &other_, &tail_})
        for (Cell& cell : part->cells) cell.edge.lane = &lanes_.lane[cell.edge.field];
}

// ---- reading a message ----

inline bool Track::read(const QuoteIndex& index, const Place& place) {
    const std::uint32_t fixed = head_.quotes + first_.quotes + tail_.quotes;
    const std::uint32_t quotes = place.last_quote - place.first_quote;
    std::uint32_t others = 0;
    if (quotes != fixed) {
        if (quotes < fixed || other_.quotes == 0) return false;
        others = (quotes - fixed) / other_.quotes;
        if (others >= kMostElements || others * other_.quotes != quotes - fixed) return false;
    }
    index_ = &index;
    end_at_ = index.text() + place.end;
    holds_feeds_ = place.holds_feeds;
    plain_ = !holds_feeds_ && (index.plain() || index.plain(place.begin, place.end));

    std::size_t row[kMostLevels];
    row[kMessage] = lanes_.rows[kMessage];
    lanes_.ensure(kMessage, row[kMessage]);
    const std::uint32_t* at = index.quotes() + place.first_quote;
    const char* p = walk(head_, index.text() + place.begin, at, row[kMessage]);
    if (p == nullptr) return leave();
    unknown_fields_ = head_.unknown_fields + tail_.unknown_fields;
    if (plan_.exploded()) {
        at += head_.quotes;
        row[1] = lanes_.rows[1];
        const Part* part = &first_;
        for (std::uint32_t i = 0; i <= others; ++i) {
            lanes_.ensure(1, row[1]);
            p = walk(*part, p, at, row[1]);
            if (p == nullptr) return leave();
            if (missing_[1] != 0) lanes_.fill(1, row[1], missing_[1]);
            at += part->quotes;
            unknown_fields_ += part->unknown_fields;
            ++row[1];
            part = &other_;
        }
        p = walk(tail_, p, at, row[kMessage]);
    }
    if (p == nullptr || p + end_.size != end_at_ || !end_.stands_at(p)) return leave();
    if (missing_[kMessage] != 0) lanes_.fill(kMessage, row[kMessage], missing_[kMessage]);
    lanes_.complete(row);
    return true;
}

inline bool Track::leave() {
    if (missing_[1] != 0) lanes_.rollback(lanes_.rows);
    return false;
}

// What walk() needs seldom is out of line, so that what it needs always stays in registers.

[[gnu::noinline]] inline bool Track::copyable(const char* from, const char* stop) const {
    if (!holds_feeds_ && index_->plain(static_cast<std::size_t>(from - index_->text()),
                                       static_cast<std::size_t>(stop - index_->text())))
        return true;
    return is_copyable(from, stop, end_at_);
}

[[gnu::noinline]] inline bool Track::skippable(const char* from, const char* stop) const {
    if (!holds_feeds_ && index_->legal(static_cast<std::size_t>(from - index_->text()),
                                       static_cast<std::size_t>(stop - index_->text())))
        return true;
    return skip_string(from, end_at_, plan_.schema.strict_utf8) == stop + 1;
}

[[gnu::noinline]] inline const char* Track::read_cell_anew(const Cell& cell, const char* at,
                                                           std::size_t row) {
    return reader_.read_single(at, end_at_, end_at_ + kReach, cell.edge.field, row, cell.edge.depth);
}

[[gnu::noinline]] inline const char* Track::skip_anything(const Cell& cell, const char* at) {
    const char* p = skip_scalar(at);
    return p != nullptr ? p : reader_.skip_single(at, end_at_, end_at_ + kReach, cell.edge.depth);
}

// Behind the last value of a part, or nullptr.
//
// Threaded code: each reader of values ends in a jump of its own to the next, so that the CPU learns what
// follows what. The text in front of a value stands where the value before ended. Behind a string that is
// known from the index; behind anything else it is looked up there as well, so that no value waits for the
// number before it.
inline const char* Track::walk(const Part& part, const char* p, const std::uint32_t* quotes,
                               std::size_t row) {
    static const void* const kReaders[] = {
        &&string,   &&string_behind_other,   &&dictionary,  &&dictionary_behind_other,
        &&iso_time, &&iso_time_behind_other, &&integer64,   &&integer64_behind_other,
        &&decimal,  &&decimal_behind_other,  &&any,         &&any_behind_other,
        &&null,     &&null_behind_other,     &&skip_string, &&skip_string_behind_other,
        &&skip_any, &&skip_any_behind_other, &&done,        &&done,
    };
    const char* const text = index_->text();
    const bool plain = plain_;
    const Cell* cell = part.cells.data();
    const char* stop;
    const char* value;
    const auto is_plain = [&](const char* from) { return copyable(from, stop); };
    const auto read_anew = [&](const char* at) { return read_cell_anew(*cell, at, row); };

#define OMNI_GO goto* kReaders[cell->reader]
#define OMNI_NEXT \
    ++cell;       \
    OMNI_GO
#define OMNI_READER(name)                                                       \
    name##_behind_other : value = text + quotes[cell->quote] - cell->edge.lead; \
    if (value != p) return nullptr;                                             \
    p = value;                                                                  \
    name:                                                                       \
    if (!cell->edge.stands_at(p)) return nullptr;                               \
    value = p + cell->edge.size;

    OMNI_GO;

    OMNI_READER(string)
    stop = text + quotes[cell->stop];
    p = stop + 1;
    if (plain || is_plain(value)) {
        copy_string(value, stop, *cell->edge.lane, row);
    } else if (read_anew(value - 1) != p) {
        return nullptr;
    }
    OMNI_NEXT;

    OMNI_READER(dictionary)
    stop = text + quotes[cell->stop];
    p = stop + 1;
    if (plain || is_plain(value)) {
        cell->edge.lane->texts[row - lanes_.encoded[cell->edge.level]] = {
            value, static_cast<std::uint32_t>(stop - value)};
    } else if (read_anew(value - 1) != p) {
        return nullptr;
    }
    OMNI_NEXT;

    OMNI_READER(iso_time)
    stop = text + quotes[cell->stop];
    p = stop + 1;
    if ((stop - value != json::IsoMillis::kSize || !clock_.read(value, &cell->edge.lane->wide[row])) &&
        read_anew(value - 1) != p)
        return nullptr;
    OMNI_NEXT;

    OMNI_READER(integer64)
    p = value;
    if (!read_number(&p, 0, &cell->edge.lane->wide[row]) && (p = read_anew(value)) == nullptr) return nullptr;
    OMNI_NEXT;

    OMNI_READER(decimal)
    p = value;
    if (!read_number(&p, kDecimalScale, &cell->edge.lane->wide[row]) && (p = read_anew(value)) == nullptr)
        return nullptr;
    OMNI_NEXT;

    OMNI_READER(any)
    p = read_anew(value);
    if (p == nullptr) return nullptr;
    OMNI_NEXT;

    OMNI_READER(null)
    if (std::memcmp(value, "null", 4) != 0) return nullptr;
    p = value + 4;
    OMNI_NEXT;

    OMNI_READER(skip_string)
    stop = text + quotes[cell->stop];
    p = stop + 1;
    if (!plain && !skippable(value, stop)) return nullptr;
    OMNI_NEXT;

    OMNI_READER(skip_any)
    p = skip_anything(*cell, value);
    if (p == nullptr) return nullptr;
    OMNI_NEXT;

done:
    return p;

#undef OMNI_GO
#undef OMNI_NEXT
#undef OMNI_READER
}

}  // namespace omnistream::OMNI_ISA
