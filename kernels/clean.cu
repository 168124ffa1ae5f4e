// clean on the device: each rule is one pass over its columns; clean.py starts them in the order of the
// rules.
//
// The watermark that a row meets depends on the rows before it, but only on the latest of their times: a
// running maximum. `tile_maxima`, `scan_maxima` (one block) and `meet_watermark` find it in three passes.
#include "amount.cuh"
#include "clean.cuh"

namespace omnistream {

// Amounts of eight rows and the byte of their bitmap by one thread. `shares` are discounts, or null for the
// gross amount; a row whose amount int64 cannot hold has none, and is flagged.
extern "C" __global__ void add_amounts(const void* quantities, const u8* quantity_validity,
                                       u32 quantity_width, const void* prices, const u8* price_validity,
                                       u32 price_width, const void* shares, const u8* share_validity,
                                       u32 share_width, u64 one, u64 divisor, u64 multiplier, u32 rows,
                                       i64* amounts, u8* validity, u8* overflowed) {
    const Column quantity{quantities, quantity_validity, static_cast<Width>(quantity_width)};
    const Column price{prices, price_validity, static_cast<Width>(price_width)};
    const Column share{shares, share_validity, static_cast<Width>(share_width)};
    const AmountScale scale{one, divisor, multiplier};
    for (u32 byte = first_item(); byte < (rows + 7) / 8; byte += all_threads()) {
        u32 bits = 0;
        for (u32 row = byte * 8; row < byte * 8 + 8 && row < rows; ++row) {
            amounts[row] = 0;
            if (!quantity.valid(row) || !price.valid(row)) continue;
            const i64 discount = shares != nullptr && share.valid(row) ? share.integer(row) : 0;
            const bool fits = line_amount(quantity.integer(row), price.integer(row),
                                          shares == nullptr ? nullptr : &discount, scale, amounts + row);
            bits |= static_cast<u32>(fits) << (row - byte * 8);
            if (!fits) overflowed[row] = 1;
        }
        validity[byte] = static_cast<u8>(bits);
    }
}

extern "C" __global__ void mark_flagged(const u8* flags, u32 rows, u32 number, u16* failed) {
    for (u32 row = first_item(); row < rows; row += all_threads()) mark(failed, row, flags[row] != 0, number);
}

extern "C" __global__ void mark_less_than(const void* values, const u8* validity, const void* other_values,
                                          const u8* other_validity, u32 width, u32 rows, u32 number,
                                          u16* failed) {
    const Column left{values, validity, static_cast<Width>(width)};
    const Column right{other_values, other_validity, static_cast<Width>(width)};
    for (u32 row = first_item(); row < rows; row += all_threads())
        mark(failed, row, is_less(left, right, row), number);
}

extern "C" __global__ void mark_outside(const void* values, const u8* validity, u32 width, i64 low, i64 high,
                                        double low_float, double high_float, u32 rows, u32 number,
                                        u16* failed) {
    const Column column{values, validity, static_cast<Width>(width)};
    const Range range{low, high, low_float, high_float};
    for (u32 row = first_item(); row < rows; row += all_threads())
        mark(failed, row, is_outside(column, range, row), number);
}

extern "C" __global__ void mark_nulls(const u8* validity, u32 rows, u32 number, u16* failed) {
    for (u32 row = first_item(); row < rows; row += all_threads())
        mark(failed, row, !is_valid(validity, row), number);
}

// `refused` says it for each code.
extern "C" __global__ void mark_refused(const i32* codes, const u8* validity, const u8* refused, u32 rows,
                                        u32 number, u16* failed) {
    for (u32 row = first_item(); row < rows; row += all_threads())
        mark(failed, row, is_valid(validity, row) && refused[codes[row]] != 0, number);
}

extern "C" __global__ void mark_strangers(const i32* offsets, const u8* bytes, const u8* validity,
                                          const i32* value_offsets, const u8* value_bytes, u32 values,
                                          u32 rows, u32 number, u16* failed) {
    const Texts texts{offsets, bytes};
    const Texts allowed{value_offsets, value_bytes};
    for (u32 row = first_item(); row < rows; row += all_threads())
        mark(failed, row, is_valid(validity, row) && !is_among(texts, row, allowed, values), number);
}

// ---- the watermark

constexpr u32 kThreads = 256;
constexpr u32 kRowsPerThread = 8;
constexpr u32 kTile = kThreads * kRowsPerThread;

__device__ inline i64 later(i64 a, i64 b) {
    return a > b ? a : b;
}

// The latest among `before` and the threads before this one; `*all`: among all of them.
__device__ inline i64 latest_before(i64 mine, i64 before, i64* shared, i64* all) {
    const u32 thread = threadIdx.x;
    shared[thread] = mine;
    __syncthreads();
    for (u32 step = 1; step < kThreads; step *= 2) {
        const i64 earlier = thread >= step ? shared[thread - step] : kNone;
        __syncthreads();
        shared[thread] = later(shared[thread], earlier);
        __syncthreads();
    }
    const i64 latest = later(before, thread == 0 ? kNone : shared[thread - 1]);
    *all = later(before, shared[kThreads - 1]);
    __syncthreads();
    return latest;
}

__device__ inline i64 latest_of_thread(const i64* times_ms, u32 count, u32 begin) {
    i64 latest = kNone;
    for (u32 row = begin; row < begin + kRowsPerThread && row < count; ++row)
        latest = later(latest, times_ms[row]);
    return latest;
}

extern "C" __global__ void __launch_bounds__(256) tile_maxima(const i64* times_ms, u32 count, i64* maxima) {
    __shared__ i64 shared[kThreads];
    const u32 begin = blockIdx.x * kTile + threadIdx.x * kRowsPerThread;
    i64 all = 0;
    latest_before(latest_of_thread(times_ms, count, begin), kNone, shared, &all);
    if (threadIdx.x == 0) maxima[blockIdx.x] = all;
}

// Each tile's maximum becomes that of `newest_ms` and the tiles before it, and maxima[tiles] that of all.
extern "C" __global__ void __launch_bounds__(256) scan_maxima(i64* maxima, u32 tiles, i64 newest_ms) {
    __shared__ i64 shared[kThreads];
    i64 before = newest_ms;
    for (u32 begin = 0; begin < tiles; begin += kThreads) {
        const u32 tile = begin + threadIdx.x;
        const i64 latest = latest_before(tile < tiles ? maxima[tile] : kNone, before, shared, &before);
        if (tile < tiles) maxima[tile] = latest;
    }
    if (threadIdx.x == 0) maxima[tiles] = before;
}

// met_ms[i]: the watermark just before row i, which has not moved it yet. The first row meets the stream's
// own.
extern "C" __global__ void __launch_bounds__(256)
    meet_watermark(const i64* times_ms, u32 count, const i64* maxima, i64 others_ms, i64 value_ms,
                   i64 disorder_ms, i64* met_ms) {
    __shared__ i64 shared[kThreads];
    const Progress progress{others_ms, value_ms, disorder_ms};
    const u32 begin = blockIdx.x * kTile + threadIdx.x * kRowsPerThread;
    i64 all = 0;
    i64 newest = latest_before(latest_of_thread(times_ms, count, begin), maxima[blockIdx.x], shared, &all);
    for (u32 row = begin; row < begin + kRowsPerThread && row < count; ++row) {
        met_ms[row] = row == 0 ? value_ms : progress.at(newest);
        newest = later(newest, times_ms[row]);
    }
}

}  // namespace omnistream
