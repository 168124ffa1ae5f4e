// One JSON message on one thread: checked whole, and its values written to the lanes of their fields.
//
// A message is either taken, and then the result is the CPU decoder's to the last bit, or it is left, and the
// CPU decodes it or says why not. Left are: all that is at fault; keys that come twice or with escapes;
// numbers of more than 18 digits; float64 outside the range where one division is exact; strings that break
// `strict_utf8`. So the device names no reasons, and cannot name a wrong one.
//
// The schema comes as one block of words, written by decode.py: a Head, and behind it the tables it points
// to.
#pragma once

#include "device.cuh"

namespace omnistream {

constexpr u32 kMostLevels = 4;
constexpr u32 kMostDepth = 64;
// A message's outer strings, repeated for each of more lines than this, may be out of proportion: the CPU
// judges.
constexpr u32 kMostLines = 256;

enum class Type : u8 { boolean, int32, int64, decimal, float64, timestamp, string, dictionary };
enum TimestampForm : u8 { kIso8601 = 1, kIso8601Utc = 2, kEpochSeconds = 4, kEpochMillis = 8 };

struct Key {
    enum Kind : u8 { unknown, field, object, explode };
    u64 head;  // its first 8 bytes
    u32 text;  // where its bytes are
    u16 size;
    u8 kind;
    u8 level;
    u32 index;  // of the field, or of the node behind the key
    u32 bit;    // of the node
};
struct Node {
    u32 first;  // of its keys
    u32 count;
};
struct Field {
    u8 type;
    u8 level;
    u8 coerce;
    u8 forms;
    u8 bit;  // in its level's word
    u8 has_default;
    u16 unused;
    u64 fallback;  // the default's lane, or the size of its text
};
static_assert(sizeof(Key) == 24 && sizeof(Node) == 8 && sizeof(Field) == 16);

struct Head {
    u64 levels;
    u64 fields;
    u64 max_depth;
    u64 max_message_bytes;
    u64 strict;      // strings that no column keeps must be UTF-8, too
    u64 outer_text;  // levels outside the lines have strings
    u64 all[kMostLevels];
    u64 required[kMostLevels];
    u64 inner_nodes[kMostLevels];  // bits of the nodes inside elements of a level
    u64 array_bit[kMostLevels];    // of the node whose array holds the elements of a level
    u64 root[kMostLevels];         // the node of an element
    // Where the tables begin, in bytes from here.
    u64 keys_at;
    u64 nodes_at;
    u64 fields_at;
    u64 by_bit_at;  // u16 [level][bit]: the field
    u64 names_at;

    template <class T>
    __host__ __device__ const T* table(u64 at) const {
        return reinterpret_cast<const T*>(reinterpret_cast<const u8*>(this) + at);
    }
};

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

// ---- messages

// Where the values go: `lanes` is one piece of memory, `at` says where in it. Of field f, at[3f] is its
// values (of a text: where each begins, an i64), at[3f + 1] a byte per row that says it is there (of a text:
// its size, an i32, -1 for null), at[3f + 2] where the text of its default begins. Behind the fields, at[3
// fields + level] is an i32 for each row of a level: the row around it.
struct Lanes {
    u8* lanes = nullptr;
    const i64* at = nullptr;
    u8* bytes = nullptr;  // the block, and room for what is unescaped

    template <class T>
    __host__ __device__ T* array(u64 which) const {
        return reinterpret_cast<T*>(lanes + at[which]);
    }
};

// What is indexed while a message is read, apart from the rest: the compiler keeps all of an object in memory
// when one of its arrays is indexed by a variable.
struct Indexed {
    u32 row[kMostLevels] = {};    // the next of each level
    u64 seen[kMostLevels] = {};   // fields with a value, in the element being read
    u64 shown[kMostLevels] = {};  // fields whose key has come
    short stack[kMostDepth];      // what each open bracket holds
};

// Not writing, it counts: rows by level, values of no field, bytes that are unescaped.
template <bool kWrite>
class Message {
public:
    __host__ __device__ __forceinline__ Message(const Head& head, const u64* words, const Lanes& lanes,
                                                Indexed& indexed)
        : head_(head), in_(words), lanes_(lanes), indexed_(indexed) {}

    u32 unknown = 0;
    i64 unescaped = 0;  // where the next one goes, or how much there is

