// From a block of messages to a batch: each message takes the fast path if it can and the careful one if it
// must. Included last by decode_<isa>.cpp; ends in make_kernel().
#pragma once

#include "decode_spread.hpp"

namespace omnistream::OMNI_ISA {

// How often to try the fast path when messages keep departing from what was learnt: after a window of
// messages with too few hits the next ones go straight to the Reader, twice as many each time.
class Patience {
public:
    [[nodiscard]] bool try_fast() const { return pause_ == 0; }
    [[nodiscard]] bool try_learn() const { return pause_ == 0; }
    void hit(std::size_t count = 1) {
        hits_ += count;
        tries_ += count;
        if (tries_ >= kWindow) settle();
    }
    void miss() {
        if (pause_ != 0) {
            --pause_;
        } else if (++tries_ >= kWindow) {
            settle();
        }
    }

private:
    static constexpr std::size_t kWindow = 64;
    static constexpr std::size_t kFewestHits = 16;
    static constexpr std::size_t kLongestPause = 16'384;

    void settle() {
        if (hits_ >= kFewestHits) {
            next_pause_ = kWindow;
        } else {
            pause_ = next_pause_;
            next_pause_ = next_pause_ < kLongestPause ? 2 * next_pause_ : kLongestPause;
        }
        tries_ = hits_ = 0;
    }

    std::size_t tries_ = 0;
    std::size_t hits_ = 0;
    std::size_t pause_ = 0;
    std::size_t next_pause_ = kWindow;
};

class Kernel final : public DecodeKernel {
public:
    Kernel(const DecodePlan& plan, const Dictionaries& dictionaries)
        : plan_(plan),
          lanes_(plan, dictionaries),
          reader_(plan, lanes_, arena_),
          layouts_(plan, lanes_, reader_),
          spread_(plan, lanes_, arena_) {
        for (std::unique_ptr<Track>& track : tracks_) track = std::make_unique<Track>(plan_, lanes_, reader_);
    }

    Status decode_lines(std::string_view block, Origin* origin, Decoded* out) override {
        begin(origin, out);
        origin->messages.reserve(lines_of_last_block_ + lines_of_last_block_ / 8);
        const char* p = block.data();
        const char* const end = p + block.size();
        // What ends behind it is read from a copy, as nothing may be loaded behind the block.
        const char* const safe = end - std::min<std::ptrdiff_t>(end - p, kReach);
        if (origin->first_position == 1 && block.starts_with("\xef\xbb\xbf"))
            p += 3;  // the file's byte-order mark
        ordinal_ = 0;
        while (p != end) {
            const char* stop = p;
            if (speculates()) stop += index_lines(p, safe);
            if (stop != p) {
                lines(p, p, static_cast<std::size_t>(stop - p), end);
            } else {
                stop = chunk_end(p, safe, end);
                const auto size = static_cast<std::size_t>(stop - p);
                if (!speculates() || size > kMostFast) {
                    careful_lines(p, stop, end);
                } else {
                    pad_.assign(p, size);
                    pad_.append(kReach, ' ');
                    index_.build(pad_.data(), size);
                    lines(pad_.data(), p, size, end);
                }
            }
            encode();
            p = stop;
        }
        lines_of_last_block_ = origin->messages.size();
        return finish(out);
    }

