#include "omnistream/memory.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <array>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

namespace omnistream::memory {

namespace {

// Smaller blocks are malloc's own business, larger ones too rare to keep.
constexpr std::size_t kSmallest = std::size_t{4} << 10;
constexpr std::size_t kLargest = std::size_t{256} << 20;
// Beyond kMostHeld: what is smaller would be many calls, and pile up in sizes that are not asked for again.
constexpr std::size_t kSmallestOffered = std::size_t{1} << 20;

// Sizes go up by a quarter of a power of two, so that little is wasted and blocks of one use fit the next.
constexpr std::size_t kSteps = 4;
constexpr std::size_t kClasses = (std::bit_width(kLargest) - std::bit_width(kSmallest)) * kSteps + 1;

struct SizeClass {
    std::size_t number;
    std::size_t size;
};

SizeClass class_of(std::size_t size) {
    const std::size_t power = std::bit_floor(size);
    const std::size_t step = power / kSteps;
    const std::size_t steps = (size - power + step - 1) / step;
    const auto doublings = static_cast<std::size_t>(std::bit_width(power) - std::bit_width(kSmallest));
    return {doublings * kSteps + steps, power + steps * step};
}

// Lives as long as the process: buffers may be released after main().
struct KeptBlocks {
    std::mutex mutex;
    std::array<std::vector<void*>, kClasses> blocks;
    std::size_t bytes = 0;
};
KeptBlocks& kept() {
    static KeptBlocks* const all = new KeptBlocks;
    return *all;
}

// Tells the system that it may take the pages when it is short of them. Until then they cost no fault.
bool offer([[maybe_unused]] void* data, [[maybe_unused]] std::size_t size) {
#if defined(__linux__)
    constexpr std::uintptr_t kPage = 4096;
    const auto begin = (reinterpret_cast<std::uintptr_t>(data) + kPage - 1) & ~(kPage - 1);
    const auto end = (reinterpret_cast<std::uintptr_t>(data) + size) & ~(kPage - 1);
    return madvise(reinterpret_cast<void*>(begin), end - begin, MADV_FREE) == 0;
#else
    return false;
#endif
}

void free_kept(KeptBlocks* all) {
    const std::scoped_lock lock(all->mutex);
    for (std::vector<void*>& blocks : all->blocks) {
        for (void* block : blocks) std::free(block);
        blocks.clear();
    }
    all->bytes = 0;
}

// A block that is used again hides from AddressSanitizer that its first use was over.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kKeeps = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool kKeeps = false;
#else
constexpr bool kKeeps = true;
#endif
#else
constexpr bool kKeeps = true;
#endif

}  // namespace

Block allocate(std::size_t size) {
    if (kKeeps && size >= kSmallest && size <= kLargest) {
        const SizeClass wanted = class_of(size);
        size = wanted.size;
        KeptBlocks& all = kept();
        const std::scoped_lock lock(all.mutex);
        std::vector<void*>& blocks = all.blocks[wanted.number];
        if (!blocks.empty()) {
            void* data = blocks.back();
            blocks.pop_back();
            all.bytes -= size;
            return {data, size};
        }
    }
    void* data = std::malloc(size);
    if (data == nullptr) {
        free_kept(&kept());
        data = std::malloc(size);
    }
    if (data == nullptr) throw std::bad_alloc();
    return {data, size};
}

void release(void* data, std::size_t size) {
    if (data == nullptr) return;
    if (kKeeps && size >= kSmallest && size <= kLargest) {
        const SizeClass its = class_of(size);
        KeptBlocks& all = kept();
        const std::scoped_lock lock(all.mutex);
        const std::size_t bytes = all.bytes + its.size;
        if (bytes <= kMostHeld ||
            (bytes <= kMostKept && its.size >= kSmallestOffered && offer(data, its.size))) {
            all.blocks[its.number].push_back(data);
            all.bytes += its.size;
            return;
        }
    }
    std::free(data);
}

Zeros::Zeros(std::size_t size) : size_(size) {
    void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) throw std::bad_alloc();
    data_ = data;
#ifdef MADV_HUGEPAGE
    static_cast<void>(::madvise(data, size, MADV_HUGEPAGE));
#endif
}

Zeros::~Zeros() {
    if (data_ != nullptr) ::munmap(data_, size_);
}

std::size_t kept_bytes() {
    KeptBlocks& all = kept();
    const std::scoped_lock lock(all.mutex);
    return all.bytes;
}

}  // namespace omnistream::memory
