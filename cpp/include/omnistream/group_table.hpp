// Rows of 64-bit words, found by the key words that each row starts with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "omnistream/buffer.hpp"

namespace omnistream {

// Rows lie dense in the order of their arrival; a hash index of 4 bytes a slot, at most half full, points at
// them. So a group costs its row and 8 to 16 bytes, growing the index touches no row, and the rows are read
// in order when the table is written out. The bits of a slot that the row number leaves free hold bits of the
// hash: a probe rarely looks at a row that is not the one it wants.
class GroupTable {
public:
    // As many keys as one call takes: their hashes, and the cache lines fetched ahead for them, fit L1.
    static constexpr std::size_t kBlock = 512;

    // Each new row is its key, then a copy of `fresh`.
    GroupTable(std::size_t key_words, std::vector<std::uint64_t> fresh);

    // rows[i] becomes the number of the row whose key is keys[i * key_words ...]; a key not seen yet gets the
    // next number. count <= kBlock.
    void find_or_insert(const std::uint64_t* keys, std::size_t count, std::uint32_t* rows);
    void reserve(std::size_t rows);
    // Room for so many rows is made at once when it is seen that the table grows at all.
    void expect(std::size_t rows) { expected_ = rows; }

    [[nodiscard]] std::size_t size() const { return size_; }
    // Valid until the next find_or_insert.
    [[nodiscard]] std::uint64_t* row(std::size_t number) { return words_.data() + number * stride_; }
    [[nodiscard]] const std::uint64_t* row(std::size_t number) const {
        return words_.data() + number * stride_;
    }
    [[nodiscard]] std::int64_t memory_bytes() const;

private:
    static constexpr std::uint64_t kBucket = 4;  // slots

    template <std::size_t kKeyWords>
    void probe_block(const std::uint64_t* keys, std::size_t count, std::uint32_t* rows);
    std::uint32_t find_or_append(const std::uint64_t* key, std::uint64_t hash);
    std::uint32_t append(const std::uint64_t* key);
    void grow();
    // The first slot of the key's bucket; what does not fit there stands behind it.
    [[nodiscard]] std::uint64_t home_of(std::uint64_t hash) const { return hash & mask_ & ~(kBucket - 1); }
    void rebuild_index(std::size_t slots);

    std::size_t key_words_;
    std::size_t stride_;
    std::vector<std::uint64_t> fresh_;
    Array<std::uint64_t> words_;
    std::size_t size_ = 0;
    std::size_t expected_ = 0;
    Array<std::uint32_t> slots_;  // 0: free; else hash bits above row_bits_, row number + 1 in row_bits_
    std::uint64_t mask_ = 0;
    std::uint32_t row_bits_ = 0;  // a mask: all ones below log2(slots)
};

}  // namespace omnistream
