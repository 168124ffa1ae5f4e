// encode: strings to dense int32 codes, first come first numbered, for the life of a job.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "omnistream/batch.hpp"
#include "omnistream/buffer.hpp"
#include "omnistream/status.hpp"

namespace omnistream {

// A string to look up, anywhere in memory.
struct Text {
    const char* data;
    std::uint32_t size;
};

class Dictionary {
public:
    Dictionary();

    [[nodiscard]] std::int32_t size() const { return static_cast<std::int32_t>(offsets_.size()) - 1; }
    [[nodiscard]] std::string_view value(std::int32_t code) const {
        return {bytes_.data() + offsets_[code],
                static_cast<std::size_t>(offsets_[code + 1] - offsets_[code])};
    }

    // The code of a string, adding it when new. `text` may end at the last readable byte.
    std::int32_t encode(std::string_view text);
    // The code of a string, or -1.
    [[nodiscard]] std::int32_t find(std::string_view text) const;
    // Many at once, probes overlapped: a lookup that misses the cache waits together with its neighbours.
    void encode(const Text* texts, std::size_t count, std::int32_t* codes);

    // rank()[code] is the position of the string among all strings, ordered by bytes. Rebuilt when grown.
    const std::vector<std::int32_t>& rank();

    [[nodiscard]] std::int64_t memory_bytes() const;

    // All strings in code order, as a utf8 column; and back (the dictionary must be empty).
    [[nodiscard]] Column to_column(std::string name) const;
    Status restore(const Column& column);

private:
    void grow();

    // Strings of up to 16 bytes are compared inside the table; longer ones by hash, then in bytes_.
    struct Slot {
        std::uint64_t low;
        std::uint64_t high;
        std::uint32_t size;
        std::int32_t code;  // -1: free
    };
    Array<Slot> slots_;
    std::uint64_t mask_ = 0;
    Array<char> bytes_;
    Array<std::int64_t> offsets_;
    std::vector<std::int32_t> rank_;
};

}  // namespace omnistream
