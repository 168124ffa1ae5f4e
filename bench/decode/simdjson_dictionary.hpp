// Dictionary columns, with the best table known to us for keys of up to 16 bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "simdjson_columns.hpp"
#ifdef __SSE2__
#include <immintrin.h>
#endif

namespace peer {

struct Words {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
    bool operator==(const Words&) const = default;
};

// Up to 16 bytes, zeros behind; 16 bytes can be read from `text` on, as simdjson pads all its buffers.
simdjson_inline Words load_words(const char* text, std::size_t size) {
    static constexpr std::uint64_t kMasks[] = {
        0, 0xFF, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF, 0xFFFFFFFFFF, 0xFFFFFFFFFFFF, 0xFFFFFFFFFFFFFF, ~0ull};
    Words words;
    std::memcpy(&words, text, sizeof words);
    words.low &= kMasks[size < 8 ? size : 8];
    words.high &= kMasks[size < 8 ? 0 : size - 8];
    return words;
}

simdjson_inline std::uint64_t hash(Words words) {
    const auto product =
        static_cast<unsigned __int128>(words.low ^ 0xa0761d6478bd642f) * (words.high ^ 0xe7037ed1a0b428db);
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

// Open addressing, keys inside the slots, at most half full, two slots to a cache line.
class Dictionary {
public:
    simdjson_inline void prefetch(std::uint64_t hash) const { __builtin_prefetch(&slots_[hash & mask_]); }

    simdjson_inline std::int32_t code(Words words, std::uint64_t hash) {
        for (std::size_t at = hash & mask_;; at = (at + 1) & mask_) {
            const Slot& slot = slots_[at];
            if (slot.words == words && slot.code >= 0) [[likely]]
                return slot.code;
            if (slot.code < 0) return insert(words, at);
        }
    }
    std::string_view text(std::int32_t code) const {
        const auto* bytes = reinterpret_cast<const char*>(&texts_[static_cast<std::size_t>(code)]);
        return {bytes, strnlen(bytes, sizeof(Words))};
    }

private:
    struct alignas(32) Slot {
        Words words;
        std::int32_t code = -1;
    };

    [[gnu::noinline]] std::int32_t insert(Words words, std::size_t at) {
        const auto code = static_cast<std::int32_t>(texts_.size());
        texts_.push_back(words);
        slots_[at] = {words, code};
        if (texts_.size() * 2 > slots_.size()) grow();
        return code;
    }
    void grow() {
        slots_.assign(slots_.size() * 2, Slot{});
        mask_ = slots_.size() - 1;
        for (std::size_t i = 0; i < texts_.size(); ++i) {
            std::size_t at = hash(texts_[i]) & mask_;
            while (slots_[at].code >= 0) at = (at + 1) & mask_;
            slots_[at] = {texts_[i], static_cast<std::int32_t>(i)};
        }
    }

    std::vector<Slot> slots_ = std::vector<Slot>(64);
    std::size_t mask_ = 63;
    std::vector<Words> texts_;
};

// The size of a string of up to 15 bytes that has no escape, found with one compare; else kNotShort.
// On-Demand has no such thing: without it every string goes through its unescape.
constexpr std::size_t kNotShort = 16;
simdjson_inline std::size_t short_size(const char* text) {
#ifdef __SSE2__
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(text));
    const auto quotes = static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'))));
    const auto escapes = static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'))));
    const unsigned before_quote = quotes & (0 - quotes);
    if (quotes == 0 || (escapes & (before_quote - 1)) != 0) return kNotShort;
    return static_cast<std::size_t>(__builtin_ctz(quotes));
#else
    return kNotShort;
#endif
}

// Codes of a categorical column. Lookups wait in groups, so that their cache misses overlap.
struct Codes {
    static constexpr std::size_t kGroup = 32;

    Dictionary dictionary;
    Lane<std::int32_t> lane;
    Words waiting[kGroup];
    std::uint64_t hashes[kGroup];
    std::size_t waits = 0;
    std::unique_ptr<std::uint8_t[]> unescaped{new std::uint8_t[kColumnBytes + simdjson::SIMDJSON_PADDING]};

    simdjson_inline void read(ondemand::parser& parser, Value value) {
        ondemand::raw_json_string raw;
        if (value.get(raw) != simdjson::SUCCESS) [[unlikely]]
            return expect_null(value), push_null();
        if (const std::size_t size = short_size(raw.raw()); size < kNotShort) [[likely]]
            return push({raw.raw(), size});
        std::uint8_t* end = unescaped.get();
        if (parser.unescape(raw, end).error() != simdjson::SUCCESS) throw std::runtime_error("not a string");
        push({reinterpret_cast<char*>(unescaped.get()), static_cast<std::size_t>(end - unescaped.get())});
    }
    simdjson_inline void push(std::string_view text) {
        if (text.size() > sizeof(Words)) throw std::runtime_error("a category of more than 16 bytes");
        waiting[waits] = load_words(text.data(), text.size());
        hashes[waits] = hash(waiting[waits]);
        dictionary.prefetch(hashes[waits]);
        if (++waits == kGroup) finish();
    }
    void finish() {
        for (std::size_t i = 0; i < waits; ++i) lane.push(dictionary.code(waiting[i], hashes[i]));
        waits = 0;
    }
    void push_null() {
        finish();
        lane.push_null();
    }
    void clear() {
        finish();
        lane.clear();
    }
    void repeat(const std::vector<std::size_t>& ends) {
        finish();
        lane.repeat(ends);
    }
    void digest(std::size_t row, Digest* out) {
        const bool null = lane.nulls.at(row);
        out->nulls += null;
        out->add_string(null ? std::string_view() : dictionary.text(lane.shown[row]));
    }
};

}  // namespace peer
