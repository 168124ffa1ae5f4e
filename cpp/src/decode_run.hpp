// Messages that follow each other and go the same way (decode_track.hpp), read a field at a time.
//
// From the index of quotes each value's place is known in every message. So the text in front of a field's
// values and where they go can stay in registers, no message waits for the one before it, no branch depends
// on what comes next, and numbers are read several at once.
//
// Included by decode_<isa>.cpp after decode_track.hpp.
#pragma once

#include "decode_track.hpp"

namespace omnistream::OMNI_ISA {

// Whether there is a value at all, and all elements have theirs at the same quotes, counted from the
// element's end, behind the same texts; but for what stands in front of the first.
inline bool Track::even() const {
    if (!plan_.exploded()) return head_.cells.size() > 1;
    if (first_.cells.size() != other_.cells.size() || other_.cells.size() < 2) return false;
    const auto behind_quote = [](const Cell& cell) {
        const auto& text = cell.edge.literal;
        return std::find(text.rend() - cell.edge.size, text.rend(), '"') - (text.rend() - cell.edge.size);
    };
    for (std::size_t i = 0; i + 1 < other_.cells.size(); ++i) {
        const Cell& x = first_.cells[i];
        const Cell& y = other_.cells[i];
        if (x.edge.field != y.edge.field || x.edge.op != y.edge.op || x.edge.quotes == 0 ||
            y.edge.quotes == 0 || x.stop - first_.quotes != y.stop - other_.quotes)
            return false;
        const bool same_text =
            x.edge.size == y.edge.size && x.edge.literal == y.edge.literal && x.reader == y.reader;
        if (i == 0 ? behind_quote(x) != behind_quote(y) : !same_text) return false;
    }
    return true;
}

inline std::size_t Track::read_run(const QuoteIndex& index, const Places& places) {
    if (!even_) return 0;
    index_ = &index;
    std::size_t count = gather(places);
    if (count == 0) return 0;
    plain_ = index.plain();
    if (!plain_) {
        plain_ = true;
        for (std::size_t i = 0; i < count && plain_; ++i)
            plain_ = index.plain(places.begin[i], places.end[i]);
    }
    legal_ = index.legal();
    const std::size_t row = lanes_.rows[kMessage];
    lanes_.ensure(kMessage, row + count);
    count = read_head(count, row);
    if (plan_.exploded()) {
        if (count != 0) lanes_.ensure(1, lanes_.rows[1] + elements_end_[count - 1]);
        count = read_elements(count, lanes_.rows[1]);
        count = read_tail(count, row);
    }
    count = read_end(count);
    if (count == 0) return 0;

    const std::size_t elements = plan_.exploded() ? elements_end_[count - 1] : 0;
    const auto messages = static_cast<std::int64_t>(count);
    unknown_fields_ =
        messages * (head_.unknown_fields + tail_.unknown_fields + first_.unknown_fields) +
        (static_cast<std::int64_t>(elements) - (plan_.exploded() ? messages : 0)) * other_.unknown_fields;
    if (missing_[kMessage] != 0)
        for (std::size_t i = 0; i < count; ++i) lanes_.fill(kMessage, row + i, missing_[kMessage]);
    if (plan_.exploded()) {
        const std::size_t first = lanes_.rows[1];
        if (missing_[1] != 0)
            for (std::size_t i = 0; i < elements; ++i) lanes_.fill(1, first + i, missing_[1]);
        for (std::size_t i = 0; i < count; ++i)
            lanes_.end[kMessage][row + i] = static_cast<std::int32_t>(first + elements_end_[i]);
        lanes_.rows[1] += elements;
    }
    lanes_.rows[kMessage] += count;
    return count;
}

// Where the text in front of a value begins, in a part whose quotes begin at `base`.
inline std::uint32_t Track::begin_of(const Cell& cell, std::uint32_t base) const {
    const std::uint32_t* quotes = index_->quotes();
    if (cell.reader % 2 == 0) return quotes[base + cell.quote - 1] + 1;
    const std::uint32_t quote = quotes[base + cell.quote];
    return quote - std::min<std::uint32_t>(quote, cell.edge.lead);
}

// Of the messages those, from the first on, that have as many quotes as this way.
inline std::size_t Track::gather(const Places& places) {
    places_ = places;
    const std::size_t most = std::min<std::size_t>(places.size, kMostMessages);
    const std::uint32_t fixed = head_.quotes + first_.quotes + tail_.quotes;
    const auto least = static_cast<std::uint32_t>(end_.size);
    const auto largest = static_cast<std::uint32_t>(
        std::min<std::size_t>(plan_.schema.max_message_bytes, std::numeric_limits<std::uint32_t>::max()));
    const bool any_number = other_.quotes != 0;
    const auto departs = [=, &places](std::size_t i) {
        const std::uint32_t size = places.end[i] - places.begin[i];
        const std::uint32_t more = places.last_quote[i] - places.first_quote[i] - fixed;
        return unsigned{size < least} | unsigned{size > largest} | unsigned{places.holds_feeds[i]} |
               unsigned{more != 0 && !any_number};
    };
    unsigned depart = 0;
    for (std::size_t i = 0; i < most; ++i) depart |= departs(i);
    std::size_t count = most;
    if (depart != 0) {
        count = 0;
        while (departs(count) == 0) ++count;
    }
    return plan_.exploded() ? gather_elements(count) : count;
}

// Where the elements of the first `count` messages are; how many messages have so many.
inline std::size_t Track::gather_elements(std::size_t count) {
    const std::uint32_t fixed = head_.quotes + first_.quotes + tail_.quotes;
    std::uint32_t elements = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const Place place = places_[i];
        const std::uint32_t quotes = place.last_quote - place.first_quote;
        std::uint32_t others = 0;
        if (quotes != fixed) {
            if (quotes < fixed) return i;
            others = (quotes - fixed) / other_.quotes;
            if (others >= kMostElements || others * other_.quotes != quotes - fixed) return i;
        }
        if (elements + others >= kMostUnits) return i;
        tail_at_[i] = place.last_quote - tail_.quotes;
        std::uint32_t at = place.first_quote + head_.quotes;
        element_begin_[elements] = head_.cells.size() == 1 ? place.begin : begin_of(first_.cells[0], at);
        at += first_.quotes;
        element_at_[elements] = at - other_.quotes;
        first_in_message_[elements] = 1;
        for (; others != 0; --others) {
            element_begin_[elements + 1] = element_stop_[elements] = begin_of(other_.cells[0], at);
            ++elements;
            element_at_[elements] = at;
            at += other_.quotes;
            first_in_message_[elements] = 0;
        }
        element_stop_[elements] = tail_.cells.size() == 1 ? place.end - static_cast<std::uint32_t>(end_.size)
                                                          : begin_of(tail_.cells[0], at);
        elements_end_[i] = ++elements;
    }
    return count;
}

