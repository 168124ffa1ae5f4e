// Numbers for things in the order of the row that shows each of them first: 0, 1, 2 ... for the life of a
// table. Codes of strings, groups of a window and its distinct values are all found this way, so they come
// out as the CPU gives them, whatever order the threads ran in.
//
// A slot of the table is one 64-bit word: the upper half of the hash, and what it stands for. That is nothing
// (0), a thing with a number (number + 1), or a thing that this batch showed first (kPending and its row). A
// thread claims a free slot with one atomicCAS, and rows of the same thing lower the pending row with
// atomicMin: there is no lock, no thread waits for another, and nobody reads a half-written entry, because
// what a pending slot is compared with lies in the batch. When all rows have found their slots, a scan over
// the rows that are still named by theirs gives the new things their numbers.
#pragma once

#include "device.cuh"

namespace omnistream {

constexpr u32 kPending = 0x80000000u;
constexpr u32 kNoSlot = 0xffffffffu;
constexpr u64 kTagMask = 0xffffffff00000000u;

__host__ __device__ inline u64 tagged(u64 hash, u32 reference) {
    return (hash & kTagMask) | reference;
}

// Each bit of the upper half of a product depends on every bit of both factors.
__host__ __device__ inline u64 mix(u64 hash, u64 word) {
    const u64 a = hash ^ 0xa0761d6478bd642full;
    const u64 b = word ^ 0xe7037ed1a0b428dbull;
    return multiply_high(a, b) ^ (a * b) ^ (word * 0x9e3779b97f4a7c15ull);
}

// Where `row` belongs: its own slot, claimed if nobody has shown the thing before. `Keys` says hash(row),
// same_rows(row, row) and same_as_numbered(row, number). The table is at most half full, so a free slot
// comes.
template <class Keys>
__device__ inline u32 find_or_claim(u64* slots, u64 mask, const Keys& keys, u32 row) {
    const u64 hash = keys.hash(row);
    const u64 mine = tagged(hash, kPending | row);
    for (u64 at = hash & mask;; at = (at + 1) & mask) {
        u64 slot = load_relaxed(slots + at);
        if (slot == 0) {
            slot = atomicCAS(slots + at, u64{0}, mine);
            if (slot == 0) return static_cast<u32>(at);
        }
        if (((slot ^ mine) & kTagMask) != 0) continue;
        const u32 reference = static_cast<u32>(slot);
        if ((reference & kPending) == 0) {
            if (keys.same_as_numbered(row, reference - 1)) return static_cast<u32>(at);
        } else if (keys.same_rows(row, reference & ~kPending)) {
            if (mine < slot) atomicMin(slots + at, mine);
            return static_cast<u32>(at);
        }
    }
}

// Puts a thing that is known to be new into the table, with its number.
__device__ inline void insert_numbered(u64* slots, u64 mask, u64 hash, u32 number) {
    const u64 mine = tagged(hash, number + 1);
    for (u64 at = hash & mask; atomicCAS(slots + at, u64{0}, mine) != 0;) at = (at + 1) & mask;
}

// Of every row, whether it is the first of a thing that has no number yet.
extern "C" __global__ void mark_firsts(const u64* slots, const u32* slot_of, u32 rows, u8* flags) {
    for (u32 row = first_item(); row < rows; row += all_threads()) {
        const u32 slot = slot_of[row];
        flags[row] = slot != kNoSlot && static_cast<u32>(slots[slot]) == (kPending | row);
    }
}

// firsts[i] is the row that shows the thing number base + i.
extern "C" __global__ void publish(u64* slots, const u32* slot_of, const u32* firsts, u32 count, u32 base) {
    for (u32 i = first_item(); i < count; i += all_threads()) {
        u64* const slot = slots + slot_of[firsts[i]];
        *slot = (*slot & kTagMask) | (base + i + 1);
    }
}

// The number of each row's thing; kNoSlot where a row was left out.
extern "C" __global__ void read_numbers(const u64* slots, const u32* slot_of, u32 rows, u32* numbers) {
    for (u32 row = first_item(); row < rows; row += all_threads()) {
        const u32 slot = slot_of[row];
        numbers[row] = slot == kNoSlot ? kNoSlot : static_cast<u32>(slots[slot]) - 1;
    }
}

}  // namespace omnistream