    Status decode_messages(Origin* origin, Decoded* out) override {
        const KeptVector<Message> messages = std::move(origin->messages);
        origin->messages.clear();
        origin->messages.reserve(messages.size());
        begin(origin, out);
        for (std::size_t first = 0; first < messages.size();) {
            std::size_t size = 0;
            std::size_t behind = first;
            while (behind < messages.size() && (behind == first || size + messages[behind].size < chunk_))
                size += messages[behind++].size;
            const std::span<const Message> chunk(messages.data() + first, behind - first);
            if (!speculates() || size > kMostFast) {
                for (const Message& message : chunk) take(message);
            } else {
                together(chunk, origin->readable);
            }
            encode();
            first = behind;
        }
        return finish(out);
    }

private:
    // Indexed and read at a time, so that both stay in the cache.
    static constexpr std::size_t kChunk = 64 << 10;
    // Large messages, and those that go several ways: more of them at a time, or of each way, are worth more
    // than the cache (6 KB each: an eighth faster; three ways: a tenth).
    static constexpr std::size_t kLargeChunk = 128 << 10;
    static constexpr std::size_t kLargeMessage = 3 << 10;
    // Larger messages are rare, and the Reader is fast on them.
    static constexpr std::size_t kMostFast = 256 << 10;
    static constexpr std::size_t kLongestTrackPause = 1'024;
    static constexpr std::size_t kShortRun = 4;
    static constexpr std::size_t kApart = 32;

    void begin(Origin* origin, Decoded* out) {
        origin_ = origin;
        out_ = out;
        out->batch = std::make_shared<Batch>();
        lanes_.begin();
        lines_before_ = 0;
    }

    [[nodiscard]] bool speculates() const { return patience_.try_fast() && !plan_.schema.array_messages; }

    // The lines that end in the next chunk_ bytes and in front of `safe`: their size, 0 where there are none.
    std::size_t index_lines(const char* p, const char* safe) {
        if (p >= safe) return 0;
        index_.build(p, std::min(static_cast<std::size_t>(safe - p), chunk_));
        return index_.drop_open_line();
    }

    // Behind the last line that ends in the next chunk_ bytes and in front of `safe`; where none does, behind
    // the line at p.
    [[nodiscard]] const char* chunk_end(const char* p, const char* safe, const char* end) const {
        const auto room = static_cast<std::size_t>(std::max<std::ptrdiff_t>(safe - p, 0));
        const std::size_t size = std::min(room, chunk_);
        const void* feed = memrchr(p, '\n', size);
        return feed == nullptr ? line_end(p + size, end) : static_cast<const char*>(feed) + 1;
    }
    // How much to index next time, after messages of that size together.
    void suit_chunk(std::size_t size) {
        const bool spreads = mixed_ && spread_.sides_used() > 1;
        chunk_ = spreads || size > places_.size() * kLargeMessage ? kLargeChunk : kChunk;
    }
    // Behind the line feed at or behind p.
    static const char* line_end(const char* p, const char* end) {
        const void* feed = std::memchr(p, '\n', static_cast<std::size_t>(end - p));
        return feed == nullptr ? end : static_cast<const char*>(feed) + 1;
    }

    // The lines of a chunk that is indexed. `text` is `original` or a copy that more can be loaded behind.
    void lines(const char* text, const char* original, std::size_t size, const char* readable) {
        find_lines(text, size);
        suit_chunk(size);
        lanes_.reserve_texts(size);
        const auto message_at = [places = places_.all(), this, original](std::size_t i) {
            return Message{original + places.begin[i], places.end[i] - places.begin[i],
                           ordinal_ + static_cast<std::int32_t>(i)};
        };
        read_places(message_at, [&](std::size_t i) {
            const Message message = message_at(i);
            const char* end = message.data + message.size;
            if (!blank(message.data, end)) take(message.data, end, readable, message.ordinal);
        });
        ordinal_ += static_cast<std::int32_t>(places_.size());
    }

    void find_lines(const char* text, std::size_t size) {
        places_.assign_lines(index_.lines());
        if (!index_.plain()) places_.strip_returns(text, size);
    }

    // The messages of an indexed chunk, each on the fastest path that takes it.
    template <class MessageAt, class Otherwise>
    void read_places(const MessageAt& message_at, const Otherwise& otherwise) {
        const Places places = places_.all();
        for (std::size_t i = 0; i < places.size; ++i) {
            if (const std::size_t run = follow_run(places.behind(i)); run != 0) {
                accept_run(run, [=](std::size_t each) { return message_at(i + each); });
                i += run;
                if (i == places.size) break;
            }
            if (follow(places[i])) {
                accept_fast(message_at(i));
            } else {
                otherwise(i);
            }
        }
    }