inline std::size_t Track::read_head(std::size_t count, std::size_t row) {
    columns_.begin(index_->quotes(), places_.first_quote, count, head_.quotes);
    for (std::size_t i = 0; i + 1 < head_.cells.size() && count != 0; ++i) {
        Value value = value_of(head_, head_.cells[i], count, row);
        if (i == 0) value.begin = {index_->text(), places_.begin};
        if (i + 2 == head_.cells.size() && head_.cells[i].stops_before_text()) {
            const Cell& next = first_.cells[0];
            if (plan_.exploded()) {
                value.stop = {index_->text() - next.edge.lead, columns_.column(head_.quotes + next.quote)};
            } else {
                value.stop = {index_->text() - end_.size, places_.end};
            }
        }
        count = read_values(value);
    }
    return count;
}

inline std::size_t Track::read_elements(std::size_t count, std::size_t row) {
    const auto message_of = [this](std::size_t element, std::size_t messages) {
        return static_cast<std::size_t>(
            std::upper_bound(elements_end_.data(), elements_end_.data() + messages, element) -
            elements_end_.data());
    };
    const Edge* const openings[] = {&other_.cells[0].edge, &first_.cells[0].edge};
    for (std::size_t i = 0; i < (count == 0 ? 0 : elements_end_[count - 1]); ++i)
        if (!openings[first_in_message_[i]]->stands_at(index_->text() + element_begin_[i]))
            count = message_of(i, count);
    if (count != 0)
        columns_.begin(index_->quotes(), element_at_.data(), elements_end_[count - 1], other_.quotes);
    for (std::size_t i = 0; i + 1 < other_.cells.size() && count != 0; ++i) {
        const std::size_t elements = elements_end_[count - 1];
        Value value = value_of(other_, other_.cells[i], elements, row);
        if (i == 0) {
            // What opens an element was looked at above; its value follows the last quote of that.
            const Edge& edge = other_.cells[0].edge;
            const auto quote =
                static_cast<std::size_t>(std::string_view(edge.literal.data(), edge.size).rfind('"'));
            value.begin = {index_->text() + (edge.size - quote), columns_.column(other_.cells[0].stop - 1)};
            value.mask = 0;
            value.size = 0;
        }
        if (i + 2 == other_.cells.size() && other_.cells[i].stops_before_text())
            value.stop = {index_->text(), element_stop_.data()};
        if (const std::size_t read = read_values(value); read != elements) count = message_of(read, count);
    }
    return count;
}

