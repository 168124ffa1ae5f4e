#include "omnistream/group_table.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <utility>

#include "omnistream/buffer.hpp"

namespace omnistream {

namespace {

constexpr std::size_t kFirstSlots = 64;
constexpr std::size_t kFirstRows = 16;
constexpr std::size_t kSlabBytes = std::size_t{1} << 20;
// Rows that are in the second level of cache anyway need not be asked for.
constexpr std::size_t kCachedWords = std::size_t{1} << 14;
// Keys whose slots and rows are asked for at a time: of more, the first leave the first level of cache before
// they are used (64 to 512 tried).
constexpr std::size_t kChunk = 128;
// A table with fewer rows than one in so many slots is indexed anew when it gets a larger index.
constexpr std::size_t kFewRows = 64;
constexpr std::size_t kMostSlots = std::size_t{1} << 32;

// A 64 x 64 -> 128 bit product folded: every bit of the key reaches the upper half, which is what is used,
// with one multiplication.
std::uint64_t fold(std::uint64_t a, std::uint64_t b) {
    const auto product = static_cast<unsigned __int128>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

template <std::size_t kKeyWords>
std::uint32_t hash_key(const std::uint64_t* key, std::size_t key_words) {
    constexpr std::uint64_t kSeed = 0xa0761d6478bd642f;
    constexpr std::uint64_t kMultiplier = 0xe7037ed1a0b428db;
    std::uint64_t hash = fold(key[0] ^ kSeed, kMultiplier);
    const std::size_t words = kKeyWords != 0 ? kKeyWords : key_words;
    for (std::size_t i = 1; i < words; ++i) hash = fold(hash ^ key[i], kMultiplier);
    return static_cast<std::uint32_t>(hash >> 32);
}

using Slots = std::uint32_t __attribute__((vector_size(4 * sizeof(std::uint32_t))));

inline Slots slots_at(const std::uint32_t* bucket) {
    Slots slots;
    std::memcpy(&slots, bucket, sizeof slots);
    return slots;
}

// What stands in the slots of this tag, without the tag: 0 if there is none; should there be several, of no
// row in particular.
inline std::uint32_t match(Slots slots, std::uint32_t tag, std::uint32_t tag_bits) {
    const Slots same = (slots & tag_bits) == tag;
    Slots found = slots & same & ~tag_bits;
    found |= __builtin_shuffle(found, Slots{2, 3, 0, 1});
    found |= __builtin_shuffle(found, Slots{1, 0, 3, 2});
    return found[0];
}

// How many slots of a bucket are taken: the first ones.
inline std::uint32_t used_of(Slots slots) {
    Slots free = slots == 0;
    free += __builtin_shuffle(free, Slots{2, 3, 0, 1});
    free += __builtin_shuffle(free, Slots{1, 0, 3, 2});
    return 4 + free[0];
}

inline bool same_key(const std::uint64_t* a, const std::uint64_t* b, std::size_t words) {
    std::uint64_t differ = 0;
    for (std::size_t i = 0; i < words; ++i) differ |= a[i] ^ b[i];
    return differ == 0;
}

}  // namespace

// What a lookup reads of the table, in registers: stores of results might change the members for all that the
// compiler knows.
struct GroupTable::Probe {
    explicit Probe(const GroupTable& table)
        : slots(table.slots_),
          home_bits(table.home_bits_),
          home_mask(table.home_mask_),
          row_bits(table.row_bits_),
          last(table.size_ - 1) {}

    // What home and tag are parts of.
    [[nodiscard]] std::uint32_t turned(std::uint32_t hash) const {
        return std::rotl(hash, static_cast<int>(home_bits));
    }
    [[nodiscard]] const std::uint32_t* home_of(std::uint32_t hash) const {
        return slots + std::size_t{turned(hash) & home_mask} * kBucket;
    }
    // The number of the only row that may have this hash; if there is none or are several, of any row.
    [[nodiscard]] std::size_t number_of(std::uint32_t hash) const {
        const std::size_t found = match(slots_at(home_of(hash)), turned(hash) & ~row_bits, ~row_bits);
        return std::min(found - (found != 0), last);
    }

