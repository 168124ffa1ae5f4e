#include "omnistream/group_table.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <utility>

namespace omnistream {

namespace {

constexpr std::size_t kFirstSlots = 64;
constexpr std::size_t kFirstRows = 16;
constexpr std::size_t kSlabBytes = std::size_t{1} << 20;
// Rows that are in the first level of cache anyway need not be asked for.
constexpr std::size_t kCachedWords = 2048;
constexpr std::size_t kMostSlots = std::size_t{1} << 32;

// A 64 x 64 -> 128 bit product folded: every bit of the key reaches the upper bits, which are those in use,
// with one multiplication.
std::uint64_t fold(std::uint64_t a, std::uint64_t b) {
    const auto product = static_cast<unsigned __int128>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

template <std::size_t kKeyWords>
std::uint64_t hash_key(const std::uint64_t* key, std::size_t key_words) {
    constexpr std::uint64_t kSeed = 0xa0761d6478bd642f;
    constexpr std::uint64_t kMultiplier = 0xe7037ed1a0b428db;
    std::uint64_t hash = fold(key[0] ^ kSeed, kMultiplier);
    const std::size_t words = kKeyWords != 0 ? kKeyWords : key_words;
    for (std::size_t i = 1; i < words; ++i) hash = fold(hash ^ key[i], kMultiplier);
    return hash;
}

using Slots = std::uint32_t __attribute__((vector_size(4 * sizeof(std::uint32_t))));

inline std::uint32_t any_of(Slots slots) {
    slots |= __builtin_shuffle(slots, Slots{2, 3, 0, 1});
    slots |= __builtin_shuffle(slots, Slots{1, 0, 3, 2});
    return slots[0];
}

// 1 plus the number of the row whose tag stands in the bucket: 0 when there is none; should there be several,
// of no row in particular.
inline std::uint32_t match(const std::uint32_t* bucket, std::uint32_t tag, std::uint32_t row_bits) {
    Slots slots;
    std::memcpy(&slots, bucket, sizeof slots);
    const Slots same = (slots & ~row_bits) == tag;
    return any_of(slots & same & row_bits);
}

bool same_key(const std::uint64_t* a, const std::uint64_t* b, std::size_t words) {
    for (std::size_t i = 0; i < words; ++i)
        if (a[i] != b[i]) return false;
    return true;
}

}  // namespace

GroupTable::GroupTable(std::size_t key_words, std::vector<std::uint64_t> fresh)
    : key_words_(key_words), stride_(key_words + fresh.size()), fresh_(std::move(fresh)) {
    slab_shift_ = static_cast<unsigned>(
                      std::bit_width(std::max(kSlabBytes / (stride_ * sizeof(std::uint64_t)), kFirstRows))) -
                  1;
    slab_mask_ = (std::size_t{1} << slab_shift_) - 1;
    start_index(memory::Held(kFirstSlots * sizeof(std::uint32_t)), kFirstSlots);
}

void GroupTable::find_or_insert(const std::uint64_t* keys, std::size_t count, std::uint32_t* numbers) {
    if (key_words_ == 1) return probe_block<1>(keys, count, numbers);
    if (key_words_ == 2) return probe_block<2>(keys, count, numbers);
    probe_block<0>(keys, count, numbers);
}

// Three passes, so that the cache misses of a block overlap: slots, then rows, then the comparison. All of a
// bucket is looked at without a branch: where in it a key stands is not to be guessed.
template <std::size_t kKeyWords>
void GroupTable::probe_block(const std::uint64_t* keys, std::size_t count, std::uint32_t* numbers) {
    const std::size_t key_words = kKeyWords != 0 ? kKeyWords : key_words_;
    std::uint64_t hashes[kBlock];
    const bool fetches = size_ * stride_ > kCachedWords;
    if (fetches) {
        for (std::size_t i = 0; i < count; ++i) {
            hashes[i] = hash_key<kKeyWords>(keys + i * key_words, key_words);
            __builtin_prefetch(slots_ + home_of(hashes[i]));
        }
    } else {
        for (std::size_t i = 0; i < count; ++i)
            hashes[i] = hash_key<kKeyWords>(keys + i * key_words, key_words);
    }
    const std::uint32_t row_bits = row_bits_;
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint32_t found = match(slots_ + home_of(hashes[i]), tag_of(hashes[i]), row_bits);
        numbers[i] = found;
        if (fetches) __builtin_prefetch(row(std::min<std::size_t>(found - (found != 0), size_ - 1)), 1);
    }
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint64_t* key = keys + i * key_words;
        const std::uint32_t number = numbers[i] - 1;  // of none, and of several at once: maybe past the last
        const bool right = number < size_ && same_key(row(number), key, key_words);
        numbers[i] = right ? number : find_or_append<kKeyWords>(key, hashes[i]);
    }
}

