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

}  // namespace omnistream::OMNI_ISA