    // [begin, end) of the block. False: left to the CPU.
    __host__ __device__ __forceinline__ bool read(i64 begin, i64 end) {
        end_ = end;
        i64 at = spaces(begin);
        if (at == end || in_[at] != '{') return false;
        ++at;
        const u32 first_line = indexed_.row[head_.levels - 1];
        u32 depth = 1;
        indexed_.stack[1] = 0;
        opened_ = 0;
        begin_element(0);
        bool first = true;  // nothing in the innermost brackets so far
        for (;;) {
            const i32 place = indexed_.stack[depth];
            at = spaces(at);
            if (at == end) return false;
            const bool closes = first && in_[at] == closing(place);
            if (!closes) {
                const Key* key = nullptr;
                if (is_object(place)) {
                    at = read_key(at, place, &key);
                    if (at < 0) return false;
                }
                const u8 byte = in_[at];
                if (byte == '{' || byte == '[') {
                    if (depth >= head_.max_depth || depth + 1 >= kMostDepth) return false;
                    const i32 inside = enter(place, key, byte == '{');
                    if (inside == kRefused) return false;
                    indexed_.stack[++depth] = static_cast<short>(inside);
                    first = true;
                    ++at;
                    continue;
                }
                if (place <= kExploded) return false;
                at = key == nullptr ? skip_scalar(at) : read_scalar(at, *key);
                if (at < 0) return false;
            }
            for (;;) {
                at = spaces(at);
                if (depth == 0) {
                    const bool many = indexed_.row[head_.levels - 1] - first_line > kMostLines;
                    return at == end && !(many && head_.outer_text != 0);
                }
                if (at == end) return false;
                const u8 byte = in_[at++];
                if (byte == ',') break;
                if (byte != closing(indexed_.stack[depth])) return false;
                --depth;
                if (depth == 0 ? !end_element(0)
                               : indexed_.stack[depth] <= kExploded &&
                                     !end_element(static_cast<u32>(kExploded - indexed_.stack[depth])))
                    return false;
            }
            first = false;
        }
    }

private:
    // What brackets hold: a node of the schema (0 and above), or
    static constexpr i32 kUnknownObject = -1;
    static constexpr i32 kUnknownArray = -2;
    static constexpr i32 kExploded =
        -3;  // an array whose elements have level kExploded - place; level 0 has none
    static constexpr i32 kRefused = -100;

    __host__ __device__ __forceinline__ static bool is_object(i32 place) { return place >= kUnknownObject; }
    __host__ __device__ __forceinline__ static u8 closing(i32 place) { return is_object(place) ? '}' : ']'; }

    __host__ __device__ __forceinline__ i64 spaces(i64 at) {
        while (at < end_ && is_space(in_[at])) ++at;
        return at;
    }

    // From a key's opening quote to its value. `key` stays null where the schema has no such key.
    __host__ __device__ __forceinline__ i64 read_key(i64 at, i32 place, const Key** key) {
        if (in_[at] != '"') return -1;
        String text;
        if (!scan_string(in_, at + 1, end_, &text) || text.escaped || (text.high && head_.strict != 0))
            return -1;
        if (place >= 0) {
            *key = find(head_.table<Node>(head_.nodes_at)[place], text.begin, text.end - text.begin);
            unknown += *key == nullptr;
        }
        at = spaces(text.end + 1);
        if (at == end_ || in_[at] != ':') return -1;
        at = spaces(at + 1);
        return at == end_ ? -1 : at;
    }

    // Producers keep an order, so the key behind the last one is tried first, and the rest in turn.
    __host__ __device__ __forceinline__ const Key* find(const Node& node, i64 begin, i64 size) {
        u64 head = 0;
        for (i64 i = 0; i < size && i < 8; ++i) head |= static_cast<u64>(in_[begin + i]) << (8 * i);
        const Key* const keys = head_.table<Key>(head_.keys_at) + node.first;
        u32 at = next_key_ - node.first;
        for (u32 tried = 0; tried < node.count; ++tried, ++at) {
            if (at >= node.count) at = 0;
            const Key& key = keys[at];
            if (key.head != head || key.size != size || !same_tail(key, begin, size)) continue;
            next_key_ = node.first + at + 1;
            return &key;
        }
        return nullptr;
    }
    __host__ __device__ __forceinline__ bool same_tail(const Key& key, i64 begin, i64 size) {
        const u8* const text = head_.table<u8>(head_.names_at) + key.text;
        for (i64 i = 8; i < size; ++i)
            if (in_[begin + i] != text[i]) return false;
        return true;
    }

