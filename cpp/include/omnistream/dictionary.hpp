// encode: strings to dense int32 codes, first come first numbered, for the life of a job.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "omnistream/batch.hpp"
#include "omnistream/buffer.hpp"
#include "omnistream/status.hpp"

namespace omnistream {

// A string to look up, anywhere in memory: it may end at the last readable byte.
struct Text {
    const char* data;
    std::uint32_t size;
};

// Any bytes are a string here, the empty one and those with zeros inside as well. Holds up to 2 GiB of them,
// the bound of an Arrow utf8 column; more is std::bad_alloc.
class Dictionary {
public:
    Dictionary();

    [[nodiscard]] std::int32_t size() const { return static_cast<std::int32_t>(offsets_.size()) - 1; }
    [[nodiscard]] std::string_view value(std::int32_t code) const {
        return {bytes_.data() + offsets_[code],
                static_cast<std::size_t>(offsets_[code + 1] - offsets_[code])};
    }

    // The same for a loop: nothing that it writes can be what this points with. Valid until one is added.
    class Values {
    public:
        std::string_view operator[](std::int32_t code) const {
            return {bytes_ + offsets_[code], static_cast<std::size_t>(offsets_[code + 1] - offsets_[code])};
        }

    private:
        friend class Dictionary;
        Values(const char* bytes, const std::int64_t* offsets) : bytes_(bytes), offsets_(offsets) {}

        const char* bytes_;
        const std::int64_t* offsets_;
    };
    [[nodiscard]] Values values() const { return {bytes_.data(), offsets_.data()}; }

    // Asks for what value() will read first.
    void fetch(std::int32_t code) const { __builtin_prefetch(offsets_.data() + code); }

    // The code of a string, adding it when new.
    std::int32_t encode(std::string_view text);
    // The code of a string, or -1.
    [[nodiscard]] std::int32_t find(std::string_view text) const;
    // Many at once: a lookup that misses the cache waits together with its neighbours.
    void encode(const Text* texts, std::size_t count, std::int32_t* codes);

    // rank()[code] is the position of the string among all strings, ordered by bytes. Rebuilt when grown.
    const std::vector<std::int32_t>& rank();

    [[nodiscard]] std::int64_t memory_bytes() const;

    // The strings as they are now, by code alone, for a thread that reads them while this dictionary goes on.
    [[nodiscard]] std::shared_ptr<const Dictionary> freeze() const;

    // The strings from a code on, in code order, as a utf8 column; and all of them back (the dictionary must
    // be empty).
    [[nodiscard]] Column to_column(std::string name, std::int32_t first = 0) const;
    Status restore(const Column& column);

private:
    // A string of up to 16 bytes is its two words; of a longer one they are a hash and the last 8 bytes, and
    // only strings that agree in them are compared in bytes_.
    struct Key {
        std::uint64_t low;
        std::uint64_t high;
        std::uint64_t hash;
        std::uint32_t size;  // with the highest bit set, when longer
    };
    struct Slot {
        std::uint64_t low;
        std::uint64_t high;
        std::uint32_t size;  // as in a key
        std::int32_t code;   // -1: free
    };
    using Prepare = void (Dictionary::*)(const Text*, std::size_t, Key*) const;
    struct EncodeMany {
        std::size_t (Dictionary::*near)(const Text*, std::size_t, std::int32_t*) const;
        Prepare prepare;
    };

    static Key key(const char* data, std::uint32_t size);
    static bool agrees(const Slot& slot, const Key& key);
    std::int32_t probe(const Key& key, std::string_view text) const;
    std::int32_t insert(const Key& key, std::string_view text);
    std::size_t encode_near(const Text* texts, std::size_t count, std::int32_t* codes) const;
    void encode_far(Prepare fastest, const Text* texts, std::size_t count, std::int32_t* codes);
    void prepare(const Text* texts, std::size_t count, Key* keys) const;
    void ask_for(const Key& key) const;
    std::size_t look_up(const Key* keys, std::size_t count, std::int32_t* codes, std::uint32_t* missed) const;
#if defined(__x86_64__)
    std::size_t encode_near_avx512(const Text* texts, std::size_t count, std::int32_t* codes) const;
    void prepare_avx512(const Text* texts, std::size_t count, Key* keys) const;
#endif
    static EncodeMany fastest_encode();
    void grow();

    Array<Slot> slots_;  // open addressing, a power of two, never more than half full
    std::uint64_t mask_ = 0;
    Array<char> bytes_;
    Array<std::int64_t> offsets_;
    std::vector<std::int32_t> rank_;
};

}  // namespace omnistream
