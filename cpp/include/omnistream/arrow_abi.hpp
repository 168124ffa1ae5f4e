// The Arrow C data and stream interfaces: structs of a frozen ABI, so the core need not link libarrow.
// https://arrow.apache.org/docs/format/CDataInterface.html
// https://arrow.apache.org/docs/format/CStreamInterface.html
#pragma once

#include <cstdint>

#include "omnistream/batch.hpp"
#include "omnistream/status.hpp"

#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE
extern "C" {
struct ArrowSchema {
    const char* format;
    const char* name;
    const char* metadata;
    std::int64_t flags;
    std::int64_t n_children;
    struct ArrowSchema** children;
    struct ArrowSchema* dictionary;
    void (*release)(struct ArrowSchema*);
    void* private_data;
};
struct ArrowArray {
    std::int64_t length;
    std::int64_t null_count;
    std::int64_t offset;
    std::int64_t n_buffers;
    std::int64_t n_children;
    const void** buffers;
    struct ArrowArray** children;
    struct ArrowArray* dictionary;
    void (*release)(struct ArrowArray*);
    void* private_data;
};
}
#endif

#ifndef ARROW_C_STREAM_INTERFACE
#define ARROW_C_STREAM_INTERFACE
extern "C" {
struct ArrowArrayStream {
    int (*get_schema)(struct ArrowArrayStream*, struct ArrowSchema* out);
    int (*get_next)(struct ArrowArrayStream*, struct ArrowArray* out);  // 0, or an errno
    const char* (*get_last_error)(struct ArrowArrayStream*);
    void (*release)(struct ArrowArrayStream*);
    void* private_data;
};
}
#endif

namespace omnistream {

inline constexpr std::int64_t kArrowNullable = 2;  // ARROW_FLAG_NULLABLE

// A batch as an Arrow struct array. Lanes that Arrow stores otherwise (bool, decimal) are converted; all
// other buffers are shared. The caller owns what is written to schema and array.
void export_schema(const std::vector<Column>& columns, ArrowSchema* schema);
void export_batch(const Batch& batch, ArrowArray* array);
// The rows that survived clean, copied out in order.
[[nodiscard]] Batch take(const Batch& batch, const KeptVector<std::int32_t>& rows);

// A struct array whose children are named and typed as `fields` (order free, more children allowed: they are
// ignored) becomes a batch. Takes ownership of *array on success and on failure.
// Accepted layouts: exactly the Arrow types that schema.hpp lists; omnistream/batch.py casts others first.
Status import_batch(const ArrowSchema& schema, ArrowArray* array, const std::vector<Field>& fields,
                    Batch* batch);

// The fields of a struct array, by its own Arrow types: for state that is read back.
Status fields_of(const ArrowSchema& schema, std::vector<Field>* fields);

// A binary, large_binary, utf8 or large_utf8 array, one message per value; nulls are no messages but keep
// their position. Takes ownership of *array.
Status import_messages(const ArrowSchema& schema, ArrowArray* array, Origin* origin);

}  // namespace omnistream
