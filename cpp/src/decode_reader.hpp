// The careful reader: any JSON at any layout, and the only judge of what is wrong with a message.
// Included by decode_<isa>.cpp after its simd_<isa>.hpp.
#pragma once

#include "decode_steps.hpp"

namespace omnistream::OMNI_ISA {

// The first byte in [p, end) that ends or breaks a string's run of plain bytes, or `end`. Loads never pass
// `readable`. *high tells whether bytes that are not ASCII may lie before it.
inline const char* string_stop(const char* p, const char* end, const char* readable, bool* high) {
    std::uint64_t not_ascii = 0;
    const char* stop = end;
    for (;;) {
        if (readable - p < static_cast<std::ptrdiff_t>(Simd::kWidth)) {
            while (p < end && *p != '"' && *p != '\\' && static_cast<unsigned char>(*p) >= 0x20)
                not_ascii |= static_cast<unsigned char>(*p++) & 0x80U;
            stop = p;
            break;
        }
        const Simd::Scan found = Simd::scan(p);
        if (found.stop != 0) {
            not_ascii |= found.high & (found.stop ^ (found.stop - 1));
            stop = p + std::countr_zero(found.stop);
            break;
        }
        not_ascii |= found.high;
        p += Simd::kWidth;
        if (p >= end) break;
    }
    *high = not_ascii != 0;
    return std::min(stop, end);
}

// Bytes of unescaped strings, at rest until clear().
class Arena {
public:
    std::string& next() {
        if (used_ == strings_.size()) strings_.emplace_back();
        std::string& text = strings_[used_++];
        text.clear();
        return text;
    }
    void clear() { used_ = 0; }
    [[nodiscard]] bool empty() const { return used_ == 0; }

private:
    std::deque<std::string> strings_;
    std::size_t used_ = 0;
};

class Reader {
public:
    Reader(const DecodePlan& plan, Lanes& lanes, Arena& arena) : plan_(plan), lanes_(lanes), arena_(arena) {
        faults_.resize(plan.fields.size());
    }

    // One message. On success its rows are complete in the lanes; steps() holds what a learner wants to know.
    // Bytes up to `readable` may be loaded, bytes from `end` on mean nothing.
    bool read(const char* begin, const char* end, const char* readable, bool learn, Reject* reject) {
        begin_ = begin;
        end_ = end;
        readable_ = readable;
        diary_.begin(learn);
        opened_ = 0;
        unknown_ = 0;
        element_fault_.reason = kNone;
        syntax_reason_ = kNone;
        for (Level level = 0; level < plan_.levels; ++level) row_[level] = lanes_.rows[level];
        begin_element(kMessage, begin);

        const char* p = spaces(begin);
        if (p == end) {
            truncated();
        } else if (*p == '{') {
            p = object(p + 1, &plan_.nodes[0], 1);
            if (p != nullptr) {
                diary_.end(p);
                p = spaces(p);
                if (p != end) syntax(DecodeReason::trailing_data, p);
            }
        } else {
            const char* value = p;
            p = skip(p, 0);
            if (p != nullptr && (p = spaces(p)) != end) syntax(DecodeReason::trailing_data, p);
            if (syntax_reason_ == kNone) syntax(DecodeReason::not_an_object, value);
        }
        if (syntax_reason_ != kNone) {
            *reject = {0, -1, static_cast<std::int32_t>(syntax_at_ - begin_), syntax_reason_, {}};
            lanes_.rollback(lanes_.rows);
            return false;
        }
        return judge(reject);
    }

    // A field's value at the fast path's position: the same meaning, with the row that is being filled there.
    // nullptr when there is a fault of any kind, or a null.
    const char* read_single(const char* p, const char* end, const char* readable, std::uint16_t field,
                            std::size_t row, int depth) {
        end_ = end;
        readable_ = readable;
        diary_.close();
        syntax_reason_ = kNone;
        const FieldPlan& plan = plan_.fields[field];
        row_[plan.level] = row;
        seen_[plan.level] = faulty_[plan.level] = 0;
        p = field_value(p, field, depth);
        return p != nullptr && seen_[plan.level] == plan.bit ? p : nullptr;
    }
    // A value of no interest, checked for syntax only.
    const char* skip_single(const char* p, const char* end, const char* readable, int depth) {
        end_ = end;
        readable_ = readable;
        return skip(p, depth);
    }

