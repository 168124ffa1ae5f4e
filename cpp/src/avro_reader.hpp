// One Avro message at a time into the lanes.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "avro_program.hpp"
#include "decode_values.hpp"

namespace omnistream {

class AvroReader {
public:
    AvroReader(const DecodePlan& plan, Lanes& lanes) : plan_(plan), lanes_(lanes) {
        faults_.resize(plan.fields.size());
    }

    // The message is [begin, end), its body begins at `body`. On success its rows are complete in the lanes.
    bool read(const AvroProgram& program, const char* begin, const char* body, const char* end,
              Reject* reject);
    [[nodiscard]] std::int64_t unknown_fields() const { return unknown_; }
    // Strings that were made here are at rest until this: to be called once the lanes are encoded.
    void forget_texts() { texts_.clear(); }

private:
    static constexpr std::int32_t kNone = -1;
    enum class Found : std::uint8_t { missing, null, wrong, array };
    struct ArrayState {
        Found found = Found::missing;
        const char* at = nullptr;
    };
    struct Fault {
        DecodeReason reason{};
        const char* at = nullptr;
    };

    const char* broken(DecodeReason reason, const char* at);
    const char* invalid(const char* at) { return broken(DecodeReason::invalid_avro, at); }
    const char* truncated() { return broken(DecodeReason::truncated_avro, end_); }
    const char* varint(const char* p, std::int64_t* value);
    const char* sized(const char* p, std::string_view* bytes);
    const char* block(const char* p, std::int64_t* count);

    const char* value(const AvroStep& step, const char* p, const char* at, int depth);
    const char* skipped(const AvroStep& step, const char* p, const char* at, int depth);
    const char* record(const AvroStep& step, const char* p, const char* at, int depth);
    const char* map(const AvroStep& step, const char* p, const char* at, int depth);
    const char* array(const AvroStep& step, const char* p, const char* at, int depth);
    void put_wrong(const AvroPlace& place, const char* at);
    void put_null(const AvroPlace& place, const char* at);

    void boolean_field(std::uint16_t field, bool value, const char* at);
    void integer_field(const AvroType& type, std::uint16_t field, std::int64_t value, const char* at);
    void moment_field(const AvroType& type, std::uint16_t field, std::int64_t value, const char* at);
    template <class T>
    void float_field(std::uint16_t field, T value, const char* at);
    void decimal_field(const AvroType& type, std::uint16_t field, std::string_view bytes, const char* at);
    // A number's text as JSON would have it.
    void number_field(std::uint16_t field, std::string_view text, const char* at);
    void take(Verdict verdict, std::uint16_t field, const char* at);
    void bytes_field(std::uint16_t field, std::string_view bytes, const char* at);
    void text_field(std::uint16_t field, std::string_view text, const char* at);

    void begin_element(Level level);
    void end_element(Level level);
    void finish_row(Level level);
    void element_fault(Level level, Reject reject);
    [[nodiscard]] bool lacks_array(Level level) const;
    [[nodiscard]] Reject array_reject(Level level) const;
    [[nodiscard]] Reject field_reject(Level level, std::uint64_t bad) const;
    [[nodiscard]] Reject reject_at(DecodeReason reason, const char* at, std::string field) const;
    bool judge(Reject* reject);

    void fault(std::uint16_t field, DecodeReason reason, const char* at);
    void good(std::uint16_t field);

    const DecodePlan& plan_;
    Lanes& lanes_;
    std::deque<std::string> texts_;
    const AvroProgram* program_ = nullptr;
    const char* begin_ = nullptr;
    const char* end_ = nullptr;
    std::size_t row_[kMostLevels] = {};     // being filled
    std::uint64_t seen_[kMostLevels] = {};  // fields with a value
    std::uint64_t faulty_[kMostLevels] = {};
    std::vector<Fault> faults_;           // by field, where faulty
    ArrayState array_[kMostLevels] = {};  // by level of its elements: in the element around it
    Reject element_fault_;                // the first, in the order in which elements end
    Fault broken_;                        // the first fault of the bytes
    const char* not_an_object_ = nullptr;
    std::int64_t unknown_ = 0;
};

}  // namespace omnistream
