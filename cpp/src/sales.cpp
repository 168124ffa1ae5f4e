#include "omnistream/sales.hpp"

#include <string_view>
#include <utility>

#include "omnistream/column_writer.hpp"
#include "omnistream/row_keys.hpp"

namespace omnistream {

Sales::Sales(std::vector<std::string> key_columns, std::int64_t within_ms, std::string time_column,
             Condition condition)
    : remembered_(std::move(key_columns), within_ms), time_column_(std::move(time_column)) {
    condition_.condition = std::move(condition);
}

Status Sales::look_up(const CleanBatch& clean, std::shared_ptr<Batch>* out) {
    const Batch& batch = *clean.batch;
    std::vector<const Column*> key_columns;
    OMNI_RETURN_NOT_OK(find_key_columns(remembered_.key_columns(), "the key of sales", batch, &key_columns));
    const Column* const time = batch.find(time_column_);
    const Column* const type = batch.find(condition_.condition.column);
    if (time == nullptr || time->type != Type::timestamp_ms)
        return {Code::schema, "the batch has no timestamp column '" + time_column_ + "'"};
    if (type == nullptr || type->type != Type::dictionary)
        return {Code::schema, "the batch has no dictionary column '" + condition_.condition.column + "'"};
    condition_.bind(*type);
    const auto* const times_ms = time->lanes<std::int64_t>();
    const auto* const codes = type->lanes<std::int32_t>();

    // Rows that clean refused are written as null on the way to the next one.
    ColumnWriter found(kSaleTime, Type::timestamp_ms, static_cast<std::size_t>(batch.rows));
    std::int64_t written = 0;
    std::int32_t rows[kKeysAtOnce];
    std::int64_t met_ms[kKeysAtOnce];
    std::string_view keys[kKeysAtOnce];
    std::uint64_t hashes[kKeysAtOnce];
    const KeptVector<std::int32_t> clean_rows = clean.row_numbers();
    const KeptVector<std::int64_t> watermarks_ms = clean.watermarks_ms();
    for (std::size_t next = 0; next < clean_rows.size();) {
        std::size_t count = 0;
        for (; next < clean_rows.size() && count < kKeysAtOnce; ++next) {
            const std::int32_t row = clean_rows[next];
            if (!type->valid(row) || condition_.weights[static_cast<std::size_t>(codes[row])] == 0) continue;
            rows[count] = row;
            met_ms[count++] = watermarks_ms[next];
        }
        read_keys(key_columns, rows, count, &keys_, keys);
        for (std::size_t i = 0; i < count; ++i) {
            hashes[i] = DuplicateFilter::hash(keys[i]);
            remembered_.prefetch(hashes[i]);
        }
        for (std::size_t i = 0; i < count; ++i) {
            const std::int32_t row = rows[i];
            if (condition_.weights[static_cast<std::size_t>(codes[row])] > 0) {
                remembered_.seen(keys[i], hashes[i], times_ms[row], met_ms[i], clean.owner);
                continue;
            }
            std::int64_t sold_ms = 0;
            if (!remembered_.find(keys[i], hashes[i], met_ms[i], &sold_ms)) continue;
            for (; written < row; ++written) found.put_null();
            found.put(sold_ms);
            ++written;
        }
    }
    for (; written < batch.rows; ++written) found.put_null();
    if (!watermarks_ms.empty()) remembered_.expire(watermarks_ms.back());

    auto with_times = std::make_shared<Batch>(batch);
    with_times->columns.push_back(found.finish());
    *out = std::move(with_times);
    return {};
}

}  // namespace omnistream