    // After skip_single() gave nullptr.
    [[nodiscard]] const char* syntax_at() const { return syntax_at_; }
    [[nodiscard]] bool was_truncated() const {
        return syntax_reason_ == static_cast<std::int32_t>(DecodeReason::truncated_json);
    }

    [[nodiscard]] const std::vector<Step>& steps() const { return diary_.steps(); }
    [[nodiscard]] bool learnable() const { return !diary_.strange(); }
    [[nodiscard]] std::int64_t unknown_fields() const { return unknown_; }

private:
    static constexpr std::int32_t kNone = -1;
    static constexpr auto kWidth = static_cast<std::ptrdiff_t>(Simd::kWidth);
    enum class Found : std::uint8_t { missing, null, wrong, array };
    struct ArrayState {
        Found found = Found::missing;
        const char* at = nullptr;
    };
    struct Fault {
        std::int32_t reason = kNone;
        const char* at = nullptr;
    };

    // ---- structure ----

    const char* spaces(const char* p) const {
        while (p != end_ && json::is_space(*p)) ++p;
        return p;
    }

    const char* syntax(DecodeReason reason, const char* at) {
        syntax_reason_ = static_cast<std::int32_t>(reason);
        syntax_at_ = at;
        return nullptr;
    }
    const char* truncated() { return syntax(DecodeReason::truncated_json, end_); }
    const char* invalid(const char* at) {
        return at == end_ ? truncated() : syntax(DecodeReason::invalid_json, at);
    }

    // Behind the opening brace to behind the closing one. `node` is null in objects that the schema does not
    // know.
    const char* object(const char* p, const Node* node, int depth) {
        if (depth > plan_.schema.max_depth) return syntax(DecodeReason::nesting_too_deep, p - 1);
        p = spaces(p);
        if (p != end_ && *p == '}') return p + 1;
        for (;;) {
            std::string_view key;
            if (p == end_ || *p != '"') return invalid(p);
            if ((p = key_string(p + 1, &key)) == nullptr) return nullptr;
            p = spaces(p);
            if (p == end_ || *p != ':') return invalid(p);
            p = spaces(p + 1);
            if (p == end_) return truncated();
            p = value(p, node, key, depth);
            if (p == nullptr) return nullptr;
            p = spaces(p);
            if (p == end_) return truncated();
            if (*p == '}') return p + 1;
            if (*p != ',') return invalid(p);
            p = spaces(p + 1);
        }
    }

    // Behind a key's opening quote to behind its closing one.
    const char* key_string(const char* p, std::string_view* key) {
        bool high = false;
        const char* stop = string_stop(p, end_, readable_, &high);
        if (stop != end_ && *stop == '"') {
            if (high && !strictly_valid(p, stop)) return nullptr;
            *key = {p, static_cast<std::size_t>(stop - p)};
            return stop + 1;
        }
        diary_.refuse();
        bool lone_surrogate = false;
        std::string* text = nullptr;
        stop = escaped_string(p, &text, &lone_surrogate);
        if (!strictly_valid(p, stop == nullptr ? syntax_at_ : stop - 1)) return nullptr;
        if (stop != nullptr) *key = *text;
        return stop;
    }

    // A string with escapes, resolved in the arena.
    const char* escaped_string(const char* p, std::string** text, bool* lone_surrogate) {
        *text = &arena_.next();
        const char* bad = nullptr;
        const char* behind = json::unescape(p, end_, *text, &bad, lone_surrogate);
        return behind == nullptr ? invalid(bad) : behind;
    }

    // Strictly, the raw bytes of strings that no column keeps must be UTF-8, too, up to where the string ends
    // or breaks; the end of the message may cut a character.
    bool strictly_valid(const char* p, const char* end) {
        if (!plan_.schema.strict_utf8) return true;
        const char* bad = json::utf8_fault(p, end);
        if (bad == end || (end == end_ && json::utf8_is_cut(bad, end))) return true;
        syntax(DecodeReason::invalid_json, bad);
        return false;
    }

