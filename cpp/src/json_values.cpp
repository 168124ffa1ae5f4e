#include "json_values.hpp"

namespace omnistream::json {

const char* number_end(const char* p, const char* end, const char** fault) {
    const auto digits = [&](const char* at) {
        while (at != end && is_digit(*at)) ++at;
        return at;
    };
    if (p != end && *p == '-') ++p;
    const char* whole = digits(p);
    if (whole == p) {
        *fault = p;
        return nullptr;
    }
    if (*p == '0') whole = p + 1;  // a further digit is a fault of whoever reads what follows
    p = whole;
    if (p != end && *p == '.') {
        const char* part = digits(p + 1);
        if (part == p + 1) {
            *fault = part;
            return nullptr;
        }
        p = part;
    }
    if (p != end && (*p == 'e' || *p == 'E')) {
        const char* sign = p + 1;
        if (sign != end && (*sign == '+' || *sign == '-')) ++sign;
        const char* exponent = digits(sign);
        if (exponent == sign) {
            *fault = exponent;
            return nullptr;
        }
        p = exponent;
    }
    return p;
}

Exact exact_number(const char* p, const char* end, int scale) {
    constexpr std::int64_t kFarExponent = 1'000'000'000;  // beyond any message's digits
    constexpr int kMostDigits = 19;                       // of an int64
    Exact out;
    out.negative = *p == '-';
    if (out.negative) ++p;

    // The digits are [first, last) with a point somewhere; value = digits x 10^exponent.
    const char* first = p;
    std::int64_t after_point = 0;
    bool point = false;
    while (p != end && *p != 'e' && *p != 'E') {
        if (*p == '.') {
            point = true;
        } else {
            after_point += point;
        }
        ++p;
    }
    const char* last = p;
    std::int64_t exponent = 0;
    if (p != end) {
        ++p;
        const bool minus = *p == '-';
        if (*p == '-' || *p == '+') ++p;
        for (; p != end; ++p)
            if (exponent < kFarExponent) exponent = exponent * 10 + (*p - '0');
        if (minus) exponent = -exponent;
    }
    exponent += scale - after_point;

    while (first != last && (*first == '0' || *first == '.')) ++first;
    std::int64_t digits = 0;
    for (const char* at = first; at != last; ++at) digits += *at != '.';
    if (digits == 0) return out;  // zero, whatever the exponent

    const std::int64_t kept = digits + exponent;  // digits before the (moved) point
    if (kept > kMostDigits) {
        out.overflow = true;
        return out;
    }
    unsigned __int128 magnitude = 0;
    std::int64_t seen = 0;
    for (const char* at = first; at != last; ++at) {
        if (*at == '.') continue;
        if (seen < kept) {
            magnitude = magnitude * 10 + static_cast<unsigned>(*at - '0');
        } else if (*at != '0') {
            out.inexact = true;
        }
        ++seen;
    }
    for (; seen < kept; ++seen) magnitude *= 10;
    constexpr unsigned __int128 kLimit = static_cast<unsigned __int128>(1) << 63;
    if (magnitude > kLimit - (out.negative ? 0 : 1)) {
        out.overflow = true;
        return out;
    }
    const auto bits = static_cast<std::uint64_t>(magnitude);
    out.value = static_cast<std::int64_t>(out.negative ? 0 - bits : bits);
    return out;
}

std::int64_t days_from_civil(std::int64_t year, unsigned month, unsigned day) {
    // After Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    year -= month <= 2;
    const std::int64_t era = (year >= 0 ? year : year - 399) / 400;
    const auto yoe = static_cast<unsigned>(year - era * 400);
    const unsigned doy = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    const unsigned doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return era * 146'097 + static_cast<std::int64_t>(doe) - 719'468;
}

namespace {

bool civil_days(unsigned year, unsigned month, unsigned day, std::int64_t* days) {
    static constexpr unsigned kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (month < 1 || month > 12 || day < 1) return false;
    const bool leap = month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (day > kDays[month - 1] + leap) return false;
    *days = days_from_civil(year, month, day);
    return true;
}

bool read_digits(const char** p, const char* end, int count, unsigned* value) {
    if (end - *p < count) return false;
    *value = 0;
    for (int i = 0; i < count; ++i, ++*p) {
        if (!is_digit(**p)) return false;
        *value = *value * 10 + static_cast<unsigned>(**p - '0');
    }
    return true;
}

bool read_byte(const char** p, const char* end, const char* allowed) {
    if (*p == end || **p == '\0' || std::strchr(allowed, **p) == nullptr) return false;
    ++*p;
    return true;
}

}  // namespace

bool iso_timestamp(std::string_view text, bool naive_utc, std::int64_t* ms) {
    const char* p = text.data();
    const char* end = p + text.size();
    unsigned year, month, day, hour, minute, second;
    std::int64_t days;
    if (!read_digits(&p, end, 4, &year) || !read_byte(&p, end, "-") || !read_digits(&p, end, 2, &month) ||
        !read_byte(&p, end, "-") || !read_digits(&p, end, 2, &day) || !read_byte(&p, end, "Tt ") ||
        !read_digits(&p, end, 2, &hour) || !read_byte(&p, end, ":") || !read_digits(&p, end, 2, &minute) ||
        !read_byte(&p, end, ":") || !read_digits(&p, end, 2, &second))
        return false;
    if (year == 0 || hour > 23 || minute > 59 || second > 59 || !civil_days(year, month, day, &days))
        return false;
    std::int64_t milli = 0;
    if (read_byte(&p, end, ".,")) {
        const char* fraction = p;
        std::int64_t unit = 100;
        for (; p != end && is_digit(*p); ++p, unit /= 10) milli += unit * (*p - '0');
        if (p == fraction) return false;
    }
    std::int64_t offset_minutes = 0;
    if (p == end) {
        if (!naive_utc) return false;
    } else if (!read_byte(&p, end, "Zz")) {
        const bool west = *p == '-';
        unsigned hours, minutes = 0;
        if (!read_byte(&p, end, "+-") || !read_digits(&p, end, 2, &hours)) return false;
        if (p != end) {
            (void)read_byte(&p, end, ":");
            if (!read_digits(&p, end, 2, &minutes)) return false;
        }
        if (hours > 23 || minutes > 59) return false;
        offset_minutes = static_cast<std::int64_t>(hours) * 60 + minutes;
        if (west) offset_minutes = -offset_minutes;
    }
    if (p != end) return false;
    *ms = ((days * 24 + hour) * 60 + minute - offset_minutes) * 60'000 + second * 1'000 + milli;
    return *ms >= kMinTimestampMs && *ms <= kMaxTimestampMs;
}

bool IsoMillis::remember(const char* p, std::uint64_t date, std::uint64_t day) {
    const char* end = p + kSize;
    unsigned y, m, d;
    if (!read_digits(&p, end, 4, &y) || !read_byte(&p, end, "-") || !read_digits(&p, end, 2, &m) ||
        !read_byte(&p, end, "-") || !read_digits(&p, end, 2, &d) || y == 0 || !civil_days(y, m, d, &days_)) {
        date_ = ~std::uint64_t{0};
        return false;
    }
    date_ = date;
    day_ = day;
    return true;
}

const char* utf8_fault(const char* p, const char* end) {
    const auto byte = [&](std::ptrdiff_t at) { return static_cast<unsigned char>(p[at]); };
    const auto follows = [&](std::ptrdiff_t at) { return (byte(at) & 0xc0) == 0x80; };
    while (p != end) {
        const unsigned char lead = byte(0);
        if (lead < 0x80) {
            ++p;
        } else if (lead >= 0xc2 && lead <= 0xdf) {
            if (end - p < 2 || !follows(1)) return p;
            p += 2;
        } else if (lead >= 0xe0 && lead <= 0xef) {
            if (end - p < 3 || !follows(1) || !follows(2)) return p;
            if (lead == 0xe0 && byte(1) < 0xa0) return p;  // overlong
            if (lead == 0xed && byte(1) > 0x9f) return p;  // a surrogate
            p += 3;
        } else if (lead >= 0xf0 && lead <= 0xf4) {
            if (end - p < 4 || !follows(1) || !follows(2) || !follows(3)) return p;
            if (lead == 0xf0 && byte(1) < 0x90) return p;  // overlong
            if (lead == 0xf4 && byte(1) > 0x8f) return p;  // beyond U+10FFFF
            p += 4;
        } else {
            return p;
        }
    }
    return end;
}

bool utf8_is_cut(const char* p, const char* end) {
    // Completed with the least bytes that may follow, it must be a character.
    char whole[4] = {0, '\x80', '\x80', '\x80'};
    const std::ptrdiff_t size = end - p;
    if (size < 1 || size > 3) return false;
    if (*p == '\xe0') whole[1] = '\xa0';
    if (*p == '\xf0') whole[1] = '\x90';
    std::memcpy(whole, p, static_cast<std::size_t>(size));
    const auto lead = static_cast<unsigned char>(*p);
    const std::ptrdiff_t wanted = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    return size < wanted && utf8_fault(whole, whole + wanted) == whole + wanted;
}

namespace {

int hex_digit(char c) {
    if (is_digit(c)) return c - '0';
    const char lower = static_cast<char>(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// Four hex digits at p; nullptr with *fault otherwise.
const char* read_hex4(const char* p, const char* end, std::uint32_t* value, const char** fault) {
    *value = 0;
    for (int i = 0; i < 4; ++i, ++p) {
        const int digit = p == end ? -1 : hex_digit(*p);
        if (digit < 0) {
            *fault = p;
            return nullptr;
        }
        *value = *value * 16 + static_cast<std::uint32_t>(digit);
    }
    return p;
}

void append_utf8(std::uint32_t point, std::string* out) {
    const auto put = [&](std::uint32_t byte) { out->push_back(static_cast<char>(byte)); };
    if (point < 0x80) {
        put(point);
    } else if (point < 0x800) {
        put(0xc0 | point >> 6);
        put(0x80 | (point & 0x3f));
    } else if (point < 0x10000) {
        put(0xe0 | point >> 12);
        put(0x80 | (point >> 6 & 0x3f));
        put(0x80 | (point & 0x3f));
    } else {
        put(0xf0 | point >> 18);
        put(0x80 | (point >> 12 & 0x3f));
        put(0x80 | (point >> 6 & 0x3f));
        put(0x80 | (point & 0x3f));
    }
}

}  // namespace

std::size_t escape_size(const char* p) {
    switch (p[1]) {
        case 'u':
            return hex_digit(p[2]) >= 0 && hex_digit(p[3]) >= 0 && hex_digit(p[4]) >= 0 &&
                           hex_digit(p[5]) >= 0
                       ? 6
                       : 0;
        case '"':
        case '\\':
        case '/':
        case 'b':
        case 'f':
        case 'n':
        case 'r':
        case 't':
            return 2;
        default:
            return 0;
    }
}

const char* unescape(const char* p, const char* end, std::string* out, const char** fault,
                     bool* lone_surrogate) {
    static constexpr char kEscapes[] = "\"\\/bfnrt";
    static constexpr char kMeanings[] = "\"\\/\b\f\n\r\t";
    for (;;) {
        if (p == end || static_cast<unsigned char>(*p) < 0x20) {
            *fault = p;
            return nullptr;
        }
        if (*p == '"') return p + 1;
        if (*p != '\\') {
            const char* run = p;
            while (p != end && *p != '"' && *p != '\\' && static_cast<unsigned char>(*p) >= 0x20) ++p;
            out->append(run, p);
            continue;
        }
        ++p;
        if (p != end && *p == 'u') {
            std::uint32_t point = 0;
            p = read_hex4(p + 1, end, &point, fault);
            if (p == nullptr) return nullptr;
            if (point >= 0xd800 && point <= 0xdbff && end - p >= 2 && p[0] == '\\' && p[1] == 'u') {
                std::uint32_t low = 0;
                const char* behind = read_hex4(p + 2, end, &low, fault);
                if (behind == nullptr) return nullptr;
                if (low >= 0xdc00 && low <= 0xdfff) {
                    point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
                    p = behind;
                }
            }
            if (point >= 0xd800 && point <= 0xdfff) *lone_surrogate = true;
            append_utf8(point, out);
            continue;
        }
        const char* known = p == end || *p == '\0' ? nullptr : std::strchr(kEscapes, *p);
        if (known == nullptr) {
            *fault = p;
            return nullptr;
        }
        out->push_back(kMeanings[known - kEscapes]);
        ++p;
    }
}

}  // namespace omnistream::json
