// decode, as an Arrow stream: lines in memory, a block of them at a time, for whoever reads Arrow.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "omnistream/arrow_abi.hpp"
#include "omnistream/decode.hpp"

namespace omnistream {

class DecodeStream {
public:
    // `origin` says where the lines come from and keeps their bytes alive; it has no messages.
    DecodeStream(std::shared_ptr<Decoder> decoder, std::string_view lines, std::size_t block_bytes,
                 const Origin& origin);

    // The next whole lines, at least block_bytes together but for the last; at the end no batch.
    Status next(std::shared_ptr<Batch>* batch);

    // What was decoded so far. Rejects are handed over once.
    [[nodiscard]] DecodeCounts counts() const;
    [[nodiscard]] std::vector<std::shared_ptr<Batch>> take_rejects();

    [[nodiscard]] const std::vector<Column>& columns() const { return columns_; }

private:
    [[nodiscard]] std::shared_ptr<Origin> origin() const;

    const std::shared_ptr<Decoder> decoder_;
    std::string_view lines_;  // those left
    const std::size_t block_bytes_;
    const std::string source_;
    const std::int32_t partition_;
    const std::shared_ptr<const void> owner_;
    std::int64_t position_;
    std::vector<Column> columns_;  // of no rows

    mutable std::mutex told_;  // of what follows, which others may ask for meanwhile
    DecodeCounts counts_;
    std::vector<std::shared_ptr<Batch>> rejects_;
};

// The batches as an Arrow C stream, which keeps the DecodeStream alive.
void export_stream(std::shared_ptr<DecodeStream> batches, ArrowArrayStream* stream);

}  // namespace omnistream
