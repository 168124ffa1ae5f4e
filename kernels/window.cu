// window on the device: rows to groups, groups to sums. Kernels stand in the order in which a batch meets
// them; see window.py for the driver.
//
// A batch goes through columns, as on the CPU: its rows are placed and get the number of their group once,
// then each accumulator is one pass over the batch. A group is a row of words: its key (the start of its
// interval first), then its accumulators.
#include "window.cuh"

namespace omnistream {

// ---- place: which interval, and is it final already

// key[i * words] becomes the start of the interval of row i. tally[0] += late rows; tally[1] = the least
// start that was met, with its sign bit turned so that it orders as an unsigned number.
extern "C" __global__ void place_rows(const i64* times_ms, const u32* rows, const i64* watermarks_ms,
                                      u32 count, i64 closed_ms, i64 offset_ms, i64 size_ms, i64 lateness_ms,
                                      u32 words, u64* keys, i8* in_time, u64* tally) {
    __shared__ u64 late;
    __shared__ u64 least;
    if (threadIdx.x == 0) {
        late = 0;
        least = ~u64{0};
    }
    __syncthreads();
    u64 late_here = 0;
    u64 least_here = ~u64{0};
    for (u32 i = first_item(); i < count; i += all_threads()) {
        const i64 time_ms = times_ms[rows == nullptr ? i : rows[i]];
        const Interval interval = interval_of(time_ms, offset_ms, size_ms, lateness_ms);
        const i64 watermark_ms = watermarks_ms[i] > closed_ms ? watermarks_ms[i] : closed_ms;
        const bool counts = interval.final_ms > watermark_ms;
        keys[static_cast<u64>(i) * words] = static_cast<u64>(interval.start_ms);
        in_time[i] = counts;
        late_here += !counts;
        const u64 start = static_cast<u64>(interval.start_ms) ^ kSign64;
        if (counts && start < least_here) least_here = start;
    }
    if (late_here != 0) atomicAdd(&late, late_here);
    if (least_here != ~u64{0}) atomicMin(&least, least_here);
    __syncthreads();
    if (threadIdx.x != 0) return;
    if (late != 0) atomicAdd(tally, late);
    if (least != ~u64{0}) atomicMin(tally + 1, least);
}

// ---- keys

// A value as a bit field, or when it takes 64 bits as a word of its own and a bit that says it is there.
extern "C" __global__ void pack_field(const void* values, const u8* validity, const i32* translation,
                                      const u32* rows, u32 lanes, u32 count, u32 words, u32 word, u32 shift,
                                      u32 value_word, u64* keys) {
    const Lane lane{values, validity, translation, rows, static_cast<Lanes>(lanes)};
    for (u32 i = first_item(); i < count; i += all_threads()) {
        if (!lane.valid(i)) continue;
        u64* const key = keys + static_cast<u64>(i) * words;
        const bool wide = value_word != 0;
        key[word] |= (wide ? u64{1} : field_of(lane.lanes, lane.value(i))) << shift;
        if (wide) key[value_word] = static_cast<u64>(lane.value(i)) ^ kSign64;
    }
}

// Rows whose `taken` is 0 are left out.
extern "C" __global__ void probe_keys(const u64* batch, u32 rows, u32 words, const i8* taken,
                                      const u64* numbered, u32 stride, u64* slots, u64 mask, u32* slot_of) {
    const WordKeys keys{batch, numbered, words, stride};
    for (u32 row = first_item(); row < rows; row += all_threads())
        slot_of[row] = taken != nullptr && taken[row] == 0 ? kNoSlot : find_or_claim(slots, mask, keys, row);
}

// New things behind those that are there: their keys, then a copy of `fresh`.
extern "C" __global__ void append_keys(const u32* firsts, u32 count, u32 base, const u64* batch, u32 words,
                                       const u64* fresh, u32 stride, u64* numbered) {
    for (u32 i = first_item(); i < count; i += all_threads()) {
        u64* const out = numbered + static_cast<u64>(base + i) * stride;
        const u64* const key = batch + static_cast<u64>(firsts[i]) * words;
        for (u32 word = 0; word < stride; ++word) out[word] = word < words ? key[word] : fresh[word - words];
    }
}

// Numbers [0, count) into an empty table: after a restore, or when it has grown.
extern "C" __global__ void insert_keys(const u64* numbered, u32 count, u32 words, u32 stride, u64* slots,
                                       u64 mask) {
    for (u32 number = first_item(); number < count; number += all_threads())
        insert_numbered(slots, mask,
                        WordKeys::hash_words(numbered + static_cast<u64>(number) * stride, words), number);
}

// ---- weights: what a row counts for in a measure; 0 leaves it out

extern "C" __global__ void weigh_rows(const i8* in_time, const u8* column_validity, const u32* column_rows,
                                      const i32* codes, const u8* validity, const i32* translation,
                                      const u32* rows, const i8* by_code, u32 count, i8* weights) {
    const Lane condition{codes, validity, translation, rows, Lanes::code};
    for (u32 i = first_item(); i < count; i += all_threads()) {
        i8 weight = in_time[i];
        if (!is_valid(column_validity, column_rows == nullptr ? i : column_rows[i])) weight = 0;
        if (by_code != nullptr && weight != 0)
            weight = condition.valid(i) ? by_code[condition.value(i)] : i8{0};
        weights[i] = weight;
    }
}

// ---- hot keys: the groups that a tile of rows meets often are added up in shared memory first
//
// A sale puts one style into every second row, and all their atomics would queue at one address. So each tile
// gives the groups it meets places in shared memory, once for all accumulators; what a tile adds up there
// reaches memory with one atomic per group. Tiles that meet mostly different groups would gain nothing, and
// add to memory at once.

constexpr u32 kThreads = 256;
constexpr u32 kTile = 8 * kThreads;
constexpr u32 kPlaces = 1024;
constexpr u32 kProbes = 4;
constexpr u32 kNoGroup = 0xffffffffu;
constexpr u32 kNoPlace = 0xffffu;
// A group must come at least this often, on average over a tile, for the detour to save atomics.
constexpr u32 kWorthwhile = 2;

// place_of[i]: where row i's group is in its tile; tile_groups[tile * kPlaces + place]: which group that is.
extern "C" __global__ void find_places(const u32* groups, u32 count, unsigned short* place_of,
                                       u32* tile_groups) {
    __shared__ u32 here[kPlaces];
    __shared__ u32 used;
    __shared__ u32 rows;
    for (u32 place = threadIdx.x; place < kPlaces; place += kThreads) here[place] = kNoGroup;
    if (threadIdx.x == 0) used = rows = 0;
    __syncthreads();
    const u32 begin = blockIdx.x * kTile;
    u32 placed = 0;
    for (u32 i = begin + threadIdx.x; i < begin + kTile && i < count; i += kThreads) {
        const u32 group = groups[i];
        u32 found = kNoPlace;
        u32 place = (group * 0x9e3779b9u) >> 22;
        for (u32 probe = 0; group != kNoGroup && probe < kProbes; ++probe, place = (place + 1) % kPlaces) {
            const u32 before = atomicCAS(here + place, kNoGroup, group);
            if (before == kNoGroup) atomicAdd(&used, 1u);
            if (before != kNoGroup && before != group) continue;
            found = place;
            ++placed;
            break;
        }
        place_of[i] = static_cast<unsigned short>(found);
    }
    atomicAdd(&rows, placed);
    __syncthreads();
    const bool worthwhile = used * kWorthwhile <= rows;
    for (u32 place = threadIdx.x; place < kPlaces; place += kThreads)
        tile_groups[static_cast<u64>(blockIdx.x) * kPlaces + place] = worthwhile ? here[place] : kNoGroup;
    if (worthwhile) return;
    for (u32 i = begin + threadIdx.x; i < begin + kTile && i < count; i += kThreads)
        place_of[i] = static_cast<unsigned short>(kNoPlace);
}

// ---- accumulators: one pass each
//
// `Accumulate` says how a row's value joins a word (or two of them), and how a tile's sum joins the group's.

struct Target {
    u64* table;
    u32 stride;
    u32 word;

