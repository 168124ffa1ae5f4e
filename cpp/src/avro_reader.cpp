// Avro bytes along the steps of a program. Every read is checked against the end of the message; a loop runs
// at most once per byte of it, or not at all.
#include "avro_reader.hpp"

#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>

#include "json_values.hpp"

namespace omnistream {

bool AvroReader::read(const AvroProgram& program, const char* begin, const char* body, const char* end,
                      Reject* reject) {
    program_ = &program;
    begin_ = begin;
    end_ = end;
    broken_.at = not_an_object_ = nullptr;
    unknown_ = 0;
    element_fault_.reason = kNone;
    for (Level level = 0; level < plan_.levels; ++level) row_[level] = lanes_.rows[level];
    begin_element(kMessage);

    const char* p = value(program.steps[0], body, body, 0);
    if (p != nullptr && p != end) broken(DecodeReason::trailing_data, p);
    if (broken_.at != nullptr) {
        *reject = reject_at(broken_.reason, broken_.at, {});
    } else if (not_an_object_ != nullptr) {
        *reject = reject_at(DecodeReason::not_an_object, not_an_object_, {});
    } else if (judge(reject)) {
        return true;
    }
    lanes_.rollback(lanes_.rows);
    return false;
}

// ---- bytes ----

const char* AvroReader::broken(DecodeReason reason, const char* at) {
    broken_ = {reason, at};
    return nullptr;
}

// Zigzag, seven bits a byte, least significant first.
inline const char* AvroReader::varint(const char* p, std::int64_t* value) {
    constexpr int kMostBytes = 10;
    const char* const start = p;
    std::uint64_t raw = 0;
    for (int i = 0; i < kMostBytes; ++i) {
        if (p == end_) return truncated();
        const auto byte = static_cast<unsigned char>(*p++);
        if (i == kMostBytes - 1 && byte > 1) {
            // The tenth byte has room for one bit; whether the number ends there decides nothing any more.
            return invalid(start);
        }
        raw |= static_cast<std::uint64_t>(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *value = static_cast<std::int64_t>(raw >> 1) ^ -static_cast<std::int64_t>(raw & 1);
            return p;
        }
    }
    return invalid(start);
}

inline const char* AvroReader::sized(const char* p, std::string_view* bytes) {
    std::int64_t size = 0;
    const char* const start = p;
    if ((p = varint(p, &size)) == nullptr) return nullptr;
    if (size < 0) return invalid(start);
    if (size > end_ - p) return truncated();
    *bytes = {p, static_cast<std::size_t>(size)};
    return p + size;
}

// The head of a block of items; a negative count is followed by the block's size, which nobody needs.
const char* AvroReader::block(const char* p, std::int64_t* count) {
    const char* const start = p;
    if ((p = varint(p, count)) == nullptr || *count >= 0) return p;
    if (*count == INT64_MIN) return invalid(start);
    *count = -*count;
    const char* const size_at = p;
    std::int64_t size = 0;
    if ((p = varint(p, &size)) == nullptr) return nullptr;
    return size < 0 ? invalid(size_at) : p;
}

// ---- structure ----

// A value that begins at p; `at` is where it begins with the index of its union.
const char* AvroReader::value(const AvroStep& step, const char* p, const char* at, int depth) {
    const AvroPlace& place = step.place;
    if (place.kind == AvroPlace::nowhere) return skipped(step, p, at, depth);
    const AvroType& type = program_->writer[step.type];
    switch (step.op) {
        case AvroStep::either: {
            std::int64_t branch = 0;
            const char* const behind = varint(p, &branch);
            if (behind == nullptr) return nullptr;
            if (branch < 0 || branch >= step.count) return invalid(p);
            return value(program_->steps[step.first + static_cast<std::uint32_t>(branch)], behind, at, depth);
        }
        case AvroStep::record:
            return record(step, p, at, depth);
        case AvroStep::map:
            return map(step, p, at, depth);
        case AvroStep::array:
            return array(step, p, at, depth);
        case AvroStep::null:
            put_null(place, at);
            return p;
        case AvroStep::boolean:
            if (p == end_) return truncated();
            if (static_cast<unsigned char>(*p) > 1) return invalid(p);
            boolean_field(place.index, *p != 0, at);
            return p + 1;
        case AvroStep::integer: {
            std::int64_t number = 0;
            if ((p = varint(p, &number)) != nullptr) integer_field(type, place.index, number, at);
            return p;
        }
        case AvroStep::enumeration: {
            std::int64_t symbol = 0;
            const char* const behind = varint(p, &symbol);
            if (behind == nullptr) return nullptr;
            if (symbol < 0 || symbol >= step.count) return invalid(p);
            text_field(place.index, type.names[static_cast<std::size_t>(symbol)], at);
            return behind;
        }
        case AvroStep::bytes:
        case AvroStep::string: {
            std::string_view bytes;
            if ((p = sized(p, &bytes)) == nullptr) return nullptr;
            if (type.logical == AvroType::decimal) {
                decimal_field(type, place.index, bytes, at);
            } else {
                bytes_field(place.index, bytes, at);
            }
            return p;
        }
        case AvroStep::fixed: {
            if (step.size > end_ - p) return truncated();
            const std::string_view bytes(p, static_cast<std::size_t>(step.size));
            if (type.logical == AvroType::decimal) {
                decimal_field(type, place.index, bytes, at);
            } else if (type.logical == AvroType::uuid) {
                std::string& text = texts_.emplace_back();
                for (std::size_t i = 0; i < bytes.size(); ++i) {
                    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
                    const auto byte = static_cast<unsigned char>(bytes[i]);
                    text += "0123456789abcdef"[byte >> 4];
                    text += "0123456789abcdef"[byte & 15];
                }
                text_field(place.index, text, at);
            } else {
                fault(place.index, DecodeReason::wrong_type, at);
            }
            return p + step.size;
        }
        case AvroStep::float32: {
            float number = 0;
            if (static_cast<std::size_t>(end_ - p) < sizeof number) return truncated();
            std::memcpy(&number, p, sizeof number);
            float_field(place.index, number, at);
            return p + sizeof number;
        }
        case AvroStep::float64: {
            double number = 0;
            if (static_cast<std::size_t>(end_ - p) < sizeof number) return truncated();
            std::memcpy(&number, p, sizeof number);
            float_field(place.index, number, at);
            return p + sizeof number;
        }
        case AvroStep::wrong:
            put_wrong(place, at);
            return skipped(program_->steps[step.first], p, at, depth);
        case AvroStep::nothing:
        case AvroStep::call:
            break;
    }
    return p;
}

// A value of no interest.
const char* AvroReader::skipped(const AvroStep& step, const char* p, const char* at, int depth) {
    const auto jump = [&](std::int64_t size) { return size > end_ - p ? truncated() : p + size; };
    switch (step.op) {
        case AvroStep::nothing:
        case AvroStep::null:
            return p;
        case AvroStep::call:
            return skipped(program_->steps[step.first], p, at, depth);
        case AvroStep::boolean:
            if (p == end_) return truncated();
            return static_cast<unsigned char>(*p) > 1 ? invalid(p) : p + 1;
        case AvroStep::integer: {
            std::int64_t number = 0;
            return varint(p, &number);
        }
        case AvroStep::enumeration:
        case AvroStep::either: {
            std::int64_t index = 0;
            const char* const behind = varint(p, &index);
            if (behind == nullptr) return nullptr;
            if (index < 0 || index >= step.count) return invalid(p);
            if (step.op == AvroStep::enumeration) return behind;
            return skipped(program_->steps[step.first + static_cast<std::uint32_t>(index)], behind, at,
                           depth);
        }
        case AvroStep::float32:
            return jump(sizeof(float));
        case AvroStep::float64:
            return jump(sizeof(double));
        case AvroStep::fixed:
            return jump(step.size);
        case AvroStep::bytes:
        case AvroStep::string: {
            std::string_view bytes;
            const char* const behind = sized(p, &bytes);
            if (behind == nullptr || step.op == AvroStep::bytes || !plan_.schema.strict_utf8) return behind;
            return json::utf8_fault(bytes.data(), behind) == behind ? behind : invalid(p);
        }
        case AvroStep::record:
            return record(step, p, at, depth);
        case AvroStep::map:
            return map(step, p, at, depth);
        case AvroStep::array:
            return array(step, p, at, depth);
        case AvroStep::wrong:
            break;
    }
    return p;
}

const char* AvroReader::record(const AvroStep& step, const char* p, const char* at, int depth) {
    if (depth + 1 > plan_.schema.max_depth) return broken(DecodeReason::nesting_too_deep, at);
    const bool element = step.place.kind == AvroPlace::element;
    if (element) begin_element(step.place.level);
    if (step.place.kind != AvroPlace::nowhere) unknown_ += step.size;
    const AvroStep* const fields = program_->steps.data() + step.first;
    for (std::uint32_t i = 0; i < step.count; ++i)
        if ((p = value(fields[i], p, p, depth + 1)) == nullptr) return nullptr;
    if (element) end_element(step.place.level);
    return p;
}

const char* AvroReader::map(const AvroStep& step, const char* p, const char* at, int depth) {
    if (depth + 1 > plan_.schema.max_depth) return broken(DecodeReason::nesting_too_deep, at);
    const bool known = step.place.kind != AvroPlace::nowhere;
    const bool element = step.place.kind == AvroPlace::element;
    if (element) begin_element(step.place.level);
    for (;;) {
        std::int64_t count = 0;
        if ((p = block(p, &count)) == nullptr) return nullptr;
        if (count == 0) break;
        for (; count != 0; --count) {
            std::string_view key;
            const char* const key_at = p;
            if ((p = sized(p, &key)) == nullptr) return nullptr;
            if (plan_.schema.strict_utf8 && json::utf8_fault(key.data(), p) != p) return invalid(key_at);
            const AvroStep* member = known ? program_->member(step, key) : nullptr;
            if (member == nullptr) {
                unknown_ += known;
                if ((p = value(program_->steps[step.first], p, p, depth + 1)) == nullptr) return nullptr;
                continue;
            }
            // Of several values below one key the last counts.
            const AvroPlace& place = member->place;
            if (place.kind == AvroPlace::object) {
                seen_[place.level] &= ~place.below;
                faulty_[place.level] &= ~place.below;
                if (place.holds_array) array_[place.level + 1U] = {};
            }
            if ((p = value(*member, p, p, depth + 1)) == nullptr) return nullptr;
        }
    }
    if (element) end_element(step.place.level);
    return p;
}

const char* AvroReader::array(const AvroStep& step, const char* p, const char* at, int depth) {
    if (depth + 1 > plan_.schema.max_depth) return broken(DecodeReason::nesting_too_deep, at);
    const bool exploded = step.place.kind == AvroPlace::explode;
    if (exploded) array_[step.place.level] = {Found::array, at};
    const AvroStep& item = program_->steps[step.first];
    for (;;) {
        std::int64_t count = 0;
        const char* const count_at = p;
        if ((p = block(p, &count)) == nullptr) return nullptr;
        if (count == 0) return p;
        if (!step.item_has_bytes) {
            // Rows out of nothing: a message of ten bytes could ask for any number of them.
            if (exploded && count > end_ - p) return invalid(count_at);
            if (!exploded) continue;
        }
        for (; count != 0; --count)
            if ((p = value(item, p, p, depth + 1)) == nullptr) return nullptr;
    }
}

void AvroReader::put_wrong(const AvroPlace& place, const char* at) {
    switch (place.kind) {
        case AvroPlace::nowhere:
            break;
        case AvroPlace::message:
            not_an_object_ = at;
            break;
        case AvroPlace::field:
            fault(place.index, DecodeReason::wrong_type, at);
            break;
        case AvroPlace::object:
            for (std::uint64_t bits = place.below; bits != 0; bits &= bits - 1)
                fault(plan_.by_bit[place.level][static_cast<std::size_t>(std::countr_zero(bits))],
                      DecodeReason::wrong_type, at);
            if (place.holds_array) array_[place.level + 1U] = {Found::wrong, at};
            break;
        case AvroPlace::explode:
            array_[place.level] = {Found::wrong, at};
            break;
        case AvroPlace::element:
            begin_element(place.level);
            element_fault(place.level, reject_at(DecodeReason::wrong_type, at,
                                                 plan_.schema.explode[place.level - 1U].name));
            finish_row(place.level);
    }
}

void AvroReader::put_null(const AvroPlace& place, const char* at) {
    switch (place.kind) {
        case AvroPlace::nowhere:
        case AvroPlace::object:
            break;  // fields inside are missing
        case AvroPlace::field: {
            const FieldPlan& plan = plan_.fields[place.index];
            if (plan.field.required) return fault(place.index, DecodeReason::null_field, at);
            seen_[plan.level] &= ~plan.bit;
            faulty_[plan.level] &= ~plan.bit;
            break;
        }
        case AvroPlace::explode:
            array_[place.level] = {Found::null, at};
            break;
        case AvroPlace::message:
        case AvroPlace::element:
            put_wrong(place, at);
    }
}

// ---- values ----

void AvroReader::fault(std::uint16_t field, DecodeReason reason, const char* at) {
    const FieldPlan& plan = plan_.fields[field];
    seen_[plan.level] &= ~plan.bit;
    faulty_[plan.level] |= plan.bit;
    faults_[field] = {reason, at};
}

inline void AvroReader::good(std::uint16_t field) {
    const FieldPlan& plan = plan_.fields[field];
    seen_[plan.level] |= plan.bit;
    faulty_[plan.level] &= ~plan.bit;
}

void AvroReader::boolean_field(std::uint16_t field, bool value, const char* at) {
    const FieldPlan& plan = plan_.fields[field];
    if (plan.field.type != Type::boolean) return fault(field, DecodeReason::wrong_type, at);
    lanes_.lane[field].bytewise[row_[plan.level]] = value;
    good(field);
}

void AvroReader::integer_field(const AvroType& type, std::uint16_t field, std::int64_t value,
                               const char* at) {
    const FieldPlan& plan = plan_.fields[field];
    Lane& lane = lanes_.lane[field];
    const std::size_t row = row_[plan.level];
    switch (plan.field.type) {
        case Type::int64:
            lane.wide[row] = value;
            return good(field);
        case Type::int32:
            if (value != static_cast<std::int32_t>(value))
                return fault(field, DecodeReason::out_of_range, at);
            lane.narrow[row] = static_cast<std::int32_t>(value);
            return good(field);
        case Type::decimal:
            if (__builtin_mul_overflow(value, kDecimalOne, &lane.wide[row]))
                return fault(field, DecodeReason::out_of_range, at);
            return good(field);
        case Type::float64:
            lane.wide[row] = std::bit_cast<std::int64_t>(static_cast<double>(value));
            return good(field);
        case Type::timestamp_ms:
            if (type.logical == AvroType::moment || type.logical == AvroType::local)
                return moment_field(type, field, value, at);
            if (type.logical == AvroType::clock) return fault(field, DecodeReason::wrong_type, at);
            break;
        default:
            break;
    }
    char digits[24];
    const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
    number_field(field, {digits, static_cast<std::size_t>(end - digits)}, at);
}

void AvroReader::moment_field(const AvroType& type, std::uint16_t field, std::int64_t value, const char* at) {
    const FieldPlan& plan = plan_.fields[field];
    if (type.logical == AvroType::local && (plan.field.timestamp_forms & kIso8601Utc) == 0)
        return fault(field, DecodeReason::invalid_timestamp, at);
    const std::int64_t ms = value / type.size - (value % type.size < 0);
    if (ms < json::kMinTimestampMs || ms > json::kMaxTimestampMs)
        return fault(field, DecodeReason::out_of_range, at);
    lanes_.lane[field].wide[row_[plan.level]] = ms;
    good(field);
}

// To every column but float64 a float is the shortest decimal that reads back as it: what a person would
// write, and what its JSON has.
template <class T>
void AvroReader::float_field(std::uint16_t field, T value, const char* at) {
    const FieldPlan& plan = plan_.fields[field];
    if (!takes_numbers(plan.field)) return fault(field, DecodeReason::wrong_type, at);
    if (!std::isfinite(value)) return fault(field, DecodeReason::out_of_range, at);
    if (plan.field.type == Type::float64) {
        lanes_.lane[field].wide[row_[plan.level]] = std::bit_cast<std::int64_t>(static_cast<double>(value));
        return good(field);
    }
    char digits[48];
    const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
    number_field(field, {digits, static_cast<std::size_t>(end - digits)}, at);
}

// Big-endian two's complement, to be divided by 10^scale.
void AvroReader::decimal_field(const AvroType& type, std::uint16_t field, std::string_view bytes,
                               const char* at) {
    constexpr std::size_t kMostBytes = 64;
    const bool negative = !bytes.empty() && static_cast<signed char>(bytes[0]) < 0;
    const char sign = negative ? '\xff' : '\0';
    while (bytes.size() > 1 && bytes[0] == sign && (static_cast<signed char>(bytes[1]) < 0) == negative)
        bytes.remove_prefix(1);
    const FieldPlan& plan = plan_.fields[field];
    if (bytes.size() <= sizeof(std::int64_t)) {
        std::uint64_t raw = negative ? ~std::uint64_t{0} : 0;
        for (const char byte : bytes) raw = raw << 8 | static_cast<unsigned char>(byte);
        const auto number = static_cast<std::int64_t>(raw);
        static constexpr std::int64_t kPower[] = {10'000, 1'000, 100, 10, 1};
        if (plan.field.type == Type::decimal && type.scale <= kDecimalScale) {
            if (__builtin_mul_overflow(number, kPower[type.scale],
                                       &lanes_.lane[field].wide[row_[plan.level]]))
                return fault(field, DecodeReason::out_of_range, at);
            return good(field);
        }
    }
    if (bytes.size() > kMostBytes) {
        return fault(field, takes_numbers(plan.field) ? DecodeReason::out_of_range : DecodeReason::wrong_type,
                     at);
    }

    // The slow way round: digits, a point, and the reader of numbers that JSON has.
    std::uint32_t limbs[kMostBytes / 4] = {};  // the magnitude, least significant first
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        const auto byte = static_cast<unsigned char>(bytes[bytes.size() - 1 - i]);
        limbs[i / 4] |= static_cast<std::uint32_t>(negative ? byte ^ 0xff : byte) << (8 * (i % 4));
    }
    if (negative)
        for (std::size_t i = 0; i < std::size(limbs) && ++limbs[i] == 0;) ++i;
    std::size_t used = std::size(limbs);
    while (used != 0 && limbs[used - 1] == 0) --used;
    std::string digits;  // reversed
    while (used != 0) {
        constexpr std::uint32_t kChunk = 1'000'000'000;
        std::uint64_t rest = 0;
        for (std::size_t i = used; i-- > 0;) {
            const std::uint64_t part = rest << 32 | limbs[i];
            limbs[i] = static_cast<std::uint32_t>(part / kChunk);
            rest = part % kChunk;
        }
        for (int i = 0; i < 9; ++i, rest /= 10) digits += static_cast<char>('0' + rest % 10);
        while (used != 0 && limbs[used - 1] == 0) --used;
    }
    while (!digits.empty() && digits.back() == '0') digits.pop_back();
    const auto scale = static_cast<std::size_t>(type.scale);
    if (digits.size() <= scale) digits.append(scale + 1 - digits.size(), '0');
    if (scale != 0) digits.insert(scale, 1, '.');
    if (negative) digits += '-';
    number_field(field, std::string(digits.rbegin(), digits.rend()), at);
}

