#include "omnistream/group_table.hpp"

#include <bit>
#include <cstring>
#include <new>
#include <utility>

namespace omnistream {

namespace {

constexpr std::size_t kFirstSlots = 64;
// Rows that are in the first level of cache anyway need not be asked for.
constexpr std::size_t kCachedWords = 2048;
constexpr std::size_t kMostSlots = std::size_t{1} << 32;

// A 64 x 64 -> 128 bit product folded: every bit of the key reaches the low bits (the slot) and the high bits
// (the tag) with one multiplication.
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

std::uint32_t tag_of(std::uint64_t hash) {
    return static_cast<std::uint32_t>(hash >> 32);
}

// 1 plus the number of the row whose tag stands in the bucket: 0 when there is none; should there be several,
// of no row in particular.
inline std::uint32_t match(const std::uint32_t* bucket, std::uint32_t tag, std::uint32_t row_bits) {
    using Slots = std::uint32_t __attribute__((vector_size(4 * sizeof(std::uint32_t))));
    Slots slots;
    std::memcpy(&slots, bucket, sizeof slots);
    const Slots same = (slots & ~row_bits) == tag;
    const Slots found = slots & same & row_bits;
    return found[0] | found[1] | found[2] | found[3];
}

bool same_key(const std::uint64_t* a, const std::uint64_t* b, std::size_t words) {
    for (std::size_t i = 0; i < words; ++i)
        if (a[i] != b[i]) return false;
    return true;
}

}  // namespace

GroupTable::GroupTable(std::size_t key_words, std::vector<std::uint64_t> fresh)
    : key_words_(key_words), stride_(key_words + fresh.size()), fresh_(std::move(fresh)) {
    rebuild_index(kFirstSlots);
}

void GroupTable::find_or_insert(const std::uint64_t* keys, std::size_t count, std::uint32_t* rows) {
    if (key_words_ == 1) return probe_block<1>(keys, count, rows);
    if (key_words_ == 2) return probe_block<2>(keys, count, rows);
    probe_block<0>(keys, count, rows);
}

// Three passes, so that the cache misses of a block overlap: slots, then rows, then the comparison. All of a
// bucket is looked at without a branch: where in it a key stands is not to be guessed.
template <std::size_t kKeyWords>
void GroupTable::probe_block(const std::uint64_t* keys, std::size_t count, std::uint32_t* rows) {
    const std::size_t key_words = kKeyWords != 0 ? kKeyWords : key_words_;
    std::uint64_t hashes[kBlock];
    for (std::size_t i = 0; i < count; ++i) {
        hashes[i] = hash_key<kKeyWords>(keys + i * key_words, key_words);
        __builtin_prefetch(slots_.data() + home_of(hashes[i]));
    }
    const bool fetches = size_ * stride_ > kCachedWords;
    const std::uint32_t row_bits = row_bits_;
    for (std::size_t i = 0; i < count; ++i) {
        rows[i] = match(slots_.data() + home_of(hashes[i]), tag_of(hashes[i]) & ~row_bits, row_bits);
        const std::uint32_t found = rows[i];
        if (fetches) __builtin_prefetch(words_.data() + (found - (found != 0)) * stride_, 1);
    }
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint64_t* key = keys + i * key_words;
        const std::uint32_t number = rows[i] - 1;  // of none, and of several at once: maybe past the last row
        const bool right = number < size_ && same_key(row(number), key, key_words);
        rows[i] = right ? number : find_or_append(key, hashes[i]);
    }
}

// Slot by slot from the key's bucket on.
[[gnu::noinline]] std::uint32_t GroupTable::find_or_append(const std::uint64_t* key, std::uint64_t hash) {
    const std::uint32_t tag = tag_of(hash) & ~row_bits_;
    for (std::uint64_t at = home_of(hash);; at = (at + 1) & mask_) {
        const std::uint32_t slot = slots_[at];
        if (slot == 0) {
            const std::uint32_t number = append(key);
            slots_[at] = tag | (number + 1);
            if (size_ * 2 >= slots_.size()) grow();
            return number;
        }
        const std::uint32_t number = (slot & row_bits_) - 1;
        if ((slot & ~row_bits_) == tag && same_key(row(number), key, key_words_)) return number;
    }
}

std::uint32_t GroupTable::append(const std::uint64_t* key) {
    words_.resize((size_ + 1) * stride_);
    std::uint64_t* fresh_row = row(size_);
    for (std::size_t i = 0; i < key_words_; ++i) fresh_row[i] = key[i];
    for (std::size_t i = key_words_; i < stride_; ++i) fresh_row[i] = fresh_[i - key_words_];
    return static_cast<std::uint32_t>(size_++);
}

void GroupTable::grow() {
    if (size_ < expected_) return reserve(expected_);
    rebuild_index(slots_.size() * 2);
}

void GroupTable::reserve(std::size_t rows) {
    words_.reserve(rows * stride_);
    const std::size_t slots = std::bit_ceil(rows * 2 + 1);
    if (slots > slots_.size()) rebuild_index(slots);
}

void GroupTable::rebuild_index(std::size_t slots) {
    if (slots > kMostSlots) throw std::bad_alloc();
    Array<std::uint32_t> rebuilt;
    rebuilt.resize(slots);
    std::memset(rebuilt.data(), 0, slots * sizeof(std::uint32_t));
    mask_ = slots - 1;
    row_bits_ = static_cast<std::uint32_t>(mask_);
    for (std::size_t number = 0; number < size_; ++number) {
        const std::uint64_t hash = hash_key<0>(row(number), key_words_);
        std::uint64_t at = home_of(hash);
        while (rebuilt[at] != 0) at = (at + 1) & mask_;
        rebuilt[at] = (tag_of(hash) & ~row_bits_) | (static_cast<std::uint32_t>(number) + 1);
    }
    slots_ = std::move(rebuilt);
}

std::int64_t GroupTable::memory_bytes() const {
    return static_cast<std::int64_t>(words_.capacity() * sizeof(std::uint64_t) +
                                     slots_.capacity() * sizeof(std::uint32_t) +
                                     fresh_.capacity() * sizeof(std::uint64_t));
}

}  // namespace omnistream