    void careful_lines(const char* p, const char* stop, const char* readable) {
        for (; p != stop; ++ordinal_) {
            const char* behind = line_end(p, stop);
            const char* last = behind;
            if (last[-1] == '\n') {
                --last;
                if (last != p && last[-1] == '\r') --last;
            }
            if (!blank(p, last)) take(p, last, readable, ordinal_);
            p = behind;
        }
    }

    // Messages that stand one behind the other, or are copied so, to be indexed at once.
    void together(std::span<const Message> messages, const char* readable) {
        const char* text = messages.front().data;
        std::size_t size = 0;
        bool adjoin = true;
        for (const Message& message : messages) {
            adjoin &= message.data == text + size;
            size += message.size;
        }
        if (!adjoin || readable == nullptr || readable - text < static_cast<std::ptrdiff_t>(size) + kReach) {
            pad_.clear();
            for (const Message& message : messages) pad_.append(message.data, message.size);
            pad_.append(kReach, ' ');
            text = pad_.data();
        }
        index_.build(text, size);
        find_places(messages);
        suit_chunk(size);
        lanes_.reserve_texts(size);
        read_places([&](std::size_t i) { return messages[i]; }, [&](std::size_t i) { take(messages[i]); });
    }

    // Where messages end is known; how many quotes lie before that is guessed from the message before.
    void find_places(std::span<const Message> messages) {
        places_.clear();
        const std::uint32_t* const quotes = index_.quotes();
        const auto count = static_cast<std::uint32_t>(index_.quote_count());
        auto feed = index_.lines().begin();
        std::uint32_t at = 0;
        std::uint32_t first = 0;
        std::uint32_t usual = 0;
        for (const Message& message : messages) {
            const std::uint32_t end = at + message.size;
            std::uint32_t last = std::min(first + usual, count);
            while (last != first && quotes[last - 1] >= end) --last;
            while (last != count && quotes[last] < end) ++last;
            // Line feeds are legal between values, not in strings: behind an odd number of quotes.
            bool holds_feeds = false;
            for (; feed != index_.lines().end() && feed->end < end; ++feed)
                holds_feeds |= (feed->quotes - first) % 2 != 0;
            places_.push_back({at, end_of_value(at, end), first, last, holds_feeds});
            usual = last - first;
            at = end;
            first = last;
        }
    }

    // Where the value of a message ends that may have spaces behind it; one that is too large stays so.
    [[nodiscard]] std::uint32_t end_of_value(std::uint32_t begin, std::uint32_t end) const {
        if (end - begin > plan_.schema.max_message_bytes) return end;
        while (end != begin && json::is_space(index_.text()[end - 1])) --end;
        return end;
    }

    // How many of the messages, from the first on, went the way that was taken last, or the ways that are
    // known.
    std::size_t follow_run(const Places& places) {
        if (tracks_known_ == 0 || !patience_.try_fast()) return 0;
        if (until_run_ != 0) {
            --until_run_;
            return 0;
        }
        if (!mixed_) {
            Track& track = *tracks_[0];
            const std::size_t run = track.read_run(index_, places);
            if (run != 0) out_->counts.unknown_fields += track.unknown_fields();
            mixed_ = run < kShortRun && run < places.size;
            return run;
        }
        std::size_t run = 0;
        if (tracks_known_ > 1 && !plan_.exploded())
            run = spread_.read(index_, places, std::span(tracks_).first(tracks_known_));
        if (run != 0) out_->counts.unknown_fields += spread_.unknown_fields();
        if (run < kShortRun && run < places.size) {
            mixed_ = false;
            until_run_ = kApart;
        } else if (spread_.sides_used() == 1) {
            mixed_ = false;
        }
        return run;
    }