    const char* value(const char* p, const Node* node, std::string_view key, int depth) {
        static const Target kUnknown{};
        const Target& target = node == nullptr ? kUnknown : node->keys.find(key.data(), key.size());
        switch (target.kind) {
            case Target::field: {
                const FieldPlan& field = plan_.fields[target.index];
                const char* behind = field_value(p, target.index, depth);
                if (behind != nullptr) diary_.field(p, behind, field, target.index, depth);
                return behind;
            }
            case Target::object:
                return known_object(p, target, depth);
            case Target::explode:
                return array(p, target, depth);
            case Target::unknown:
                break;
        }
        unknown_ += node != nullptr;
        return diary_.wants_unknown(node) ? noted(p, node, key, depth) : skip(p, depth);
    }

    // The last of several values below one key counts; what an earlier one showed is forgotten.
    void forget(const Target& target, Level parent) {
        if ((opened_ & target.nodes_below) == 0) return;
        diary_.refuse();
        opened_ &= ~target.nodes_below;
        seen_[parent] &= ~target.below;
        faulty_[parent] &= ~target.below;
        const auto inner = static_cast<Level>(parent + 1);
        if (inner == plan_.levels || (target.nodes_below & plan_.array_bit[inner]) == 0) return;
        array_[inner] = {};
        for (Level level = inner; level < plan_.levels; ++level) row_[level] = first_row_[parent][level];
        lanes_.rollback(row_);
        if (element_fault_.reason != kNone && element_fault_at_ >= element_[parent])
            element_fault_.reason = kNone;
    }

    const char* known_object(const char* p, const Target& target, int depth) {
        forget(target, target.level);
        opened_ |= target.node_bit;
        if (*p == '{') {
            diary_.enter(target.node_bit);
            return object(p + 1, &plan_.nodes[target.index], depth + 1);
        }
        const char* behind = skip(p, depth);
        if (behind == nullptr) return nullptr;
        if (*p == 'n') {
            diary_.null(p, behind, target, depth);
            return behind;
        }
        for (std::uint64_t bits = target.below; bits != 0; bits &= bits - 1)
            fault(plan_.by_bit[target.level][static_cast<std::size_t>(std::countr_zero(bits))],
                  DecodeReason::wrong_type, p);
        const auto inner = static_cast<Level>(target.level + 1);
        if (inner != plan_.levels && (target.nodes_below & plan_.array_bit[inner]) != 0)
            array_[inner] = {Found::wrong, p};
        return behind;
    }

    // ---- exploded arrays ----

    const char* array(const char* p, const Target& target, int depth) {
        const Level level = target.level;  // of the elements
        forget(target, static_cast<Level>(level - 1));
        opened_ |= target.node_bit;
        if (*p != '[') {
            array_[level] = {*p == 'n' ? Found::null : Found::wrong, p};
            return skip(p, depth);
        }
        array_[level] = {Found::array, p};
        diary_.enter(target.node_bit);
        if (depth + 1 > plan_.schema.max_depth) return syntax(DecodeReason::nesting_too_deep, p);
        p = spaces(p + 1);
        if (p != end_ && *p == ']') return p + 1;
        for (;;) {
            if (p == end_) return truncated();
            if (*p == '{') {
                begin_element(level, p);
                diary_.mark(level);
                if ((p = object(p + 1, &plan_.nodes[target.index], depth + 2)) == nullptr) return nullptr;
                end_element(level);
            } else {
                begin_element(level, p);
                element_fault(level,
                              {0, -1, static_cast<std::int32_t>(p - begin_),
                               static_cast<std::int32_t>(DecodeReason::wrong_type), array_name(level)});
                finish_row(level);
                if ((p = skip(p, depth + 1)) == nullptr) return nullptr;
            }
            p = spaces(p);
            if (p == end_) return truncated();
            if (*p == ']') return p + 1;
            if (*p != ',') return invalid(p);
            p = spaces(p + 1);
        }
    }

    void begin_element(Level level, const char* p) {
        seen_[level] = faulty_[level] = 0;
        opened_ &= ~plan_.inner_nodes[level];
        element_[level] = p;
        lanes_.ensure(level, row_[level]);
        for (Level inner = static_cast<Level>(level + 1); inner < plan_.levels; ++inner) {
            first_row_[level][inner] = row_[inner];
            array_[inner] = {};
        }
    }

