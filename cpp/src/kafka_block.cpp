// What a block is to the stages: messages for the decoder, a column of bytes, or columns beside decoded ones.
#include <algorithm>

#include "json_values.hpp"
#include "omnistream/column_writer.hpp"
#include "omnistream/kafka.hpp"

namespace omnistream {
namespace {

std::string_view text_or_none(const MessageBlock& block, const MessageBlock::Text& text) {
    if (text.size == MessageBlock::kNone) return {};
    // Texts without a byte need no memory, and are not null.
    return {block.details.data() == nullptr ? "" : block.details.data() + text.at, text.size};
}

}  // namespace

std::shared_ptr<Origin> origin_of_block(const std::shared_ptr<MessageBlock>& block) {
    auto origin = std::make_shared<Origin>();
    origin->source = block->topic;
    origin->partition = block->partition;
    origin->first_position = block->first_offset;
    origin->messages = std::move(block->messages);
    origin->readable = block->bytes->data() + block->bytes->size();
    origin->owner = block;
    origin->keys.reserve(block->keys.size());
    for (const MessageBlock::Text& key : block->keys) origin->keys.push_back(text_or_none(*block, key));
    return origin;
}

std::shared_ptr<Batch> batch_of_block(const MessageBlock& block) {
    Array<std::int32_t> offsets;
    offsets.reserve(block.messages.size() + 1);
    offsets.push_back(0);
    for (const Message& message : block.messages)
        offsets.push_back(offsets.back() + static_cast<std::int32_t>(message.size));
    auto batch = std::make_shared<Batch>();
    batch->origin = std::make_shared<Origin>();
    batch->rows = static_cast<std::int64_t>(block.messages.size());
    Column& column = batch->columns.emplace_back();
    column.name = "value";
    column.type = Type::binary;
    column.length = batch->rows;
    column.offsets = offsets.finish();
    column.values = {block.bytes, reinterpret_cast<const std::uint8_t*>(block.bytes->data()),
                     block.value_bytes};
    return batch;
}

namespace {

std::string_view utf8_or_none(const MessageBlock& block, const MessageBlock::Text& text) {
    const std::string_view found = text_or_none(block, text);
    const char* end = found.data() + found.size();
    return found.data() != nullptr && json::utf8_fault(found.data(), end) == end ? found : std::string_view();
}

Type type_of_detail(const std::string& detail) {
    if (detail == "timestamp") return Type::timestamp_ms;
    if (detail == "partition") return Type::int32;
    return detail == "offset" ? Type::int64 : Type::string;
}

}  // namespace

Status with_details(const Batch& batch, const MessageBlock& block,
                    const std::vector<std::pair<std::string, std::string>>& columns,
                    std::shared_ptr<Batch>* out) {
    // Per row its message's place in the block; rows come in the order of their messages.
    std::vector<std::size_t> place(static_cast<std::size_t>(batch.rows));
    std::size_t at = 0;
    for (std::size_t row = 0; row < place.size(); ++row) {
        const std::int32_t ordinal =
            batch.origin->messages[static_cast<std::size_t>(batch.message_of(static_cast<std::int64_t>(row)))]
                .ordinal;
        while (at < block.ordinals.size() && block.ordinals[at] < ordinal) ++at;
        place[row] = at;
    }
    auto added = std::make_shared<Batch>(batch);
    for (const auto& [name, detail] : columns) {
        const Array<MessageBlock::Text>* texts = detail == "key" ? &block.keys : nullptr;
        if (detail.starts_with("header:")) {
            const auto found =
                std::find(block.header_names.begin(), block.header_names.end(), detail.substr(7));
            if (found != block.header_names.end())
                texts = &block.headers[static_cast<std::size_t>(found - block.header_names.begin())];
        }
        ColumnWriter writer(name, type_of_detail(detail), place.size());
        for (const std::size_t i : place) {
            if (detail == "partition") {
                writer.put(block.partition);
            } else if (detail == "offset") {
                writer.put(block.first_offset + block.ordinals[i]);
            } else if (detail == "timestamp") {
                block.timestamps_ms[i] < 0 ? writer.put_null() : writer.put(block.timestamps_ms[i]);
            } else if (texts == nullptr) {
                return {Code::argument, "the block has no '" + detail + "'"};
            } else if (const std::string_view text = utf8_or_none(block, (*texts)[i]);
                       text.data() == nullptr) {
                writer.put_null();
            } else {
                writer.put_text(text);
            }
        }
        added->columns.push_back(writer.finish());
    }
    *out = std::move(added);
    return {};
}

}  // namespace omnistream