// Slot by slot from the key's bucket on.
template <std::size_t kKeyWords>
[[gnu::noinline]] std::uint32_t GroupTable::find_or_append(const std::uint64_t* key, std::uint64_t hash) {
    const std::size_t key_words = kKeyWords != 0 ? kKeyWords : key_words_;
    const std::uint32_t tag = tag_of(hash);
    for (std::uint64_t at = home_of(hash);; at = (at + 1) & mask_) {
        const std::uint32_t slot = slots_[at];
        if (slot == 0) {
            const std::uint32_t number = append(key);
            slots_[at] = tag | (number + 1);
            if (size_ * 2 > mask_) grow();
            return number;
        }
        const std::uint32_t number = (slot & row_bits_) - 1;
        if ((slot & ~row_bits_) == tag && same_key(row(number), key, key_words)) return number;
    }
}

inline std::uint32_t GroupTable::append(const std::uint64_t* key) {
    if (size_ == capacity_) make_room();
    std::uint64_t* fresh_row = row(size_);
    for (std::size_t i = 0; i < key_words_; ++i) fresh_row[i] = key[i];
    for (std::size_t i = key_words_; i < stride_; ++i) fresh_row[i] = fresh_[i - key_words_];
    return static_cast<std::uint32_t>(size_++);
}

void GroupTable::rows(const std::uint32_t* numbers, std::size_t count, std::uint64_t** rows) const {
    const std::size_t stride = stride_;
    if (slabs_.size() == 1) {
        std::uint64_t* const slab = slabs_[0];
        for (std::size_t i = 0; i < count; ++i) rows[i] = slab + numbers[i] * stride;
        return;
    }
    std::uint64_t* const* const slabs = slabs_.data();
    for (std::size_t i = 0; i < count; ++i)
        rows[i] = slabs[numbers[i] >> slab_shift_] + (numbers[i] & slab_mask_) * stride;
}

// ---- Room

// The first slab grows up to its full size, so that a small table is small.
void GroupTable::make_room() {
    const std::size_t slab_rows = slab_mask_ + 1;
    const std::size_t row_bytes = stride_ * sizeof(std::uint64_t);
    if (capacity_ >= slab_rows) {
        held_.emplace_back(slab_rows * row_bytes);
        slabs_.push_back(held_.back().as<std::uint64_t>());
        capacity_ += slab_rows;
        return;
    }
    const std::size_t wanted = std::max({capacity_ * 2, kFirstRows, std::min(expected_, slab_rows)});
    memory::Held larger(std::min(wanted, slab_rows) * row_bytes);
    if (size_ != 0) std::memcpy(larger.as<std::uint64_t>(), slabs_[0], size_ * row_bytes);
    capacity_ = std::min(larger.size() / row_bytes, slab_rows);
    slabs_.assign(1, larger.as<std::uint64_t>());
    held_.clear();
    held_.push_back(std::move(larger));
}

void GroupTable::reserve(std::size_t rows) {
    expected_ = std::max(expected_, rows);
    while (rows * 2 > mask_) double_index();
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
    home_shift_ = 64 - static_cast<unsigned>(std::bit_width(mask_ / kBucket));
    return std::exchange(index_, std::move(empty));
}

// A slot knows the next bit of its hash, which says where it goes: the uppermost of its tag. Only what may
// stand behind its own bucket, because the one before is full, is hashed again. So the index is read and
// written in order, and of the rows one in ten is read at most.
void GroupTable::double_index() {
    const std::uint64_t slots = mask_ + 1;
    const std::uint32_t old_row_bits = row_bits_;
    if (slots * 2 > kMostSlots) throw std::bad_alloc();
    const memory::Held before = start_index(memory::Held(slots * 2 * sizeof(std::uint32_t)), slots * 2);
    const std::uint32_t* const old = before.as<std::uint32_t>();
    bool overflowed = old[slots - 1] != 0;  // the bucket before
    for (std::uint64_t bucket = 0; bucket < slots; bucket += kBucket) {
        for (std::uint64_t i = 0; i < kBucket && old[bucket + i] != 0; ++i) {
            const std::uint32_t slot = old[bucket + i];
            const std::uint32_t row_part = slot & old_row_bits;
            std::uint32_t tag = (slot & ~old_row_bits) << 1;
            std::uint64_t at = bucket * 2 + (slot >> 31) * kBucket;
            if (overflowed) {
                const std::uint64_t hash = hash_key<0>(row(row_part - 1), key_words_);
                tag = tag_of(hash);
                at = home_of(hash);
            }
            while (slots_[at] != 0) at = (at + 1) & mask_;
            slots_[at] = tag | row_part;
        }
        overflowed = old[bucket + kBucket - 1] != 0;
    }
}

std::int64_t GroupTable::memory_bytes() const {
    std::size_t bytes = index_.size() + fresh_.capacity() * sizeof(std::uint64_t);
    for (const memory::Held& slab : held_) bytes += slab.size();
    return static_cast<std::int64_t>(bytes);
}

}  // namespace omnistream