    const std::uint32_t* slots;
    unsigned home_bits;
    std::uint32_t home_mask;
    std::uint32_t row_bits;
    std::size_t last;
};

GroupTable::GroupTable(std::size_t key_words, std::vector<std::uint64_t> fresh)
    : key_words_(key_words), stride_(key_words + fresh.size()), fresh_(std::move(fresh)) {
    slab_shift_ = static_cast<unsigned>(
                      std::bit_width(std::max(kSlabBytes / (stride_ * sizeof(std::uint64_t)), kFirstRows))) -
                  1;
    slab_mask_ = (std::size_t{1} << slab_shift_) - 1;
    start_index(memory::Held(kFirstSlots * sizeof(std::uint32_t)), kFirstSlots);
}

void GroupTable::find_or_insert(const std::uint64_t* keys, std::size_t count, std::uint32_t* numbers,
                                std::uint64_t** rows) {
    if (count == 0) return;
    if (size_ == 0) find_or_append<0>(keys);  // a lookup always has a row to look at
    probe(keys, count, numbers, rows);
    will_write(numbers, count);
}

inline void GroupTable::probe(const std::uint64_t* keys, std::size_t count, std::uint32_t* numbers,
                              std::uint64_t** rows) {
    const bool cached = slabs_.size() == 1 && size_ * stride_ <= kCachedWords;
    if (key_words_ == 1)
        return cached ? probe_cached<1>(keys, count, numbers, rows)
                      : probe_fetching<1>(keys, count, numbers, rows);
    if (key_words_ == 2)
        return cached ? probe_cached<2>(keys, count, numbers, rows)
                      : probe_fetching<2>(keys, count, numbers, rows);
    probe_fetching<0>(keys, count, numbers, rows);
}

// All of a bucket is looked at without a branch, for where in it a key stands is not to be guessed; what is
// not found at a glance is listed, and put in its place afterwards.
template <std::size_t kKeyWords>
void GroupTable::probe_cached(const std::uint64_t* keys, std::size_t count, std::uint32_t* numbers,
                              std::uint64_t** rows) {
    const Probe probe(*this);
    std::uint64_t* const slab = slabs_[0];
    const std::size_t stride = stride_;
    std::uint32_t missed[kBlock];
    std::size_t misses = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint64_t* key = keys + i * kKeyWords;
        const std::size_t number = probe.number_of(hash_key<kKeyWords>(key, kKeyWords));
        std::uint64_t* const row = slab + number * stride;
        numbers[i] = static_cast<std::uint32_t>(number);
        rows[i] = row;
        missed[misses] = static_cast<std::uint32_t>(i);
        misses += !same_key(row, key, kKeyWords);
    }
    if (misses != 0) find_missed<kKeyWords>(keys, count, missed, misses, numbers, rows);
}

// The same in three passes, so that the cache misses of a chunk overlap: slots, then rows, then the
// comparison.
template <std::size_t kKeyWords>
void GroupTable::probe_fetching(const std::uint64_t* keys, std::size_t count, std::uint32_t* numbers,
                                std::uint64_t** rows) {
    const std::size_t key_words = kKeyWords != 0 ? kKeyWords : key_words_;
    std::uint32_t hashes[kBlock];
    std::uint32_t missed[kBlock];
    std::size_t misses = 0;
    const Probe probe(*this);
    std::uint64_t* const* const slabs = slabs_.data();
    const unsigned slab_shift = slab_shift_;
    const std::size_t slab_mask = slab_mask_;
    const std::size_t stride = stride_;
    for (std::size_t begin = 0; begin < count; begin += kChunk) {
        const std::size_t end = std::min<std::size_t>(begin + kChunk, count);
        for (std::size_t i = begin; i < end; ++i) {
            hashes[i] = hash_key<kKeyWords>(keys + i * key_words, key_words);
            __builtin_prefetch(probe.home_of(hashes[i]));
        }
        for (std::size_t i = begin; i < end; ++i) {
            const std::size_t number = probe.number_of(hashes[i]);
            rows[i] = slabs[number >> slab_shift] + (number & slab_mask) * stride;
            numbers[i] = static_cast<std::uint32_t>(number);
            __builtin_prefetch(rows[i], 1);
            __builtin_prefetch(rows[i] + stride - 1, 1);
        }
        for (std::size_t i = begin; i < end; ++i) {
            missed[misses] = static_cast<std::uint32_t>(i);
            misses += !same_key(rows[i], keys + i * key_words, key_words);
        }
    }
    if (misses != 0) find_missed<kKeyWords>(keys, count, missed, misses, numbers, rows);
}

template <std::size_t kKeyWords>
void GroupTable::find_missed(const std::uint64_t* keys, std::size_t count, const std::uint32_t* missed,
                             std::size_t misses, std::uint32_t* numbers, std::uint64_t** rows) {
    const std::size_t key_words = kKeyWords != 0 ? kKeyWords : key_words_;
    const std::uint64_t* const first = slabs_[0];
    for (std::size_t i = 0; i < misses; ++i) {
        const std::uint64_t* key = keys + missed[i] * key_words;
        const std::uint32_t number = find_or_append<kKeyWords>(key);
        numbers[missed[i]] = number;
        rows[missed[i]] = row(number);
    }
    if (slabs_[0] != first)  // it has grown, which moved it
        for (std::size_t i = 0; i < count; ++i) rows[i] = row(numbers[i]);
}

// A new key that its bucket has room for, or slot by slot from there on.
template <std::size_t kKeyWords>
std::uint32_t GroupTable::find_or_append(const std::uint64_t* key) {
    const std::size_t key_words = kKeyWords != 0 ? kKeyWords : key_words_;
    const std::uint32_t hash = hash_key<kKeyWords>(key, key_words);
    const std::uint32_t tag = tag_of(hash);
    const std::uint64_t home = home_of(hash);
    const Slots bucket = slots_at(slots_ + home);
    const std::uint32_t used = used_of(bucket);
    if (used < kBucket && match(bucket, tag, ~row_bits_) == 0) return append_at(home + used, tag, key);
    for (std::uint64_t at = home;; at = (at + 1) & mask_) {
        const std::uint32_t slot = slots_[at];
        if (slot == 0) return append_at(at, tag, key);
        const std::uint32_t number = (slot & row_bits_) - 1;
        if ((slot & ~row_bits_) == tag && same_key(row(number), key, key_words)) return number;
    }
}

inline std::uint32_t GroupTable::append_at(std::uint64_t at, std::uint32_t tag, const std::uint64_t* key) {
    const std::uint32_t number = append(key);
    slots_[at] = tag | (number + 1);
    if (is_crowded()) grow();
    return number;
}

inline std::uint32_t GroupTable::append(const std::uint64_t* key) {
    if (size_ == capacity_) make_room();
    std::uint64_t* fresh_row = row(size_);
    for (std::size_t i = 0; i < key_words_; ++i) fresh_row[i] = key[i];
    for (std::size_t i = key_words_; i < stride_; ++i) fresh_row[i] = fresh_[i - key_words_];
    return static_cast<std::uint32_t>(size_++);
}

// ---- Room

// The first slab grows up to its full size, so that a small table is small.
void GroupTable::make_room() {
    const std::size_t slab_rows = slab_mask_ + 1;
    const std::size_t row_bytes = stride_ * sizeof(std::uint64_t);
    if (capacity_ >= slab_rows) {
        held_.push_back(std::make_shared<const memory::Held>(slab_rows * row_bytes));
        slabs_.push_back(held_.back()->as<std::uint64_t>());
        capacity_ += slab_rows;
        return;
    }
    const std::size_t wanted = std::max({capacity_ * 2, kFirstRows, std::min(expected_, slab_rows)});
    memory::Held larger(std::min(wanted, slab_rows) * row_bytes);
    if (size_ != 0) std::memcpy(larger.as<std::uint64_t>(), slabs_[0], size_ * row_bytes);
    capacity_ = std::min(larger.size() / row_bytes, slab_rows);
    slabs_.assign(1, larger.as<std::uint64_t>());
    held_.assign(1, std::make_shared<const memory::Held>(std::move(larger)));
}

void GroupTable::reserve(std::size_t rows) {
    expected_ = std::max(expected_, rows);
    std::uint64_t slots = mask_ + 1;
    while (rows * 2 > slots - 1) slots *= 2;
    if (size_ * kFewRows < slots && slots > mask_ + 1) make_index(slots);
    while (rows * 2 > mask_ || is_crowded()) double_index();
}

void GroupTable::grow() {
    if (size_ < expected_) return reserve(expected_);
    double_index();
}

// Returns the index that was there.
memory::Held GroupTable::start_index(memory::Held empty, std::size_t slots) {
    slots_ = empty.as<std::uint32_t>();
    std::memset(slots_, 0, slots * sizeof(std::uint32_t));
    mask_ = slots - 1;
    row_bits_ = static_cast<std::uint32_t>(mask_);
    home_mask_ = static_cast<std::uint32_t>(mask_ / kBucket);
    home_bits_ = static_cast<unsigned>(std::bit_width(home_mask_));
    return std::exchange(index_, std::move(empty));
}

// For few rows: looking through an index that is nearly empty, once for each time that it doubles, takes
// longer.
void GroupTable::make_index(std::uint64_t slots) {
    if (slots > kMostSlots) throw std::bad_alloc();
    start_index(memory::Held(slots * sizeof(std::uint32_t)), slots);
    for (std::size_t number = 0; number < size_; ++number)
        put_slot(hash_key<0>(row(number), key_words_), static_cast<std::uint32_t>(number + 1));
}

inline void GroupTable::put_slot(std::uint32_t hash, std::uint32_t number) {
    std::uint64_t at = home_of(hash);
    while (slots_[at] != 0) at = (at + 1) & mask_;
    slots_[at] = tag_of(hash) | number;
}

// A slot knows the next bit of its hash, which says where it goes: the uppermost of its tag. So a bucket is
// dealt out to two without a branch and without a look at a row. Only what may stand behind its own bucket,
// because the one before is full, is hashed again, when all others have their places.
void GroupTable::double_index() {
    constexpr std::size_t kAhead = 16;
    const std::uint64_t slots = mask_ + 1;
    const std::uint32_t old_row_bits = row_bits_;
    if (slots * 2 > kMostSlots) throw std::bad_alloc();
    Array<std::uint32_t> unsure;  // buckets
    unsure.resize(slots / kBucket);
    const memory::Held before = start_index(memory::Held(slots * 2 * sizeof(std::uint32_t)), slots * 2);
    const std::uint32_t* const old = before.as<std::uint32_t>();
    std::size_t unsure_count = 0;
    bool full = old[slots - 1] != 0;  // the bucket before
    for (std::uint64_t bucket = 0; bucket < slots; bucket += kBucket) {
        unsure[unsure_count] = static_cast<std::uint32_t>(bucket / kBucket);
        unsure_count += full;
        std::uint32_t* const into = slots_ + bucket * 2;
        std::uint64_t lower = 0;
        std::uint64_t upper = kBucket;
        const std::uint32_t wanted = full ? 0 : ~std::uint32_t{0};
        for (std::uint64_t i = 0; i < kBucket; ++i) {
            const std::uint32_t slot = old[bucket + i] & wanted;
            const std::uint64_t up = slot >> 31;
            into[lower ^ ((lower ^ upper) & (0 - up))] =
                ((slot & ~old_row_bits) << 1) | (slot & old_row_bits);
            lower += static_cast<std::uint64_t>(slot != 0) - up;
            upper += up;
        }
        full = old[bucket + kBucket - 1] != 0;
    }
    for (std::size_t i = 0; i < unsure_count; ++i) {
        if (i + kAhead < unsure_count)
            for (std::uint64_t slot = 0; slot < kBucket; ++slot)
                if (const std::uint32_t ahead = old[unsure[i + kAhead] * kBucket + slot]; ahead != 0)
                    __builtin_prefetch(row((ahead & old_row_bits) - 1));
        for (std::uint64_t slot = 0; slot < kBucket; ++slot) {
            const std::uint32_t number = old[unsure[i] * kBucket + slot] & old_row_bits;
            if (number == 0) break;
            put_slot(hash_key<0>(row(number - 1), key_words_), number);
        }
    }
}

// ---- Snapshots

std::shared_ptr<FrozenRows> GroupTable::freeze() {
    keep_all();
    frozen_ = std::make_shared<FrozenRows>(held_, slab_shift_, size_, stride_);
    return frozen_;
}

void GroupTable::keep_all() {
    if (frozen_ != nullptr && !held_.empty()) frozen_->keep_all(held_[0].get());
    frozen_ = nullptr;
}

[[gnu::noinline]] void GroupTable::keep(const std::uint32_t* numbers, std::size_t count) {
    if (!frozen_->keep(held_[0].get(), numbers, count)) frozen_ = nullptr;
}

std::int64_t GroupTable::memory_bytes() const {
    std::size_t bytes = index_.size() + fresh_.capacity() * sizeof(std::uint64_t);
    for (const auto& slab : held_) bytes += slab->size();
    return static_cast<std::int64_t>(bytes);
}

}  // namespace omnistream