inline std::size_t Track::read_tail(std::size_t count, std::size_t row) {
    columns_.begin(index_->quotes(), tail_at_.data(), count, tail_.quotes);
    for (std::size_t i = 0; i + 1 < tail_.cells.size() && count != 0; ++i) {
        Value value = value_of(tail_, tail_.cells[i], count, row);
        if (i + 2 == tail_.cells.size() && tail_.cells[i].stops_before_text())
            value.stop = {index_->text() - end_.size, places_.end};
        count = read_values(value);
    }
    return count;
}

// The text behind the last value. Where that is a string, it ends at the message's last quote.
inline std::size_t Track::read_end(std::size_t count) const {
    const Bound end{index_->text() - end_.size, places_.end};
    const std::uint32_t* const quotes = index_->quotes();
    const auto behind_last_quote = [&](std::size_t i) {
        return index_->text() + quotes[places_.last_quote[i] - 1] + 1;
    };
    std::uintptr_t apart = 0;
    if (behind_string_)
        for (std::size_t i = 0; i < count; ++i)
            apart |= static_cast<std::uintptr_t>(end(i) - behind_last_quote(i));
    if (apart == 0 && all(end_.literal.data(), end_.size, end_.mask, end, count, [](std::size_t) {}))
        return count;
    for (std::size_t i = 0; i < count; ++i)
        if ((behind_string_ && end(i) != behind_last_quote(i)) || !end_.stands_at(end(i))) return i;
    return count;
}

// A cell as a value of each unit in columns_, which all its texts and values lie in.
inline Track::Value Track::value_of(const Part& part, const Cell& cell, std::size_t count, std::size_t row) {
    const char* text = index_->text();
    const Cell& next = (&cell)[1];
    const bool last = &next == &part.cells.back();
    return {&cell,
            cell.edge.mask,
            cell.edge.size,
            cell.reader % 2 == 0 ? Bound{text + 1, columns_.column(cell.quote - 1)}
                                 : Bound{text - cell.edge.lead, columns_.column(cell.quote)},
            cell.stops_before_text() && !last ? Bound{text - next.edge.lead, columns_.column(next.quote)}
                                              : Bound{text, columns_.column(cell.stop)},
            count,
            row};
}