    // What opens behind `key`, or kRefused.
    __host__ __device__ __forceinline__ i32 enter(i32 place, const Key* key, bool object) {
        if (place <= kExploded) {
            if (!object) return kRefused;
            const auto level = static_cast<u32>(kExploded - place);
            begin_element(level);
            return static_cast<i32>(head_.root[level]);
        }
        if (key == nullptr) return object ? kUnknownObject : kUnknownArray;
        if (key->kind == Key::field || object != (key->kind == Key::object) || !open(*key)) return kRefused;
        return object ? static_cast<i32>(key->index) : kExploded - static_cast<i32>(key->level);
    }

    __host__ __device__ __forceinline__ bool open(const Key& key) {
        const u64 bit = 1ull << key.bit;
        if ((opened_ & bit) != 0) return false;
        opened_ |= bit;
        return true;
    }

    __host__ __device__ __forceinline__ void begin_element(u32 level) {
        indexed_.seen[level] = indexed_.shown[level] = 0;
        opened_ &= ~head_.inner_nodes[level];
    }

    __host__ __device__ __forceinline__ bool end_element(u32 level) {
        if ((head_.required[level] & ~indexed_.seen[level]) != 0) return false;
        if (level + 1 < head_.levels && (opened_ & head_.array_bit[level + 1]) == 0) return false;
        if constexpr (kWrite) {
            for (u64 missing = head_.all[level] & ~indexed_.seen[level]; missing != 0; missing &= missing - 1)
                write_missing(
                    head_.table<u16>(head_.by_bit_at)[64 * level + static_cast<u32>(lowest_bit(missing))]);
            if (level != 0)
                lanes_.array<i32>(3 * head_.fields + level)[indexed_.row[level]] =
                    static_cast<i32>(indexed_.row[level - 1]);
        }
        ++indexed_.row[level];
        return true;
    }

    // ---- values

    __host__ __device__ __forceinline__ i64 literal(i64 at, u64 text, i64 size) {
        if (end_ - at < size) return -1;
        for (i64 i = 0; i < size; ++i)
            if (in_[at + i] != static_cast<u8>(text >> (8 * i))) return -1;
        return at + size;
    }
    __host__ __device__ __forceinline__ i64 null(i64 at) { return literal(at, 0x6c6c756eull, 4); }
    __host__ __device__ __forceinline__ i64 boolean(i64 at) {
        return in_[at] == 't' ? literal(at, 0x65757274ull, 4) : literal(at, 0x65736c6166ull, 5);
    }

    __host__ __device__ __forceinline__ i64 skip_scalar(i64 at) {
        const u8 byte = in_[at];
        if (byte == '"') {
            String text;
            if (!scan_string(in_, at + 1, end_, &text) || (text.high && head_.strict != 0)) return -1;
            return text.end + 1;
        }
        if (byte == 'n') return null(at);
        if (byte == 't' || byte == 'f') return boolean(at);
        Number number;
        return scan_number(in_, at, end_, &number);
    }

    __host__ __device__ __forceinline__ i64 read_scalar(i64 at, const Key& key) {
        if (key.kind == Key::explode) return -1;
        if (key.kind == Key::object) return in_[at] == 'n' && open(key) ? null(at) : -1;
        const Field& field = head_.table<Field>(head_.fields_at)[key.index];
        const u64 bit = 1ull << field.bit;
        if ((indexed_.shown[field.level] & bit) != 0) return -1;
        indexed_.shown[field.level] |= bit;
        if (in_[at] == 'n') return null(at);
        is_null_ = false;
        at = read_value(at, field, key.index);
        if (at >= 0 && !is_null_) indexed_.seen[field.level] |= bit;
        return at;
    }

