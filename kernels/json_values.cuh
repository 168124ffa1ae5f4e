// Strings, numbers and times of JSON, where they stand in a block of bytes: the CPU's to the last bit, or
// left to it.
#pragma once

#include "device.cuh"

namespace omnistream {

// ---- bytes

constexpr u64 kOnes = 0x0101010101010101ull;
constexpr u64 kHighs = 0x8080808080808080ull;

// The high bit of each byte that equals `value`; exact in every byte.
__host__ __device__ inline u64 bytes_equal(u64 word, u8 value) {
    const u64 mixed = word ^ (kOnes * value);
    return ~(((mixed & ~kHighs) + ~kHighs) | mixed | ~kHighs);
}

// Quotes, backslashes, control characters. What lies above the lowest one may be wrong.
__host__ __device__ inline u64 string_stops(u64 word) {
    const u64 quotes = word ^ (kOnes * '"');
    const u64 escapes = word ^ (kOnes * '\\');
    return (((quotes - kOnes) & ~quotes) | ((escapes - kOnes) & ~escapes) | ((word - kOnes * 0x20) & ~word)) &
           kHighs;
}

// The block as words: it is readable to the end of its last one. Neighbouring bytes cost one load.
class Bytes {
public:
    __host__ __device__ __forceinline__ explicit Bytes(const u64* words) : words_(words) {}

    __host__ __device__ __forceinline__ u8 operator[](i64 at) {
        load(at);
        return static_cast<u8>(word_ >> (8 * (at & 7)));
    }
    // The bytes from `at` to the end of its word, zeros behind them.
    __host__ __device__ __forceinline__ u64 rest_of_word(i64 at) {
        load(at);
        return word_ >> (8 * (at & 7));
    }

private:
    __host__ __device__ __forceinline__ void load(i64 at) {
        if (at >> 3 == index_) return;
        index_ = at >> 3;
        word_ = words_[index_];
    }

