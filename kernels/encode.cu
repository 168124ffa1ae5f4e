// encode on the device: strings to the codes of the host's dictionary. See numbering.cuh for how a code is
// found, and encode.py for the order in which these run.
#include "encode.cuh"

namespace omnistream {

// Columns of text have offsets; a validity bit says what is null (no bitmap: nothing is). `rows` picks and
// orders the rows, or is null for all of them.
extern "C" __global__ void find_texts(const i32* offsets, const u8* validity, const u32* rows, u32 count,
                                      i64* begins, i32* sizes) {
    for (u32 i = first_item(); i < count; i += all_threads()) {
        const u32 row = rows == nullptr ? i : rows[i];
        begins[i] = offsets[row];
        sizes[i] = is_valid(validity, row) ? offsets[row + 1] - offsets[row] : -1;
    }
}

extern "C" __global__ void probe_texts(const u8* bytes, const i64* begins, const i32* sizes, u32 rows,
                                       const u8* pool, const i64* offsets, u64* slots, u64 mask,
                                       u32* slot_of) {
    const TextKeys keys{bytes, begins, sizes, pool, offsets};
    for (u32 row = first_item(); row < rows; row += all_threads())
        slot_of[row] = sizes[row] < 0 ? kNoSlot : find_or_claim(slots, mask, keys, row);
}

// What is new, to be laid out by the host.
extern "C" __global__ void sizes_of(const u32* firsts, u32 count, const i32* sizes, i32* out) {
    for (u32 i = first_item(); i < count; i += all_threads()) out[i] = sizes[firsts[i]];
}

// The string firsts[i] goes to the pool, where offsets[base + i] says.
extern "C" __global__ void append_texts(const u32* firsts, u32 count, u32 base, const u8* bytes,
                                        const i64* begins, const i32* sizes, const i64* offsets, u8* pool) {
    for (u32 i = first_item(); i < count; i += all_threads()) {
        const u32 row = firsts[i];
        for (i32 at = 0; at < sizes[row]; ++at) pool[offsets[base + i] + at] = bytes[begins[row] + at];
    }
}

// Codes [from, to) into the table: of strings that came from the host, or when the table has grown.
extern "C" __global__ void insert_texts(const u8* pool, const i64* offsets, u32 from, u32 to, u64* slots,
                                        u64 mask) {
    for (u32 code = from + first_item(); code < to; code += all_threads())
        insert_numbered(slots, mask, hash_text(pool + offsets[code], offsets[code + 1] - offsets[code]),
                        code);
}

// The lane of a null is 0, as on the CPU.
extern "C" __global__ void read_codes(const u64* slots, const u32* slot_of, u32 rows, i32* codes) {
    for (u32 row = first_item(); row < rows; row += all_threads()) {
        const u32 slot = slot_of[row];
        codes[row] = slot == kNoSlot ? 0 : static_cast<i32>(static_cast<u32>(slots[slot]) - 1);
    }
}

}  // namespace omnistream
