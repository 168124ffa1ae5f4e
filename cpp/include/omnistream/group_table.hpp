// Rows of 64-bit words, found by the key words that each row starts with.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "omnistream/frozen_rows.hpp"
#include "omnistream/memory.hpp"

namespace omnistream {

// Rows lie in the order of their arrival, in slabs that never move; a hash index of 4 bytes a slot, at most
// half full, points at them. So a group costs its row and 8 to 16 bytes, and the rows are read in order when
// the table is written out. A slot's place and the bits that the row number leaves free hold 30 bits
// of the hash: a probe rarely looks at a row that is not the one it wants, and growing hardly looks at any.
class GroupTable {
public:
    // As many keys as one call takes: their hashes, and the cache lines fetched ahead for them, fit L1.
    static constexpr std::size_t kBlock = 512;

    // Each new row is its key, then a copy of `fresh`.
    GroupTable(std::size_t key_words, std::vector<std::uint64_t> fresh);

    // numbers[i] becomes the number of the row whose key is keys[i * key_words ...], and rows[i] that row; a
    // key not seen yet gets the next number. count <= kBlock.
    void find_or_insert(const std::uint64_t* keys, std::size_t count, std::uint32_t* numbers,
                        std::uint64_t** rows);
    void find_or_insert(const std::uint64_t* keys, std::size_t count, std::uint32_t* numbers) {
        std::uint64_t* rows[kBlock];
        find_or_insert(keys, count, numbers, rows);
    }
    void reserve(std::size_t rows);
    // Room for so many rows is made at once when it is seen that the table grows at all.
    void expect(std::size_t rows) { expected_ = rows; }

    // The rows as they are now, for another thread to read. Rows that find_or_insert returns may be written
    // to all the same; before others are, will_write is called, or once and for all keep_all.
    [[nodiscard]] std::shared_ptr<FrozenRows> freeze();
    void keep_all();
    void will_write(const std::uint32_t* numbers, std::size_t count) {
        if (frozen_ != nullptr) [[unlikely]]
            keep(numbers, count);
    }

    [[nodiscard]] std::size_t size() const { return size_; }
    // Valid until the next find_or_insert.
    [[nodiscard]] std::uint64_t* row(std::size_t number) {
        return slabs_[number >> slab_shift_] + (number & slab_mask_) * stride_;
    }
    [[nodiscard]] const std::uint64_t* row(std::size_t number) const {
        return slabs_[number >> slab_shift_] + (number & slab_mask_) * stride_;
    }
    // visit(number, row) for all rows in order.
    template <class Visit>
    void for_each_row(const Visit& visit) const {
        const std::size_t stride = stride_;
        const std::size_t slab_rows = slab_mask_ + 1;
        const std::size_t rows = size_;
        for (std::size_t begin = 0; begin < rows; begin += slab_rows) {
            const std::uint64_t* at = slabs_[begin >> slab_shift_];
            const std::size_t end = std::min(begin + slab_rows, rows);
            for (std::size_t number = begin; number < end; ++number, at += stride) visit(number, at);
        }
    }
    [[nodiscard]] std::int64_t memory_bytes() const;

private:
    static constexpr std::uint64_t kBucket = 4;  // slots
    static constexpr std::uint64_t kSmallIndex = 8192;

    struct Probe;
    void probe(const std::uint64_t* keys, std::size_t count, std::uint32_t* numbers, std::uint64_t** rows);
    template <std::size_t kKeyWords>
    void probe_cached(const std::uint64_t* keys, std::size_t count, std::uint32_t* numbers,
                      std::uint64_t** rows);
    template <std::size_t kKeyWords>
    void probe_fetching(const std::uint64_t* keys, std::size_t count, std::uint32_t* numbers,
                        std::uint64_t** rows);
    template <std::size_t kKeyWords>
    void find_missed(const std::uint64_t* keys, std::size_t count, const std::uint32_t* missed,
                     std::size_t misses, std::uint32_t* numbers, std::uint64_t** rows);
    template <std::size_t kKeyWords>
    std::uint32_t find_or_append(const std::uint64_t* key);
    std::uint32_t append_at(std::uint64_t at, std::uint32_t tag, const std::uint64_t* key);
    std::uint32_t append(const std::uint64_t* key);
    void keep(const std::uint32_t* numbers, std::size_t count);
    void make_room();
    void grow();
    // At most half full; a small index a quarter, as room costs nothing there and a full bucket costs time.
    [[nodiscard]] bool is_crowded() const { return size_ * (mask_ < kSmallIndex ? 4 : 2) > mask_; }
    // The first slot of the key's bucket, by the uppermost bits of its hash; what does not fit there stands
    // behind it.
    [[nodiscard]] std::uint64_t home_of(std::uint32_t hash) const {
        return (std::rotl(hash, static_cast<int>(home_bits_)) & home_mask_) * kBucket;
    }
    // The next bits of the hash, above the bits of a row number.
    [[nodiscard]] std::uint32_t tag_of(std::uint32_t hash) const {
        return std::rotl(hash, static_cast<int>(home_bits_)) & ~row_bits_;
    }
    memory::Held start_index(memory::Held empty, std::size_t slots);
    void make_index(std::uint64_t slots);
    void put_slot(std::uint32_t hash, std::uint32_t number);
    void double_index();

    std::size_t key_words_;
    std::size_t stride_;
    std::vector<std::uint64_t> fresh_;
    unsigned slab_shift_ = 0;
    std::size_t slab_mask_ = 0;
    std::vector<std::uint64_t*> slabs_;
    std::vector<std::shared_ptr<const memory::Held>> held_;  // the slabs; frozen rows hold them, too
    std::size_t capacity_ = 0;                               // rows
    std::size_t size_ = 0;
    std::size_t expected_ = 0;
    memory::Held index_;
    std::uint32_t* slots_ = nullptr;  // 0: free; else hash bits above row_bits_, row number + 1 in row_bits_
    std::uint64_t mask_ = 0;
    std::uint32_t home_mask_ = 0;  // of the number of a bucket
    unsigned home_bits_ = 0;
    std::uint32_t row_bits_ = 0;          // a mask: all ones below log2(slots)
    std::shared_ptr<FrozenRows> frozen_;  // until nothing that it is about to read is in our way
};

}  // namespace omnistream
