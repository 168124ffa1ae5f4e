// Closed windows become batches: the rows of a slice in the order of their keys, column by column.
#include <algorithm>
#include <cstring>
#include <utility>

#include "omnistream/moments.hpp"
#include "window_impl.hpp"

namespace omnistream {

namespace {

constexpr std::size_t kBlock = GroupTable::kBlock;
constexpr std::int32_t kCachedTexts = 1'024;  // so few stay in the cache from one window to the next

}  // namespace

std::shared_ptr<Batch> Window::Impl::write(Slice* slice, std::int64_t start_ms, std::int64_t end_ms,
                                           Told told) {
    std::size_t rows = slice->groups.size();
    if (told == Told::what_changed) {
        rows = 0;
        for (std::size_t number = 0; number < slice->groups.size(); ++number)
            rows += static_cast<std::size_t>(has_changed(slice->groups.row(number)));
        if (rows == 0) return empty_result();
    }
    std::vector<ColumnWriter> writers = result_writers(rows);
    const Array<std::uint32_t> order = write_rows(slice, start_ms, end_ms, told, &writers);
    std::shared_ptr<Batch> batch = finish(std::move(writers), static_cast<std::int64_t>(rows));
    if (slice->owners.size() <= 1) {
        batch->owner = slice->owners.empty() ? 0 : slice->owners[0].owner;
    } else {
        const std::vector<std::int32_t> owners = owners_of(*slice);
        batch->row_owner.reserve(order.size());
        for (const std::uint32_t number : order) batch->row_owner.push_back(owners[number]);
    }
    return batch;
}

std::vector<ColumnWriter> Window::Impl::result_writers(std::size_t rows) const {
    std::vector<ColumnWriter> writers;
    if (spec.kind != WindowKind::global) {
        writers.emplace_back("window_start", Type::timestamp_ms, rows);
        writers.emplace_back("window_end", Type::timestamp_ms, rows);
    }
    for (const Key& key : keys_)
        writers.emplace_back(key.column, is_text(key.type) ? Type::string : key.type, rows);
    for (std::size_t i = 0; i < outputs_.size(); ++i)
        writers.emplace_back(spec.measures[i].name, outputs_[i].type, rows);
    if (early()) {
        writers.emplace_back("revision", Type::int64, rows);
        writers.emplace_back("final", Type::boolean, rows);
        if (in_sessions()) writers.emplace_back("retracted", Type::boolean, rows);
    }
    return writers;
}

// Returns the numbers of the groups in the order of the rows.
Array<std::uint32_t> Window::Impl::write_rows(Slice* slice, std::int64_t start_ms, std::int64_t end_ms,
                                              Told told, std::vector<ColumnWriter>* out) {
    std::vector<ByteOrder> own_orders(keys_.size());
    std::vector<const std::vector<std::int32_t>*> ranks(keys_.size(), nullptr);
    std::vector<const Dictionary*> texts(keys_.size(), nullptr);
    for (std::size_t i = 0; i < keys_.size(); ++i) {
        if (!is_text(keys_[i].type)) continue;
        const bool shared = keys_[i].codes != nullptr;
        texts[i] = shared ? &keys_[i].codes->dictionary() : slice->key_texts[i].get();
        ranks[i] = &(shared ? keys_[i].byte_order : own_orders[i]).ranks(*texts[i]);
    }
    Array<std::uint32_t> order = layout_.order(slice->groups, ranks);
    if (in_sessions())
        std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
            const std::size_t last = session_word(kLastMs);
            return static_cast<std::int64_t>(slice->groups.row(a)[last]) <
                   static_cast<std::int64_t>(slice->groups.row(b)[last]);
        });

    if (told == Told::what_changed)
        order.resize(static_cast<std::size_t>(
            std::remove_if(order.begin(), order.end(),
                           [&](std::uint32_t number) { return !has_changed(slice->groups.row(number)); }) -
            order.begin()));

    std::vector<ItemOrder> items(items_.size());
    for (std::size_t i = 0; i < items_.size(); ++i)
        if (items_[i].kind != ItemKind::distinct) items[i] = order_items(*slice, i);

    // By blocks, so that the rows are fetched from memory once and read from the cache for every column.
    // Meanwhile those of the block after the next are asked for, and what the texts of the next one need.
    constexpr std::size_t kRows = kBlock / 4;
    const auto rows_from = [&](std::size_t from, const auto& use) {
        for (std::size_t i = from; i < std::min(from + kRows, order.size()); ++i)
            use(slice->groups.row(order[i]));
    };
    const auto ask = [&](std::size_t from) {
        rows_from(from, [](const std::uint64_t* row) { __builtin_prefetch(row); });
    };
    const auto ask_texts = [&](std::size_t from) {
        for (std::size_t key = 0; key < keys_.size(); ++key)
            if (texts[key] != nullptr && texts[key]->size() > kCachedTexts)
                rows_from(from, [&](const std::uint64_t* row) { layout_.fetch(key, row, *texts[key]); });
    };
    const std::uint64_t* words[kRows];
    ask(0);
    ask(kRows);
    ask_texts(0);
    for (std::size_t begin = 0; begin < order.size(); begin += kRows) {
        const std::size_t count = std::min(kRows, order.size() - begin);
        ask(begin + 2 * kRows);
        ask_texts(begin + kRows);
        for (std::size_t i = 0; i < count; ++i) words[i] = slice->groups.row(order[begin + i]);
        if (in_sessions()) {
            for (std::size_t i = 0; i < count; ++i) {
                (*out)[0].put(static_cast<std::int64_t>(words[i][session_word(kFirstMs)]));
                (*out)[1].put(
                    saturate(static_cast<Wide>(static_cast<std::int64_t>(words[i][session_word(kLastMs)])) +
                             spec.gap_ms));
            }
        } else if (first_key() != 0) {
            std::fill_n((*out)[0].put_block(count), count, start_ms);
            std::fill_n((*out)[1].put_block(count), count, end_ms);
        }
        for (std::size_t key = 0; key < keys_.size(); ++key)
            layout_.unpack(key, words, count, texts[key], &(*out)[first_key() + key]);
        for (std::size_t measure = 0; measure < outputs_.size(); ++measure) {
            const Output& output = outputs_[measure];
            ColumnWriter* column = &(*out)[first_key() + keys_.size() + measure];
            if (output.by_items) {
                for (std::size_t i = 0; i < count; ++i)
                    write_items(output, *slice, items[output.items], order[begin + i], column);
            } else if (output.operation == Operation::count || output.operation == Operation::sum ||
                       output.operation == Operation::distinct) {
                std::int64_t* values = column->put_block(count);
                for (std::size_t i = 0; i < count; ++i)
                    values[i] = static_cast<std::int64_t>(words[i][output.value]);
            } else {
                for (std::size_t i = 0; i < count; ++i) write_measure(output, words[i], column);
            }
        }
        if (early()) {
            ColumnWriter* column = &(*out)[first_key() + keys_.size() + outputs_.size()];
            slice->groups.will_write(order.data() + begin, count);
            for (std::size_t i = 0; i < count; ++i) {
                std::uint64_t* group = slice->groups.row(order[begin + i]);
                const bool retracted = group[rows_word_] == 0;
                group[told_word_] = group[rows_word_];
                column[0].put(static_cast<std::int64_t>(++group[revision_word_]));
                column[1].put(told == Told::as_final || retracted);
                if (in_sessions()) column[2].put(retracted);
            }
        }
    }
    return order;
}

