// What an instruction set does one value at a time that has no vectors of 32 or 64 bytes for it.
//
// Included by simd_portable.hpp and simd_neon.hpp.
#pragma once

#include "simd_columns.hpp"

namespace omnistream::OMNI_ISA {

struct OneByOne {
    // Whether 64 bytes, none of them a backslash, hold no control character but line feeds, and no fault of
    // UTF-8. May say no although it is so.
    static bool is_text(const char*) { return false; }

    // Which of 64 bytes may follow a backslash, but u. May leave some out.
    static std::uint64_t short_escapes(const char*) { return 0; }

    // 1 to 64 bytes to compare with.
    class Literal {
    public:
        Literal(const char* text, std::size_t size, std::uint64_t) : text_(text), size_(size) {}
        [[nodiscard]] bool at(const char* p) const { return std::memcmp(p, text_, size_) == 0; }

        using Differences = bool;
        void compare(const char* p, Differences* all) const { *all |= !at(p); }
        static bool none(Differences all) { return !all; }

    private:
        const char* text_;
        std::size_t size_;
    };

    using ShortLiteral = Literal;

    using Columns = SixteenColumns;
    struct Times {};
    static constexpr bool kSeesPlanes = false;   // of eight blocks of 64 bytes
    static constexpr std::size_t kTogether = 1;  // values of a column that are read at once
};

inline bool read_number(const char** p, int scale, std::int64_t* value) {
    return json::short_number(p, scale, value);
}

}  // namespace omnistream::OMNI_ISA
