// What a window does to one row: which interval it falls into, what its key is, how much it weighs. The
// meaning is cpp/src/window.cpp's, row by row.
#pragma once

#include "numbering.cuh"

namespace omnistream {

constexpr i64 kLeast = -9223372036854775807ll - 1;
constexpr i64 kMost = 9223372036854775807ll;
constexpr u64 kSign64 = 1ull << 63;
constexpr u32 kSign32 = 1u << 31;

__host__ __device__ inline i64 add_saturated(i64 a, i64 b) {
    const i64 sum = static_cast<i64>(static_cast<u64>(a) + static_cast<u64>(b));
    if (a >= 0 && b >= 0 && sum < 0) return kMost;
    if (a < 0 && b < 0 && sum >= 0) return kLeast;
    return sum;
}

struct Interval {
    i64 start_ms;
    i64 final_ms;
};

// `offset_ms` is in [0, size_ms). Reckoned from the row's time, so that nothing can overflow on the way to an
// interval that does not fit int64 as a whole.
__host__ __device__ inline Interval interval_of(i64 time_ms, i64 offset_ms, i64 size_ms, i64 lateness_ms) {
    i64 since_ms = time_ms % size_ms - offset_ms;  // both within (-size, size)
    if (since_ms < 0) since_ms += size_ms;
    if (since_ms < 0) since_ms += size_ms;
    return {add_saturated(time_ms, -since_ms),
            add_saturated(add_saturated(time_ms, size_ms - since_ms), lateness_ms)};
}

// How lanes are read. Every column that is a number to the measures is an int64 here.
enum class Lanes : u32 { code, int32, boolean, int64, float64 };

// A double as an integer in the same order, -0.0 below 0.0; every NaN is the largest integer, which no number
// takes.
__host__ __device__ inline i64 ordered_bits(i64 bits) {
    const u64 magnitude = static_cast<u64>(bits) & ~kSign64;
    if (magnitude > 0x7ff0000000000000ull) return kMost;
    return bits < 0 ? bits ^ kMost : bits;
}

// A column as kernels see it: `translation` turns codes of the batch into ours, `rows` says which rows are
// taken.
struct Lane {
    const void* values;
    const u8* validity;
    const i32* translation;
    const u32* rows;
    Lanes lanes;

    __host__ __device__ u32 row(u32 place) const { return rows == nullptr ? place : rows[place]; }
    __host__ __device__ bool valid(u32 place) const { return is_valid(validity, row(place)); }
    __host__ __device__ i64 value(u32 place) const {
        const u32 at = row(place);
        switch (lanes) {
            case Lanes::code: {
                const i32 code = static_cast<const i32*>(values)[at];
                return translation == nullptr ? code : translation[code];
            }
            case Lanes::int32:
                return static_cast<const i32*>(values)[at];
            case Lanes::boolean:
                return static_cast<const u8*>(values)[at];
            case Lanes::float64:
                return ordered_bits(static_cast<const i64*>(values)[at]);
            default:
                return static_cast<const i64*>(values)[at];
        }
    }
};

// Keys as words, the first of which is the start of the row's interval. `numbered` holds the words of number
// n at n * stride.
struct WordKeys {
    const u64* batch;
    const u64* numbered;
    u32 words;
    u32 stride;

    __host__ __device__ static u64 hash_words(const u64* key, u32 words) {
        u64 hash = 0;
        for (u32 i = 0; i < words; ++i) hash = mix(hash, key[i]);
        return hash;
    }
    __host__ __device__ static bool same(const u64* a, const u64* b, u32 words) {
        for (u32 i = 0; i < words; ++i)
            if (a[i] != b[i]) return false;
        return true;
    }
    __host__ __device__ const u64* key(u32 row) const { return batch + static_cast<u64>(row) * words; }
    __host__ __device__ u64 hash(u32 row) const { return hash_words(key(row), words); }
    __host__ __device__ bool same_rows(u32 a, u32 b) const { return same(key(a), key(b), words); }
    __host__ __device__ bool same_as_numbered(u32 row, u32 number) const {
        return same(key(row), numbered + static_cast<u64>(number) * stride, words);
    }
};

// A field of a key: 0 for null, else 1 plus an unsigned number in the order of the values.
__host__ __device__ inline u64 field_of(Lanes lanes, i64 value) {
    if (lanes == Lanes::int32) return static_cast<u64>(static_cast<u32>(value) ^ kSign32) + 1;
    return static_cast<u64>(value) + 1;
}

__host__ __device__ inline u64 magnitude_of(i64 value) {
    return value < 0 ? 0 - static_cast<u64>(value) : static_cast<u64>(value);
}

// A 128-bit number that only grows, in two words that many threads add to. Each time the lower word wraps,
// exactly one thread sees it and carries; so does the upper one, and then the sum is beyond 128 bits.
__device__ inline bool add_wide(u64* words, u64 low, u64 high) {
    const u64 before = atomicAdd(words, low);
    const u64 carried = high + (before + low < before ? 1 : 0);
    if (carried < high) return true;
    if (carried == 0) return false;
    const u64 above = atomicAdd(words + 1, carried);
    return above + carried < above;
}

}  // namespace omnistream
