#include "decode_repeat.hpp"

#include <algorithm>
#include <cstring>

#include "isa.hpp"

namespace omnistream {
namespace {

// How many lines a row has is not to be predicted. So it gets a fixed number of copies, enough for most;
// those too many are overwritten by the next row or lie in the padding.
constexpr std::int32_t kCopies = 8;
constexpr std::size_t kBlock = 32;  // of a string, copied at once

#if defined(__x86_64__)
bool has_avx2() {
    static const bool has = [] {
        __builtin_cpu_init();
        return wants_isa("avx2") && __builtin_cpu_supports("avx2") != 0;
    }();
    return has;
}
#endif

template <class T>
void repeat_numbers(const T* from, std::span<const std::int32_t> ends, T* to) {
    static_assert(kCopies * sizeof(T) <= kPadding);
    std::int32_t line = 0;
    for (const std::int32_t end : ends) {
        const T value = *from++;
        for (; line < end; line += kCopies)
            for (std::int32_t i = 0; i < kCopies; ++i) to[line + i] = value;
        line = end;
    }
}

template <class T>
void repeat_lanes(Array<T>* values, std::span<const std::int32_t> ends, std::size_t lines) {
    Array<T> out;
    out.resize(lines);
    repeat_numbers(values->data(), ends, out.data());
    *values = std::move(out);
}

struct Strings {
    const char* bytes;
    const std::int32_t* offsets;
};

// Strings of up to `blocks` blocks, one or two, for rows of up to `most` lines, themselves at most kCopies.
// Behind the last of them kCopies such strings and offsets can be written.
template <std::size_t blocks>
[[gnu::always_inline]] inline void repeat_short_strings(const Strings& strings,
                                                        std::span<const std::int32_t> ends, std::int32_t most,
                                                        char* to, std::int32_t* offsets) {
    using Block [[gnu::vector_size(kBlock)]] = char;
    using Eight [[gnu::vector_size(kCopies * sizeof(std::int32_t))]] = std::uint32_t;
    static_assert(sizeof(Eight) <= kPadding);
    const Eight numbers = {1, 2, 3, 4, 5, 6, 7, 8};
    std::int32_t line = 0;
    std::uint32_t at = 0;
    offsets[0] = 0;
    for (std::size_t row = 0; row < ends.size(); ++row) {
        const std::int32_t begin = strings.offsets[row];
        const auto size = static_cast<std::uint32_t>(strings.offsets[row + 1] - begin);
        Block first, second;
        std::memcpy(&first, strings.bytes + begin, kBlock);
        if constexpr (blocks == 2) std::memcpy(&second, strings.bytes + begin + kBlock, kBlock);
        char* copy = to + at;
        for (std::int32_t i = 0; i < most; ++i, copy += size) {
            std::memcpy(copy, &first, kBlock);
            if constexpr (blocks == 2) std::memcpy(copy + kBlock, &second, kBlock);
        }
        const Eight its_ends = numbers * size + at;
        std::memcpy(offsets + line + 1, &its_ends, sizeof its_ends);
        at += static_cast<std::uint32_t>(ends[row] - line) * size;
        line = ends[row];
    }
}

#if defined(__x86_64__)
template <std::size_t blocks>
[[gnu::target("avx2")]] void repeat_short_strings_avx2(const Strings& strings,
                                                       std::span<const std::int32_t> ends, std::int32_t most,
                                                       char* to, std::int32_t* offsets) {
    repeat_short_strings<blocks>(strings, ends, most, to, offsets);
}
#endif

template <std::size_t blocks>
void repeat_short(const Strings& strings, std::span<const std::int32_t> ends, std::int32_t most, char* to,
                  std::int32_t* offsets) {
#if defined(__x86_64__)
    if (has_avx2()) return repeat_short_strings_avx2<blocks>(strings, ends, most, to, offsets);
#endif
    repeat_short_strings<blocks>(strings, ends, most, to, offsets);
}

// Any strings. Up to kBlock bytes behind the last are read and written.
void repeat_long(const Strings& strings, std::span<const std::int32_t> ends, char* to,
                 std::int32_t* offsets) {
    static_assert(kBlock <= kPadding);
    std::int32_t line = 0;
    std::int32_t at = 0;
    *offsets++ = 0;
    for (std::size_t row = 0; row < ends.size(); ++row) {
        const std::int32_t begin = strings.offsets[row];
        const std::int32_t size = strings.offsets[row + 1] - begin;
        for (; line < ends[row]; ++line) {
            std::int32_t done = 0;
            do {
                std::memcpy(to + at + done, strings.bytes + begin + done, kBlock);
                done += static_cast<std::int32_t>(kBlock);
            } while (done < size);
            *offsets++ = at += size;
        }
    }
}

}  // namespace

Repetition::Repetition(std::span<const std::int32_t> ends) : ends_(ends) {
    std::int32_t before = 0;
    for (const std::int32_t end : ends) {
        most_ = std::max(most_, end - before);
        before = end;
    }
}

bool Repetition::repeat(Lane* values) const {
    if (!values->nulls.empty()) values->nulls = repeat_nulls(values->nulls);
    switch (values->type) {
        case Type::boolean:
            repeat_lanes(&values->bytewise, ends_, lines());
            break;
        case Type::int32:
        case Type::dictionary:
            repeat_lanes(&values->narrow, ends_, lines());
            break;
        case Type::string:
        case Type::binary:
            return repeat_strings(values);
        default:
            repeat_lanes(&values->wide, ends_, lines());
    }
    return true;
}

void Repetition::repeat(const std::int32_t* rows, KeptVector<std::int32_t>* lines) const {
    lines->resize(this->lines() + kCopies);
    repeat_numbers(rows, ends_, lines->data());
    lines->resize(this->lines());
}

bool Repetition::repeat_strings(Lane* values) const {
    const Strings strings{values->bytes.data(), values->offsets.data()};
    std::int64_t total = 0;
    std::int32_t longest = 0;
    std::int32_t line = 0;
    for (std::size_t row = 0; row < ends_.size(); ++row) {
        const std::int32_t size = strings.offsets[row + 1] - strings.offsets[row];
        total += std::int64_t{size} * (ends_[row] - line);
        longest = std::max(longest, size);
        line = ends_[row];
    }
    if (total > INT32_MAX) return false;

    const auto size = static_cast<std::size_t>(total);
    Array<std::int32_t> offsets;
    offsets.resize(lines() + 1);
    Array<char> bytes;
    bytes.reserve(size + kCopies * 2 * kBlock);
    bytes.resize(size);
    if (most_ <= kCopies && longest <= static_cast<std::int32_t>(kBlock)) {
        repeat_short<1>(strings, ends_, most_, bytes.data(), offsets.data());
    } else if (most_ <= kCopies && longest <= static_cast<std::int32_t>(2 * kBlock)) {
        repeat_short<2>(strings, ends_, most_, bytes.data(), offsets.data());
    } else {
        repeat_long(strings, ends_, bytes.data(), offsets.data());
    }
    values->offsets = std::move(offsets);
    values->bytes = std::move(bytes);
    return true;
}

std::vector<std::int32_t> Repetition::repeat_nulls(const std::vector<std::int32_t>& nulls) const {
    std::vector<std::int32_t> out;
    for (const std::int32_t row : nulls)
        for (std::int32_t line = row == 0 ? 0 : ends_[row - 1]; line < ends_[row]; ++line)
            out.push_back(line);
    return out;
}

}  // namespace omnistream