// How many of the values, from the first on, could be read.
inline std::size_t Track::read_values(const Value& value) {
    if (value.begin(0) < index_->text()) return 0;  // another text begins the first message
    switch (const Edge& edge = value.cell->edge; edge.op) {
        case Op::string:
            return plain_ ? read_strings<true>(value) : read_strings<false>(value);
        case Op::dictionary:
            return plain_ ? read_texts<true>(value) : read_texts<false>(value);
        case Op::iso_time:
            return read_times<Simd>(value);
        case Op::integer64:
            return read_numbers<Simd, 0>(value);
        case Op::decimal:
            return read_numbers<Simd, kDecimalScale>(value);
        case Op::any:
            return each(value, [&](const char* from, const char* stop, std::size_t i) {
                return read_odd(value, from, stop, i);
            });
        case Op::null:
            return each(value, [](const char* from, const char* stop, std::size_t) {
                return stop - from == 4 && std::memcmp(from, "null", 4) == 0;
            });
        case Op::skip_string:
            if (legal_) return each(value, [](const char*, const char*, std::size_t) { return true; });
            return each(value, [&](const char* from, const char* stop, std::size_t) {
                return index_->legal(static_cast<std::size_t>(from - index_->text()),
                                     static_cast<std::size_t>(stop - index_->text())) ||
                       skip_string(from, stop + json::kLongestEscape, plan_.schema.strict_utf8) == stop + 1;
            });
        case Op::skip_any:
            return read_skipped<Simd>(value);
        default:
            __builtin_unreachable();
    }
}

template <class Read>
[[gnu::always_inline]] inline std::size_t Track::each(const Value& value, Read&& read) {
    const char* text = value.cell->edge.literal.data();
    if (value.size <= 32) return each(value, Simd::ShortLiteral(text, value.size, value.mask), read);
    return each(value, Simd::Literal(text, value.size, value.mask), read);
}

template <class Literal, class Read>
[[gnu::always_inline]] inline std::size_t Track::each(const Value& value, Literal literal, Read&& read) {
    const Bound begin = value.begin;
    const Bound stop = value.stop;
    const std::size_t size = value.size;
    const std::size_t count = value.count;
    for (std::size_t i = 0; i < count; ++i) {
        const char* from = begin(i);
        if (!literal.at(from)) return i;
        if (!read(from + size, stop(i), i)) return i;
    }
    return count;
}

// Whether the texts in front of all values are what they should be, told once, behind the last: a branch for
// each costs as much as reading the value. `read` is called for every value all the same, so it must bear any
// place inside the message, an end in front of the beginning, too, and what it has read may be read again.
template <class Read>
[[gnu::always_inline]] inline bool Track::all(const Value& value, Read&& read) {
    return all(value.cell->edge.literal.data(), value.size, value.mask, value.begin, value.count, read);
}

template <class Read>
[[gnu::always_inline]] inline bool Track::all(const char* text, std::size_t size, std::uint64_t mask,
                                              Bound begin, std::size_t count, Read&& read) {
    if (size <= 32) return all(Simd::ShortLiteral(text, size, mask), begin, count, read);
    return all(Simd::Literal(text, size, mask), begin, count, read);
}

template <class Literal, class Read>
[[gnu::always_inline]] inline bool Track::all(Literal literal, Bound begin, std::size_t count, Read&& read) {
    typename Literal::Differences differences{};
    std::size_t i = 0;
    for (; i + 4 <= count; i += 4)
        for (std::size_t j = 0; j < 4; ++j) {
            literal.compare(begin(i + j), &differences);
            read(i + j);
        }
    for (; i < count; ++i) {
        literal.compare(begin(i), &differences);
        read(i);
    }
    return Literal::none(differences);
}

// Whether a string that may be anything is what it looks like.
[[gnu::noinline]] inline bool Track::is_plain(const char* from, const char* stop) const {
    return index_->plain(static_cast<std::size_t>(from - index_->text()),
                         static_cast<std::size_t>(stop - index_->text())) ||
           is_copyable(from, stop, stop + 1);
}

