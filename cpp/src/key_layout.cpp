#include "omnistream/key_layout.hpp"

#include <algorithm>
#include <bit>
#include <string_view>
#include <utility>

namespace omnistream {

namespace {

constexpr std::uint64_t kSign64 = std::uint64_t{1} << 63;
constexpr std::uint32_t kSign32 = std::uint32_t{1} << 31;
constexpr unsigned kWordBits = 64;

// A code plus 1 is at most 2^31 - 1: a dictionary has fewer than 2^31 strings.
unsigned bits_of(Type type) {
    switch (type) {
        case Type::boolean:
            return 2;
        case Type::int32:
            return 33;
        case Type::string:
        case Type::dictionary:
            return 31;
        default:
            return 1;
    }
}

std::uint64_t low_bits(unsigned bits) {
    return bits >= kWordBits ? ~std::uint64_t{0} : (std::uint64_t{1} << bits) - 1;
}

}  // namespace

bool KeyLayout::wide(Type type) {
    return type == Type::int64 || type == Type::decimal || type == Type::timestamp_ms;
}

KeyLayout::KeyLayout(const std::vector<Type>& types, const std::vector<bool>& required) {
    std::vector<unsigned> used;  // by word: bits taken, from the lowest
    for (std::size_t i = 0; i < types.size(); ++i) {
        const Type type = types[i];
        if (wide(type) && !required.empty() && required[i]) {
            Field field{type};
            field.value_word = used.size();
            used.push_back(kWordBits);
            fields_.push_back(field);
            continue;
        }
        const unsigned bits = bits_of(type);
        std::size_t word = 0;
        while (word < used.size() && used[word] + bits > kWordBits) ++word;
        if (word == used.size()) used.push_back(0);
        Field field{type};
        field.word = word;
        field.shift = used[word];
        field.first = used[word] == 0;
        field.mask = low_bits(bits);
        used[word] += bits;
        if (wide(type)) {
            field.value_word = used.size();
            used.push_back(kWordBits);
        }
        fields_.push_back(field);
    }
    words_ = std::max<std::size_t>(used.size(), 1);
}

void KeyLayout::pack(std::size_t field_number, const Column& column, const std::int32_t* rows,
                     std::size_t count, const std::int32_t* translation, Dictionary* texts,
                     std::uint64_t* keys) const {
    const Field& field = fields_[field_number];
    const std::size_t words = words_;
    std::uint64_t* at = keys + field.word;
    // A word's first field overwrites what stood there, and so makes room for the others.
    const auto put = [&](auto&& number_of) {
        if (column.null_count != 0) {
            if (field.first)
                for (std::size_t i = 0; i < count; ++i) at[i * words] = 0;
            for (std::size_t i = 0; i < count; ++i)
                if (column.valid(rows[i])) at[i * words] |= number_of(rows[i]) << field.shift;
        } else if (field.first) {
            for (std::size_t i = 0; i < count; ++i) at[i * words] = number_of(rows[i]);
        } else {
            for (std::size_t i = 0; i < count; ++i) at[i * words] |= number_of(rows[i]) << field.shift;
        }
    };
    if (column.type == Type::dictionary) {
        const auto* codes = column.lanes<std::int32_t>();
        if (translation == nullptr)
            put([=](std::int32_t row) { return static_cast<std::uint64_t>(codes[row]) + 1; });
        else
            put([=](std::int32_t row) { return static_cast<std::uint64_t>(translation[codes[row]]) + 1; });
    } else if (column.type == Type::string) {
        if (column.null_count == 0) {
            Text batch[GroupTable::kBlock] = {};
            std::int32_t codes[GroupTable::kBlock];
            for (std::size_t i = 0; i < count; ++i) {
                const std::string_view text = column.text(rows[i]);
                batch[i] = {text.data(), static_cast<std::uint32_t>(text.size())};
            }
            texts->encode(batch, count, codes);
            if (field.first)
                for (std::size_t i = 0; i < count; ++i) at[i * words] = 0;
            for (std::size_t i = 0; i < count; ++i)
                at[i * words] |= (static_cast<std::uint64_t>(codes[i]) + 1) << field.shift;
        } else {
            put([&](std::int32_t row) {
                return static_cast<std::uint64_t>(texts->encode(column.text(row))) + 1;
            });
        }
    } else if (column.type == Type::int32) {
        const auto* lanes = column.lanes<std::int32_t>();
        put([=](std::int32_t row) {
            return static_cast<std::uint64_t>(static_cast<std::uint32_t>(lanes[row]) ^ kSign32) + 1;
        });
    } else if (column.type == Type::boolean) {
        const auto* lanes = column.lanes<std::uint8_t>();
        put([=](std::int32_t row) { return static_cast<std::uint64_t>(lanes[row]) + 1; });
    } else {
        if (field.mask != 0) put([](std::int32_t) { return std::uint64_t{1}; });
        const auto* lanes = column.lanes<std::uint64_t>();
        std::uint64_t* values = keys + field.value_word;
        if (column.null_count == 0)
            for (std::size_t i = 0; i < count; ++i) values[i * words] = lanes[rows[i]];
        else
            for (std::size_t i = 0; i < count; ++i)
                values[i * words] = column.valid(rows[i]) ? lanes[rows[i]] : 0;
    }
}

bool KeyLayout::present(const Field& field, const std::uint64_t* key) {
    return field.mask == 0 || ((key[field.word] >> field.shift) & field.mask) != 0;
}

// A present value as an unsigned number; for codes the code, for others in the order of the values.
std::uint64_t KeyLayout::ordinal(const Field& field, const std::uint64_t* key) {
    return wide(field.type) ? key[field.value_word] ^ kSign64
                            : ((key[field.word] >> field.shift) & field.mask) - 1;
}

void KeyLayout::fetch(std::size_t field_number, const std::uint64_t* key, const Dictionary& texts) const {
    const Field& field = fields_[field_number];
    if (present(field, key)) texts.fetch(static_cast<std::int32_t>(ordinal(field, key)));
}

void KeyLayout::unpack(std::size_t field_number, const std::uint64_t* key, const Dictionary* texts,
                       ColumnWriter* out) const {
    const Field& field = fields_[field_number];
    if (!present(field, key)) return out->put_null();
    const std::uint64_t number = ordinal(field, key);
    if (texts != nullptr) return out->put_text(texts->value(static_cast<std::int32_t>(number)));
    if (wide(field.type)) return out->put(static_cast<std::int64_t>(number ^ kSign64));
    if (field.type == Type::int32)
        return out->put(static_cast<std::int32_t>(static_cast<std::uint32_t>(number) ^ kSign32));
    out->put(static_cast<std::int64_t>(number));
}

void KeyLayout::unpack(std::size_t field_number, const std::uint64_t* const* keys, std::size_t count,
                       const Dictionary* texts, ColumnWriter* out) const {
    const Field field = fields_[field_number];  // a copy, which what is written cannot change
    const auto is_null = [=](const std::uint64_t* key) { return !present(field, key); };
    if ((texts == nullptr && !wide(field.type)) || std::any_of(keys, keys + count, is_null)) {
        for (std::size_t i = 0; i < count; ++i) unpack(field_number, keys[i], texts, out);
    } else if (texts != nullptr) {
        const Dictionary::Values values = texts->values();
        out->put_texts(
            count, [=](std::size_t i) { return values[static_cast<std::int32_t>(ordinal(field, keys[i]))]; });
    } else {
        std::int64_t* values = out->put_block(count);
        for (std::size_t i = 0; i < count; ++i)
            values[i] = static_cast<std::int64_t>(ordinal(field, keys[i]) ^ kSign64);
    }
}

namespace {

constexpr unsigned kDigitBits =
    11;  // 2,048 counters stay in L1; a window of 20,000 groups takes two or three passes
constexpr std::size_t kRadixFrom = 512;

// Sorts by the bits [low, high) of the entries; what is equal there keeps its order.
void sort_by_bits(Array<std::uint64_t>* entries, Array<std::uint64_t>* spare, unsigned low, unsigned high) {
    const std::size_t count = entries->size();
    if (count < kRadixFrom) {
        std::stable_sort(entries->begin(), entries->end(), [low, high](std::uint64_t a, std::uint64_t b) {
            return ((a & low_bits(high)) >> low) < ((b & low_bits(high)) >> low);
        });
        return;
    }
    spare->resize(count);
    const unsigned digits = (high - low + kDigitBits - 1) / kDigitBits;
    for (unsigned at = low; at < high;) {
        const unsigned digit_bits = (high - low + digits - 1) / digits;  // as wide as each other
        const std::uint64_t mask = low_bits(std::min(digit_bits, high - at));
        const std::uint64_t* const from = entries->data();
        std::uint64_t* const to = spare->data();
        std::uint32_t starts[std::size_t{1} << kDigitBits];
        std::fill_n(starts, mask + 1, 0U);
        for (std::size_t i = 0; i < count; ++i) ++starts[(from[i] >> at) & mask];
        std::uint32_t total = 0;
        for (std::size_t digit = 0; digit <= mask; ++digit) total += std::exchange(starts[digit], total);
        for (std::size_t i = 0; i < count; ++i) to[starts[(from[i] >> at) & mask]++] = from[i];
        std::swap(*entries, *spare);
        at += digit_bits;
    }
}

// One number of up to 64 bits and the row it is of, for more rows than fit the caches.
struct Entry {
    std::uint64_t value;
    std::uint32_t row;
};

constexpr std::size_t kLargeFrom = std::size_t{1} << 16;
constexpr std::size_t kFew = 16;  // are sorted by insertion

void insert_in_order(Entry* entries, std::size_t count) {
    for (std::size_t i = 1; i < count; ++i) {
        const Entry entry = entries[i];
        std::size_t at = i;
        for (; at > 0 && entries[at - 1].value > entry.value; --at) entries[at] = entries[at - 1];
        entries[at] = entry;
    }
}

// Sorts entries that differ in their lowest `bits` alone; equal ones keep their order. They are dealt out by
// their highest digit, which is as wide as makes about one entry a hand, and so hand by hand: nearly all
// hands are of a few then, wherever the values lie.
void sort_hand(Entry* entries, std::size_t count, unsigned bits, Entry* spare) {
    if (count <= kFew) return insert_in_order(entries, count);
    if (bits == 0) return;
    const unsigned digit_bits =
        std::min({kDigitBits, bits, static_cast<unsigned>(std::bit_width(count - 1))});
    const unsigned rest = bits - digit_bits;
    const std::uint64_t mask = low_bits(digit_bits);
    std::uint32_t ends[std::size_t{1} << kDigitBits];
    std::fill_n(ends, mask + 1, 0U);
    for (std::size_t i = 0; i < count; ++i) ++ends[(entries[i].value >> rest) & mask];
    std::uint32_t total = 0;
    for (std::size_t hand = 0; hand <= mask; ++hand) total += std::exchange(ends[hand], total);
    for (std::size_t i = 0; i < count; ++i) spare[ends[(entries[i].value >> rest) & mask]++] = entries[i];
    std::copy_n(spare, count, entries);
    std::uint32_t begin = 0;
    for (std::size_t hand = 0; hand <= mask; begin = ends[hand++])
        if (ends[hand] - begin > 1) sort_hand(entries + begin, ends[hand] - begin, rest, spare);
}

// The numbers of values below 2^bits, in the order of the values. One pass over memory deals them out, to as
// many hands as stay in the first level of cache, and the hands are sorted in the second.
Array<Entry> sort_large(const Array<std::uint64_t>& values, unsigned bits) {
    constexpr unsigned kFirstDigitBits = 8;
    constexpr std::size_t kHands = std::size_t{1} << kFirstDigitBits;
    const unsigned rest = bits > kFirstDigitBits ? bits - kFirstDigitBits : 0;
    std::size_t ends[kHands] = {};
    for (const std::uint64_t value : values) ++ends[value >> rest];
    std::size_t total = 0;
    std::size_t largest = 0;
    for (std::size_t& end : ends) {
        largest = std::max(largest, end);
        total += std::exchange(end, total);
    }
    Array<Entry> dealt;
    dealt.resize(values.size());
    std::uint32_t row = 0;
    for (const std::uint64_t value : values) dealt[ends[value >> rest]++] = {value, row++};
    Array<Entry> spare;
    spare.resize(largest);
    std::size_t begin = 0;
    for (std::size_t hand = 0; hand < kHands; begin = ends[hand++])
        sort_hand(dealt.data() + begin, ends[hand] - begin, rest, spare.data());
    return dealt;
}

}  // namespace

// What a field holds over a table.
struct KeyLayout::Spread {
    std::uint64_t least = ~std::uint64_t{0};
    std::uint64_t most = 0;
    bool nulls = false;
};

// By row: the value, or the rank of the code.
KeyLayout::Spread KeyLayout::read_values(const Field& given, const GroupTable& table,
                                         const std::vector<std::int32_t>* ranks, std::uint64_t* values) {
    const Field field = given;  // a copy, which what is written to `values` cannot change
    const std::int32_t* const rank_of = ranks == nullptr ? nullptr : ranks->data();
    Spread spread;
    table.for_each_row([=, &spread](std::size_t row, const std::uint64_t* key) {
        if (!present(field, key)) {
            spread.nulls = true;
            return;
        }
        std::uint64_t value = ordinal(field, key);
        if (rank_of != nullptr) value = static_cast<std::uint64_t>(rank_of[value]);
        values[row] = value;
        spread.least = std::min(spread.least, value);
        spread.most = std::max(spread.most, value);
    });
    return spread;
}

// The values of all fields, each cut down to the bits that this table's values need, make one long number a
// row. It is sorted from its lowest bits up, in pieces that share a word with the row number: usually one
// piece.
Array<std::uint32_t> KeyLayout::order(const GroupTable& table,
                                      const std::vector<const std::vector<std::int32_t>*>& ranks) const {
    struct Bits {
        std::size_t field;
        std::uint64_t base;   // the least value
        unsigned from, take;  // which bits of value - base
        bool presence;        // the bit that puts nulls first, instead of a value
        unsigned at;          // where they stand in the piece
    };
    const std::size_t count = table.size();
    Array<std::uint32_t> order;
    order.resize(count);
    for (std::size_t i = 0; i < count; ++i) order[i] = static_cast<std::uint32_t>(i);
    if (count < 2) return order;

    const auto row_bits = static_cast<unsigned>(std::bit_width(count - 1));
    const unsigned room = kWordBits - row_bits;
    std::vector<std::vector<Bits>> pieces(1);  // from the least significant
    unsigned used = 0;
    const auto add = [&](std::size_t field, std::uint64_t base, unsigned width, bool presence) {
        for (unsigned from = 0; from < width;) {
            if (used == room) {
                pieces.emplace_back();
                used = 0;
            }
            const unsigned take = std::min(width - from, room - used);
            pieces.back().push_back({field, base, from, take, presence, row_bits + used});
            from += take;
            used += take;
        }
    };
    std::vector<Array<std::uint64_t>> values(fields_.size());  // of a null any
    std::vector<bool> nulls(fields_.size());
    for (std::size_t field = fields_.size(); field-- > 0;) {
        values[field].resize(count);
        const Spread spread = read_values(fields_[field], table, ranks[field], values[field].data());
        if (spread.least <= spread.most)
            add(field, spread.least, static_cast<unsigned>(std::bit_width(spread.most - spread.least)),
                false);
        if (spread.nulls) add(field, 0, 1, true);
        nulls[field] = spread.nulls;
    }
    const auto bits_of_row = [&](const Bits& bits, std::size_t row) -> std::uint64_t {
        if (nulls[bits.field] && !present(fields_[bits.field], table.row(row))) return 0;
        if (bits.presence) return 1;
        return ((values[bits.field][row] - bits.base) >> bits.from) & low_bits(bits.take);
    };

    // Of many rows, whose values need not share a word with the row number.
    unsigned all_bits = 0;
    for (const std::vector<Bits>& piece : pieces)
        for (const Bits& bits : piece) all_bits += bits.take;
    if (count >= kLargeFrom && pieces.size() > 1 && all_bits <= kWordBits) {
        Array<std::uint64_t> whole;
        if (fields_.size() == 1 && !nulls[0]) {
            whole = std::move(values[0]);
            for (std::uint64_t& value : whole) value -= pieces[0][0].base;
        } else {
            whole.resize(count);
            for (std::size_t i = 0; i < count; ++i) {
                whole[i] = 0;
                unsigned at = 0;
                for (const std::vector<Bits>& piece : pieces) {
                    for (const Bits& bits : piece) {
                        whole[i] |= bits_of_row(bits, i) << at;
                        at += bits.take;
                    }
                }
            }
        }
        const Array<Entry> sorted = sort_large(whole, all_bits);
        for (std::size_t i = 0; i < count; ++i) order[i] = sorted[i].row;
        return order;
    }

    Array<std::uint64_t> entries;
    Array<std::uint64_t> spare;
    for (const std::vector<Bits>& piece : pieces) {
        if (piece.empty()) continue;
        entries.resize(count);
        for (std::size_t i = 0; i < count; ++i) entries[i] = order[i];
        for (const Bits& bits : piece) {
            if (&piece != &pieces[0] || nulls[bits.field]) {
                for (std::size_t i = 0; i < count; ++i) entries[i] |= bits_of_row(bits, order[i]) << bits.at;
                continue;
            }
            // Nothing is in another order yet.
            const std::uint64_t* const value = values[bits.field].data();
            const std::uint64_t mask = low_bits(bits.take);
            const auto [field, base, from, take, presence, at] = bits;
            std::uint64_t* const into = entries.data();
            for (std::size_t i = 0; i < count; ++i) into[i] |= (((value[i] - base) >> from) & mask) << at;
        }
        sort_by_bits(&entries, &spare, row_bits, piece.back().at + piece.back().take);
        for (std::size_t i = 0; i < count; ++i)
            order[i] = static_cast<std::uint32_t>(entries[i] & low_bits(row_bits));
    }
    return order;
}

}  // namespace omnistream
