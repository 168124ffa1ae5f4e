// The values of JSON, exactly: numbers as scaled integers, timestamps, escapes, UTF-8. No memory, no state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace omnistream::json {

inline bool is_space(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}
inline bool is_digit(char c) {
    return static_cast<unsigned char>(c - '0') <= 9;
}

inline std::uint64_t load8(const char* p) {
    std::uint64_t word;
    std::memcpy(&word, p, sizeof word);
    return word;
}

// The end of the JSON number that starts at p, or nullptr with *fault at the byte where no number can go on.
const char* number_end(const char* p, const char* end, const char** fault);

// value x 10^scale of a legal JSON number. `value` is truncated toward zero; `overflow` when even that does
// not fit int64; `inexact` when digits were cut off.
struct Exact {
    std::int64_t value = 0;
    bool overflow = false;
    bool inexact = false;
    bool negative = false;
};
Exact exact_number(const char* p, const char* end, int scale);

// Days since 1970-01-01 of a date of the proleptic Gregorian calendar.
std::int64_t days_from_civil(std::int64_t year, unsigned month, unsigned day);

inline constexpr std::int64_t kMinTimestampMs = -62'135'596'800'000;  // 0001-01-01T00:00:00Z
inline constexpr std::int64_t kMaxTimestampMs = 253'402'300'799'999;  // 9999-12-31T23:59:59.999Z

// ISO-8601 date and time; a missing offset is UTC when `naive_utc`, else a fault.
bool iso_timestamp(std::string_view text, bool naive_utc, std::int64_t* ms);

// The producers' usual form, YYYY-MM-DDThh:mm:ss.mmmZ, with the days of the last date remembered.
class IsoMillis {
public:
    static constexpr std::size_t kSize = 24;

    // Reads kSize bytes. False when they have another form: the general reader decides then.
    bool read(const char* p, std::int64_t* ms) {
        const std::uint64_t date = load8(p) ^ kDate;
        const std::uint64_t time = load8(p + 8) ^ kTime;
        const std::uint64_t rest = load8(p + 16) ^ kRest;
        if ((((date + kDateLimit) | date | (time + kTimeLimit) | time | (rest + kRestLimit) | rest) &
             kHigh) != 0)
            return false;
        if (date != date_ || (time & 0xffff) != day_) {
            if (!remember(p, date, time & 0xffff)) return false;
        }
        const auto digit = [](std::uint64_t word, int at) {
            return static_cast<std::int64_t>(word >> (8 * at) & 0xff);
        };
        const std::int64_t hour = digit(time, 3) * 10 + digit(time, 4);
        const std::int64_t minute = digit(time, 6) * 10 + digit(time, 7);
        const std::int64_t second = digit(rest, 1) * 10 + digit(rest, 2);
        const std::int64_t milli = digit(rest, 4) * 100 + digit(rest, 5) * 10 + digit(rest, 6);
        if (hour > 23 || minute > 59 || second > 59) return false;
        *ms = ((days_ * 24 + hour) * 60 + minute) * 60'000 + second * 1'000 + milli;
        return true;
    }

private:
    bool remember(const char* p, std::uint64_t date, std::uint64_t day);

    // "0000-00-", "00T00:00", ":00.000Z" little-endian: a digit's byte becomes its value, a separator's zero.
    static constexpr std::uint64_t kDate = 0x2d30302d30303030;
    static constexpr std::uint64_t kTime = 0x30303a3030543030;
    static constexpr std::uint64_t kRest = 0x5a3030302e30303a;
    // Added to such a word these carry into a byte's high bit when a digit exceeds 9 or a separator is not
    // zero.
    static constexpr std::uint64_t kDateLimit = 0x7f76767f76767676;
    static constexpr std::uint64_t kTimeLimit = 0x76767f76767f7676;
    static constexpr std::uint64_t kRestLimit = 0x7f7676767f76767f;
    static constexpr std::uint64_t kHigh = 0x8080808080808080;

    std::uint64_t date_ = ~std::uint64_t{0};
    std::uint64_t day_ = 0;
    std::int64_t days_ = 0;
};

