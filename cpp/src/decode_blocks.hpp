// From a block of messages to a batch: each message takes the fast path if it can and the careful one if it
// must. Included last by decode_<isa>.cpp; ends in make_kernel().
#pragma once

#include "decode_layout.hpp"

namespace omnistream::OMNI_ISA {

// How often to try the fast path when messages keep departing from what was learnt: after a window of
// messages with too few hits the next ones go straight to the Reader, twice as many each time.
class Patience {
public:
    [[nodiscard]] bool try_fast() const { return pause_ == 0; }
    [[nodiscard]] bool try_learn() const { return pause_ == 0; }
    void hit() {
        ++hits_;
        if (++tries_ == kWindow) settle();
    }
    void miss() {
        if (pause_ != 0) {
            --pause_;
        } else if (++tries_ == kWindow) {
            settle();
        }
    }

private:
    static constexpr int kWindow = 64;
    static constexpr int kFewestHits = 16;
    static constexpr int kLongestPause = 16'384;

    void settle() {
        if (hits_ >= kFewestHits) {
            next_pause_ = kWindow;
        } else {
            pause_ = next_pause_;
            next_pause_ = next_pause_ < kLongestPause ? 2 * next_pause_ : kLongestPause;
        }
        tries_ = hits_ = 0;
    }

    int tries_ = 0;
    int hits_ = 0;
    int pause_ = 0;
    int next_pause_ = kWindow;
};

class Kernel final : public DecodeKernel {
public:
    Kernel(const DecodePlan& plan, const Dictionaries& dictionaries)
        : plan_(plan),
          lanes_(plan, dictionaries),
          reader_(plan, lanes_, arena_),
          layouts_(plan, lanes_, reader_) {}

    Status decode_lines(std::string_view block, Origin* origin, Decoded* out) override {
        begin(origin, out, true);
        const char* p = block.data();
        const char* end = p + block.size();
        std::int32_t ordinal = 0;
        if (origin->first_position == 1 && block.starts_with("\xef\xbb\xbf"))
            p += 3;  // the file's byte-order mark
        for (; p != end; ++ordinal) {
            const bool fast = patience_.try_fast() && !plan_.schema.array_messages;
            const char* behind = fast ? layouts_.follow(p, end, end) : nullptr;
            if (behind != nullptr) {
                accept_fast(p, behind, ordinal);
                if (behind != end && *behind == '\r') ++behind;
            } else {
                const auto* feed =
                    static_cast<const char*>(std::memchr(p, '\n', static_cast<std::size_t>(end - p)));
                behind = feed == nullptr ? end : feed;
                const char* last = behind != p && behind[-1] == '\r' && behind != end ? behind - 1 : behind;
                if (!blank(p, last)) take(p, last, end, ordinal);
            }
            p = behind == end ? end : behind + 1;
            if (++since_encode_ == kEncodeEvery) encode();
        }
        return finish(out);
    }

    Status decode_messages(Origin* origin, Decoded* out) override {
        std::vector<Message> messages = std::move(origin->messages);
        origin->messages.clear();
        origin->messages.reserve(messages.size());
        begin(origin, out, false);
        for (const Message& message : messages) {
            const char* end = message.data + message.size;
            const char* readable = origin->readable == nullptr ? end : origin->readable;
            if (!fast(message, readable)) take(message.data, end, readable, message.ordinal);
            if (++since_encode_ == kEncodeEvery) encode();
        }
        return finish(out);
    }

private:
    static constexpr std::size_t kEncodeEvery = 1'024;  // messages, while their bytes are still in the cache

    void begin(Origin* origin, Decoded* out, bool lines) {
        origin_ = origin;
        out_ = out;
        out->batch = std::make_shared<Batch>();
        layouts_.expect_lines(lines);
        lanes_.begin();
        lines_before_ = 0;
    }

    static bool blank(const char* p, const char* end) {
        while (p != end && json::is_space(*p)) ++p;
        return p == end;
    }

    void add_message(const char* p, const char* end, std::int32_t ordinal) {
        origin_->messages.push_back({p, static_cast<std::uint32_t>(end - p), ordinal});
        ++out_->counts.messages;
    }

    void complete_message() {
        lanes_.message_number.push_back(static_cast<std::int32_t>(origin_->messages.size()) - 1);
        out_->counts.empty += lanes_.rows[plan_.lines()] == lines_before_;
        lines_before_ = lanes_.rows[plan_.lines()];
    }

    void accept_fast(const char* p, const char* behind, std::int32_t ordinal) {
        add_message(p, behind, ordinal);
        complete_message();
        out_->counts.unknown_fields += layouts_.unknown_fields();
        ++out_->counts.speculated;
        patience_.hit();
    }

    // The fast path loads beyond what it reads; a message that nothing readable follows lends its bytes to a
    // pad.
    bool fast(const Message& message, const char* readable) {
        if (!patience_.try_fast() || plan_.schema.array_messages || message.size > kMostPadded) return false;
        const char* end = message.data + message.size;
        if (readable != end) {
            const char* behind = layouts_.follow(message.data, end, readable);
            if (behind != nullptr) accept_fast(message.data, end, message.ordinal);
            return behind != nullptr;
        }
        std::string& copy = arena_.next();
        copy.reserve(message.size + kPad);
        copy.assign(message.data, message.size);
        copy.append(kPad, '\0');
        const char* p = copy.data();
        const char* behind = layouts_.follow(p, p + message.size, p + copy.size());
        if (behind == nullptr) return false;
        accept_fast(message.data, message.data + message.size, message.ordinal);
        return true;
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
        since_encode_ = 0;
    }

    Status finish(Decoded* out) {
        encode();
        const bool fits = lanes_.finish(out->batch.get());
        out->counts.decoded = static_cast<std::int64_t>(lanes_.message_number.size());
        out->counts.rejected = static_cast<std::int64_t>(out->rejects.size());
        out->counts.rows = out->batch->rows;
        if (fits) return {};
        return {Code::decode,
                "the message values repeated for each line exceed 2 GiB in one batch; push fewer messages at "
                "once"};
    }

    static constexpr std::size_t kPad = 192;
    static constexpr std::uint32_t kMostPadded =
        64 << 10;  // larger messages are rare, and the Reader is fast on them

    const DecodePlan& plan_;
    Lanes lanes_;
    Arena arena_;
    Reader reader_;
    Layouts layouts_;
    Patience patience_;
    std::size_t since_encode_ = 0;
    std::size_t lines_before_ = 0;  // the last message
    Origin* origin_ = nullptr;
    Decoded* out_ = nullptr;
};

std::unique_ptr<DecodeKernel> make_kernel(const DecodePlan& plan, const Dictionaries& dictionaries) {
    return std::make_unique<Kernel>(plan, dictionaries);
}

}  // namespace omnistream::OMNI_ISA