    const u64* words_;
    i64 index_ = -1;
    u64 word_ = 0;
};

__host__ __device__ __forceinline__ bool is_space(u8 byte) {
    return byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t';
}
__host__ __device__ inline bool is_digit(u8 byte) {
    return byte >= '0' && byte <= '9';
}
__host__ __device__ inline int hex_digit(u8 byte) {
    if (is_digit(byte)) return byte - '0';
    const int letter = (byte | 0x20) - 'a';
    return letter >= 0 && letter < 6 ? letter + 10 : -1;
}

// Four hex digits, or -1.
__host__ __device__ __forceinline__ i32 read_hex(Bytes& in, i64 at, i64 end) {
    if (end - at < 4) return -1;
    i32 value = 0;
    for (i64 i = at; i < at + 4; ++i) {
        const int digit = hex_digit(in[i]);
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

struct String {
    i64 begin = 0;
    i64 end = 0;  // of the closing quote
    bool escaped = false;
    bool high = false;  // bytes that are not ASCII
};

// From behind the opening quote. False: it breaks, or has no end.
__host__ __device__ __forceinline__ bool scan_string(Bytes& in, i64 at, i64 end, String* out) {
    out->begin = at;
    out->escaped = out->high = false;
    while (at < end) {
        const u64 word = in.rest_of_word(at);
        const i64 left = 8 - (at & 7);
        const u64 stops = string_stops(word);
        const i64 run = stops == 0 ? left : lowest_bit(stops) >> 3;
        const u64 kept = run >= 8 ? word : word & ((1ull << (8 * run)) - 1);
        out->high |= (kept & kHighs) != 0;
        if (run >= left) {
            at += left;
            continue;
        }
        at += run;
        if (at >= end) return false;
        const u8 stop = in[at];
        if (stop == '"') {
            out->end = at;
            return true;
        }
        if (stop != '\\' || at + 1 >= end) return false;
        out->escaped = true;
        const u8 escape = in[at + 1];
        if (escape == 'u') {
            if (read_hex(in, at + 2, end) < 0) return false;
            at += 6;
        } else if (escape == '"' || escape == '\\' || escape == '/' || escape == 'b' || escape == 'f' ||
                   escape == 'n' || escape == 'r' || escape == 't') {
            at += 2;
        } else {
            return false;
        }
    }
    return false;
}

__host__ __device__ __forceinline__ bool is_utf8(Bytes& in, i64 at, i64 end) {
    while (at < end) {
        const u8 first = in[at];
        if (first < 0x80) {
            ++at;
            continue;
        }
        const int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
        if (first < 0xc2 || first > 0xf4 || end - at <= more) return false;
        const u8 second = in[at + 1];
        // No overlong forms, no surrogates, nothing above U+10FFFF.
        const u8 low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
        const u8 high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
        if (second < low || second > high) return false;
        for (int i = 2; i <= more; ++i)
            if ((in[at + i] & 0xc0) != 0x80) return false;
        at += more + 1;
    }
    return true;
}

__host__ __device__ inline u8 meaning_of(u8 escape) {
    switch (escape) {
        case 'b':
            return '\b';
        case 'f':
            return '\f';
        case 'n':
            return '\n';
        case 'r':
            return '\r';
        case 't':
            return '\t';
        default:
            return escape;
    }
}

// The bytes that a scanned string stands for, to `out` unless that is null; returns how many, -1 for a
// surrogate that stands alone.
__host__ __device__ __forceinline__ i64 unescape(Bytes& in, const String& text, u8* out) {
    i64 size = 0;
    const auto put = [&](i32 byte) {
        if (out != nullptr) out[size] = static_cast<u8>(byte);
        ++size;
    };
    for (i64 at = text.begin; at < text.end;) {
        if (in[at] != '\\') {
            put(in[at++]);
            continue;
        }
        const u8 escape = in[at + 1];
        if (escape != 'u') {
            put(meaning_of(escape));
            at += 2;
            continue;
        }
        i32 point = read_hex(in, at + 2, text.end);
        at += 6;
        if (point >= 0xd800 && point <= 0xdfff) {
            if (point > 0xdbff || text.end - at < 6 || in[at] != '\\' || in[at + 1] != 'u') return -1;
            const i32 low = read_hex(in, at + 2, text.end);
            if (low < 0xdc00 || low > 0xdfff) return -1;
            point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
            at += 6;
        }
        if (point < 0x80) {
            put(point);
        } else if (point < 0x800) {
            put(0xc0 | point >> 6);
            put(0x80 | (point & 0x3f));
        } else {
            if (point < 0x10000) {
                put(0xe0 | point >> 12);
            } else {
                put(0xf0 | point >> 18);
                put(0x80 | (point >> 12 & 0x3f));
            }
            put(0x80 | (point >> 6 & 0x3f));
            put(0x80 | (point & 0x3f));
        }
    }
    return size;
}

// ---- numbers

constexpr u64 kMostMantissa = 100000000000000000ull;  // one more digit still fits
constexpr u64 kMostInt64 = 9223372036854775807ull;

struct Number {
    u64 mantissa = 0;
    i32 exponent = 0;  // of ten
    bool negative = false;
    bool whole = true;  // all digits are in the mantissa
};

__host__ __device__ __forceinline__ void add_digit(Number* number, u8 digit, bool fraction) {
    if (number->mantissa >= kMostMantissa) {
        number->whole = false;
        return;
    }
    number->mantissa = number->mantissa * 10 + (digit - '0');
    number->exponent -= fraction;
}

// JSON's grammar; returns where the number ends, -1 when there is none.
__host__ __device__ __forceinline__ i64 scan_number(Bytes& in, i64 at, i64 end, Number* out) {
    if (at < end && in[at] == '-') {
        out->negative = true;
        ++at;
    }
    if (at >= end || !is_digit(in[at])) return -1;
    if (in[at] == '0') {
        ++at;
    } else {
        while (at < end && is_digit(in[at])) add_digit(out, in[at++], false);
    }
    if (at < end && in[at] == '.') {
        if (++at >= end || !is_digit(in[at])) return -1;
        while (at < end && is_digit(in[at])) add_digit(out, in[at++], true);
    }
    if (at < end && (in[at] | 0x20) == 'e') {
        ++at;
        bool down = false;
        if (at < end && (in[at] == '+' || in[at] == '-')) down = in[at++] == '-';
        if (at >= end || !is_digit(in[at])) return -1;
        i32 exponent = 0;
        for (; at < end && is_digit(in[at]); ++at)
            if (exponent < 100'000'000) exponent = exponent * 10 + (in[at] - '0');
        out->exponent += down ? -exponent : exponent;
    }
    return at;
}

// number x 10^scale, if int64 holds it exactly; a fraction is cut toward the past when `floor` allows it.
__host__ __device__ inline bool to_int64(const Number& number, i32 scale, bool floor, i64* out) {
    if (!number.whole) return false;
    u64 value = number.mantissa;
    bool rest = false;
    i32 exponent = number.exponent + scale;
    for (; value != 0 && exponent < 0; ++exponent) {
        rest |= value % 10 != 0;
        if (rest && !floor) return false;
        value /= 10;
    }
    for (; value != 0 && exponent > 0; --exponent) {
        if (value > kMostInt64 / 10) return false;
        value *= 10;
    }
    *out = number.negative ? -static_cast<i64>(value) - (rest ? 1 : 0) : static_cast<i64>(value);
    return true;
}

// Correctly rounded where mantissa and power of ten are both doubles: one rounding.
__host__ __device__ inline bool to_float64(const Number& number, double* out) {
    if (!number.whole || number.mantissa > 1ull << 53) return false;
    const i32 places = number.exponent < 0 ? -number.exponent : number.exponent;
    double value = static_cast<double>(number.mantissa);
    if (number.mantissa != 0) {
        if (places > 22) return false;
        double power = 1;
        for (i32 i = 0; i < places; ++i) power *= 10;
        value = number.exponent < 0 ? value / power : value * power;
    }
    *out = number.negative ? -value : value;
    return true;
}

// ---- times

constexpr i64 kDayMs = 86'400'000;
constexpr i64 kFirstMs = -719'162 * kDayMs;  // 0001-01-01
constexpr i64 kLastMs = 2'932'897 * kDayMs - 1;

__host__ __device__ inline i64 days_since_1970(i32 year, i32 month, i32 day) {
    // Years from March, so that the leap day is the last one.
    const i32 y = month <= 2 ? year - 1 : year;
    const i32 days = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return static_cast<i64>(y) * 365 + y / 4 - y / 100 + y / 400 + days - 719'468;
}

__host__ __device__ __forceinline__ i32 read_digits(Bytes& in, i64 at, int count) {
    i32 value = 0;
    for (int i = 0; i < count; ++i) {
        if (!is_digit(in[at + i])) return -1;
        value = value * 10 + (in[at + i] - '0');
    }
    return value;
}

__host__ __device__ __forceinline__ bool read_iso(Bytes& in, i64 at, i64 end, bool naive_is_utc, i64* ms) {
    if (end - at < 19) return false;
    const i32 year = read_digits(in, at, 4);
    const i32 month = read_digits(in, at + 5, 2);
    const i32 day = read_digits(in, at + 8, 2);
    const i32 hour = read_digits(in, at + 11, 2);
    const i32 minute = read_digits(in, at + 14, 2);
    const i32 second = read_digits(in, at + 17, 2);
    const u8 between = in[at + 10];
    if (in[at + 4] != '-' || in[at + 7] != '-' || in[at + 13] != ':' || in[at + 16] != ':') return false;
    if (between != 'T' && between != 't' && between != ' ') return false;
    if (year < 1 || month < 1 || month > 12 || day < 1) return false;
    if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59) return false;
    const bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    const i32 days = month == 2                                              ? (leap ? 29 : 28)
                     : month == 4 || month == 6 || month == 9 || month == 11 ? 30
                                                                             : 31;
    if (day > days) return false;
    i64 time = days_since_1970(year, month, day) * kDayMs + ((hour * 60 + minute) * 60 + second) * 1000ll;
    at += 19;
    if (at < end && (in[at] == '.' || in[at] == ',')) {
        if (++at >= end || !is_digit(in[at])) return false;
        for (i32 weight = 100; at < end && is_digit(in[at]); ++at, weight /= 10)
            time += (in[at] - '0') * weight;
    }
    if (at == end) {
        if (!naive_is_utc) return false;
    } else if ((in[at] | 0x20) == 'z') {
        if (at + 1 != end) return false;
    } else {
        if (in[at] != '+' && in[at] != '-') return false;
        const i64 sign = in[at] == '-' ? -1 : 1;
        if (end - at < 3) return false;
        const i32 hours = read_digits(in, at + 1, 2);
        at += 3;
        i32 minutes = 0;
        if (at != end) {
            at += in[at] == ':';
            if (end - at != 2) return false;
            minutes = read_digits(in, at, 2);
        }
        if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59) return false;
        time -= sign * (hours * 60 + minutes) * 60'000ll;
    }
    *ms = time;
    return time >= kFirstMs && time <= kLastMs;
}

}  // namespace omnistream
