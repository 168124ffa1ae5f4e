// decode on the device: a block of NDJSON to lanes, in the order in which decode.py starts these.
//
//   count_feeds, list_feeds   where the lines end
//   measure                   one thread a message: is it taken, how many rows has it, how much is unescaped
//   write_rows                the same walk again; the rows of each message begin where the sums over what
//                             was measured say
//   gather_texts, pack_bits   lanes of strings and of flags to Arrow's buffers
//
// Four blocks on a multiprocessor leave 64 registers a thread; with the compiler's own choice of 48 they
// spill. Buffers that are read as words begin at a multiple of 8 bytes and are readable to the end of their
// last word.
#include "decode.cuh"

namespace omnistream {

constexpr u32 kFeedThreads = 256;
constexpr u32 kFeedWords = 4;  // of each thread
constexpr u32 kTileWords = kFeedThreads * kFeedWords;

enum Status : u8 { kTaken, kLeft, kBlank };

// The feeds of a word as high bits; those past the end do not count.
__device__ inline u64 feeds_of(const u64* words, u64 word, u64 size) {
    if (word * 8 >= size) return 0;
    const u64 left = size - word * 8;
    const u64 feeds = bytes_equal(words[word], '\n');
    return left >= 8 ? feeds : feeds & ((1ull << (8 * left)) - 1);
}

__device__ inline u64 first_word() {
    return static_cast<u64>(blockIdx.x) * kTileWords + threadIdx.x * kFeedWords;
}

extern "C" __global__ void __launch_bounds__(256) count_feeds(const u64* words, u64 size, u32* counts) {
    __shared__ u32 total;
    if (threadIdx.x == 0) total = 0;
    __syncthreads();
    u32 count = 0;
    for (u64 word = first_word(); word < first_word() + kFeedWords; ++word)
        count += static_cast<u32>(count_bits(feeds_of(words, word, size)));
    if (count != 0) atomicAdd(&total, count);
    __syncthreads();
    if (threadIdx.x == 0) counts[blockIdx.x] = total;
}

// `ends[i]` is the position of the i-th feed; `before[tile]` counts those of earlier tiles.
extern "C" __global__ void __launch_bounds__(256)
    list_feeds(const u64* words, u64 size, const u32* before, i64* ends) {
    __shared__ u32 sums[kFeedThreads];
    u32 count = 0;
    for (u64 word = first_word(); word < first_word() + kFeedWords; ++word)
        count += static_cast<u32>(count_bits(feeds_of(words, word, size)));
    sums[threadIdx.x] = count;
    __syncthreads();
    for (u32 step = 1; step < kFeedThreads; step *= 2) {
        const u32 more = threadIdx.x >= step ? sums[threadIdx.x - step] : 0;
        __syncthreads();
        sums[threadIdx.x] += more;
        __syncthreads();
    }
    u32 at = before[blockIdx.x] + sums[threadIdx.x] - count;
    for (u64 word = first_word(); word < first_word() + kFeedWords; ++word)
        for (u64 feeds = feeds_of(words, word, size); feeds != 0; feeds &= feeds - 1)
            ends[at++] = static_cast<i64>(word * 8) + (lowest_bit(feeds) >> 3);
}

// Message m is [begins[m], ends[m]); of a line (`lines`) a CR at the end is white space, and blank lines are
// no messages. `rows[level * messages + m]` are its rows.
extern "C" __global__ void __launch_bounds__(256, 4)
    measure(const Head* head, const u64* words, const i64* begins, i64* ends, u32 messages, u32 lines,
            u8* status, i32* rows, i32* unknown, i64* unescaped) {
    for (u32 m = first_item(); m < messages; m += all_threads()) {
        const i64 begin = begins[m];
        i64 end = ends[m];
        Bytes in(words);
        // A last line without its feed has no end that a CR could belong to.
        if (lines != 0 && m + 1 < lines && end > begin && in[end - 1] == '\r') ends[m] = --end;
        i64 at = begin;
        while (at < end && is_space(in[at])) ++at;
        const bool blank = lines != 0 && at == end;
        Indexed indexed;
        Message<false> message(*head, words, Lanes{}, indexed);
        const bool taken =
            !blank && end - begin <= static_cast<i64>(head->max_message_bytes) && message.read(begin, end);
        status[m] = taken ? kTaken : blank ? kBlank : kLeft;
        for (u32 level = 0; level < head->levels; ++level)
            rows[static_cast<u64>(level) * messages + m] = taken ? static_cast<i32>(indexed.row[level]) : 0;
        unknown[m] = taken ? static_cast<i32>(message.unknown) : 0;
        unescaped[m] = taken ? message.unescaped : 0;
    }
}

// `first_rows` as `rows` above, summed up; `first_bytes[m]`: where in `bytes` its strings are unescaped to.
extern "C" __global__ void __launch_bounds__(256, 4)
    write_rows(const Head* head, const u64* words, const i64* begins, const i64* ends, u32 messages,
               const u8* status, const i32* first_rows, const i64* first_bytes, u8* lanes, const i64* at,
               u8* bytes) {
    for (u32 m = first_item(); m < messages; m += all_threads()) {
        if (status[m] != kTaken) continue;
        Indexed indexed;
        Message<true> message(*head, words, Lanes{lanes, at, bytes}, indexed);
        for (u32 level = 0; level < head->levels; ++level)
            indexed.row[level] = static_cast<u32>(first_rows[static_cast<u64>(level) * messages + m]);
        message.unescaped = first_bytes[m];
        message.read(begins[m], ends[m]);
    }
}

// A warp copies a string, so that neighbouring lanes read and write neighbouring bytes.
extern "C" __global__ void gather_texts(const u8* bytes, const i64* begins, const i32* sizes, u32 rows,
                                        const i32* offsets, u8* out) {
    const u32 lane = threadIdx.x % warpSize;
    for (u32 row = first_item() / warpSize; row < rows; row += all_threads() / warpSize) {
        const u8* const from = bytes + begins[row];
        u8* const to = out + offsets[row];
        for (i32 i = static_cast<i32>(lane); i < sizes[row]; i += warpSize) to[i] = from[i];
    }
}

// One thread makes a byte of the bitmap.
extern "C" __global__ void pack_bits(const u8* flags, u32 rows, u8* bits) {
    for (u32 byte = first_item(); byte < (rows + 7) / 8; byte += all_threads()) {
        u32 packed = 0;
        for (u32 bit = 0; bit < 8 && byte * 8 + bit < rows; ++bit)
            packed |= (flags[byte * 8 + bit] != 0) << bit;
        bits[byte] = static_cast<u8>(packed);
    }
}

}  // namespace omnistream