void AvroReader::number_field(std::uint16_t field, std::string_view text, const char* at) {
    const FieldPlan& plan = plan_.fields[field];
    if (!is_text(plan.field.type))
        return take(put_number(text, plan.field, row_[plan.level], &lanes_.lane[field]), field, at);
    if (!plan.field.coerce) return fault(field, DecodeReason::wrong_type, at);
    text_field(field, texts_.emplace_back(text), at);
}

void AvroReader::bytes_field(std::uint16_t field, std::string_view bytes, const char* at) {
    const char* const end = bytes.data() + bytes.size();
    if (json::utf8_fault(bytes.data(), end) != end) return fault(field, DecodeReason::invalid_utf8, at);
    text_field(field, bytes, at);
}

void AvroReader::text_field(std::uint16_t field, std::string_view text, const char* at) {
    const FieldPlan& plan = plan_.fields[field];
    const std::size_t row = row_[plan.level], encoded = lanes_.encoded[plan.level];
    take(put_text(text, plan.field, row, encoded, &lanes_.lane[field]), field, at);
}

void AvroReader::take(Verdict verdict, std::uint16_t field, const char* at) {
    if (verdict.kind == Verdict::value) return good(field);
    if (verdict.kind == Verdict::refused) return fault(field, verdict.reason, at);
    put_null({AvroPlace::field, plan_.fields[field].level, field, false, 0}, at);
}

