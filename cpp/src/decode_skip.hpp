// Values of no interest whose place is known from both ends: whether they are legal, without reading them.
//
// Included by decode_track.hpp.
#pragma once

#include "decode_layout.hpp"

namespace omnistream::OMNI_ISA {

inline constexpr std::size_t kMostNumerals =
    62;  // bytes; their end, and what goes wrong behind it, has a bit

// Whether `size` bytes at p, at most kMostNumerals of 64 that can be loaded, are legal numbers without
// exponents, separated by commas, with spaces between them. One number if `commas` is false.
//
// All numbers at once: a bit is a byte, and adding a bit to a run of ones moves it behind the run.
template <class Simd>
[[gnu::always_inline]] inline bool are_numbers(const char* p, std::size_t size, bool commas) {
    const typename Simd::Numerals found = Simd::numerals(p);
    const std::uint64_t end = std::uint64_t{1} << size;
    const std::uint64_t all = end - 1;
    const std::uint64_t digits = found.digits & all;
    const std::uint64_t points = found.points & all;
    const std::uint64_t signs = found.signs & all;
    const std::uint64_t separators = commas ? found.commas & all : 0;
    std::uint64_t spaces = 0;
    if ((digits | points | signs | separators) != all) {
        if (!commas) return false;
        spaces = Simd::spaces(p) & all;
        if ((digits | points | signs | separators | spaces) != all) return false;
    }
    const auto behind = [](std::uint64_t from, std::uint64_t run) { return (from + run) & ~run; };

    const std::uint64_t begins = behind(separators << 1 | 1, spaces);
    const std::uint64_t whole = (begins & ~signs) | (begins & signs) << 1;
    const std::uint64_t whole_end = behind(whole, digits);
    const std::uint64_t part = points << 1;
    const std::uint64_t ends = behind((whole_end & ~points) | behind(part, digits), spaces);
    const std::uint64_t faults = (signs & ~begins) | (points & ~whole_end) | ((whole | part) & ~digits) |
                                 ((whole & found.zeros) << 1 & digits) | (ends & ~(separators | end));
    return faults == 0;
}

// Whether [p, stop) is true, false or null.
inline bool is_word(const char* p, const char* stop) {
    const auto same = [p](const char* text) {
        std::uint32_t found, wanted;
        std::memcpy(&found, p, sizeof found);
        std::memcpy(&wanted, text, sizeof wanted);
        return found == wanted;
    };
    const auto size = stop - p;
    return ((same("true") | same("null")) & (size == 4)) | (same("fals") & (p[4] == 'e') & (size == 5));
}

// Whether [p, stop) is legal: a word, a number or an array of numbers in the forms that they mostly have. Of
// anything else it says no.
template <class Simd>
[[gnu::always_inline]] inline bool is_simple_value(const char* p, const char* stop) {
    if constexpr (Simd::kSeesNumerals) {
        auto size = static_cast<std::size_t>(stop - p);
        if (size - 1 >= kMostNumerals) return false;  // also where what follows would begin in front of it
        if (*p == '[')
            return stop[-1] == ']' && (size == 2 || (size > 2 && are_numbers<Simd>(p + 1, size - 2, true)));
        return is_word(p, stop) || are_numbers<Simd>(p, size, false);
    } else {
        return is_word(p, stop) || skip_scalar(p) == stop;
    }
}

}  // namespace omnistream::OMNI_ISA
