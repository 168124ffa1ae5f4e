// Strings on the device: those of a batch, which lie in its bytes, and those that have a code, which lie one
// after the other in a pool.
#pragma once

#include "numbering.cuh"

namespace omnistream {

// Up to 8 bytes as a word, zeros after the end. Read byte by byte: a string may start anywhere and end at the
// last readable byte.
__host__ __device__ inline u64 load_bytes(const u8* data, i64 size) {
    u64 word = 0;
    for (i64 i = 0; i < 8 && i < size; ++i) word |= static_cast<u64>(data[i]) << (8 * i);
    return word;
}

__host__ __device__ inline u64 hash_text(const u8* data, i64 size) {
    u64 hash = mix(0, static_cast<u64>(size));
    for (i64 at = 0; at < size; at += 8) hash = mix(hash, load_bytes(data + at, size - at));
    return hash;
}

__host__ __device__ inline bool same_text(const u8* a, const u8* b, i64 size) {
    for (i64 i = 0; i < size; ++i)
        if (a[i] != b[i]) return false;
    return true;
}

// A row's string is bytes[begins[row], + sizes[row]); a negative size is a null. Code c is
// pool[offsets[c], offsets[c + 1]).
struct TextKeys {
    const u8* bytes;
    const i64* begins;
    const i32* sizes;
    const u8* pool;
    const i64* offsets;

    __host__ __device__ u64 hash(u32 row) const { return hash_text(bytes + begins[row], sizes[row]); }
    __host__ __device__ bool same_rows(u32 a, u32 b) const {
        return sizes[a] == sizes[b] && same_text(bytes + begins[a], bytes + begins[b], sizes[a]);
    }
    __host__ __device__ bool same_as_numbered(u32 row, u32 code) const {
        const i64 size = offsets[code + 1] - offsets[code];
        return size == sizes[row] && same_text(bytes + begins[row], pool + offsets[code], size);
    }
};

}  // namespace omnistream