// Strings that are what they look like, into a lane that has room for all of the text and for a group of
// offsets. False where something else stands between them.
inline bool Track::copy_strings(const Value& value) {
    static_assert(Simd::Columns::kCount * sizeof(std::int32_t) <= kPadding);
    Lane& lane = *value.cell->edge.lane;
    std::int32_t* const offsets = lane.offsets.data() + value.row;
    char* const bytes = lane.bytes.data();
    const Bound begin{value.begin.text + value.size, value.begin.at};
    const auto more = static_cast<std::int32_t>(value.stop.text - begin.text);
    // First where all of them go: what is stored in vectors is slow to load before it has reached the cache.
    const unsigned longer = Simd::Columns::add_up(begin.at, value.stop.at, more, value.count, offsets);
    // Short strings are stored short, as stores that touch two cache lines take twice as long.
    if (longer == 0) return all(value, [=](std::size_t i) { std::memcpy(bytes + offsets[i], begin(i), 8); });
    if (longer == 1) return all(value, [=](std::size_t i) { std::memcpy(bytes + offsets[i], begin(i), 16); });
    if (longer == 3) return all(value, [=](std::size_t i) { std::memcpy(bytes + offsets[i], begin(i), 32); });
    return all(value, [=](std::size_t i) {
        const char* from = begin(i);
        char* to = bytes + offsets[i];
        char* const end = bytes + offsets[i + 1];
        do {
            Simd::copy(to, from);
            to += Simd::kWidth;
            from += Simd::kWidth;
        } while (to < end);
    });
}

template <bool plain>
std::size_t Track::read_strings(const Value& value) {
    if (plain && copy_strings(value)) return value.count;
    Lane& lane = *value.cell->edge.lane;
    std::int32_t* const offsets = lane.offsets.data() + value.row;
    char* bytes = lane.bytes.data();
    std::int32_t end = offsets[0];
    return each(value, [=, this, &value, &lane](const char* from, const char* stop, std::size_t i) mutable {
        if (!plain && !is_plain(from, stop)) {
            if (!read_odd(value, from, stop, i)) return false;
            bytes = lane.bytes.data();
            end = offsets[i + 1];
            return true;
        }
        char* to = bytes + end;
        end += static_cast<std::int32_t>(stop - from);
        offsets[i + 1] = end;
        do {
            Simd::copy(to, from);
            to += Simd::kWidth;
            from += Simd::kWidth;
        } while (from < stop);
        return true;
    });
}

template <bool plain>
std::size_t Track::read_texts(const Value& value) {
    Text* const texts =
        value.cell->edge.lane->texts.data() + (value.row - lanes_.encoded[value.cell->edge.level]);
    if (plain) {
        const Bound begin{value.begin.text + value.size, value.begin.at};
        const auto more = static_cast<std::uint32_t>(value.stop.text - begin.text);
        const std::uint32_t* const stops = value.stop.at;
        if (all(value, [=](std::size_t i) { texts[i] = {begin(i), stops[i] - begin.at[i] + more}; }))
            return value.count;
    }
    return each(value, [=, this, &value](const char* from, const char* stop, std::size_t i) {
        if (!plain && !is_plain(from, stop)) return read_odd(value, from, stop, i);
        texts[i] = {from, static_cast<std::uint32_t>(stop - from)};
        return true;
    });
}

// Where values can be read several at once, first come the places of them all.
template <class Simd, class Together, class One>
[[gnu::always_inline]] inline std::size_t Track::read_together(const Value& value, Together&& together,
                                                               One&& one) {
    const char* const text = index_->text();
    std::uint32_t* const stops = value_stop_.data();
    std::uint32_t* const sizes = value_size_.data();
    const auto to_stop = static_cast<std::uint32_t>(value.stop.text - text);
    const auto more = static_cast<std::uint32_t>(value.stop.text - value.begin.text - value.size);
    std::uint32_t overlap = 0;
    for (std::size_t i = 0; i < value.count; ++i) {
        stops[i] = value.stop.at[i] + to_stop;
        sizes[i] = value.stop.at[i] - value.begin.at[i] + more;
        overlap |= sizes[i];
    }
    std::size_t count = value.count;
    if (overlap >> 31 != 0 || !all(value, [](std::size_t) {})) {
        // Where texts overlap, the message goes another way.
        count = each(value, [](const char* from, const char* stop, std::size_t) { return from <= stop; });
    }
    for (std::size_t i = 0; i < count;) {
        // The last may be read twice.
        std::size_t first = i;
        if (i + Simd::kTogether > count && count >= Simd::kTogether) first = count - Simd::kTogether;
        const std::size_t behind = std::min(first + Simd::kTogether, count);
        if (behind - first < Simd::kTogether || !together(&value_stop_[first], &value_size_[first], first)) {
            for (; i < behind; ++i) {
                const char* stop = text + value_stop_[i];
                if (!one(stop - value_size_[i], stop, i)) return i;
            }
        }
        i = behind;
    }
    return count;
}

