// Rows of a table as they were at one moment, for a thread that writes them out while the table goes on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "omnistream/memory.hpp"

namespace omnistream {

// The rows stay where they are. Before the table overwrites one it lets it be copied, unless the reader has
// been there: so a snapshot costs the table nothing at first, and later a row for a row that it changes. New
// rows come behind the frozen ones; and where the first slab is replaced by a larger one, the frozen rows are
// those that are left behind.
class FrozenRows {
public:
    using Slab = std::shared_ptr<const memory::Held>;

    // The first `count` rows of slabs of 2 to the power of `slab_shift` rows, of `stride` words each.
    FrozenRows(std::vector<Slab> slabs, unsigned slab_shift, std::size_t count, std::size_t stride);

    [[nodiscard]] std::size_t size() const { return count_; }
    [[nodiscard]] std::size_t stride() const { return stride_; }

    // For one reader: copies the next so many rows.
    void read(std::size_t count, std::uint64_t* out);
    // No more are read.
    void finish();

    // For the table, whose first slab is `first` by now: copies what it is about to overwrite. False when
    // there is nothing left to be copied, now and later.
    bool keep(const memory::Held* first, const std::uint32_t* numbers, std::size_t count);
    // All of it at once.
    void keep_all(const memory::Held* first);

private:
    // Copies are a log in pieces, so that the first ones cost no more than the last: memory that is touched
    // for the first time, and memory that moves, is what would take long.
    static constexpr std::size_t kPieceShift = 14;  // rows

    [[nodiscard]] std::size_t row_bytes() const { return stride_ * sizeof(std::uint64_t); }
    [[nodiscard]] std::uint64_t* row(std::size_t number) const;
    [[nodiscard]] std::uint64_t* kept(std::size_t place) const;
    [[nodiscard]] bool is_over(const memory::Held* first) const;

    const unsigned slab_shift_;
    const std::size_t count_;
    const std::size_t stride_;
    std::mutex mutex_;  // guards all below; held for a block of rows
    std::vector<Slab> slabs_;
    std::size_t read_ = 0;
    memory::Zeros places_;  // by row, uint32: 1 plus its place among the copies; 0: not copied
    std::vector<memory::Held> kept_;
    std::size_t kept_rows_ = 0;
};

}  // namespace omnistream