    __device__ u64* of(u32 group) const { return table + static_cast<u64>(group) * stride + word; }
};

template <class Accumulate>
__device__ inline void add_tile(const Accumulate& accumulate, const u32* groups,
                                const unsigned short* place_of, const u32* tile_groups, u32 count,
                                const i8* weights, const Target& target) {
    constexpr u32 kWords = Accumulate::kWords;
    __shared__ u64 sums[kPlaces * kWords];
    for (u32 i = threadIdx.x; i < kPlaces * kWords; i += kThreads) sums[i] = Accumulate::kFresh;
    __syncthreads();
    const u32 begin = blockIdx.x * kTile;
    for (u32 i = begin + threadIdx.x; i < begin + kTile && i < count; i += kThreads) {
        if (weights[i] == 0) continue;
        const u32 place = place_of[i];
        accumulate.add(place == kNoPlace ? target.of(groups[i]) : sums + place * kWords, i, weights[i]);
    }
    __syncthreads();
    for (u32 place = threadIdx.x; place < kPlaces; place += kThreads) {
        const u32 group = tile_groups[static_cast<u64>(blockIdx.x) * kPlaces + place];
        if (group != kNoGroup) accumulate.merge(target.of(group), sums + place * kWords);
    }
}

struct Count {
    static constexpr u32 kWords = 1;
    static constexpr u64 kFresh = 0;
    __device__ void add(u64* word, u32, i32 weight) const {
        atomicAdd(word, static_cast<u64>(static_cast<i64>(weight)));
    }
    __device__ void merge(u64* word, const u64* sum) const {
        if (*sum != 0) atomicAdd(word, *sum);
    }
};

// Wraps; the driver has made sure that nothing can leave int64, whatever the order (else: add_sums_in_order).
struct Sum {
    static constexpr u32 kWords = 1;
    static constexpr u64 kFresh = 0;
    Lane lane;
    __device__ void add(u64* word, u32 i, i32 weight) const {
        atomicAdd(word, static_cast<u64>(lane.value(i)) * static_cast<u64>(static_cast<i64>(weight)));
    }
    __device__ void merge(u64* word, const u64* sum) const {
        if (*sum != 0) atomicAdd(word, *sum);
    }
};

// Squares are never negative, so a sum that leaves 128 bits does so whatever the order.
struct Squares {
    static constexpr u32 kWords = 2;
    static constexpr u64 kFresh = 0;
    Lane lane;
    u32* overflowed;
    __device__ void add(u64* words, u32 i, i32) const {
        const u64 value = magnitude_of(lane.value(i));
        if (add_wide(words, value * value, multiply_high(value, value))) *overflowed = 1;
    }
    __device__ void merge(u64* words, const u64* sum) const {
        if ((sum[0] | sum[1]) != 0 && add_wide(words, sum[0], sum[1])) *overflowed = 1;
    }
};

struct Min {
    static constexpr u32 kWords = 1;
    static constexpr u64 kFresh = static_cast<u64>(kMost);
    Lane lane;
    __device__ void add(u64* word, u32 i, i32) const {
        atomicMin(reinterpret_cast<i64*>(word), lane.value(i));
    }
    __device__ void merge(u64* word, const u64* sum) const {
        atomicMin(reinterpret_cast<i64*>(word), static_cast<i64>(*sum));
    }
};

// The largest integer stands for NaN, which no maximum takes.
struct Max {
    static constexpr u32 kWords = 1;
    static constexpr u64 kFresh = static_cast<u64>(kLeast);
    Lane lane;
    __device__ void add(u64* word, u32 i, i32) const {
        const i64 value = lane.value(i);
        if (lane.lanes != Lanes::float64 || value != kMost) atomicMax(reinterpret_cast<i64*>(word), value);
    }
    __device__ void merge(u64* word, const u64* sum) const {
        atomicMax(reinterpret_cast<i64*>(word), static_cast<i64>(*sum));
    }
};

extern "C" __global__ void add_counts(const u32* groups, const unsigned short* place_of,
                                      const u32* tile_groups, u32 count, const i8* weights, u64* table,
                                      u32 stride, u32 word) {
    add_tile(Count{}, groups, place_of, tile_groups, count, weights, Target{table, stride, word});
}

extern "C" __global__ void add_sums(const u32* groups, const unsigned short* place_of, const u32* tile_groups,
                                    u32 count, const i8* weights, u64* table, u32 stride, u32 word,
                                    const void* values, const u32* rows, u32 lanes) {
    const Sum sum{{values, nullptr, nullptr, rows, static_cast<Lanes>(lanes)}};
    add_tile(sum, groups, place_of, tile_groups, count, weights, Target{table, stride, word});
}

extern "C" __global__ void add_squares(const u32* groups, const unsigned short* place_of,
                                       const u32* tile_groups, u32 count, const i8* weights, u64* table,
                                       u32 stride, u32 word, const void* values, const u32* rows, u32 lanes,
                                       u32* overflowed) {
    const Squares squares{{values, nullptr, nullptr, rows, static_cast<Lanes>(lanes)}, overflowed};
    add_tile(squares, groups, place_of, tile_groups, count, weights, Target{table, stride, word});
}

extern "C" __global__ void add_mins(const u32* groups, const unsigned short* place_of, const u32* tile_groups,
                                    u32 count, const i8* weights, u64* table, u32 stride, u32 word,
                                    const void* values, const u32* rows, u32 lanes) {
    const Min min{{values, nullptr, nullptr, rows, static_cast<Lanes>(lanes)}};
    add_tile(min, groups, place_of, tile_groups, count, weights, Target{table, stride, word});
}

extern "C" __global__ void add_maxs(const u32* groups, const unsigned short* place_of, const u32* tile_groups,
                                    u32 count, const i8* weights, u64* table, u32 stride, u32 word,
                                    const void* values, const u32* rows, u32 lanes) {
    const Max max{{values, nullptr, nullptr, rows, static_cast<Lanes>(lanes)}};
    add_tile(max, groups, place_of, tile_groups, count, weights, Target{table, stride, word});
}

// ---- sums that may leave int64

// The largest magnitude among the values that count: rows times this bounds what a batch can add.
extern "C" __global__ void largest_magnitude(const i8* weights, u32 count, const void* values,
                                             const u32* rows, u32 lanes, u64* largest) {
    __shared__ u64 most;
    if (threadIdx.x == 0) most = 0;
    __syncthreads();
    const Lane lane{values, nullptr, nullptr, rows, static_cast<Lanes>(lanes)};
    u64 most_here = 0;
    for (u32 i = first_item(); i < count; i += all_threads()) {
        const u64 magnitude = weights[i] == 0 ? 0 : magnitude_of(lane.value(i));
        if (magnitude > most_here) most_here = magnitude;
    }
    if (most_here != 0) atomicMax(&most, most_here);
    __syncthreads();
    if (threadIdx.x == 0 && most != 0) atomicMax(largest, most);
}

extern "C" __global__ void largest_sum(const u64* table, u32 stride, u32 word, u32 groups, u64* largest) {
    __shared__ u64 most;
    if (threadIdx.x == 0) most = 0;
    __syncthreads();
    u64 most_here = 0;
    for (u32 group = first_item(); group < groups; group += all_threads()) {
        const u64 magnitude = magnitude_of(static_cast<i64>(table[static_cast<u64>(group) * stride + word]));
        if (magnitude > most_here) most_here = magnitude;
    }
    if (most_here != 0) atomicMax(&most, most_here);
    __syncthreads();
    if (threadIdx.x == 0 && most != 0) atomicMax(largest, most);
}

// Row after row, as the CPU does it, so that a sum that leaves int64 on its way is seen even when it comes
// back. Each thread reads all rows and adds those of its own groups: slow, and only for batches whose bound
// says it is needed.
extern "C" __global__ void add_sums_in_order(const u32* groups, u32 count, const i8* weights, u64* table,
                                             u32 stride, u32 word, const void* values, const u32* rows,
                                             u32 lanes, u32* overflowed) {
    const Lane lane{values, nullptr, nullptr, rows, static_cast<Lanes>(lanes)};
    for (u32 i = 0; i < count; ++i) {
        if (weights[i] == 0 || groups[i] % all_threads() != first_item()) continue;
        u64* const target = table + static_cast<u64>(groups[i]) * stride + word;
        const i64 before = static_cast<i64>(*target);
        const i64 value = lane.value(i);
        const u64 change = static_cast<u64>(value) * static_cast<u64>(static_cast<i64>(weights[i]));
        const i64 after = static_cast<i64>(static_cast<u64>(before) + change);
        const bool up = (value < 0) == (weights[i] < 0);
        if (up ? after < before : after > before) *overflowed = 1;
        *target = static_cast<u64>(after);
    }
}

// ---- distinct: (group, value) pairs, found as keys are

extern "C" __global__ void pack_pairs(const void* values, const i32* translation, const u32* rows, u32 lanes,
                                      const u32* groups, const i8* weights, u32 count, u64* pairs) {
    const Lane lane{values, nullptr, translation, rows, static_cast<Lanes>(lanes)};
    for (u32 i = first_item(); i < count; i += all_threads()) {
        if (weights[i] == 0) continue;
        pairs[2 * static_cast<u64>(i)] = groups[i];
        pairs[2 * static_cast<u64>(i) + 1] = static_cast<u64>(lane.value(i));
    }
}

extern "C" __global__ void count_pairs(const u64* pairs, u32 from, u32 to, u64* table, u32 stride, u32 word) {
    for (u32 pair = from + first_item(); pair < to; pair += all_threads())
        atomicAdd(table + pairs[2 * static_cast<u64>(pair)] * stride + word, u64{1});
}

// ---- close: what is final goes, what stays moves together

extern "C" __global__ void mark_closing(const u64* table, u32 stride, u32 groups, i64 last_start_ms,
                                        u8* flags) {
    for (u32 group = first_item(); group < groups; group += all_threads())
        flags[group] = static_cast<i64>(table[static_cast<u64>(group) * stride]) <= last_start_ms;
}

extern "C" __global__ void gather_rows(const u64* table, u32 stride, const u32* rows, u32 count, u64* out) {
    const u64 words = static_cast<u64>(count) * stride;
    for (u64 i = first_item(); i < words; i += all_threads())
        out[i] = table[static_cast<u64>(rows[i / stride]) * stride + i % stride];
}

// The least start among the groups, with its sign bit turned.
extern "C" __global__ void least_start(const u64* table, u32 stride, u32 groups, u64* least) {
    __shared__ u64 least_of_block;
    if (threadIdx.x == 0) least_of_block = ~u64{0};
    __syncthreads();
    u64 least_here = ~u64{0};
    for (u32 group = first_item(); group < groups; group += all_threads()) {
        const u64 start = table[static_cast<u64>(group) * stride] ^ kSign64;
        if (start < least_here) least_here = start;
    }
    if (least_here != ~u64{0}) atomicMin(&least_of_block, least_here);
    __syncthreads();
    if (threadIdx.x == 0) atomicMin(least, least_of_block);
}

// By old number of a group its new one.
extern "C" __global__ void renumber(const u32* rows, u32 count, u32* renumbered) {
    for (u32 i = first_item(); i < count; i += all_threads()) renumbered[rows[i]] = i;
}

extern "C" __global__ void mark_pairs(const u64* pairs, u32 count, const u8* closing, u8* flags) {
    for (u32 i = first_item(); i < count; i += all_threads())
        flags[i] = closing[pairs[2 * static_cast<u64>(i)]];
}

extern "C" __global__ void move_pairs(u64* pairs, u32 count, const u32* renumbered) {
    for (u32 i = first_item(); i < count; i += all_threads())
        pairs[2 * static_cast<u64>(i)] = renumbered[pairs[2 * static_cast<u64>(i)]];
}

}  // namespace omnistream
