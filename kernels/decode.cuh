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

#include "json_values.cuh"

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
