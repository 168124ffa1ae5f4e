// The one currency between stages: columns of lanes, and for each row the message it came from.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "omnistream/buffer.hpp"
#include "omnistream/schema.hpp"
#include "omnistream/watermark.hpp"

namespace omnistream {

class Dictionary;

struct Column {
    std::string name;
    Type type = Type::int64;
    std::int64_t length = 0;
    std::int64_t null_count = 0;
    Buffer validity;  // Arrow bitmap, absent when null_count is 0
    Buffer values;    // lanes as Type says; for string and binary the bytes
    Buffer offsets;   // string and binary: length + 1 int32
    std::shared_ptr<const Dictionary> dictionary;

    [[nodiscard]] bool valid(std::int64_t row) const {
        return !validity || ((validity.data[row >> 3] >> (row & 7)) & 1) != 0;
    }
    template <class T>
    [[nodiscard]] const T* lanes() const {
        return values.as<T>();
    }
    [[nodiscard]] std::string_view text(std::int64_t row) const {
        const auto* at = offsets.as<std::int32_t>();
        return {values.as<char>() + at[row], static_cast<std::size_t>(at[row + 1] - at[row])};
    }
};

// One message inside the bytes of its block. `ordinal` counts from the block's first position: a line number
// or an offset is first_position + ordinal (blank lines are no messages, yet they are counted as positions).
// Set to nothing at first: a chunk's are made room for at once, and written right after.
struct Message {
    const char* data;
    std::uint32_t size;
    std::int32_t ordinal;
};

// Where the messages of a block come from, so that a reject at any later stage can name it and show its
// bytes.
struct Origin {
    std::string source;  // a path, a topic, or "push"
    std::int32_t partition = 0;
    std::int64_t first_position = 0;    // the line number or offset of ordinal 0
    std::shared_ptr<const void> owner;  // keeps the bytes alive
    KeptVector<Message> messages;       // in order of position; empty when rows were pushed as Arrow columns
    bool rows_of_message = false;       // such rows are those of one message, at first_position
    std::vector<std::string_view>
        keys;  // of messages, for their rejects; data() null: it has none; empty: none has
    // Where all messages lie in one piece of memory: up to here a kernel may load beyond a message's end.
    const char* readable = nullptr;
    std::int64_t positions = 0;  // of a block of lines: how many there are, blank ones included
};

// In place of an owner of state: every one.
inline constexpr std::int32_t kAllOwners = -1;

struct Batch {
    std::int64_t rows = 0;
    std::vector<Column> columns;
    std::shared_ptr<const Origin> origin;  // never null
    // Per row: index into origin->messages, or for pushed rows the row; empty where each row has its own
    // number.
    KeptVector<std::int32_t> row_message;
    bool exploded = false;  // rows are lines of messages; else a message has one row
    // Of a closed window: the partition that owns the state of each row (see watermark.hpp). One owner may
    // stand for all rows.
    std::int32_t owner = 0;
    std::vector<std::int32_t> row_owner;

    [[nodiscard]] std::int32_t message_of(std::int64_t row) const {
        return row_message.empty() ? static_cast<std::int32_t>(row)
                                   : row_message[static_cast<std::size_t>(row)];
    }
    [[nodiscard]] const Column* find(std::string_view name) const {
        for (const Column& column : columns)
            if (column.name == name) return &column;
        return nullptr;
    }
};

// A batch after clean: which rows live on, and the watermark that each of them met on arrival. What says
// nothing is not written down: `rows` is empty where all live on, and watermarks follow from the times.
struct CleanBatch {
    std::shared_ptr<const Batch> batch;
    bool all = false;
    KeptVector<std::int32_t> rows;          // ascending row numbers of the survivors, unless all are
    KeptVector<std::int64_t> watermark_ms;  // per survivor: the stream's watermark just before it; or empty,
    Watermark::Run run;                     // and to be worked out from where the stream was before the batch
    Buffer times;                           // and from the event times of its rows
    std::int32_t owner = 0;                 // the slot of its partition: whose the state of new keys is

    [[nodiscard]] std::size_t size() const {
        return all ? static_cast<std::size_t>(batch->rows) : rows.size();
    }
    [[nodiscard]] KeptVector<std::int32_t> row_numbers() const;
    [[nodiscard]] KeptVector<std::int64_t> watermarks_ms() const;
};

// A message or row that is not used.
struct Reject {
    std::int32_t message = 0;       // index into origin->messages, or the row for pushed rows
    std::int32_t line = -1;         // line inside the message, -1 when the whole message is meant
    std::int32_t byte_offset = -1;  // of the fault inside the message, -1 when there is none
    std::int32_t reason = 0;        // index into the reasons of the stage that rejects
    std::string field;              // column or path at fault, may be empty
};

}  // namespace omnistream
