#include "omnistream/shards.hpp"

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "omnistream/column_writer.hpp"
#include "omnistream/dictionary.hpp"
#include "omnistream/hash.hpp"

namespace omnistream {

// ---- Who gets a row

namespace {

constexpr std::uint64_t kNull = 0x9e3779b97f4a7c15;
constexpr std::uint64_t kMultiplier = 0xe7037ed1a0b428db;

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
    const auto product = static_cast<unsigned __int128>(hash ^ value ^ kNull) * kMultiplier;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

std::uint64_t hash_of(std::string_view text) {
    return hash_text(text.data(), text.size());
}

template <class ValueHash>
void mix_column(const Column& column, const std::int32_t* rows, std::size_t count, std::uint64_t* hashes,
                ValueHash&& value_hash) {
    if (column.null_count == 0) {
        for (std::size_t i = 0; i < count; ++i) hashes[i] = mix(hashes[i], value_hash(rows[i]));
    } else {
        for (std::size_t i = 0; i < count; ++i)
            hashes[i] = mix(hashes[i], column.valid(rows[i]) ? value_hash(rows[i]) : kNull);
    }
}

}  // namespace

KeyShards::KeyShards(std::vector<std::string> key_columns, std::int32_t shards) : shards_(shards) {
    for (std::string& name : key_columns) keys_.push_back({std::move(name), nullptr, {}});
}

Status KeyShards::hash(const Batch& batch, const std::string& prefix, const std::int32_t* rows,
                       std::size_t count, std::vector<std::uint64_t>* hashes) {
    hashes->assign(count, 0);
    for (Key& key : keys_) {
        const Column* column = batch.find(prefix + key.column);
        if (column == nullptr)
            return {Code::schema, "the batch has no column '" + prefix + key.column + "' to share rows by"};
        std::uint64_t* out = hashes->data();
        switch (column->type) {
            case Type::dictionary: {
                if (column->dictionary == nullptr) {
                    mix_column(*column, rows, count, out, [](std::int32_t) { return kNull; });
                    break;
                }
                if (column->dictionary != key.dictionary) {
                    key.dictionary = column->dictionary;
                    key.hashes.clear();
                }
                while (key.hashes.size() < static_cast<std::size_t>(key.dictionary->size()))
                    key.hashes.push_back(
                        hash_of(key.dictionary->value(static_cast<std::int32_t>(key.hashes.size()))));
                const auto* codes = column->lanes<std::int32_t>();
                const std::uint64_t* by_code = key.hashes.data();
                mix_column(*column, rows, count, out, [=](std::int32_t row) { return by_code[codes[row]]; });
                break;
            }
            case Type::string:
            case Type::binary:
                mix_column(*column, rows, count, out,
                           [column](std::int32_t row) { return hash_of(column->text(row)); });
                break;
            case Type::int32: {
                const auto* lanes = column->lanes<std::int32_t>();
                mix_column(*column, rows, count, out, [=](std::int32_t row) {
                    return static_cast<std::uint64_t>(std::int64_t{lanes[row]});
                });
                break;
            }
            case Type::boolean: {
                const auto* lanes = column->lanes<std::uint8_t>();
                mix_column(*column, rows, count, out,
                           [=](std::int32_t row) { return std::uint64_t{lanes[row]}; });
                break;
            }
            default: {
                const auto* lanes = column->lanes<std::uint64_t>();
                mix_column(*column, rows, count, out, [=](std::int32_t row) { return lanes[row]; });
            }
        }
    }
    // The high bits, spread over the shards.
    for (std::uint64_t& hash : *hashes) hash = (hash >> 32) * static_cast<std::uint64_t>(shards_) >> 32;
    return {};
}

Status KeyShards::split(const CleanBatch& clean, std::vector<std::shared_ptr<CleanBatch>>* shards) {
    const KeptVector<std::int32_t> clean_rows = clean.row_numbers();
    const KeptVector<std::int64_t> met_ms = clean.watermarks_ms();
    const std::size_t count = clean_rows.size();
    OMNI_RETURN_NOT_OK(hash(*clean.batch, "", clean_rows.data(), count, &hashes_));
    std::vector<std::size_t> sizes(static_cast<std::size_t>(shards_), 0);
    for (const std::uint64_t shard : hashes_) ++sizes[shard];
    std::vector<std::int32_t*> rows;
    std::vector<std::int64_t*> watermarks_ms;
    shards->clear();
    for (const std::size_t size : sizes) {
        auto& shard = *shards->emplace_back(std::make_shared<CleanBatch>());
        shard.batch = clean.batch;
        shard.owner = clean.owner;
        shard.rows.resize(size);
        shard.watermark_ms.resize(size);
        rows.push_back(shard.rows.data());
        watermarks_ms.push_back(shard.watermark_ms.data());
    }
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint64_t shard = hashes_[i];
        *rows[shard]++ = clean_rows[i];
        *watermarks_ms[shard]++ = met_ms[i];
    }
    return {};
}

Status KeyShards::shards_of(const Batch& batch, const std::string& prefix,
                            std::vector<std::int32_t>* shards) {
    std::vector<std::int32_t> rows(static_cast<std::size_t>(batch.rows));
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::int32_t>(i);
    OMNI_RETURN_NOT_OK(hash(batch, prefix, rows.data(), rows.size(), &hashes_));
    shards->assign(hashes_.begin(), hashes_.end());
    return {};
}

// ---- What they have closed