    void end_element(Level level) {
        // Objects entered just before the end would be forgotten with it, were they part of one learnt
        // literal.
        if (diary_.entered(plan_.inner_nodes[level])) diary_.refuse();
        diary_.mark(kEndOfElement | level);
        const std::uint64_t bad = faulty_[level] | (plan_.required[level] & ~seen_[level]);
        if (bad != 0) {
            element_fault(level, reject_of(level, bad));
        } else if (lacks_array(level)) {
            element_fault(level, array_reject(level));
        }
        finish_row(level);
    }

    void finish_row(Level level) {
        const std::uint64_t missing = plan_.all[level] & ~seen_[level];
        if (element_fault_.reason != kNone) {
            lanes_.fill_nothing(level, row_[level], missing);
        } else if (missing != 0) {
            lanes_.fill(level, row_[level], missing);
        }
        if (level != plan_.lines())
            lanes_.end[level][row_[level]] = static_cast<std::int32_t>(row_[level + 1]);
        ++row_[level];
    }

    void element_fault(Level level, Reject reject) {
        if (element_fault_.reason != kNone) return;
        element_fault_ = std::move(reject);
        element_fault_at_ = element_[level];
        if (level == plan_.lines())
            element_fault_.line = static_cast<std::int32_t>(row_[level] - lanes_.rows[level]);
    }

    [[nodiscard]] bool lacks_array(Level level) const {
        return level != plan_.lines() && array_[level + 1].found != Found::array;
    }
    [[nodiscard]] const std::string& array_name(Level level) const {
        return plan_.schema.explode[level - 1U].name;
    }

    [[nodiscard]] Reject array_reject(Level level) const {
        const ArrayState& state = array_[level + 1];
        const DecodeReason reason = state.found == Found::missing ? DecodeReason::missing_field
                                    : state.found == Found::null  ? DecodeReason::null_field
                                                                  : DecodeReason::wrong_type;
        return {0, -1, state.found == Found::missing ? -1 : static_cast<std::int32_t>(state.at - begin_),
                static_cast<std::int32_t>(reason), array_name(static_cast<Level>(level + 1))};
    }

    // ---- fields ----

    void fault(std::uint16_t field, DecodeReason reason, const char* at) {
        const FieldPlan& plan = plan_.fields[field];
        seen_[plan.level] &= ~plan.bit;
        faulty_[plan.level] |= plan.bit;
        faults_[field] = {static_cast<std::int32_t>(reason), at};
    }
    void good(const FieldPlan& plan) {
        seen_[plan.level] |= plan.bit;
        faulty_[plan.level] &= ~plan.bit;
    }
    void null(std::uint16_t field, const char* at) {
        const FieldPlan& plan = plan_.fields[field];
        if (plan.field.required) return fault(field, DecodeReason::null_field, at);
        seen_[plan.level] &= ~plan.bit;
        faulty_[plan.level] &= ~plan.bit;
    }

    const char* field_value(const char* p, std::uint16_t field, int depth) {
        const FieldPlan& plan = plan_.fields[field];
        switch (*p) {
            case '"':
                return string_value(p, field);
            case '{':
            case '[': {
                const char* behind = skip(p, depth);
                fault(field, DecodeReason::wrong_type, p);
                return behind;
            }
            case 'n':
            case 't':
            case 'f': {
                const char* behind = word(p);
                if (behind == nullptr) return nullptr;
                if (*p == 'n') {
                    null(field, p);
                } else if (plan.field.type != Type::boolean) {
                    fault(field, DecodeReason::wrong_type, p);
                } else {
                    lanes_.lane[field].bytewise[row_[plan.level]] = *p == 't';
                    good(plan);
                }
                return behind;
            }
            default:
                return number_value(p, field);
        }
    }

