// The part of CUDA that the kernels use, as C++: what nvcc would know by itself. launch.hpp runs it.
//
// Blocks run one after the other on one thread of the host, and the threads of a block take turns only where
// they wait for each other. So atomics are plain, shared memory is static, and every run is repeatable.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __shared__ static

namespace omnistream::host {

struct Place {
    unsigned x = 0;
    unsigned y = 0;
    unsigned z = 0;
};

// Of the thread that has its turn.
inline Place thread_place, block_place, block_size, grid_size;

// Waits for all threads of the block that have not returned.
void sync_block();
// Waits for the lanes in `mask`; what each of them brought comes back by lane.
const std::uint64_t* exchange(unsigned mask, std::uint64_t value);
unsigned lane();

template <class T>
std::uint64_t to_word(T value) {
    static_assert(sizeof(T) <= sizeof(std::uint64_t));
    std::uint64_t word = 0;
    std::memcpy(&word, &value, sizeof value);
    return word;
}
template <class T>
T from_word(std::uint64_t word) {
    T value;
    std::memcpy(&value, &word, sizeof value);
    return value;
}

template <class T, class Change>
T change(T* at, Change to) {
    const T before = *at;
    *at = to(before);
    return before;
}

}  // namespace omnistream::host

#define threadIdx omnistream::host::thread_place
#define blockIdx omnistream::host::block_place
#define blockDim omnistream::host::block_size
#define gridDim omnistream::host::grid_size
inline constexpr int warpSize = 32;

inline void __syncthreads() {
    omnistream::host::sync_block();
}
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __syncwarp(unsigned mask = 0xffffffffU) {
    omnistream::host::exchange(mask, 0);
}

// ---- warps

inline unsigned __ballot_sync(unsigned mask, int predicate) {
    const std::uint64_t* const seen = omnistream::host::exchange(mask, predicate != 0);
    unsigned bits = 0;
    for (unsigned lane = 0; lane < 32; ++lane)
        if ((mask >> lane & 1U) != 0 && seen[lane] != 0) bits |= 1U << lane;
    return bits;
}
inline int __any_sync(unsigned mask, int predicate) {
    return __ballot_sync(mask, predicate) != 0;
}
inline int __all_sync(unsigned mask, int predicate) {
    return __ballot_sync(mask, static_cast<int>(predicate == 0)) == 0;
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value) {
    const std::uint64_t mine = omnistream::host::to_word(value);
    const std::uint64_t* const seen = omnistream::host::exchange(mask, mine);
    unsigned bits = 0;
    for (unsigned lane = 0; lane < 32; ++lane)
        if ((mask >> lane & 1U) != 0 && seen[lane] == mine) bits |= 1U << lane;
    return bits;
}
template <class T>
T __shfl_sync(unsigned mask, T value, int from) {
    const std::uint64_t* const seen = omnistream::host::exchange(mask, omnistream::host::to_word(value));
    return omnistream::host::from_word<T>(seen[from & 31]);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta) {
    const unsigned lane = omnistream::host::lane();
    const std::uint64_t* const seen = omnistream::host::exchange(mask, omnistream::host::to_word(value));
    return lane < delta ? value : omnistream::host::from_word<T>(seen[lane - delta]);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta) {
    const unsigned lane = omnistream::host::lane();
    const std::uint64_t* const seen = omnistream::host::exchange(mask, omnistream::host::to_word(value));
    return lane + delta > 31 ? value : omnistream::host::from_word<T>(seen[lane + delta]);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes) {
    const unsigned lane = omnistream::host::lane();
    const std::uint64_t* const seen = omnistream::host::exchange(mask, omnistream::host::to_word(value));
    return omnistream::host::from_word<T>(seen[(lane ^ static_cast<unsigned>(lanes)) & 31U]);
}

// ---- atomics: of the types that CUDA has them for

template <class T>
T atomicAdd(T* at, T value) {
    static_assert(std::is_same_v<T, int> || std::is_same_v<T, unsigned> ||
                  std::is_same_v<T, unsigned long long>);
    return omnistream::host::change(at, [=](T before) { return static_cast<T>(before + value); });
}
template <class T>
T atomicMin(T* at, T value) {
    return omnistream::host::change(at, [=](T before) { return value < before ? value : before; });
}
template <class T>
T atomicMax(T* at, T value) {
    return omnistream::host::change(at, [=](T before) { return value > before ? value : before; });
}
template <class T>
T atomicOr(T* at, T value) {
    return omnistream::host::change(at, [=](T before) { return static_cast<T>(before | value); });
}
template <class T>
T atomicAnd(T* at, T value) {
    return omnistream::host::change(at, [=](T before) { return static_cast<T>(before & value); });
}
template <class T>
T atomicExch(T* at, T value) {
    return omnistream::host::change(at, [=](T) { return value; });
}
template <class T>
T atomicCAS(T* at, T expected, T value) {
    return omnistream::host::change(at, [=](T before) { return before == expected ? value : before; });
}
