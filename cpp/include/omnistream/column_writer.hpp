// A column written value by value.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <string>
#include <string_view>
#include <utility>

#include "omnistream/batch.hpp"
#include "omnistream/buffer.hpp"

namespace omnistream {

class ColumnWriter {
public:
    ColumnWriter(std::string name, Type type, std::size_t rows_expected = 0)
        : name_(std::move(name)), type_(type) {
        if (type == Type::string) {
            offsets_.reserve(rows_expected + 1);
            offsets_.push_back(0);
        } else {
            width_ = type == Type::boolean ? 1
                     : type == Type::int32 ? sizeof(std::int32_t)
                                           : sizeof(std::int64_t);
            values_.reserve(rows_expected * width_);
        }
    }

    // A lane of the column's type, widened.
    void put(std::int64_t value) {
        put_valid();
        std::uint8_t* at = next_lane();
        if (width_ == sizeof value) {
            std::memcpy(at, &value, sizeof value);
        } else if (width_ == 1) {
            *at = static_cast<std::uint8_t>(value);
        } else {
            const auto narrow = static_cast<std::int32_t>(value);
            std::memcpy(at, &narrow, sizeof narrow);
        }
    }
    // As many int64 lanes, for the caller to fill.
    std::int64_t* put_block(std::size_t count) {
        length_ += static_cast<std::int64_t>(count);
        if (null_count_ != 0) validity_.resize(static_cast<std::size_t>((length_ + 7) >> 3), 0xff);
        const std::size_t begin = values_.size();
        values_.resize(begin + count * sizeof(std::int64_t));
        return reinterpret_cast<std::int64_t*>(values_.data() + begin);
    }
    void put_float(double value) {
        put_valid();
        std::memcpy(next_lane(), &value, sizeof value);
    }
    // More than 2 GiB do not fit a utf8 column: std::bad_alloc, as for a Dictionary.
    void put_text(std::string_view text) {
        put_valid();
        if (values_.size() + text.size() > std::numeric_limits<std::int32_t>::max()) throw std::bad_alloc();
        values_.append(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
        offsets_.push_back(static_cast<std::int32_t>(values_.size()));
    }
    // Texts of a dictionary: they may be read some bytes past their end, as all of an Array's.
    template <class TextAt>
    void put_texts(std::size_t count, const TextAt& text_at) {
        constexpr std::size_t kShort = 16;
        std::size_t size = values_.size();
        for (std::size_t i = 0; i < count; ++i) {
            const std::string_view text = text_at(i);
            __builtin_prefetch(text.data());
            size += text.size();
        }
        if (size > std::numeric_limits<std::int32_t>::max()) throw std::bad_alloc();
        length_ += static_cast<std::int64_t>(count);
        if (null_count_ != 0) validity_.resize(static_cast<std::size_t>((length_ + 7) >> 3), 0xff);
        std::size_t at = values_.size();
        values_.resize(size);
        std::uint8_t* out = values_.data();
        offsets_.resize(offsets_.size() + count);
        std::int32_t* ends = offsets_.end() - count;
        for (std::size_t i = 0; i < count; ++i) {
            const std::string_view text = text_at(i);
            // Most are short, and a copy of a fixed size is two instructions.
            if (text.size() <= kShort)
                std::memcpy(out + at, text.data(), kShort);
            else
                std::memcpy(out + at, text.data(), text.size());
            at += text.size();
            ends[i] = static_cast<std::int32_t>(at);
        }
    }
    void put_null() {
        if (null_count_++ == 0) validity_.resize(static_cast<std::size_t>(length_ >> 3), 0xff);
        if (static_cast<std::int64_t>(validity_.size()) <= length_ >> 3) validity_.push_back(0xff);
        validity_.back() = static_cast<std::uint8_t>(validity_.back() & ~(1U << (length_ & 7)));
        ++length_;
        if (type_ == Type::string)
            offsets_.push_back(static_cast<std::int32_t>(values_.size()));
        else
            std::memset(next_lane(), 0, width_);
    }

    [[nodiscard]] Column finish() {
        Column column;
        column.name = std::move(name_);
        column.type = type_;
        column.length = length_;
        column.null_count = null_count_;
        if (null_count_ != 0) {
            // The bits past the last row are zero, as Arrow asks for.
            if ((length_ & 7) != 0)
                validity_.back() = static_cast<std::uint8_t>(validity_.back() & ((1U << (length_ & 7)) - 1));
            column.validity = validity_.finish();
        }
        column.values = values_.finish();
        if (type_ == Type::string) column.offsets = offsets_.finish();
        return column;
    }

private:
    void put_valid() {
        if (null_count_ != 0 && (length_ & 7) == 0) validity_.push_back(0xff);
        ++length_;
    }
    std::uint8_t* next_lane() {
        values_.resize(values_.size() + width_);
        return values_.end() - width_;
    }

    std::string name_;
    Type type_;
    std::size_t width_ = 0;
    std::int64_t length_ = 0;
    std::int64_t null_count_ = 0;
    Array<std::uint8_t> validity_;  // kept from the first null on; bits ahead of the length are ones
    Array<std::uint8_t> values_;
    Array<std::int32_t> offsets_;
};

}  // namespace omnistream