namespace {

std::int64_t lane_of(const Column& column, std::int64_t row) {
    switch (column.type) {
        case Type::boolean:
            return column.lanes<std::uint8_t>()[row];
        case Type::int32:
            return column.lanes<std::int32_t>()[row];
        default:
            return column.lanes<std::int64_t>()[row];
    }
}

int compare(const Column& a, std::int64_t row_a, const Column& b, std::int64_t row_b) {
    const bool known_a = a.valid(row_a);
    const bool known_b = b.valid(row_b);
    if (!known_a || !known_b) return static_cast<int>(known_a) - static_cast<int>(known_b);
    if (a.type == Type::string) return a.text(row_a).compare(b.text(row_b));
    const std::int64_t lane_a = lane_of(a, row_a);
    const std::int64_t lane_b = lane_of(b, row_b);
    return static_cast<int>(lane_a > lane_b) - static_cast<int>(lane_a < lane_b);
}

// A row of a batch.
struct Place {
    std::uint32_t batch;
    std::int32_t row;
};

// The batches' rows in order: the least of the batches' next rows, again and again.
std::vector<Place> order_of(const std::vector<std::shared_ptr<Batch>>& batches,
                            const std::vector<std::vector<const Column*>>& keys) {
    std::size_t rows = 0;
    std::vector<Place> heap;
    for (std::uint32_t i = 0; i < batches.size(); ++i) {
        rows += static_cast<std::size_t>(batches[i]->rows);
        if (batches[i]->rows != 0) heap.push_back({i, 0});
    }
    const auto after = [&keys](const Place& a, const Place& b) {
        for (std::size_t key = 0; key < keys[a.batch].size(); ++key) {
            const int order = compare(*keys[a.batch][key], a.row, *keys[b.batch][key], b.row);
            if (order != 0) return order > 0;
        }
        return a.batch > b.batch;
    };
    std::make_heap(heap.begin(), heap.end(), after);
    std::vector<Place> order;
    order.reserve(rows);
    while (!heap.empty()) {
        std::pop_heap(heap.begin(), heap.end(), after);
        order.push_back(heap.back());
        if (++heap.back().row == batches[heap.back().batch]->rows)
            heap.pop_back();
        else
            std::push_heap(heap.begin(), heap.end(), after);
    }
    return order;
}

Column gather(const std::vector<std::shared_ptr<Batch>>& batches, std::size_t number,
              const std::vector<Place>& order) {
    const Column& first = batches.front()->columns[number];
    ColumnWriter out(first.name, first.type, order.size());
    std::vector<const Column*> columns;
    for (const auto& batch : batches) columns.push_back(&batch->columns[number]);
    for (const Place& place : order) {
        const Column& column = *columns[place.batch];
        if (!column.valid(place.row))
            out.put_null();
        else if (column.type == Type::string)
            out.put_text(column.text(place.row));
        else if (column.type == Type::float64)
            out.put_float(column.lanes<double>()[place.row]);
        else
            out.put(lane_of(column, place.row));
    }
    return out.finish();
}

Status merge(const std::vector<std::shared_ptr<Batch>>& batches, const std::vector<std::string>& by,
             std::shared_ptr<Batch>* merged) {
    std::vector<std::vector<const Column*>> keys(batches.size());
    for (std::size_t i = 0; i < batches.size(); ++i) {
        if (batches[i]->columns.size() != batches.front()->columns.size())
            return {Code::argument, "batches to merge have the same columns"};
        for (const std::string& name : by) {
            keys[i].push_back(batches[i]->find(name));
            if (keys[i].back() == nullptr)
                return {Code::schema, "a batch to merge has no column '" + name + "'"};
        }
    }
    const std::vector<Place> order = order_of(batches, keys);
    auto out = std::make_shared<Batch>();
    out->origin = batches.front()->origin;
    out->rows = static_cast<std::int64_t>(order.size());
    for (std::size_t i = 0; i < batches.front()->columns.size(); ++i)
        out->columns.push_back(gather(batches, i, order));
    out->row_owner.reserve(order.size());
    for (const Place& place : order) {
        const Batch& from = *batches[place.batch];
        out->row_owner.push_back(
            from.row_owner.empty() ? from.owner : from.row_owner[static_cast<std::size_t>(place.row)]);
    }
    *merged = std::move(out);
    return {};
}

}  // namespace

Status merge_closed(const std::vector<std::shared_ptr<Batch>>& closed, const std::vector<std::string>& by,
                    bool each_start, std::vector<std::shared_ptr<Batch>>* merged) {
    std::map<std::int64_t, std::vector<std::shared_ptr<Batch>>> by_start;
    for (const auto& batch : closed) {
        if (batch->rows == 0) continue;
        const Column* start = each_start ? batch->find("window_start") : nullptr;
        if (each_start && start == nullptr)
            return {Code::schema, "a batch to merge has no column 'window_start'"};
        // What is final comes before what is told early. A batch of sessions ends with one, not with a start
        // that is retracted.
        const Column* final = each_start ? nullptr : batch->find("final");
        const bool early = final != nullptr && final->lanes<std::uint8_t>()[batch->rows - 1] == 0;
        by_start[each_start ? start->lanes<std::int64_t>()[0] : std::int64_t{early}].push_back(batch);
    }
    for (const auto& [start_ms, batches] : by_start) {
        merged->push_back(batches.front());
        if (batches.size() > 1) OMNI_RETURN_NOT_OK(merge(batches, by, &merged->back()));
    }
    return {};
}

}  // namespace omnistream
