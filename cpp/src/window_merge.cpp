// One slice added to another: what two of them know of a group is what one would know that had seen all rows.
#include <algorithm>
#include <cstring>

#include "window_impl.hpp"

namespace omnistream {

namespace {

constexpr std::size_t kBlock = GroupTable::kBlock;

}  // namespace

// The key words of rows of `from` as `into` has them: string keys have codes that only their slice knows.
void Window::Impl::copy_keys(const Slice& from, const std::uint64_t* const* rows, std::size_t count,
                             Slice* into, std::uint64_t* keys) {
    const std::size_t key_words = layout_.words();
    const bool own_texts =
        std::any_of(keys_.begin(), keys_.end(), [](const Key& key) { return key.type == Type::string; });
    if (!own_texts) {
        for (std::size_t i = 0; i < count; ++i)
            std::memcpy(keys + i * key_words, rows[i], key_words * sizeof(std::uint64_t));
        return;
    }
    std::int32_t numbers[kBlock];
    for (std::size_t i = 0; i < count; ++i) numbers[i] = static_cast<std::int32_t>(i);
    std::memset(keys, 0, count * key_words * sizeof(std::uint64_t));
    for (std::size_t key = 0; key < keys_.size(); ++key) {
        const Type type = keys_[key].type;
        const bool text = type == Type::string;
        const bool codes = type == Type::dictionary;  // the same in all slices
        ColumnWriter writer(keys_[key].column, codes ? Type::int32 : type, count);
        for (std::size_t i = 0; i < count; ++i)
            layout_.unpack(key, rows[i], text ? from.key_texts[key].get() : nullptr, &writer);
        Column column = writer.finish();
        column.type = type;
        layout_.pack(key, column, numbers, count, nullptr, into->key_texts[key].get(), keys);
    }
}

// Groups whose owner has closed what is final at `final_ms` are left out.
Status Window::Impl::absorb(Slice* into, const Slice& from, std::int64_t final_ms) {
    constexpr std::uint32_t kLeftOut = ~std::uint32_t{0};
    std::vector<std::uint32_t> taken;  // numbers in `from`
    taken.reserve(from.groups.size());
    const std::vector<std::int32_t> owners =
        from.owners.size() > 1 || has_closed(from, final_ms) ? owners_of(from) : std::vector<std::int32_t>();
    const auto owner_of = [&](std::uint32_t number) {
        return owners.empty() ? from.owners.front().owner : owners[number];
    };
    for (std::size_t number = 0; number < from.groups.size(); ++number)
        if (owners.empty() || closed_ms_of(owners[number]) < final_ms)
            taken.push_back(static_cast<std::uint32_t>(number));
    std::vector<std::uint32_t> group_in(from.groups.size(), kLeftOut);
    std::uint32_t groups[kBlock];
    const std::uint64_t* theirs[kBlock];
    for (std::size_t begin = 0; begin < taken.size();) {
        // A block of one owner.
        const std::int32_t owner = owner_of(taken[begin]);
        std::size_t count = 1;
        while (count < kBlock && begin + count < taken.size() && owner_of(taken[begin + count]) == owner)
            ++count;
        for (std::size_t i = 0; i < count; ++i) theirs[i] = from.groups.row(taken[begin + i]);
        copy_keys(from, theirs, count, into, key_words_.data());
        const std::size_t known = into->groups.size();
        into->groups.find_or_insert(key_words_.data(), count, groups);
        own_from(into, known, owner);
        for (std::size_t i = 0; i < count; ++i) words_[i] = into->groups.row(groups[i]);
        for (std::size_t i = 0; i < count; ++i) group_in[taken[begin + i]] = groups[i];
        for (const Accumulator& accumulator : accumulators_)
            if (merge_block(accumulator.add, words_, theirs, accumulator.word, count))
                return failed_ = overflow(accumulator);
        begin += count;
    }

    for (std::size_t number = 0; number < items_.size(); ++number) {
        const ItemSet& set = from.items[number];
        for (std::size_t at = 0; at < set.rows.size(); ++at) {
            const std::uint64_t* item = set.rows.row(at);
            const std::uint32_t group = group_in[items_[number].group_of(item)];
            if (group == kLeftOut) continue;
            if (!copy_item(set, item, into, number, group))
                return failed_ = overflow(accumulators_[items_[number].accumulator]);
        }
    }
    return {};
}

}  // namespace omnistream