// A number of up to eight digits before the point and up to four behind it, without exponent: what prices and
// quantities are. Reads up to 17 bytes. False when the number has another form: the general reader decides
// then. *value is scaled by 10^scale (0 or 4); *p moves behind the last digit.
bool short_number(const char** p, int scale, std::int64_t* value);
inline constexpr std::ptrdiff_t kShortNumberReach = 18;
// Whether the byte behind a short number makes it one of another form.
inline bool continues_number(char c) {
    return c == '.' || c == 'e' || c == 'E' || is_digit(c);
}

// The first byte that is not part of valid UTF-8, or `end`.
const char* utf8_fault(const char* p, const char* end);

// Whether [p, end), at most three bytes, is the begin of a character that goes on behind `end`.
bool utf8_is_cut(const char* p, const char* end);

// The bytes of the escape at p, a backslash, of which kLongestEscape can be read; 0 when it is none.
inline constexpr std::ptrdiff_t kLongestEscape = 6;
std::size_t escape_size(const char* p);

// A JSON string's content with its escapes resolved, appended to *out. `p` is behind the opening quote.
// Returns the byte behind the closing quote; nullptr with *fault on a syntax fault (*fault == end: it never
// ends). *lone_surrogate is set when an escape stands for no character; the content is no UTF-8 then.
const char* unescape(const char* p, const char* end, std::string* out, const char** fault,
                     bool* lone_surrogate);

// ---- hot, so inline ----

inline bool short_number(const char** p, int scale, std::int64_t* value) {
    constexpr std::uint64_t kZeros = 0x3030303030303030;
    constexpr std::uint64_t kHigh = 0x8080808080808080;
    static constexpr std::int64_t kPower[] = {10'000, 1'000, 100, 10, 1};
    // Eight bytes to the number of leading digits, and to the value of that many digits.
    const auto digits = [](std::uint64_t word) {
        const std::uint64_t t = word ^ kZeros;
        const std::uint64_t other = ((t + 0x7676767676767676) | t) & kHigh;
        return other == 0 ? 8U : static_cast<unsigned>(__builtin_ctzll(other)) / 8U;
    };
    const auto number = [](std::uint64_t word, unsigned count) {
        std::uint64_t t = (word ^ kZeros) << (64 - 8 * count);  // leading zeros come in; count is 1..8
        t = (t * 10) + (t >> 8);
        return (((t & 0x000000ff000000ff) * 0x000f424000000064) +
                (((t >> 16) & 0x000000ff000000ff) * 0x0000271000000001)) >>
               32;
    };
    const char* at = *p;
    const bool negative = *at == '-';
    at += negative;
    const std::uint64_t whole = load8(at);
    const unsigned count = digits(whole);
    if (count == 0 || count == 8 || (*at == '0' && count > 1)) return false;
    auto result = static_cast<std::int64_t>(number(whole, count));
    at += count;
    if (scale != 0) {
        result *= 10'000;
        if (*at == '.') {
            const std::uint64_t part = load8(at + 1);
            const unsigned places = digits(part);
            if (places == 0 || places > 4) return false;
            result += static_cast<std::int64_t>(number(part, places)) * kPower[places];
            at += 1 + places;
        }
    }
    // What follows (an exponent, a point) is checked by whoever knows what must follow.
    *value = negative ? -result : result;
    *p = at;
    return true;
}

// Of 64 bytes those that a backslash escapes: from the second on every other one of a run of backslashes and
// the byte behind it. `escaped`: whether the first is, then whether the one behind them is.
[[gnu::always_inline]] inline std::uint64_t escapes(std::uint64_t backslashes, std::uint64_t* escaped) {
    constexpr std::uint64_t kEven = 0x5555555555555555;
    const std::uint64_t runs = backslashes & ~*escaped;
    const std::uint64_t starts = runs & ~(runs << 1);
    const std::uint64_t from_even = runs & ~(runs + (starts & kEven));  // adding ends a run behind it
    const std::uint64_t from_odd = runs & ~from_even;
    const std::uint64_t out = (from_even << 1 & ~kEven) | (from_odd << 1 & kEven) | *escaped;
    *escaped = from_odd >> 63;
    return out;
}

}  // namespace omnistream::json