    bool follow(const Place& place) {
        if (!patience_.try_fast() || place.end - place.begin > plan_.schema.max_message_bytes) return false;
        for (std::size_t i = 0; i < tracks_known_; ++i) {
            Track& track = *tracks_[i];
            if (!track.read(index_, place)) continue;
            out_->counts.unknown_fields += track.unknown_fields();
            if (i != 0) std::swap(tracks_[i], tracks_[i - 1]);
            return true;
        }
        const char* text = index_.text();
        const std::uint32_t* quotes = index_.quotes();
        if (!layouts_.follow(text + place.begin, text + place.end, index_, quotes + place.first_quote,
                             quotes + place.last_quote, place.holds_feeds))
            return false;
        out_->counts.unknown_fields += layouts_.unknown_fields();
        learn_track(place.last_quote - place.first_quote);
        return true;
    }

    // The way just followed, in place of the one that was taken least of late.
    void learn_track(std::uint32_t quotes) {
        if (until_track_ != 0) {
            --until_track_;
            return;
        }
        const std::size_t at = std::min(tracks_known_, tracks_.size() - 1);
        if (tracks_[at]->learn(layouts_.trail(), quotes)) {
            tracks_known_ = at + 1;
        } else {
            tracks_known_ = at;
        }
        // Where ways differ all the time, learning them is lost time.
        until_track_ = track_pause_;
        track_pause_ = std::min(track_pause_ + 1, kLongestTrackPause);
    }

    static bool blank(const char* p, const char* end) {
        while (p != end && json::is_space(*p)) ++p;
        return p == end;
    }

    void add_message(const Message& message) {
        origin_->messages.push_back(message);
        ++out_->counts.messages;
    }
    void add_message(const char* p, const char* end, std::int32_t ordinal) {
        add_message({p, static_cast<std::uint32_t>(end - p), ordinal});
    }

    void complete_message() {
        lanes_.message_number.push_back(static_cast<std::int32_t>(origin_->messages.size()) - 1);
        out_->counts.empty += lanes_.rows[plan_.lines()] == lines_before_;
        lines_before_ = lanes_.rows[plan_.lines()];
    }

    void accept_fast(const Message& message) {
        add_message(message);
        complete_message();
        ++out_->counts.speculated;
        patience_.hit();
    }

    // As accept_fast() for each; with lines, none of them empty.
    template <class MessageAt>
    void accept_run(std::size_t run, const MessageAt& message_at) {
        const std::size_t first = origin_->messages.size();
        origin_->messages.resize(first + run);
        const std::size_t row = lanes_.message_number.size();
        lanes_.message_number.resize(row + run);
        for (std::size_t i = 0; i < run; ++i) {
            origin_->messages[first + i] = message_at(i);
            lanes_.message_number[row + i] = static_cast<std::int32_t>(first + i);
        }
        lines_before_ = lanes_.rows[plan_.lines()];
        out_->counts.messages += static_cast<std::int64_t>(run);
        out_->counts.speculated += static_cast<std::int64_t>(run);
        patience_.hit(run);
    }

    void take(const Message& message) {
        const char* end = message.data + message.size;
        take(message.data, end, origin_->readable == nullptr ? end : origin_->readable, message.ordinal);
    }
    void take(const char* p, const char* end, const char* readable, std::int32_t ordinal) {
        if (plan_.schema.array_messages) {
            read_array(p, end, readable, ordinal);
        } else {
            read(p, end, readable, ordinal);
        }
    }

