// Group keys as words: how values are packed, read back and ordered.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "omnistream/batch.hpp"
#include "omnistream/column_writer.hpp"
#include "omnistream/dictionary.hpp"
#include "omnistream/group_table.hpp"

namespace omnistream {

// A narrow value (a code, an int32, a bool) is a bit field that is 0 for null and else the value plus 1, as
// an unsigned number in the order of the values; 64-bit values take a word of their own and, unless they are
// required, a one-bit field that says they are there. Two codes share one word, so the usual key (sku x
// channel, sku x store) is 8 bytes, and a required int64 is its own key.
class KeyLayout {
public:
    // `required`, when it is not empty, says by field which never hold a null.
    explicit KeyLayout(const std::vector<Type>& types, const std::vector<bool>& required = {});

    // float64 and binary columns are no keys.
    [[nodiscard]] static bool accepts(Type type) { return type != Type::float64 && type != Type::binary; }
    // How many key words each row has: at least one, for the empty key as well.
    [[nodiscard]] std::size_t words() const { return words_; }
    [[nodiscard]] std::size_t fields() const { return fields_.size(); }

    // Where the keys of consecutive rows of a batch, from `row` on, stand in its columns as they are; else
    // null.
    [[nodiscard]] const std::uint64_t* keys_in_place(const Column& first_field, std::int32_t row) const {
        const bool whole = fields_.size() == 1 && words_ == 1 && wide(fields_[0].type);
        return whole ? first_field.lanes<std::uint64_t>() + row : nullptr;
    }
    // Before the fields of `count` keys are put: keys of no field are all zero.
    void start(std::uint64_t* keys, std::size_t count) const {
        if (fields_.empty()) std::fill_n(keys, count, std::uint64_t{0});
    }
    // Puts one field of `count` rows of a column into keys; all fields are put, in their order. Codes are
    // translated by `translation` when there is one; a string column is encoded by `texts`.
    void pack(std::size_t field, const Column& column, const std::int32_t* rows, std::size_t count,
              const std::int32_t* translation, Dictionary* texts, std::uint64_t* keys) const;
    // Asks for what unpack() will read of `texts` first.
    void fetch(std::size_t field, const std::uint64_t* key, const Dictionary& texts) const;
    // Appends one field of a row to a column; strings come from `texts`.
    void unpack(std::size_t field, const std::uint64_t* key, const Dictionary* texts,
                ColumnWriter* out) const;
    // The same of at most GroupTable::kBlock rows.
    void unpack(std::size_t field, const std::uint64_t* const* keys, std::size_t count,
                const Dictionary* texts, ColumnWriter* out) const;

    // Row numbers in the order of the keys' values, nulls first. `ranks` holds, by field, the ranks of the
    // codes of dictionary and string fields, else null.
    [[nodiscard]] Array<std::uint32_t> order(
        const GroupTable& table, const std::vector<const std::vector<std::int32_t>*>& ranks) const;

private:
    struct Field {
        Type type;
        std::size_t word = 0;  // of the bit field; for a 64-bit value, of the bit that says it is there
        unsigned shift = 0;
        bool first = false;          // of its word
        std::uint64_t mask = 0;      // 0: a required value of 64 bits
        std::size_t value_word = 0;  // of a 64-bit value
    };
    [[nodiscard]] static bool wide(Type type);
    [[nodiscard]] static bool present(const Field& field, const std::uint64_t* key);
    struct Spread;
    static Spread read_values(const Field& field, const GroupTable& table,
                              const std::vector<std::int32_t>* ranks, std::uint64_t* values);
    [[nodiscard]] static std::uint64_t ordinal(const Field& field, const std::uint64_t* key);

    std::vector<Field> fields_;
    std::size_t words_ = 1;
};

}  // namespace omnistream
