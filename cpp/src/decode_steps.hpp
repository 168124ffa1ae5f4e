// What the careful reader tells the layout learner about a message: its values in order, and the structure
// between them. Included by decode_reader.hpp.
#pragma once

namespace omnistream::OMNI_ISA {

// What a value is to the layout learner: which reader takes it on the fast path.
enum class Op : std::uint8_t {
    string,      // p behind the opening quote
    dictionary,  // p behind the opening quote
    iso_time,    // p behind the opening quote
    integer64,
    decimal,
    any,   // a field's value of another kind: the careful reader takes it
    null,  // of a field or of an object that holds fields
    skip_string,
    skip_any,
    end,   // the message is complete
    none,  // nothing has been learnt
};

// Elements of exploded arrays that begin and end between two values, in order: one nibble each, the first
// lowest. The low bits are the level.
using Marks = std::uint32_t;
inline constexpr Marks kEndOfElement = 4;
inline constexpr Marks kLevelBits = 3;
inline constexpr int kMarkBits = 4;
inline constexpr int kMostMarks = 8;

struct Step {
    const char* begin;  // of the value as Op says
    const char* end;    // behind it
    Op op;
    Marks marks;  // before the value
    std::uint8_t depth;
    Level level;
    std::uint16_t field;
    std::uint64_t bit;        // of the field
    std::uint64_t entered;    // nodes entered before the value
    std::uint64_t forbidden;  // null of an object: it must not have been entered
    const void* object;       // identity of an unknown key: where and which
    std::string_view key;
    std::uint32_t inside = 0;  // of an unknown object or array: how many steps that follow are inside it
    bool unknown = false;      // counts as an unknown field
};

// The steps of a message, noted while it is read.
class Diary {
public:
    // The key of an array's element; in no key that can be learnt.
    static constexpr std::string_view kElement = "\t";
    // A value of no interest that is being noted, and what was so around it.
    struct Unknown {
        std::size_t number;
        const Node* outer;
        std::size_t outer_way;
    };

    void begin(bool open) {
        open_ = open;
        strange_ = false;
        steps_.clear();
        marks_ = 0;
        mark_count_ = 0;
        entered_ = 0;
        unknown_in_ = nullptr;
    }
    void close() { open_ = false; }
    // The message has something that is not to be learnt.
    void refuse() { strange_ = true; }

    // What comes before the next value: elements begin and end, objects are entered.
    void mark(Marks mark) {
        if (mark_count_ == kMostMarks) {
            strange_ = true;
        } else {
            marks_ |= mark << (kMarkBits * mark_count_++);
        }
    }
    void enter(std::uint64_t node_bit) { entered_ |= node_bit; }
    [[nodiscard]] bool entered(std::uint64_t node_bits) const { return (entered_ & node_bits) != 0; }

    // The field's value [p, behind).
    void field(const char* p, const char* behind, const FieldPlan& plan, std::uint16_t field, int depth) {
        if (!open_) return;
        Step next{p, behind, Op::any, 0, static_cast<std::uint8_t>(depth), plan.level, field, plan.bit,
                  0, 0,      nullptr, {}};
        if (*p == 'n') {
            next.op = Op::null;
        } else if (*p == '"') {
            ++next.begin;
            switch (plan.field.type) {
                case Type::string:
                    next.op = Op::string;
                    break;
                case Type::dictionary:
                    next.op = Op::dictionary;
                    break;
                case Type::timestamp_ms: {
                    std::int64_t ms = 0;
                    const bool usual =
                        (plan.field.timestamp_forms & (kIso8601 | kIso8601Utc)) != 0 &&
                        behind - p == static_cast<std::ptrdiff_t>(json::IsoMillis::kSize) + 2 &&
                        json::iso_timestamp({p + 1, json::IsoMillis::kSize}, true, &ms);
                    if (usual) {
                        next.op = Op::iso_time;
                        break;
                    }
                    [[fallthrough]];
                }
                default:
                    --next.begin;
            }
        } else if (plan.field.type == Type::int64) {
            next.op = Op::integer64;
        } else if (plan.field.type == Type::decimal) {
            next.op = Op::decimal;
        }
        add(next);
    }
    // A null in place of an object that holds fields.
    void null(const char* p, const char* behind, const Target& target, int depth) {
        if (!open_) return;
        add({p,
             behind,
             Op::null,
             0,
             static_cast<std::uint8_t>(depth),
             target.level,
             0,
             target.below,
             0,
             target.node_bit,
             &target,
             {}});
    }
    void end(const char* p) {
        if (open_) add({p, p, Op::end, 0, 0, kMessage, 0, 0, 0, 0, nullptr, {}});
    }

    // Whether a value of no interest is a step: of an object that the schema knows, or inside such a value.
    [[nodiscard]] bool wants_unknown(const Node* node) const {
        return open_ && (node != nullptr || unknown_in_ != nullptr);
    }
    [[nodiscard]] bool inside_unknown() const { return unknown_in_ != nullptr; }
    // The value at p below `key`. Values inside it are steps, too. `way` is to keep how it was reached.
    Unknown begin_unknown(const char* p, const Node* node, std::string_view key, int depth,
                          std::string* way) {
        const Unknown begun{steps_.size(), unknown_in_, node == nullptr ? way_.size() : 0};
        if (node != nullptr) {
            unknown_in_ = node;
            way_ = key;
        } else {
            (way_ += kInside) += key;
        }
        const bool text = *p == '"';
        *way = way_;
        add({p + text, nullptr, text ? Op::skip_string : Op::skip_any, 0,
             static_cast<std::uint8_t>(std::min(depth, kDeepestStep)), kMessage, 0, 0, 0, 0, unknown_in_,
             *way, 0, node != nullptr});
        if (depth >= kDeepestStep) unknown_in_ = nullptr;  // nothing inside is learnt
        return begun;
    }
    // It ends in front of `behind`, or is broken.
    void end_unknown(const Unknown& begun, const char* behind) {
        unknown_in_ = begun.outer;
        way_.resize(begun.outer_way);
        if (behind == nullptr) return;
        steps_[begun.number].end = behind;
        steps_[begun.number].inside = static_cast<std::uint32_t>(steps_.size() - begun.number - 1);
    }

    [[nodiscard]] const std::vector<Step>& steps() const { return steps_; }
    [[nodiscard]] bool strange() const { return strange_; }

private:
    static constexpr char kInside = '\n';    // between keys; as kElement
    static constexpr int kDeepestStep = 64;  // deeper values are part of one

    void add(Step step) {
        step.marks = marks_;
        step.entered = entered_;
        steps_.push_back(step);
        marks_ = 0;
        mark_count_ = 0;
        entered_ = 0;
    }

    bool open_ = false;
    bool strange_ = false;
    std::vector<Step> steps_;
    Marks marks_ = 0;
    int mark_count_ = 0;
    std::uint64_t entered_ = 0;
    const Node* unknown_in_ = nullptr;  // while values of no interest are steps: where their first key is
    std::string way_;                   // the keys to where the reader is, from that one on
};

}  // namespace omnistream::OMNI_ISA