void Window::Impl::write_measure(const Output& output, const std::uint64_t* words, ColumnWriter* out) const {
    const auto value = static_cast<std::int64_t>(words[output.value]);
    switch (output.operation) {
        case Operation::count:
        case Operation::sum:
        case Operation::distinct:
            return out->put(value);
        case Operation::min:
        case Operation::max: {
            const auto none = output.operation == Operation::min ? kMost : kLeast;
            if (output.counted ? words[output.count] == 0 : value == none) return out->put_null();
            return output.type == Type::float64 ? out->put_float(unordered(value)) : out->put(value);
        }
        case Operation::first:
        case Operation::last: {
            const auto none = fresh_word(output.operation == Operation::first ? Add::first : Add::last);
            if (words[output.value - 1] == none) return out->put_null();
            return output.type == Type::float64 ? out->put_float(unordered(value)) : out->put(value);
        }
        default:
            break;
    }
    Moments moments{static_cast<std::int64_t>(words[output.count]), value, 0};
    const std::int64_t scale = output.column_type == Type::decimal ? kDecimalOne : 1;
    if (output.operation == Operation::mean)
        return moments.n == 0 ? out->put_null() : out->put_float(moments.mean(scale));
    if (moments.n < 2) return out->put_null();
    std::memcpy(&moments.squares, words + output.squares, sizeof moments.squares);
    out->put_float(output.operation == Operation::variance ? moments.variance(scale)
                                                           : moments.std_dev(scale));
}

std::shared_ptr<Batch> Window::Impl::finish(std::vector<ColumnWriter> writers, std::int64_t rows) const {
    auto batch = std::make_shared<Batch>();
    auto origin = std::make_shared<Origin>();
    origin->source = spec.name;
    batch->origin = std::move(origin);
    batch->rows = rows;
    for (ColumnWriter& writer : writers) batch->columns.push_back(writer.finish());
    return batch;
}

std::shared_ptr<Batch> Window::Impl::empty_result() const {
    return finish(result_writers(0), 0);
}

}  // namespace omnistream