    const char* string_value(const char* quote, std::uint16_t field) {
        const FieldPlan& plan = plan_.fields[field];
        const char* p = quote + 1;
        bool high = false;
        const char* stop = string_stop(p, end_, readable_, &high);
        if (stop == end_) return truncated();
        std::string_view text;
        bool valid = true;
        if (*stop == '"') {
            text = {p, static_cast<std::size_t>(stop - p)};
            ++stop;
            if (high) valid = json::utf8_fault(p, stop - 1) == stop - 1;
            if (valid && plan.field.type == Type::string && readable_ - stop >= kWidth) {
                copy_text(text, &lanes_.lane[field], row_[plan.level]);
                good(plan);
                return stop;
            }
        } else {
            std::string* plain = nullptr;
            bool lone_surrogate = false;
            if ((stop = escaped_string(p, &plain, &lone_surrogate)) == nullptr) return nullptr;
            text = *plain;
            const char* last = text.data() + text.size();
            valid = !lone_surrogate && json::utf8_fault(text.data(), last) == last;
        }
        if (!valid) {
            fault(field, DecodeReason::invalid_utf8, quote);
        } else {
            string_field(text, quote, field, plan);
        }
        return stop;
    }

    // As set_text(), in whole vectors, of which one can be read behind the text.
    static void copy_text(std::string_view text, Lane* lane, std::size_t row) {
        const auto start = static_cast<std::size_t>(lane->offsets[row]);
        if (start + text.size() + kWidth > lane->bytes.capacity()) return lane->set_text(row, text);
        lane->offsets[row + 1] = static_cast<std::int32_t>(start + text.size());
        char* to = lane->bytes.data() + start;
        const char* from = text.data();
        const char* const stop = from + text.size();
        do {
            Simd::copy(to, from);
            to += kWidth;
            from += kWidth;
        } while (from < stop);
    }

    void string_field(std::string_view text, const char* at, std::uint16_t field, const FieldPlan& plan) {
        Lane& lane = lanes_.lane[field];
        const std::size_t row = row_[plan.level], encoded = lanes_.encoded[plan.level];
        constexpr unsigned kIso = kIso8601 | kIso8601Utc;
        if (plan.field.type == Type::timestamp_ms && (plan.field.timestamp_forms & kIso) != 0 &&
            text.size() == json::IsoMillis::kSize && clock_.read(text.data(), &lane.wide[row]))
            return good(plan);
        take(put_text(text, plan.field, row, encoded, &lane), at, field, plan);
    }

    void take(Verdict verdict, const char* at, std::uint16_t field, const FieldPlan& plan) {
        if (verdict.kind == Verdict::value) return good(plan);
        if (verdict.kind == Verdict::null) return null(field, at);
        fault(field, verdict.reason, at);
    }

    const char* number_value(const char* p, std::uint16_t field) {
        const FieldPlan& plan = plan_.fields[field];
        const bool decimal = plan.field.type == Type::decimal;
        if ((decimal || plan.field.type == Type::int64) && readable_ - p >= json::kShortNumberReach) {
            const char* behind = p;
            if (read_number(&behind, decimal ? kDecimalScale : 0,
                            &lanes_.lane[field].wide[row_[plan.level]]) &&
                behind < end_ && !json::continues_number(*behind)) {
                good(plan);
                return behind;
            }
        }
        const char* bad = nullptr;
        const char* behind = json::number_end(p, end_, &bad);
        if (behind == nullptr) return invalid(bad);
        const std::string_view text(p, static_cast<std::size_t>(behind - p));
        if (!is_text(plan.field.type)) {
            take(put_number(text, plan.field, row_[plan.level], &lanes_.lane[field]), p, field, plan);
        } else if (plan.field.coerce) {
            string_field(text, p, field, plan);
        } else {
            fault(field, DecodeReason::wrong_type, p);
        }
        return behind;
    }

    // ---- values of no interest ----

    const char* word(const char* p) {
        const char* expected = *p == 't' ? "true" : *p == 'f' ? "false" : "null";
        for (; *expected != '\0'; ++p, ++expected)
            if (p == end_ || *p != *expected) return invalid(p);
        return p;
    }

    const char* skip(const char* p, int depth) {
        switch (*p) {
            case '"':
                return skip_string(p + 1);
            case '{':
                return object(p + 1, nullptr, depth + 1);
            case '[':
                return skip_array(p, depth + 1);
            case 't':
            case 'f':
            case 'n':
                return word(p);
            default: {
                const char* bad = nullptr;
                const char* behind = json::number_end(p, end_, &bad);
                return behind == nullptr ? invalid(bad) : behind;
            }
        }
    }

