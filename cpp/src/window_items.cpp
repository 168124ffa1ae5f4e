// Measures that keep several things of a group: the values counted by a distinct count, the weights of a top,
// the registers and buckets of the sketches. Each is an item: a row (group, what) of one table per measure
// and slice, with a word that is combined by an operation that commutes. So the order of rows never shows.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <string_view>

#include "omnistream/sketch.hpp"
#include "window_impl.hpp"

namespace omnistream {

namespace {

constexpr std::size_t kBlock = GroupTable::kBlock;
constexpr Wide kMillion = 1'000'000;
constexpr std::size_t kFewItems = 1'024;  // are not worth a prune

std::int64_t signed_of(std::uint64_t word) {
    return static_cast<std::int64_t>(word);
}

// False when a sum does not fit.
bool combine(ItemKind kind, std::uint64_t* mine, std::uint64_t theirs) {
    std::int64_t sum = 0;
    switch (kind) {
        case ItemKind::distinct:
            break;
        case ItemKind::tally:
        case ItemKind::buckets:
            if (__builtin_add_overflow(signed_of(*mine), signed_of(theirs), &sum)) return false;
            *mine = static_cast<std::uint64_t>(sum);
            break;
        case ItemKind::registers:
            *mine = larger_ranks(*mine, theirs);
            break;
        case ItemKind::earliest:
            *mine = static_cast<std::uint64_t>(std::min(signed_of(*mine), signed_of(theirs)));
            break;
        case ItemKind::latest:
            *mine = static_cast<std::uint64_t>(std::max(signed_of(*mine), signed_of(theirs)));
            break;
    }
    return true;
}

}  // namespace

std::vector<std::uint64_t> ItemColumn::fresh(bool listed) const {
    std::vector<std::uint64_t> words;
    if (kind == ItemKind::earliest)
        words.push_back(static_cast<std::uint64_t>(kMost));
    else if (kind == ItemKind::latest)
        words.push_back(static_cast<std::uint64_t>(kLeast));
    else if (kind != ItemKind::distinct)
        words.push_back(0);
    if (listed) words.push_back(0);
    return words;
}

// ---- A block of rows

// The key of the item that a row's value is; true when the row has one.
void Window::Impl::pack_value(const ItemColumn& column, ItemSet* set, std::int32_t row, std::uint64_t group,
                              std::uint64_t* key) const {
    const Column& values = *column.bound;
    const auto narrow = [&](std::int32_t value) { key[0] = group << 32 | static_cast<std::uint32_t>(value); };
    switch (column.type) {
        case Type::dictionary: {
            const std::int32_t code = values.lanes<std::int32_t>()[row];
            const std::int32_t* translation = column.codes->translation();
            return narrow(translation == nullptr ? code : translation[code]);
        }
        case Type::string:
            return narrow(set->texts->encode(values.text(row)));
        case Type::int32:
            return narrow(values.lanes<std::int32_t>()[row]);
        case Type::boolean:
            return narrow(values.lanes<std::uint8_t>()[row]);
        default:
            key[0] = group;
            key[1] = static_cast<std::uint64_t>(values.lanes<std::int64_t>()[row]);
    }
}

std::uint64_t Window::Impl::hash_value(ItemColumn* column, std::int32_t row) const {
    const Column& values = *column->bound;
    switch (column->column_type) {
        case Type::dictionary: {
            const std::int32_t code = values.lanes<std::int32_t>()[row];
            return sketch_hash(values.dictionary->value(code));
        }
        case Type::string:
            return sketch_hash(values.text(row));
        case Type::int32:
            return sketch_hash(std::int64_t{values.lanes<std::int32_t>()[row]});
        case Type::boolean:
            return sketch_hash(std::int64_t{values.lanes<std::uint8_t>()[row]});
        default:
            return sketch_hash(values.lanes<std::int64_t>()[row]);
    }
}

// False when the weight of a value does not fit.
bool Window::Impl::add_items(const Run& run, std::size_t number) {
    ItemColumn& column = items_[number];
    const Weighing& weighing = weighings_[accumulators_[column.accumulator].weighing];
    const Input* input = column.input == ItemColumn::kNoInput ? nullptr : &inputs_[column.input];
    ItemSet& set = run.slice->items[number];
    const std::size_t width = column.key_words();
    std::uint64_t added[kBlock];
    std::uint32_t block_at[kBlock];
    std::size_t count = 0;
    for (std::size_t i = run.begin; i < run.begin + run.count; ++i) {
        const std::int64_t weight = weighing.all_one ? 1 : weighing.weights[i];
        if (weight == 0) continue;
        const std::int32_t row = block_rows_[i];
        const std::uint64_t group = group_[i];
        std::uint64_t* key = key_words_.data() + count * width;
        switch (column.kind) {
            case ItemKind::registers: {
                const RegisterUpdate update = register_of(hash_value(&column, row));
                key[0] = group << 32 | update.word;
                added[count] = update.ranks;
                break;
            }
            case ItemKind::buckets:
                key[0] = group << 32 | static_cast<std::uint32_t>(bucket_of(input->values[i]));
                added[count] = 1;
                break;
            case ItemKind::earliest:
            case ItemKind::latest:
                pack_value(column, &set, row, group, key);
                added[count] = static_cast<std::uint64_t>(input->values[i]);
                break;
            default: {
                if (input != nullptr && !input->bound->valid(row)) continue;
                pack_value(column, &set, row, group, key);
                const Wide product = weight * static_cast<Wide>(input == nullptr ? 1 : input->values[i]);
                if (product != signed_of(static_cast<std::uint64_t>(product))) return false;
                added[count] = static_cast<std::uint64_t>(product);
            }
        }
        block_at[count++] = static_cast<std::uint32_t>(i);
    }
    // New items are numbered in the order in which they come.
    std::uint32_t found[kBlock];
    std::size_t known = set.rows.size();
    set.rows.find_or_insert(key_words_.data(), count, found);
    bool fits = true;
    for (std::size_t i = 0; i < count; ++i) {
        std::uint64_t* item = set.rows.row(found[i]);
        if (column.value_words() != 0) fits &= combine(column.kind, item + width, added[i]);
        if (found[i] != known) continue;
        ++known;
        std::uint64_t* words = words_[block_at[i]];
        ++words[accumulators_[column.accumulator].word];
        if (in_sessions())
            item[column.next_word()] = std::exchange(words[column.head], found[i] + std::uint64_t{1});
    }
    // A prune looks at all items and all groups, so about as many items must have come since the last.
    if (column.keeps_one() && set.rows.size() >= std::max(2 * set.kept, run.slice->groups.size()) + kFewItems)
        prune_items(run.slice, number);
    return fits;
}

// Leaves of each group the one item that its measure is. A group that lives on would keep all that ever came.
void Window::Impl::prune_items(Slice* slice, std::size_t number) const {
    const ItemColumn& column = items_[number];
    ItemSet all = std::exchange(slice->items[number], std::move(no_items()[number]));
    const Dictionary* texts = text_of(column, all);
    const std::size_t width = column.key_words();
    std::vector<std::size_t> winners(slice->groups.size(), 0);  // 1 plus the number of the item
    for (std::size_t at = 0; at < all.rows.size(); ++at) {
        const std::uint64_t* item = all.rows.row(at);
        std::size_t& winner = winners[column.group_of(item)];
        if (winner != 0) {
            const std::uint64_t* other = all.rows.row(winner - 1);
            if (!column.wins(column.value_of(item), signed_of(item[width]), column.value_of(other),
                             signed_of(other[width]), texts))
                continue;
        }
        winner = at + 1;
    }
    for (std::uint32_t group = 0; group < winners.size(); ++group) {
        if (winners[group] == 0) continue;
        slice->groups.will_write(&group, 1);
        std::uint64_t* words = slice->groups.row(group);
        words[accumulators_[column.accumulator].word] = 0;
        if (in_sessions()) words[column.head] = 0;
        static_cast<void>(copy_item(all, all.rows.row(winners[group] - 1), slice, number, group));
    }
    slice->items[number].kept = slice->items[number].rows.size();
}

// Adds one item to a group, as from another slice or a snapshot. False when a weight does not fit.
bool Window::Impl::add_item(Slice* slice, std::size_t number, std::uint32_t group, const std::uint64_t* key,
                            std::uint64_t value) const {
    const ItemColumn& column = items_[number];
    GroupTable& rows = slice->items[number].rows;
    const std::size_t known = rows.size();
    std::uint32_t at = 0;
    rows.find_or_insert(key, 1, &at);
    std::uint64_t* item = rows.row(at);
    const bool fits = column.value_words() == 0 || combine(column.kind, item + column.key_words(), value);
    if (rows.size() == known) return fits;
    slice->groups.will_write(&group, 1);
    std::uint64_t* words = slice->groups.row(group);
    ++words[accumulators_[column.accumulator].word];
    if (in_sessions()) item[column.next_word()] = std::exchange(words[column.head], at + std::uint64_t{1});
    return fits;
}

// Adds an item of another slice to a group of this one.
bool Window::Impl::copy_item(const ItemSet& from, const std::uint64_t* item, Slice* into, std::size_t number,
                             std::uint32_t group) const {
    const ItemColumn& column = items_[number];
    const std::size_t width = column.key_words();
    ItemSet& mine = into->items[number];
    std::uint64_t key[2] = {group, item[width - 1]};
    if (width == 1) {
        auto value = static_cast<std::uint32_t>(item[0]);
        if (from.texts != nullptr && from.texts != mine.texts)
            value = static_cast<std::uint32_t>(
                mine.texts->encode(from.texts->value(static_cast<std::int32_t>(value))));
        key[0] = key[0] << 32 | value;
    }
    return add_item(into, number, group, key, column.value_words() == 0 ? 0 : item[width]);
}

// ---- Results

bool ItemColumn::wins(std::int64_t value, std::int64_t when, std::int64_t other, std::int64_t other_when,
                      const Dictionary* texts) const {
    if (when != other_when) return kind == ItemKind::earliest ? when < other_when : when > other_when;
    if (kind == ItemKind::latest) std::swap(value, other);
    if (texts == nullptr) return value < other;
    return texts->value(static_cast<std::int32_t>(value)) < texts->value(static_cast<std::int32_t>(other));
}

std::int64_t ItemColumn::value_of(const std::uint64_t* item) const {
    return key_words() == 2 ? signed_of(item[1]) : static_cast<std::int32_t>(item[0]);
}

// The items of each group, in the order that the measures ask for.
Window::Impl::ItemOrder Window::Impl::order_items(const Slice& slice, std::size_t number) const {
    const ItemColumn& column = items_[number];
    const ItemSet& set = slice.items[number];
    const Dictionary* texts = text_of(column, set);
    const std::size_t width = column.key_words();
    ItemOrder order;
    order.starts.assign(slice.groups.size() + 1, 0);
    for (std::size_t at = 0; at < set.rows.size(); ++at)
        ++order.starts[column.group_of(set.rows.row(at)) + 1];
    std::partial_sum(order.starts.begin(), order.starts.end(), order.starts.begin());
    order.items.resize(set.rows.size());
    std::vector<std::uint32_t> next(order.starts.begin(), order.starts.end() - 1);
    for (std::size_t at = 0; at < set.rows.size(); ++at)
        order.items[next[column.group_of(set.rows.row(at))]++] = static_cast<std::uint32_t>(at);

    const auto less = [&](const std::uint64_t* a, const std::uint64_t* b) {
        const std::int64_t left = column.value_of(a);
        const std::int64_t right = column.value_of(b);
        if (texts == nullptr) return left < right;
        return texts->value(static_cast<std::int32_t>(left)) < texts->value(static_cast<std::int32_t>(right));
    };
    const auto before = [&](std::uint32_t first, std::uint32_t second) {
        const std::uint64_t* a = set.rows.row(first);
        const std::uint64_t* b = set.rows.row(second);
        const std::int64_t left = signed_of(a[width]);
        const std::int64_t right = signed_of(b[width]);
        switch (column.kind) {
            case ItemKind::tally:
                return left != right ? left > right : less(a, b);
            case ItemKind::earliest:
            case ItemKind::latest:
                return column.wins(column.value_of(a), left, column.value_of(b), right, texts);
            default:
                return column.value_of(a) < column.value_of(b);
        }
    };
    if (column.kind != ItemKind::registers)
        for (std::size_t group = 0; group < slice.groups.size(); ++group)
            std::sort(order.items.begin() + order.starts[group],
                      order.items.begin() + order.starts[group + 1], before);
    return order;
}

const Dictionary* Window::Impl::text_of(const ItemColumn& column, const ItemSet& set) const {
    return column.codes != nullptr ? &column.codes->dictionary() : set.texts.get();
}

void Window::Impl::write_items(const Output& output, const Slice& slice, const ItemOrder& order,
                               std::uint32_t group, ColumnWriter* out) const {
    const ItemColumn& column = items_[output.items];
    const ItemSet& set = slice.items[output.items];
    const std::size_t width = column.key_words();
    const std::uint32_t begin = order.starts[group];
    const std::uint32_t end = order.starts[group + 1];
    const auto row = [&](std::uint32_t at) { return set.rows.row(order.items[at]); };
    if (column.kind == ItemKind::registers) {
        std::uint32_t by_rank[kLargestRank + 1] = {};
        by_rank[0] = static_cast<std::uint32_t>(kRegisters - (end - begin) * kRegistersPerWord);
        for (std::uint32_t at = begin; at < end; ++at)
            for (std::uint64_t ranks = row(at)[width], left = kRegistersPerWord; left != 0;
                 --left, ranks >>= 8)
                ++by_rank[ranks & 0xff];
        return out->put(estimate_distinct(by_rank));
    }
    if (column.kind == ItemKind::buckets) {
        Wide total = 0;
        for (std::uint32_t at = begin; at < end; ++at) total += signed_of(row(at)[width]);
        if (total == 0) return out->put_null();
        Wide rank = std::max<Wide>((total * output.argument + kMillion - 1) / kMillion, 1);
        std::uint32_t at = begin;
        for (; rank > signed_of(row(at)[width]); ++at) rank -= signed_of(row(at)[width]);
        const double scale = column.column_type == Type::decimal ? static_cast<double>(kDecimalOne) : 1;
        return out->put_float(bucket_middle(static_cast<std::int32_t>(column.value_of(row(at)))) / scale);
    }
    const auto at = begin + static_cast<std::uint32_t>(output.argument);
    if (at >= end) return out->put_null();
    const std::uint64_t* item = row(at);
    if (column.kind == ItemKind::tally && signed_of(item[width]) <= 0) return out->put_null();
    if (output.operation == Operation::top_weight) return out->put(signed_of(item[width]));
    const std::int64_t value = column.value_of(item);
    const Dictionary* texts = text_of(column, set);
    if (texts == nullptr) return out->put(value);
    out->put_text(texts->value(static_cast<std::int32_t>(value)));
}

}  // namespace omnistream
