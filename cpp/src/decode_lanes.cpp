#include "decode_lanes.hpp"

#include <bit>
#include <span>

#include "decode_repeat.hpp"

namespace omnistream {

void Lane::reserve(std::size_t rows) {
    switch (type) {
        case Type::boolean:
            bytewise.reserve(rows);
            break;
        case Type::int32:
            narrow.reserve(rows);
            break;
        case Type::dictionary:
            if (dictionary != nullptr) narrow.reserve(rows);
            texts.reserve(rows);
            break;
        case Type::string:
        case Type::binary: {
            const bool first = offsets.capacity() == 0;
            offsets.reserve(rows + 1);
            if (first) offsets[0] = 0;
            bytes.reserve(rows);
            break;
        }
        default:
            wide.reserve(rows);
    }
}

void Lane::set_nothing(std::size_t row, std::size_t encoded_rows) {
    switch (type) {
        case Type::boolean:
            bytewise[row] = 0;
            break;
        case Type::int32:
            narrow[row] = 0;
            break;
        case Type::dictionary:
            texts[row - encoded_rows] = {nullptr, 0};
            break;
        case Type::string:
        case Type::binary:
            offsets[row + 1] = offsets[row];
            break;
        default:
            wide[row] = 0;
    }
}

void Lane::set_default(std::size_t row, std::size_t encoded_rows, const Field& field) {
    switch (type) {
        case Type::boolean:
            bytewise[row] = field.default_integer != 0;
            break;
        case Type::int32:
            narrow[row] = static_cast<std::int32_t>(field.default_integer);
            break;
        case Type::dictionary:
            texts[row - encoded_rows] = {field.default_string.data(),
                                         static_cast<std::uint32_t>(field.default_string.size())};
            break;
        case Type::string:
        case Type::binary:
            set_text(row, field.default_string);
            break;
        case Type::float64:
            wide[row] = std::bit_cast<std::int64_t>(field.default_float);
            break;
        default:
            wide[row] = field.default_integer;
    }
}

Lanes::Lanes(const DecodePlan& plan, const std::vector<std::shared_ptr<Dictionary>>& dictionaries)
    : plan_(plan) {
    lane.resize(plan.fields.size());
    for (std::size_t i = 0; i < lane.size(); ++i) {
        lane[i].type = plan.fields[i].field.type;
        lane[i].dictionary = dictionaries[i];
    }
}

void Lanes::begin() {
    for (Level level = 0; level < plan_.levels; ++level) {
        rows[level] = encoded[level] = 0;
        const std::size_t capacity = capacity_[level];
        capacity_[level] = 0;
        grow(level, capacity == 0 ? 0 : capacity - 1);  // as much as the block before needed
    }
    for (Lane& values : lane)
        if (values.type == Type::string) values.bytes.reserve(values.bytes_before);
    message_number.clear();
}

void Lanes::grow(Level level, std::size_t row) {
    constexpr std::size_t kFewest = 256;
    std::size_t capacity = capacity_[level] + capacity_[level] / 2;
    if (capacity <= row) capacity = row + 1;
    if (capacity < kFewest) capacity = kFewest;
    capacity_[level] = capacity;
    for (const std::uint16_t field : plan_.by_bit[level]) lane[field].reserve(capacity);
    if (level != plan_.lines()) end[level].reserve(capacity);
}

void Lanes::reserve_texts(std::size_t bytes) {
    for (std::size_t i = 0; i < lane.size(); ++i) {
        if (lane[i].type != Type::string) continue;
        const std::size_t wanted =
            static_cast<std::size_t>(lane[i].offsets[rows[plan_.fields[i].level]]) + 2 * bytes;
        if (wanted > lane[i].bytes.capacity()) lane[i].bytes.reserve(wanted + wanted / 2);
    }
}

void Lanes::fill(Level level, std::size_t row, std::uint64_t missing) {
    for (; missing != 0; missing &= missing - 1) {
        const std::uint16_t at = plan_.by_bit[level][static_cast<std::size_t>(std::countr_zero(missing))];
        const Field& field = plan_.fields[at].field;
        if (field.has_default) {
            lane[at].set_default(row, encoded[level], field);
        } else {
            lane[at].set_nothing(row, encoded[level]);
            lane[at].nulls.push_back(static_cast<std::int32_t>(row));
        }
    }
}

void Lanes::fill_nothing(Level level, std::size_t row, std::uint64_t missing) {
    for (; missing != 0; missing &= missing - 1)
        lane[plan_.by_bit[level][static_cast<std::size_t>(std::countr_zero(missing))]].set_nothing(
            row, encoded[level]);
}

bool Lanes::repeats_too_much(const std::size_t* row, std::size_t message_bytes) const {
    // A string is no longer than its message, so few lines cannot repeat it too often.
    if (!plan_.exploded() || row[plan_.lines()] - rows[plan_.lines()] <= kMostRepeated) return false;
    std::size_t repeated = 0;
    count_lines(kMessage, rows[kMessage], row[1], &repeated);
    return repeated > kMostRepeated * message_bytes;
}

// The lines of an outer row, whose inner rows end at inner_end; adds the bytes of its strings for each of
// them.
std::size_t Lanes::count_lines(Level level, std::size_t row, std::size_t inner_end,
                               std::size_t* repeated) const {
    const auto inner = static_cast<Level>(level + 1);
    std::size_t begin = rows[inner];
    if (row > rows[level]) begin = static_cast<std::size_t>(end[level][row - 1]);
    std::size_t lines = inner_end - begin;
    if (inner != plan_.lines()) {
        lines = 0;
        for (std::size_t each = begin; each < inner_end; ++each)
            lines += count_lines(inner, each, static_cast<std::size_t>(end[inner][each]), repeated);
    }
    for (const std::uint16_t field : plan_.by_bit[level]) {
        const Lane& values = lane[field];
        if (values.type == Type::string)
            *repeated += lines * static_cast<std::size_t>(values.offsets[row + 1] - values.offsets[row]);
    }
    return lines;
}

void Lanes::complete(const std::size_t* row) {
    if (plan_.exploded()) end[kMessage][rows[kMessage]] = static_cast<std::int32_t>(row[kMessage + 1]);
    for (Level level = 1; level < plan_.levels; ++level) rows[level] = row[level];
    ++rows[kMessage];
}

void Lanes::rollback(const std::size_t* row) {
    for (Level level = 0; level < plan_.levels; ++level)
        for (const std::uint16_t field : plan_.by_bit[level]) {
            std::vector<std::int32_t>& nulls = lane[field].nulls;
            while (!nulls.empty() && static_cast<std::size_t>(nulls.back()) >= row[level]) nulls.pop_back();
        }
}

void Lanes::encode() {
    for (std::size_t i = 0; i < lane.size(); ++i) {
        Lane& values = lane[i];
        if (values.dictionary == nullptr) continue;
        const Level level = plan_.fields[i].level;
        const std::size_t first = encoded[level];
        std::int32_t* codes = values.narrow.data() + first;
        // Runs between nulls, which have no string and get the code 0 below a cleared validity bit.
        std::size_t from = first;
        for (; values.nulls_encoded < values.nulls.size(); ++values.nulls_encoded) {
            const auto null = static_cast<std::size_t>(values.nulls[values.nulls_encoded]);
            values.dictionary->encode(values.texts.data() + (from - first), null - from,
                                      codes + (from - first));
            codes[null - first] = 0;
            from = null + 1;
        }
        values.dictionary->encode(values.texts.data() + (from - first), rows[level] - from,
                                  codes + (from - first));
    }
    for (Level level = 0; level < plan_.levels; ++level) encoded[level] = rows[level];
}

namespace {

Buffer validity_of(const std::vector<std::int32_t>& nulls, std::size_t rows) {
    Array<std::uint8_t> bits;
    bits.resize((rows + 7) / 8, 0xff);
    for (const std::int32_t row : nulls) bits[row >> 3] &= static_cast<std::uint8_t>(~(1U << (row & 7)));
    return bits.finish();
}

}  // namespace

bool Lanes::finish(Batch* batch) {
    const Level lines = plan_.lines();
    const std::size_t total = rows[lines];
    batch->rows = static_cast<std::int64_t>(total);
    batch->exploded = plan_.exploded();
    // Ends in the rows of the next level become ends in lines, innermost first.
    for (Level level = lines; level-- > 0;) {
        end[level].resize(rows[level]);
        if (level + 1 == lines) continue;
        const Array<std::int32_t>& inner = end[level + 1];
        for (std::int32_t& row : end[level]) row = row == 0 ? 0 : inner[row - 1];
    }
    std::vector<Repetition> repetitions;
    for (Level level = 0; level < lines; ++level)
        repetitions.emplace_back(std::span(end[level].data(), rows[level]));
    if (plan_.exploded()) {
        repetitions[kMessage].repeat(message_number.data(), &batch->row_message);
    } else if (!message_number.empty() && message_number.back() + 1 != batch->rows) {
        batch->row_message = message_number;
    }
    bool fits = true;
    batch->columns.reserve(lane.size());
    for (std::size_t i = 0; i < lane.size(); ++i) {
        Lane& values = lane[i];
        const Level level = plan_.fields[i].level;
        if (plan_.fields[i].field.checked) {
            values.nulls.clear();
            continue;
        }
        values.bytes_before = values.bytes.capacity();
        if (level != lines) fits &= repetitions[level].repeat(&values);
        Column column;
        column.name = plan_.fields[i].field.name;
        column.type = values.type;
        column.length = batch->rows;
        column.null_count = static_cast<std::int64_t>(values.nulls.size());
        if (!values.nulls.empty()) column.validity = validity_of(values.nulls, total);
        switch (values.type) {
            case Type::boolean:
                values.bytewise.resize(total);
                column.values = values.bytewise.finish();
                break;
            case Type::dictionary:
                column.dictionary = values.dictionary;
                [[fallthrough]];
            case Type::int32:
                values.narrow.resize(total);
                column.values = values.narrow.finish();
                break;
            case Type::string:
            case Type::binary:
                values.bytes.resize(static_cast<std::size_t>(values.offsets[total]));
                values.offsets.resize(total + 1);
                column.offsets = values.offsets.finish();
                column.values = values.bytes.finish();
                break;
            default:
                values.wide.resize(total);
                column.values = values.wide.finish();
        }
        values.nulls.clear();
        values.nulls_encoded = 0;
        batch->columns.push_back(std::move(column));
    }
    return fits;
}

}  // namespace omnistream
