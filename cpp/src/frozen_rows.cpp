#include "omnistream/frozen_rows.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace omnistream {

namespace {

// Holds a mutex that is rarely held for as long as it takes to put a thread to sleep and to wake it again, so
// it asks for a while first: reader and table met in it 15,000 times in a snapshot of 10 million rows.
class Briefly {
public:
    explicit Briefly(std::mutex* mutex) : mutex_(mutex) {
        for (int i = 0; i < kTries; ++i) {
            if (mutex_->try_lock()) return;
            pause();
        }
        mutex_->lock();
    }
    ~Briefly() { mutex_->unlock(); }
    Briefly(const Briefly&) = delete;
    Briefly& operator=(const Briefly&) = delete;

private:
    static constexpr int kTries = 1'000;  // some 20 us

    static void pause() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        asm volatile("yield");
#endif
    }

    std::mutex* mutex_;
};

}  // namespace

FrozenRows::FrozenRows(std::vector<Slab> slabs, unsigned slab_shift, std::size_t count, std::size_t stride)
    : slab_shift_(slab_shift), count_(count), stride_(stride), slabs_(std::move(slabs)) {}

inline std::uint64_t* FrozenRows::row(std::size_t number) const {
    const std::size_t in_slab = number & ((std::size_t{1} << slab_shift_) - 1);
    return slabs_[number >> slab_shift_]->as<std::uint64_t>() + in_slab * stride_;
}

inline std::uint64_t* FrozenRows::kept(std::size_t place) const {
    const std::size_t in_piece = place & ((std::size_t{1} << kPieceShift) - 1);
    return kept_[place >> kPieceShift].as<std::uint64_t>() + in_piece * stride_;
}

void FrozenRows::read(std::size_t count, std::uint64_t* out) {
    const Briefly lock(&mutex_);
    const auto* places = places_.as<std::uint32_t>();
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint32_t place = places == nullptr ? 0 : places[read_ + i];
        std::memcpy(out + i * stride_, place == 0 ? row(read_ + i) : kept(place - 1), row_bytes());
    }
    read_ += count;
}

void FrozenRows::finish() {
    // Given back behind the lock, for the table would wait for that.
    std::vector<Slab> slabs;
    memory::Zeros places;
    std::vector<memory::Held> kept;
    const Briefly lock(&mutex_);
    read_ = count_;
    slabs.swap(slabs_);
    std::swap(places, places_);
    kept.swap(kept_);
}

inline bool FrozenRows::is_over(const memory::Held* first) const {
    return read_ == count_ || slabs_[0].get() != first;
}

bool FrozenRows::keep(const memory::Held* first, const std::uint32_t* numbers, std::size_t count) {
    const Briefly lock(&mutex_);
    if (is_over(first)) return false;
    if (places_.as<std::uint32_t>() == nullptr) places_ = memory::Zeros(count_ * sizeof(std::uint32_t));
    auto* places = places_.as<std::uint32_t>();
    // Rows may be anywhere: their places are waited for together.
    for (std::size_t i = 0; i < count; ++i)
        __builtin_prefetch(places + std::min<std::size_t>(numbers[i], count_), 1);
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint32_t number = numbers[i];
        if (number < read_ || number >= count_ || places[number] != 0) continue;
        if (kept_rows_ >> kPieceShift == kept_.size()) kept_.emplace_back(row_bytes() << kPieceShift);
        std::memcpy(kept(kept_rows_), row(number), row_bytes());
        places[number] = static_cast<std::uint32_t>(++kept_rows_);
    }
    return true;
}

void FrozenRows::keep_all(const memory::Held* first) {
    const Briefly lock(&mutex_);
    if (is_over(first)) return;
    const std::size_t slab_rows = std::size_t{1} << slab_shift_;
    for (std::size_t slab = 0; slab < slabs_.size(); ++slab) {
        const std::size_t begin = slab * slab_rows;
        if (begin >= count_) break;
        const std::size_t size = std::min(slab_rows, count_ - begin) * row_bytes();
        memory::Held copy(size);
        std::memcpy(copy.as<std::uint64_t>(), row(begin), size);
        // Of rows that were copied before it is not what they were; nobody reads these here.
        slabs_[slab] = std::make_shared<const memory::Held>(std::move(copy));
    }
}

}  // namespace omnistream