template <class Simd>
std::size_t Track::read_times(const Value& value) {
    const char* const text = index_->text();
    std::int64_t* const to = value.cell->edge.lane->wide.data() + value.row;
    const auto read_one = [&](const char* from, const char* stop, std::size_t i) {
        return stop - from == json::IsoMillis::kSize && clock_.read(from, to + i);
    };
    if constexpr (Simd::kTogether > 1) {
        typename Simd::Times day = day_;
        const std::size_t count = read_together<Simd>(
            value,
            [&](const std::uint32_t* stops, const std::uint32_t* sizes, std::size_t first) {
                bool good = true;
                for (std::size_t i = 0; i < Simd::kTogether; ++i) good &= sizes[i] == json::IsoMillis::kSize;
                return good && day.read(text, stops, to + first);
            },
            [&](const char* from, const char* stop, std::size_t i) {
                if (!read_one(from, stop, i)) return read_odd(value, from, stop, i);
                day.remember(from, to[i]);
                return true;
            });
        day_ = day;
        return count;
    } else {
        return each(value, [&](const char* from, const char* stop, std::size_t i) {
            return read_one(from, stop, i) || read_odd(value, from, stop, i);
        });
    }
}

template <class Simd, int scale>
std::size_t Track::read_numbers(const Value& value) {
    const char* const text = index_->text();
    std::int64_t* const to = value.cell->edge.lane->wide.data() + value.row;
    const auto read_one = [=, this, &value](const char* from, const char* stop, std::size_t i) {
        const char* p = from;
        return (read_number(&p, scale, to + i) && p == stop) || read_odd(value, from, stop, i);
    };
    if constexpr (Simd::kTogether > 1) {
        return read_together<Simd>(
            value,
            [=](const std::uint32_t* stops, const std::uint32_t* sizes, std::size_t first) {
                return stops[0] >= Simd::Numbers::kBytes &&
                       Simd::Numbers::template read<scale>(text, stops, sizes, to + first);
            },
            read_one);
    } else {
        return each(value, read_one);
    }
}

// Values of no interest that are no strings.
template <class Simd>
std::size_t Track::read_skipped(const Value& value) {
    last_skipped_ = {};
    const auto one = [=, this, &value](const char* from, const char* stop, std::size_t) {
        return is_simple_value<Simd>(from, stop) || skip_odd(value, from, stop);
    };
    if constexpr (Simd::kTogether > 1) {
        if (value.begin(0)[value.size] != '[' && value.begin(0)[value.size] != '{')
            return read_together<Simd>(
                value,
                [text = index_->text()](const std::uint32_t* stops, const std::uint32_t* sizes, std::size_t) {
                    return Simd::are_scalars(text, stops, sizes);
                },
                one);
    }
    return each(value, one);
}

[[gnu::noinline, gnu::cold]] inline bool Track::skip_odd(const Value& value, const char* from,
                                                         const char* stop) {
    if (stop <= from) return false;
    const std::string_view text(from, static_cast<std::size_t>(stop - from));
    if (text == last_skipped_) return true;  // producers tell their own name and version in every message
    if (reader_.skip_single(from, stop, stop + kReach, value.cell->edge.depth) != stop) return false;
    last_skipped_ = text;
    return true;
}

// The value in whatever form it has.
[[gnu::noinline, gnu::cold]] inline bool Track::read_odd(const Value& value, const char* from,
                                                         const char* stop, std::size_t i) {
    if (stop < from) return false;  // what follows the value would begin in front of it
    const Edge& edge = value.cell->edge;
    if (!value.cell->stops_before_text()) {
        --from;
        ++stop;
    }
    return reader_.read_single(from, stop, stop + kReach, edge.field, value.row + i, edge.depth) == stop;
}

}  // namespace omnistream::OMNI_ISA
