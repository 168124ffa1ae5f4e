// Where large buffers come from and go to: blocks are kept for the next batch, as fresh ones cost page faults
// and zeroing by the kernel that take as long as decoding into them.
#pragma once

#include <cstddef>

namespace omnistream::memory {

struct Block {
    void* data = nullptr;
    std::size_t size = 0;
};

// At least `size` bytes, not initialised. Throws std::bad_alloc.
[[nodiscard]] Block allocate(std::size_t size);
// From any thread. `size` as allocate() gave it.
void release(void* data, std::size_t size);
// Bytes that wait to be used again; never more than kMostKept.
[[nodiscard]] std::size_t kept_bytes();
inline constexpr std::size_t kMostKept = std::size_t{64} << 20;

}  // namespace omnistream::memory
