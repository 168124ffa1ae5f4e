#include "omnistream/dictionary.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <new>
#include <string>
#include <utility>

#include "omnistream/hash.hpp"

namespace omnistream {

namespace {

constexpr std::size_t kFirstSlots = 64;
// Lookups in flight at once: as many cache misses as a core keeps outstanding, and the keys stay in L1.
constexpr std::size_t kGroup = 32;
constexpr std::int32_t kFree = -1;
// An Arrow utf8 column has int32 offsets, and a dictionary must always fit into one.
constexpr std::size_t kMaxBytes = std::numeric_limits<std::int32_t>::max();

// The first bytes as a number that orders as the bytes do.
std::uint64_t ordering_prefix(std::string_view text) {
    const std::uint64_t low = load_short(text.data(), std::min(text.size(), kShortText)).low;
    return std::endian::native == std::endian::little ? __builtin_bswap64(low) : low;
}

}  // namespace

Dictionary::Dictionary() {
    slots_.resize(kFirstSlots, Slot{0, 0, 0, kFree});
    mask_ = kFirstSlots - 1;
    offsets_.push_back(0);
}

inline Dictionary::Key Dictionary::key(const char* data, std::uint32_t size) {
    const Words words = size <= kShortText ? load_short(data, size)
                                           : Words{hash_long(data, size), load_word(data + size - 8)};
    return {words.low, words.high, hash_words(words, size), size};
}

inline bool Dictionary::agrees(const Slot& slot, const Key& key) {
    return ((slot.low ^ key.low) | (slot.high ^ key.high) | (slot.size ^ key.size)) == 0;
}

// Nearly every string is short and known, and stands in the first slot that is looked at. A free slot looks
// like the empty string.
inline std::int32_t Dictionary::lookup(const Key& key, const char* data) const {
    const Slot& first = slots_[key.hash & mask_];
    if (agrees(first, key) && key.size <= kShortText && first.code != kFree) [[likely]]
        return first.code;
    return probe(key, data);
}

[[gnu::noinline]] std::int32_t Dictionary::probe(const Key& key, const char* data) const {
    for (std::size_t at = key.hash & mask_;; at = (at + 1) & mask_) {
        const Slot& slot = slots_[at];
        if (slot.code == kFree) return kFree;
        if (!agrees(slot, key)) continue;
        if (key.size <= kShortText || std::memcmp(value(slot.code).data(), data, key.size) == 0)
            return slot.code;
    }
}

[[gnu::noinline]] std::int32_t Dictionary::insert(const Key& key, const char* data) {
    if (bytes_.size() + key.size > kMaxBytes || size() == std::numeric_limits<std::int32_t>::max())
        throw std::bad_alloc();
    // All that can fail comes first, so that a failure leaves the dictionary as it was.
    bytes_.reserve(bytes_.size() + key.size);
    offsets_.reserve(offsets_.size() + 1);
    if ((static_cast<std::size_t>(size()) + 1) * 2 > slots_.size()) grow();

    const std::int32_t code = size();
    bytes_.append(data, key.size);
    offsets_.push_back(static_cast<std::int64_t>(bytes_.size()));
    std::size_t at = key.hash & mask_;
    while (slots_[at].code != kFree) at = (at + 1) & mask_;
    slots_[at] = {key.low, key.high, key.size, code};
    return code;
}

void Dictionary::grow() {
    Array<Slot> grown;
    grown.resize(slots_.size() * 2, Slot{0, 0, 0, kFree});
    const std::uint64_t mask = grown.size() - 1;
    for (const Slot& slot : slots_) {
        if (slot.code == kFree) continue;
        std::size_t at = hash_words({slot.low, slot.high}, slot.size) & mask;
        while (grown[at].code != kFree) at = (at + 1) & mask;
        grown[at] = slot;
    }
    slots_ = std::move(grown);
    mask_ = mask;
}

std::int32_t Dictionary::encode(std::string_view text) {
    const Key wanted = key(text.data(), static_cast<std::uint32_t>(text.size()));
    const std::int32_t code = lookup(wanted, text.data());
    return code != kFree ? code : insert(wanted, text.data());
}

std::int32_t Dictionary::find(std::string_view text) const {
    return lookup(key(text.data(), static_cast<std::uint32_t>(text.size())), text.data());
}

void Dictionary::encode(const Text* texts, std::size_t count, std::int32_t* codes) {
    Key keys[kGroup];
    for (std::size_t begin = 0; begin < count; begin += kGroup) {
        const std::size_t end = std::min(begin + kGroup, count);
        for (std::size_t i = begin; i < end; ++i) {
            keys[i - begin] = key(texts[i].data, texts[i].size);
            __builtin_prefetch(&slots_[keys[i - begin].hash & mask_]);
        }
        for (std::size_t i = begin; i < end; ++i) {
            const Key& wanted = keys[i - begin];
            const std::int32_t code = lookup(wanted, texts[i].data);
            codes[i] = code != kFree ? code : insert(wanted, texts[i].data);
        }
    }
}

const std::vector<std::int32_t>& Dictionary::rank() {
    const auto count = static_cast<std::size_t>(size());
    if (rank_.size() == count) return rank_;

    std::vector<std::pair<std::uint64_t, std::int32_t>> order(count);
    for (std::size_t code = 0; code < count; ++code) {
        const auto at = static_cast<std::int32_t>(code);
        order[code] = {ordering_prefix(value(at)), at};
    }
    std::sort(order.begin(), order.end(), [this](const auto& a, const auto& b) {
        return a.first != b.first ? a.first < b.first : value(a.second) < value(b.second);
    });
    rank_.resize(count);
    for (std::size_t place = 0; place < count; ++place)
        rank_[static_cast<std::size_t>(order[place].second)] = static_cast<std::int32_t>(place);
    return rank_;
}

std::int64_t Dictionary::memory_bytes() const {
    return static_cast<std::int64_t>(slots_.capacity() * sizeof(Slot) + bytes_.capacity() +
                                     offsets_.capacity() * sizeof(std::int64_t) +
                                     rank_.capacity() * sizeof(std::int32_t));
}

std::shared_ptr<const Dictionary> Dictionary::freeze() const {
    auto frozen = std::make_shared<Dictionary>();
    frozen->bytes_ = bytes_.share();
    frozen->offsets_ = offsets_.share();
    return frozen;
}

Column Dictionary::to_column(std::string name, std::int32_t first) const {
    const std::int64_t begin = offsets_[static_cast<std::size_t>(first)];
    Array<std::int32_t> offsets;
    offsets.resize(offsets_.size() - static_cast<std::size_t>(first));
    for (std::size_t i = 0; i < offsets.size(); ++i)
        offsets[i] = static_cast<std::int32_t>(offsets_[static_cast<std::size_t>(first) + i] - begin);
    Array<char> bytes;
    bytes.append(bytes_.data() + begin, bytes_.size() - static_cast<std::size_t>(begin));

    Column column;
    column.name = std::move(name);
    column.type = Type::string;
    column.length = size() - first;
    column.offsets = offsets.finish();
    column.values = bytes.finish();
    return column;
}

Status Dictionary::restore(const Column& column) {
    if (size() != 0) return {Code::state, "a dictionary can only be restored while it is empty"};
    if (column.type != Type::string)
        return {Code::state, "dictionary column \"" + column.name + "\" is not utf8"};
    for (std::int64_t row = 0; row < column.length; ++row) {
        if (column.valid(row) && encode(column.text(row)) == row) continue;
        *this = Dictionary();
        return {Code::state, "dictionary column \"" + column.name +
                                 "\" has a null or a repeated string in row " + std::to_string(row)};
    }
    return {};
}

}  // namespace omnistream