    __host__ __device__ __forceinline__ i64 read_value(i64 at, const Field& field, u32 index) {
        const auto type = static_cast<Type>(field.type);
        const u8 byte = in_[at];
        if (type == Type::boolean) {
            if (byte != 't' && byte != 'f') return -1;
            write<u8>(index, field, byte == 't');
            return boolean(at);
        }
        if (byte != '"') {
            const i64 begin = at;
            Number number;
            at = scan_number(in_, at, end_, &number);
            if (at < 0) return -1;
            if (type == Type::string || type == Type::dictionary) {
                if (field.coerce == 0) return -1;
                write_text(index, field, begin, at - begin);
                return at;
            }
            return write_number(number, field, index) ? at : -1;
        }
        String text;
        if (!scan_string(in_, at + 1, end_, &text)) return -1;
        if (type == Type::string || type == Type::dictionary) {
            if (text.high && !is_utf8(in_, text.begin, text.end)) return -1;
            if (!text.escaped) {
                write_text(index, field, text.begin, text.end - text.begin);
            } else if (!write_unescaped(text, field, index)) {
                return -1;
            }
            return text.end + 1;
        }
        if (text.escaped) return -1;
        if (type == Type::timestamp && (field.forms & (kIso8601 | kIso8601Utc)) != 0) {
            i64 ms = 0;
            if (!read_iso(in_, text.begin, text.end, (field.forms & kIso8601Utc) != 0, &ms)) return -1;
            write<i64>(index, field, ms);
            return text.end + 1;
        }
        if (field.coerce == 0) return -1;
        if (text.begin == text.end) {
            is_null_ = true;
            return text.end + 1;
        }
        Number number;
        if (scan_number(in_, text.begin, text.end, &number) != text.end) return -1;
        return write_number(number, field, index) ? text.end + 1 : -1;
    }

    __host__ __device__ __forceinline__ bool write_number(const Number& number, const Field& field,
                                                          u32 index) {
        i64 value = 0;
        switch (static_cast<Type>(field.type)) {
            case Type::float64: {
                double real = 0;
                if (!to_float64(number, &real)) return false;
                write<double>(index, field, real);
                return true;
            }
            case Type::int32:
                if (!to_int64(number, 0, false, &value) || value != static_cast<i32>(value)) return false;
                write<i32>(index, field, static_cast<i32>(value));
                return true;
            case Type::int64:
                if (!to_int64(number, 0, false, &value)) return false;
                break;
            case Type::decimal:
                if (!to_int64(number, 4, false, &value)) return false;
                break;
            case Type::timestamp:
                if ((field.forms & (kEpochSeconds | kEpochMillis)) == 0) return false;
                if (!to_int64(number, (field.forms & kEpochSeconds) != 0 ? 3 : 0, true, &value)) return false;
                if (value < kFirstMs || value > kLastMs) return false;
                break;
            default:
                return false;
        }
        write<i64>(index, field, value);
        return true;
    }

    // ---- lanes

    template <class T>
    __host__ __device__ __forceinline__ void write(u32 index, const Field& field, T value) {
        if constexpr (kWrite) {
            lanes_.array<T>(3 * index)[indexed_.row[field.level]] = value;
            lanes_.array<u8>(3 * index + 1)[indexed_.row[field.level]] = 1;
        }
    }

    __host__ __device__ __forceinline__ void write_text(u32 index, const Field& field, i64 begin, i64 size) {
        if constexpr (kWrite) {
            lanes_.array<i64>(3 * index)[indexed_.row[field.level]] = begin;
            lanes_.array<i32>(3 * index + 1)[indexed_.row[field.level]] = static_cast<i32>(size);
        }
    }

    __host__ __device__ __forceinline__ bool write_unescaped(const String& text, const Field& field,
                                                             u32 index) {
        const i64 size = unescape(in_, text, kWrite ? lanes_.bytes + unescaped : nullptr);
        if (size < 0) return false;
        write_text(index, field, unescaped, size);
        unescaped += size;
        return true;
    }

    __host__ __device__ __forceinline__ void write_missing(u32 index) {
        const Field& field = head_.table<Field>(head_.fields_at)[index];
        const bool null = field.has_default == 0;
        switch (static_cast<Type>(field.type)) {
            case Type::string:
            case Type::dictionary:
                return write_text(index, field, lanes_.at[3 * index + 2],
                                  null ? -1 : static_cast<i64>(field.fallback));
            case Type::boolean:
                write<u8>(index, field, static_cast<u8>(field.fallback));
                break;
            case Type::int32:
                write<i32>(index, field, static_cast<i32>(field.fallback));
                break;
            default:
                write<u64>(index, field, field.fallback);
        }
        if (null) lanes_.array<u8>(3 * index + 1)[indexed_.row[field.level]] = 0;
    }

    const Head& head_;
    Bytes in_;
    const Lanes lanes_;
    Indexed& indexed_;
    i64 end_ = 0;
    u64 opened_ = 0;  // nodes whose key has come
    u32 next_key_ = 0;
    bool is_null_ = false;
};

}  // namespace omnistream
