// Where large buffers come from and go to: blocks are kept for the next batch, as fresh ones cost page faults
// and zeroing by the kernel that take as long as decoding into them.
#pragma once

#include <cstddef>
#include <new>
#include <utility>
#include <vector>

namespace omnistream::memory {

struct Block {
    void* data = nullptr;
    std::size_t size = 0;
};

// At least `size` bytes, not initialised. Throws std::bad_alloc.
[[nodiscard]] Block allocate(std::size_t size);
// From any thread. `size` as allocate() was asked for, or as it gave it.
void release(void* data, std::size_t size);

// For vectors of a number per row: their memory is kept, too, and a resize leaves new numbers as they are.
template <class T>
struct Kept {
    using value_type = T;

    Kept() = default;
    template <class U>
    Kept(const Kept<U>&) {}  // NOLINT: converts as allocators do

    T* allocate(std::size_t count) {
        return static_cast<T*>(omnistream::memory::allocate(count * sizeof(T)).data);
    }
    void deallocate(T* data, std::size_t count) { release(data, count * sizeof(T)); }
    template <class U>
    void construct(U* at) {
        ::new (static_cast<void*>(at)) U;
    }
    template <class U, class... Arguments>
    void construct(U* at, Arguments&&... arguments) {
        ::new (static_cast<void*>(at)) U(std::forward<Arguments>(arguments)...);
    }
    bool operator==(const Kept&) const { return true; }
};

// A block with one owner, of just the size that was asked for or a little more.
class Held {
public:
    Held() = default;
    explicit Held(std::size_t size) : block_(memory::allocate(size)) {}
    Held(Held&& other) noexcept : block_(std::exchange(other.block_, {})) {}
    Held& operator=(Held&& other) noexcept {
        std::swap(block_, other.block_);
        return *this;
    }
    ~Held() { release(block_.data, block_.size); }

    template <class T>
    [[nodiscard]] T* as() const {
        return static_cast<T*>(block_.data);
    }
    [[nodiscard]] std::size_t size() const { return block_.size; }

private:
    Block block_;
};

// Zeros that take no memory until they are written to, and then few faults: pages are large where the kernel
// has such. Throws std::bad_alloc.
class Zeros {
public:
    Zeros() = default;
    explicit Zeros(std::size_t size);
    Zeros(Zeros&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    Zeros& operator=(Zeros&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }
    ~Zeros();

    template <class T>
    [[nodiscard]] T* as() {
        return static_cast<T*>(data_);
    }

private:
    void* data_ = nullptr;
    std::size_t size_ = 0;
};

// Bytes that wait to be used again; never more than kMostKept, beyond kMostHeld the system may take them
// back.
[[nodiscard]] std::size_t kept_bytes();
inline constexpr std::size_t kMostHeld = std::size_t{64} << 20;
inline constexpr std::size_t kMostKept = std::size_t{1} << 30;

}  // namespace omnistream::memory

namespace omnistream {

template <class T>
using KeptVector = std::vector<T, memory::Kept<T>>;

}  // namespace omnistream
