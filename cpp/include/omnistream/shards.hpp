// shards: rows shared out among windows by the hash of their key, and what these have closed put together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "omnistream/batch.hpp"
#include "omnistream/status.hpp"

namespace omnistream {

// Equal keys are in one shard. Keys are hashed by value, so the shard of a key depends on nothing but the
// key and the number of shards: not on codes, and not on whether a column is a dictionary or a string.
class KeyShards {
public:
    KeyShards(std::vector<std::string> key_columns, std::int32_t shards);

    // The survivors of each shard, in order, over the same batch.
    Status split(const CleanBatch& clean, std::vector<std::shared_ptr<CleanBatch>>* shards);
    // The shard of each row of a batch whose key columns are called `prefix` and the key's name.
    Status shards_of(const Batch& batch, const std::string& prefix, std::vector<std::int32_t>* shards);

private:
    struct Key {
        std::string column;
        std::shared_ptr<const Dictionary> dictionary;  // that `hashes` are of
        std::vector<std::uint64_t> hashes;             // by code
    };
    Status hash(const Batch& batch, const std::string& prefix, const std::int32_t* rows, std::size_t count,
                std::vector<std::uint64_t>* hashes);

    std::vector<Key> keys_;
    std::int32_t shards_;
    std::vector<std::uint64_t> hashes_;
};

// What shards of one window have closed and told at one watermark: batches ordered by the columns `by` (nulls
// first, strings by bytes) become one in that order; with `each_start` those of equal window_start, by that,
// else those that are final and those that are not.
Status merge_closed(const std::vector<std::shared_ptr<Batch>>& closed, const std::vector<std::string>& by,
                    bool each_start, std::vector<std::shared_ptr<Batch>>* merged);

}  // namespace omnistream
