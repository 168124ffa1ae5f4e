// What every kernel stands on: the names of integers, the grid-stride loop, bits of Arrow bitmaps.
//
// These sources are compiled twice: by NVRTC for a GPU, and by the host's C++ compiler for the launcher in
// host/, which runs the same grid on a CPU under tests and sanitizers. So nothing here includes a header of
// the host, what a record or a row does is `__host__ __device__`, and kernels keep to what host/cuda.hpp
// offers: shared memory of a fixed size, barriers, warp intrinsics, atomics. A thread never waits in a loop
// for what another one writes.
//
// A kernel is `extern "C" __global__ void name(...)` in a namespace of its stage's .cu or of a header it
// includes. Its arguments are pointers and integers; the launcher checks their number and sizes on the host.
#pragma once

#ifndef __CUDACC__
#include "host/cuda.hpp"
#endif

namespace omnistream {

// As CUDA's atomics spell them.
using i8 = signed char;
using u8 = unsigned char;
using u16 = unsigned short;
using i32 = int;
using u32 = unsigned int;
using i64 = long long;
using u64 = unsigned long long;
static_assert(sizeof(i32) == 4 && sizeof(i64) == 8);

// for (u32 i = first_item(); i < count; i += all_threads()): any grid covers all items. Counts stay below
// 2^31, so that the sum cannot wrap.
__device__ inline u32 first_item() {
    return blockIdx.x * blockDim.x + threadIdx.x;
}
__device__ inline u32 all_threads() {
    return gridDim.x * blockDim.x;
}

// A column without a bitmap has no nulls.
__host__ __device__ inline bool is_valid(const u8* validity, u64 row) {
    return validity == nullptr || ((validity[row >> 3] >> (row & 7)) & 1) != 0;
}

// A word that other threads may be changing: read once, and not from a stale register.
__device__ inline u64 load_relaxed(const u64* word) {
    return *static_cast<const volatile u64*>(word);
}

// The index of the lowest set bit; `bits` is not 0.
__host__ __device__ inline int lowest_bit(u64 bits) {
#ifdef __CUDA_ARCH__
    return __ffsll(static_cast<i64>(bits)) - 1;
#else
    return __builtin_ctzll(bits);
#endif
}

// The upper half of a product of two words.
__host__ __device__ inline u64 multiply_high(u64 a, u64 b) {
#ifdef __CUDA_ARCH__
    return __umul64hi(a, b);
#else
    return static_cast<u64>((static_cast<unsigned __int128>(a) * b) >> 64);
#endif
}

__host__ __device__ inline int count_bits(u64 bits) {
#ifdef __CUDA_ARCH__
    return __popcll(bits);
#else
    return __builtin_popcountll(bits);
#endif
}

}  // namespace omnistream
