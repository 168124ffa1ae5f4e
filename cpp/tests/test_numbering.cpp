// kernels/numbering.cuh under real threads: the host launcher takes one thread after the other, so the races
// of a GPU are run here, with hashes so weak that everything meets everything in the table.
#define __CUDACC__
#define __host__
#define __device__
#define __global__

#include <atomic>
#include <barrier>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

#include "check.hpp"

namespace {

struct Place {
    unsigned x;
};
thread_local Place threadIdx = {0};
Place blockIdx = {0};
Place blockDim = {1};
Place gridDim = {1};

template <class T>
T atomicCAS(T* at, T expected, T value) {
    std::atomic_ref<T>(*at).compare_exchange_strong(expected, value);
    return expected;
}
template <class T>
T atomicMin(T* at, T value) {
    std::atomic_ref<T> word(*at);
    T before = word.load();
    while (value < before && !word.compare_exchange_weak(before, value)) {
    }
    return before;
}
template <class T>
T atomicAdd(T* at, T value) {
    return std::atomic_ref<T>(*at).fetch_add(value);
}

}  // namespace

#include "../../kernels/numbering.cuh"

using namespace omnistream;

namespace {

// Rows show `values`; number n stands for `numbered[n]`.
struct Values {
    const u32* values;
    const u32* numbered;
    u64 hash_mask;

    u64 hash(u32 row) const { return mix(0, values[row]) & hash_mask; }
    bool same_rows(u32 a, u32 b) const { return values[a] == values[b]; }
    bool same_as_numbered(u32 row, u32 number) const { return values[row] == numbered[number]; }
};

constexpr u32 kThreads = 4;
constexpr u32 kRows = 4000;
constexpr u32 kSlots = 16384;

u32 next_random(u32* state) {
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

// Two batches: the second meets numbers of the first.
void check_numbers(u32 distinct, u64 hash_mask, u32 seed) {
    std::vector<u64> slots(kSlots, 0);
    std::vector<u32> numbered;
    std::vector<u32> expected_order;
    std::vector<u32> number_of(2 * distinct, ~0u);
    for (u32 batch = 0; batch < 2; ++batch) {
        std::vector<u32> values(kRows);
        for (u32& value : values) value = next_random(&seed) % distinct + batch * (distinct / 2);
        for (const u32 value : values) {
            if (number_of[value] != ~0u) continue;
            number_of[value] = static_cast<u32>(expected_order.size());
            expected_order.push_back(value);
        }
        const Values keys{values.data(), numbered.data(), hash_mask};
        std::vector<u32> slot_of(kRows);
        std::barrier start(kThreads);
        std::vector<std::thread> threads;
        for (u32 thread = 0; thread < kThreads; ++thread)
            threads.emplace_back([&, thread] {
                start.arrive_and_wait();
                for (u32 i = 0; i < kRows / kThreads; ++i) {
                    const u32 turn =
                        thread % 2 == 0 ? i : kRows / kThreads - 1 - i;  // from both ends at once
                    const u32 row = turn * kThreads + thread;
                    slot_of[row] = find_or_claim(slots.data(), kSlots - 1, keys, row);
                }
            });
        for (std::thread& thread : threads) thread.join();

        std::vector<u8> flags(kRows);
        mark_firsts(slots.data(), slot_of.data(), kRows, flags.data());
        std::vector<u32> firsts;
        for (u32 row = 0; row < kRows; ++row)
            if (flags[row] != 0) firsts.push_back(row);
        const auto base = static_cast<u32>(numbered.size());
        publish(slots.data(), slot_of.data(), firsts.data(), static_cast<u32>(firsts.size()), base);
        for (const u32 row : firsts) numbered.push_back(values[row]);
        CHECK(numbered == expected_order);
        std::vector<u32> numbers(kRows);
        read_numbers(slots.data(), slot_of.data(), kRows, numbers.data());
        for (u32 row = 0; row < kRows; ++row) CHECK(numbers[row] == number_of[values[row]]);
    }
}

}  // namespace

int main() {
    constexpr u64 kAll = ~u64{0};
    constexpr u64 kFewSlots = kTagMask | 7;  // long chains
    constexpr u64 kOneTag = kSlots - 1;      // every tag the same: only the values tell things apart
    constexpr u64 kNothing = 0;              // one chain of one tag
    for (u32 seed = 1; seed <= 10; ++seed) {
        for (const u64 mask : {kAll, kFewSlots, kOneTag}) {
            check_numbers(3, mask, seed);
            check_numbers(2000, mask, seed);
        }
        check_numbers(50, kNothing, seed);
    }
    return report("numbering");
}