// ---- rows ----

void AvroReader::begin_element(Level level) {
    seen_[level] = faulty_[level] = 0;
    lanes_.ensure(level, row_[level]);
    for (Level inner = static_cast<Level>(level + 1); inner < plan_.levels; ++inner) array_[inner] = {};
}

void AvroReader::end_element(Level level) {
    const std::uint64_t bad = faulty_[level] | (plan_.required[level] & ~seen_[level]);
    if (bad != 0) {
        element_fault(level, field_reject(level, bad));
    } else if (lacks_array(level)) {
        element_fault(level, array_reject(level));
    }
    finish_row(level);
}

void AvroReader::finish_row(Level level) {
    const std::uint64_t missing = plan_.all[level] & ~seen_[level];
    if (element_fault_.reason != kNone) {
        lanes_.fill_nothing(level, row_[level], missing);
    } else if (missing != 0) {
        lanes_.fill(level, row_[level], missing);
    }
    if (level != plan_.lines()) lanes_.end[level][row_[level]] = static_cast<std::int32_t>(row_[level + 1U]);
    ++row_[level];
}

void AvroReader::element_fault(Level level, Reject reject) {
    if (element_fault_.reason != kNone) return;
    element_fault_ = std::move(reject);
    if (level == plan_.lines())
        element_fault_.line = static_cast<std::int32_t>(row_[level] - lanes_.rows[level]);
}