    // A message that is an array of messages, all at its position. Where the array's own syntax breaks, what
    // is left is one reject: no message can be told from the next any more.
    void read_array(const char* p, const char* end, const char* readable, std::int32_t ordinal) {
        const auto spaces = [end](const char* at) {
            while (at != end && json::is_space(*at)) ++at;
            return at;
        };
        const char* begin = p;
        p = spaces(p);
        if (p == end || *p != '[') return read(begin, end, readable, ordinal);  // one message after all
        p = spaces(p + 1);
        if (p != end && *p == ']') return end_array(spaces(p + 1), end, ordinal);
        for (;;) {
            const char* behind = p == end ? nullptr : reader_.skip_single(p, end, readable, 0);
            if (behind == nullptr) {
                const bool ends = p == end || reader_.was_truncated();
                const char* at = p == end ? end : reader_.syntax_at();
                return reject(p, end, ordinal,
                              ends ? DecodeReason::truncated_json : DecodeReason::invalid_json,
                              static_cast<std::int32_t>(at - p));
            }
            read(p, behind, readable, ordinal);
            p = spaces(behind);
            if (p == end) return reject(p, end, ordinal, DecodeReason::truncated_json, 0);
            if (*p == ']') return end_array(spaces(p + 1), end, ordinal);
            if (*p != ',') return reject(p, end, ordinal, DecodeReason::invalid_json, 0);
            p = spaces(p + 1);
        }
    }

    void end_array(const char* rest, const char* end, std::int32_t ordinal) {
        if (rest != end) reject(rest, end, ordinal, DecodeReason::trailing_data, 0);
    }

    void reject(const char* p, const char* end, std::int32_t ordinal, DecodeReason reason,
                std::int32_t offset) {
        add_message(p, end, ordinal);
        out_->rejects.push_back({static_cast<std::int32_t>(origin_->messages.size()) - 1,
                                 -1,
                                 offset,
                                 static_cast<std::int32_t>(reason),
                                 {}});
    }

    void read(const char* p, const char* end, const char* readable, std::int32_t ordinal) {
        add_message(p, end, ordinal);
        Reject reject;
        if (end - p > plan_.schema.max_message_bytes) {
            reject.reason = static_cast<std::int32_t>(DecodeReason::message_too_large);
        } else {
            const bool learn = plan_.speculate && patience_.try_learn();
            const bool good = reader_.read(p, end, readable, learn, &reject);
            patience_.miss();
            if (good) {
                complete_message();
                out_->counts.unknown_fields += reader_.unknown_fields();
                if (learn && reader_.learnable()) layouts_.learn(p, reader_.steps());
                return;
            }
        }
        reject.message = static_cast<std::int32_t>(origin_->messages.size()) - 1;
        out_->rejects.push_back(std::move(reject));
    }

    void encode() {
        lanes_.encode();
        arena_.clear();
    }

    Status finish(Decoded* out) {
        const bool fits = lanes_.finish(out->batch.get());
        out->counts.decoded = static_cast<std::int64_t>(lanes_.message_number.size());
        out->counts.rejected = static_cast<std::int64_t>(out->rejects.size());
        out->counts.rows = out->batch->rows;
        if (fits) return {};
        return {Code::decode,
                "the message values repeated for each line exceed 2 GiB in one batch; push fewer messages at "
                "once"};
    }

    const DecodePlan& plan_;
    Lanes lanes_;
    Arena arena_;
    Reader reader_;
    Layouts layouts_;
    Patience patience_;
    QuoteIndex index_;
    PlaceList places_;
    std::array<std::unique_ptr<Track>, Spread::kMostTracks> tracks_;  // those taken most of late first
    std::size_t tracks_known_ = 0;
    Spread spread_;
    bool mixed_ = false;           // whether the last run was short, as messages go several ways
    std::size_t until_run_ = 0;    // messages to follow one by one, as runs were short
    std::size_t until_track_ = 0;  // messages followed before another is learnt
    std::size_t track_pause_ = 0;
    std::size_t chunk_ = kChunk;
    std::string pad_;  // copies of messages
    std::int32_t ordinal_ = 0;
    std::size_t lines_before_ = 0;  // the last message
    std::size_t lines_of_last_block_ = 0;
    Origin* origin_ = nullptr;
    Decoded* out_ = nullptr;
};

std::unique_ptr<DecodeKernel> make_kernel(const DecodePlan& plan, const Dictionaries& dictionaries) {
    return std::make_unique<Kernel>(plan, dictionaries);
}

}  // namespace omnistream::OMNI_ISA