    // As skip(), of an unknown key's value, or of one inside that, where `node` is null: it is learnt, too.
    const char* noted(const char* p, const Node* node, std::string_view key, int depth) {
        const Diary::Unknown step = diary_.begin_unknown(p, node, key, depth, &arena_.next());
        const char* behind = skip(p, depth);
        diary_.end_unknown(step, behind);
        return behind;
    }

    const char* skip_array(const char* p, int depth) {
        if (depth > plan_.schema.max_depth) return syntax(DecodeReason::nesting_too_deep, p);
        p = spaces(p + 1);
        if (p != end_ && *p == ']') return p + 1;
        for (;;) {
            if (p == end_) return truncated();
            p = diary_.inside_unknown() ? noted(p, nullptr, Diary::kElement, depth) : skip(p, depth);
            if (p == nullptr) return nullptr;
            p = spaces(p);
            if (p == end_) return truncated();
            if (*p == ']') return p + 1;
            if (*p != ',') return invalid(p);
            p = spaces(p + 1);
        }
    }

    const char* skip_string(const char* p) {
        bool high = false;
        const char* stop = string_stop(p, end_, readable_, &high);
        if (stop != end_ && *stop == '"') return !high || strictly_valid(p, stop) ? stop + 1 : nullptr;
        bool lone_surrogate = false;
        std::string* unused = nullptr;
        stop = escaped_string(p, &unused, &lone_surrogate);
        return strictly_valid(p, stop == nullptr ? syntax_at_ : stop - 1) ? stop : nullptr;
    }

    // ---- verdict ----

    Reject reject_of(Level level, std::uint64_t bad) const {
        const std::uint16_t field = plan_.by_bit[level][static_cast<std::size_t>(std::countr_zero(bad))];
        const bool there = (faulty_[level] & plan_.fields[field].bit) != 0;
        return {0, -1, there ? static_cast<std::int32_t>(faults_[field].at - begin_) : -1,
                there ? faults_[field].reason : static_cast<std::int32_t>(DecodeReason::missing_field),
                plan_.fields[field].field.name};
    }

    bool judge(Reject* reject) {
        const std::uint64_t bad = faulty_[kMessage] | (plan_.required[kMessage] & ~seen_[kMessage]);
        if (bad != 0) {
            *reject = reject_of(kMessage, bad);
        } else if (lacks_array(kMessage)) {
            *reject = array_reject(kMessage);
        } else if (element_fault_.reason != kNone) {
            *reject = element_fault_;
        } else {
            const std::uint64_t missing = plan_.all[kMessage] & ~seen_[kMessage];
            if (missing != 0) lanes_.fill(kMessage, row_[kMessage], missing);
            if (!lanes_.repeats_too_much(row_, static_cast<std::size_t>(end_ - begin_))) {
                lanes_.complete(row_);
                return true;
            }
            reject->reason = static_cast<std::int32_t>(DecodeReason::message_too_large);
        }
        lanes_.rollback(lanes_.rows);
        return false;
    }

    const DecodePlan& plan_;
    Lanes& lanes_;
    Arena& arena_;
    const char* begin_ = nullptr;
    const char* end_ = nullptr;
    const char* readable_ = nullptr;
    std::size_t row_[kMostLevels] = {};  // being filled
    std::size_t first_row_[kMostLevels][kMostLevels] =
        {};                                  // by level: its element's first rows further inside
    const char* element_[kMostLevels] = {};  // by level: where the element being read begins
    std::uint64_t seen_[kMostLevels] = {};   // fields with a value
    std::uint64_t faulty_[kMostLevels] = {};
    std::vector<Fault> faults_;           // by field, where faulty
    ArrayState array_[kMostLevels] = {};  // by level of its elements: in the element around it
    std::uint64_t opened_ = 0;            // nodes that the elements being read have shown
    Reject element_fault_;                // the first, in the order in which elements end
    const char* element_fault_at_ = nullptr;
    std::int32_t syntax_reason_ = kNone;
    const char* syntax_at_ = nullptr;
    std::int64_t unknown_ = 0;

    json::IsoMillis clock_;
    Diary diary_;
};

}  // namespace omnistream::OMNI_ISA