bool AvroReader::lacks_array(Level level) const {
    return level != plan_.lines() && array_[level + 1U].found != Found::array;
}

Reject AvroReader::reject_at(DecodeReason reason, const char* at, std::string field) const {
    return {0, -1, at == nullptr ? -1 : static_cast<std::int32_t>(at - begin_),
            static_cast<std::int32_t>(reason), std::move(field)};
}

Reject AvroReader::array_reject(Level level) const {
    const ArrayState& state = array_[level + 1U];
    const std::string& name = plan_.schema.explode[level].name;
    switch (state.found) {
        case Found::missing:
            return reject_at(DecodeReason::missing_field, nullptr, name);
        case Found::null:
            return reject_at(DecodeReason::null_field, state.at, name);
        default:
            return reject_at(DecodeReason::wrong_type, state.at, name);
    }
}

Reject AvroReader::field_reject(Level level, std::uint64_t bad) const {
    const std::uint16_t field = plan_.by_bit[level][static_cast<std::size_t>(std::countr_zero(bad))];
    const std::string& name = plan_.fields[field].field.name;
    if ((faulty_[level] & plan_.fields[field].bit) == 0)
        return reject_at(DecodeReason::missing_field, nullptr, name);
    return reject_at(faults_[field].reason, faults_[field].at, name);
}

bool AvroReader::judge(Reject* reject) {
    const std::uint64_t bad = faulty_[kMessage] | (plan_.required[kMessage] & ~seen_[kMessage]);
    if (bad != 0) {
        *reject = field_reject(kMessage, bad);
    } else if (lacks_array(kMessage)) {
        *reject = array_reject(kMessage);
    } else if (element_fault_.reason != kNone) {
        *reject = element_fault_;
    } else {
        const std::uint64_t missing = plan_.all[kMessage] & ~seen_[kMessage];
        if (missing != 0) lanes_.fill(kMessage, row_[kMessage], missing);
        if (!lanes_.repeats_too_much(row_, static_cast<std::size_t>(end_ - begin_))) {
            lanes_.complete(row_);
            return true;
        }
        *reject = reject_at(DecodeReason::message_too_large, nullptr, {});
    }
    return false;
}

}  // namespace omnistream
