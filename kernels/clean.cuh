// What clean asks of one row. The meaning is cpp/src/clean.cpp's.
#pragma once

#include "device.cuh"

namespace omnistream {

// No rule has failed so far.
constexpr u16 kPassed = 0xffff;

constexpr i64 kNone = -9223372036854775807ll - 1;  // a watermark before all time

enum class Width : u32 { bytes, int32, int64, float64 };

struct Column {
    const void* values;
    const u8* validity;  // a bitmap, or null: nothing is null
    Width width;

    __host__ __device__ bool valid(u32 row) const { return is_valid(validity, row); }
    __host__ __device__ i64 integer(u32 row) const {
        if (width == Width::int64) return static_cast<const i64*>(values)[row];
        if (width == Width::int32) return static_cast<const i32*>(values)[row];
        return static_cast<const u8*>(values)[row];
    }
    __host__ __device__ double real(u32 row) const { return static_cast<const double*>(values)[row]; }
};

// NaN is less than nothing.
__host__ __device__ inline bool is_less(const Column& left, const Column& right, u32 row) {
    if (!left.valid(row) || !right.valid(row)) return false;
    return left.width == Width::float64 ? left.real(row) < right.real(row)
                                        : left.integer(row) < right.integer(row);
}

// And outside of every range.
struct Range {
    i64 low;
    i64 high;
    double low_float;
    double high_float;
};
__host__ __device__ inline bool is_outside(const Column& column, const Range& range, u32 row) {
    if (!column.valid(row)) return false;
    if (column.width == Width::float64) {
        const double value = column.real(row);
        return !(value >= range.low_float && value <= range.high_float);
    }
    const i64 value = column.integer(row);
    return value < range.low || value > range.high;
}

// Strings one after the other: number i is bytes[offsets[i], offsets[i + 1]).
struct Texts {
    const i32* offsets;
    const u8* bytes;

    __host__ __device__ i32 size(u32 number) const { return offsets[number + 1] - offsets[number]; }
};
__host__ __device__ inline bool is_among(const Texts& texts, u32 row, const Texts& values, u32 count) {
    const i32 size = texts.size(row);
    for (u32 value = 0; value < count; ++value) {
        if (values.size(value) != size) continue;
        const u8* const a = texts.bytes + texts.offsets[row];
        const u8* const b = values.bytes + values.offsets[value];
        i32 same = 0;
        while (same < size && a[same] == b[same]) ++same;
        if (same == size) return true;
    }
    return false;
}

// The rule that a row failed first; rules run one after the other, and their numbers grow.
__host__ __device__ inline void mark(u16* failed, u32 row, bool bad, u32 number) {
    if (bad && failed[row] > number) failed[row] = static_cast<u16>(number);
}

// The watermark when `newest` is the latest event time of this partition, and `others` the least of the
// others'.
struct Progress {
    i64 others_ms;
    i64 value_ms;  // it never moves back
    i64 disorder_ms;

    __host__ __device__ i64 at(i64 newest_ms) const {
        const i64 least = newest_ms < others_ms ? newest_ms : others_ms;
        const i64 first = kNone + disorder_ms;
        const i64 lagged = (least > first ? least : first) - disorder_ms;
        return lagged > value_ms ? lagged : value_ms;
    }
};

}  // namespace omnistream
