// What a field makes of a number or a string, whatever format it came in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "decode_lanes.hpp"
#include "omnistream/decode.hpp"
#include "omnistream/schema.hpp"

namespace omnistream {

// A value of a row is in its lane, stands for null, or is refused.
struct Verdict {
    enum Kind : std::uint8_t { value, null, refused };
    Kind kind = value;
    DecodeReason reason = DecodeReason::wrong_type;  // of what is refused
};

inline Verdict refused(DecodeReason reason) {
    return {Verdict::refused, reason};
}

[[nodiscard]] bool takes_numbers(const Field& field);

// A number in the text that JSON has for it, for fields other than strings.
[[nodiscard]] Verdict put_number(std::string_view text, const Field& field, std::size_t row, Lane* lane);

// A string of valid UTF-8. `encoded`: rows of the lane whose strings have codes already.
[[nodiscard]] Verdict put_text(std::string_view text, const Field& field, std::size_t row,
                               std::size_t encoded, Lane* lane);

}  // namespace omnistream
