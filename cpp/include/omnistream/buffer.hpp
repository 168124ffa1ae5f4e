// Memory of the core: Array<T> is written to while it is built, Buffer is what it becomes, shared and
// read-only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <type_traits>
#include <utility>

#include "omnistream/memory.hpp"

namespace omnistream {

// A kernel may read or write this many bytes past the last element of an Array, and nowhere else.
inline constexpr std::size_t kPadding = 64;

struct Buffer {
    std::shared_ptr<const void> owner;
    const std::uint8_t* data = nullptr;
    std::int64_t size = 0;  // bytes

    template <class T>
    [[nodiscard]] const T* as() const {
        return reinterpret_cast<const T*>(data);
    }
    [[nodiscard]] explicit operator bool() const { return data != nullptr; }
};

// A growable array of trivially copyable values whose tail is left uninitialised by resize().
template <class T>
class Array {
    static_assert(std::is_trivially_copyable_v<T>);

public:
    Array() = default;
    Array(const Array&) = delete;
    Array& operator=(const Array&) = delete;
    Array(Array&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)),
          size_(std::exchange(other.size_, 0)),
          capacity_(std::exchange(other.capacity_, 0)),
          bytes_(std::exchange(other.bytes_, 0)),
          shared_(std::move(other.shared_)) {}
    Array& operator=(Array&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        std::swap(capacity_, other.capacity_);
        std::swap(bytes_, other.bytes_);
        std::swap(shared_, other.shared_);
        return *this;
    }
    ~Array() { release(); }

    [[nodiscard]] T* data() { return data_; }
    [[nodiscard]] const T* data() const { return data_; }
    [[nodiscard]] std::size_t size() const { return size_; }
    [[nodiscard]] std::size_t capacity() const { return capacity_; }
    [[nodiscard]] bool empty() const { return size_ == 0; }
    T& operator[](std::size_t i) { return data_[i]; }
    const T& operator[](std::size_t i) const { return data_[i]; }
    T* begin() { return data_; }
    T* end() { return data_ + size_; }
    const T* begin() const { return data_; }
    const T* end() const { return data_ + size_; }
    T& back() { return data_[size_ - 1]; }
    const T& back() const { return data_[size_ - 1]; }

    void clear() {
        if (shared_ != nullptr) *this = Array();  // what others read is not written over
        size_ = 0;
    }

    void reserve(std::size_t capacity) {
        if (capacity > capacity_ || data_ == nullptr) grow(capacity);
    }
    void resize(std::size_t size) {
        reserve(size);
        size_ = size;
    }
    void resize(std::size_t size, T value) {
        const std::size_t old = size_;
        resize(size);
        for (std::size_t i = old; i < size; ++i) data_[i] = value;
    }
    void push_back(T value) {
        if (size_ == capacity_) grow(size_ + 1);
        data_[size_++] = value;
    }
    void append(const T* values, std::size_t count) {
        if (size_ + count > capacity_) grow(size_ + count);
        if (count != 0) std::memcpy(data_ + size_, values, count * sizeof(T));
        size_ += count;
    }

    // The values as they are now, for somebody else, who may be in another thread: they stay there whatever
    // this array appends, or where it moves to. Only what it overwrites in place changes for both.
    [[nodiscard]] Array share() const {
        Array shared;
        if (data_ == nullptr) return shared;
        if (shared_ == nullptr) shared_ = owned();
        shared.shared_ = shared_;
        shared.data_ = data_;
        shared.size_ = shared.capacity_ = size_;  // appending there moves that one
        return shared;
    }

    // Hands the memory over; the array is empty afterwards.
    [[nodiscard]] Buffer finish() {
        Buffer buffer;
        if (data_ == nullptr) grow(0);
        buffer.size = static_cast<std::int64_t>(size_ * sizeof(T));
        buffer.data = reinterpret_cast<const std::uint8_t*>(data_);
        buffer.owner = shared_ != nullptr ? std::move(shared_) : owned();
        shared_ = nullptr;
        data_ = nullptr;
        size_ = capacity_ = bytes_ = 0;
        return buffer;
    }

private:
    void grow(std::size_t wanted) {
        std::size_t capacity = capacity_ + capacity_ / 2;
        if (capacity < wanted) capacity = wanted;
        // Whole blocks are used: what an array holds after reserve() counts up to capacity, not to size.
        const memory::Block block = memory::allocate(capacity * sizeof(T) + kPadding);
        if (data_ != nullptr) std::memcpy(block.data, data_, capacity_ * sizeof(T));
        release();
        data_ = static_cast<T*>(block.data);
        bytes_ = block.size;
        capacity_ = (block.size - kPadding) / sizeof(T);
    }

    [[nodiscard]] std::shared_ptr<const void> owned() const {
        return {data_, [bytes = bytes_](const void* p) { memory::release(const_cast<void*>(p), bytes); }};
    }
    void release() {
        if (shared_ == nullptr) memory::release(data_, bytes_);
        shared_ = nullptr;
    }

    T* data_ = nullptr;
    std::size_t size_ = 0;
    std::size_t capacity_ = 0;                    // values
    std::size_t bytes_ = 0;                       // of the block
    mutable std::shared_ptr<const void> shared_;  // the block's owner, once somebody shares it
};

}  // namespace omnistream
