#include "omnistream/dictionary.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <new>
#include <string>
#include <utility>

#include "isa.hpp"
#include "omnistream/hash.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace omnistream {

namespace {

constexpr std::size_t kFirstSlots = 64;
// Up to so many slots an eighth of them is used, beyond it half: nearly every string then stands in the first
// slot that is looked at. Of a table so large its own cache lines are in the cache, and no others.
constexpr std::size_t kRoomySlots = std::size_t{1} << 16;
// In a larger one, lookups whose slots are asked for together (16 to 64 tried).
constexpr std::size_t kGroup = 64;
constexpr std::int32_t kFree = -1;
// Sizes in slots that no short string has: of a free slot, and a bit for strings that are not short.
constexpr std::uint32_t kNoSize = std::numeric_limits<std::uint32_t>::max();
constexpr std::uint32_t kLong = std::uint32_t{1} << 31;
// An Arrow utf8 column has int32 offsets, and a dictionary must always fit into one.
constexpr std::size_t kMaxBytes = std::numeric_limits<std::int32_t>::max();

// The first bytes as a number that orders as the bytes do.
std::uint64_t ordering_prefix(std::string_view text) {
    const std::uint64_t low = load_short(text.data(), std::min(text.size(), kShortText)).low;
    return std::endian::native == std::endian::little ? __builtin_bswap64(low) : low;
}

}  // namespace

Dictionary::Dictionary() {
    slots_.resize(kFirstSlots, Slot{0, 0, kNoSize, kFree});
    mask_ = kFirstSlots - 1;
    offsets_.push_back(0);
}

// The size of a short string is no part of its hash: those that differ in zeros at their end alone are rare.
inline Dictionary::Key Dictionary::key(const char* data, std::uint32_t size) {
    if (size <= kShortText) {
        const Words words = load_short(data, size);
        return {words.low, words.high, hash_words(words, 0), size};
    }
    const Words words = {hash_long(data, size), load_word(data + size - 8)};
    return {words.low, words.high, hash_words(words, size), size | kLong};
}

inline bool Dictionary::agrees(const Slot& slot, const Key& key) {
    return ((slot.low ^ key.low) | (slot.high ^ key.high) | (slot.size ^ key.size)) == 0;
}

std::int32_t Dictionary::probe(const Key& key, std::string_view text) const {
    for (std::size_t at = key.hash & mask_;; at = (at + 1) & mask_) {
        const Slot& slot = slots_[at];
        if (slot.code == kFree) return kFree;
        if (agrees(slot, key) && (text.size() <= kShortText || value(slot.code) == text)) return slot.code;
    }
}

std::int32_t Dictionary::insert(const Key& key, std::string_view text) {
    if (bytes_.size() + text.size() > kMaxBytes || size() == std::numeric_limits<std::int32_t>::max())
        throw std::bad_alloc();
    // All that can fail comes first, so that a failure leaves the dictionary as it was.
    bytes_.reserve(bytes_.size() + text.size());
    offsets_.reserve(offsets_.size() + 1);
    const std::size_t room = slots_.size() / (slots_.size() <= kRoomySlots ? 8 : 2);
    if (static_cast<std::size_t>(size()) >= room) grow();

    const std::int32_t code = size();
    bytes_.append(text.data(), text.size());
    offsets_.push_back(static_cast<std::int64_t>(bytes_.size()));
    std::size_t at = key.hash & mask_;
    while (slots_[at].code != kFree) at = (at + 1) & mask_;
    slots_[at] = {key.low, key.high, key.size, code};
    return code;
}

void Dictionary::grow() {
    Array<Slot> grown;
    grown.resize(slots_.size() * 2, Slot{0, 0, kNoSize, kFree});
    const std::uint64_t mask = grown.size() - 1;
    // In the order of their arrival: frequent ones come early, and so find their first slots free.
    Array<std::uint32_t> at_of;
    at_of.resize(static_cast<std::size_t>(size()));
    for (std::size_t at = 0; at < slots_.size(); ++at)
        if (slots_[at].code != kFree)
            at_of[static_cast<std::size_t>(slots_[at].code)] = static_cast<std::uint32_t>(at);
    for (const std::uint32_t before : at_of) {
        const Slot& slot = slots_[before];
        const std::size_t size = (slot.size & kLong) != 0 ? slot.size & ~kLong : 0;
        std::size_t at = hash_words({slot.low, slot.high}, size) & mask;
        while (grown[at].code != kFree) at = (at + 1) & mask;
        grown[at] = slot;
    }
    slots_ = std::move(grown);
    mask_ = mask;
}

[[gnu::noinline]] std::int32_t Dictionary::encode(std::string_view text) {
    const Key wanted = key(text.data(), static_cast<std::uint32_t>(text.size()));
    const std::int32_t code = probe(wanted, text);
    return code != kFree ? code : insert(wanted, text);
}

std::int32_t Dictionary::find(std::string_view text) const {
    return probe(key(text.data(), static_cast<std::uint32_t>(text.size())), text);
}

// ---- many at once ----
//
// Nearly every string is short and known, and stands in the first slot that is looked at. In a table that is
// in the cache: the codes of such strings, up to the first that is something else; their number.
std::size_t Dictionary::encode_near(const Text* texts, std::size_t count, std::int32_t* codes) const {
    for (std::size_t i = 0; i < count; ++i) {
        const auto [data, size] = texts[i];
        if (size - 1 >= kShortText || !readable_to_short_text(data)) return i;
        const Words words = load_readable(data, size);
        const Slot& slot = slots_[hash_words(words, 0) & mask_];
        if (((slot.low ^ words.low) | (slot.high ^ words.high)) != 0 || slot.size != size) return i;
        codes[i] = slot.code;
    }
    return count;
}

// In a larger one the slots of kGroup strings are asked for before the group ahead of them is looked up.
void Dictionary::prepare(const Text* texts, std::size_t count, Key* keys) const {
    for (std::size_t i = 0; i < count; ++i) {
        keys[i] = key(texts[i].data, texts[i].size);
        ask_for(keys[i]);
    }
}

// A slot may lie on two cache lines.
inline void Dictionary::ask_for(const Key& key) const {
    const Slot* const slot = slots_.data() + (key.hash & mask_);
    __builtin_prefetch(slot);
    __builtin_prefetch(reinterpret_cast<const char*>(slot + 1) - 1);
}

// The codes of strings that are found so, and a list of the others: no branch could guess which these are.
std::size_t Dictionary::look_up(const Key* keys, std::size_t count, std::int32_t* codes,
                                std::uint32_t* missed) const {
    const Slot* const slots = slots_.data();
    const std::uint64_t mask = mask_;
    std::size_t misses = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const Slot& slot = slots[keys[i].hash & mask];
        codes[i] = slot.code;
        missed[misses] = static_cast<std::uint32_t>(i);
        misses += static_cast<std::size_t>(!agrees(slot, keys[i])) | (keys[i].size >> 31);
    }
    return misses;
}

#if defined(__x86_64__)
#define OMNISTREAM_AVX512 [[gnu::target("avx512bw,avx512vl,bmi2")]]

namespace {

// With loads that stop where the string does.
OMNISTREAM_AVX512 inline __m128i load_text(const Text& text) {
    return _mm_maskz_loadu_epi8(static_cast<__mmask16>(_bzhi_u32(0xffff, text.size)), text.data);
}

OMNISTREAM_AVX512 inline std::uint64_t hash_of(__m128i text) {
    return hash_words({static_cast<std::uint64_t>(_mm_cvtsi128_si64(text)),
                       static_cast<std::uint64_t>(_mm_extract_epi64(text, 1))},
                      0);
}

OMNISTREAM_AVX512 inline bool is_at(const std::uint64_t* words, __m128i text) {
    const __m128i differ = _mm_xor_si128(text, _mm_loadu_si128(reinterpret_cast<const __m128i*>(words)));
    return _mm_testz_si128(differ, differ) != 0;
}

}  // namespace

// 25 instructions a string.
OMNISTREAM_AVX512 std::size_t Dictionary::encode_near_avx512(const Text* texts, std::size_t count,
                                                             std::int32_t* codes) const {
    const Slot* const slots = slots_.data();
    const std::uint64_t mask = mask_;
    for (std::size_t i = 0; i < count; ++i) {
        const __m128i text = load_text(texts[i]);
        const Slot& slot = slots[hash_of(text) & mask];
        if (!is_at(&slot.low, text) || slot.size != texts[i].size) return i;
        codes[i] = slot.code;
    }
    return count;
}

// Of a long string no more than that it is one.
OMNISTREAM_AVX512 void Dictionary::prepare_avx512(const Text* texts, std::size_t count, Key* keys) const {
    for (std::size_t i = 0; i < count; ++i) {
        const __m128i text = load_text(texts[i]);
        const std::uint32_t size = texts[i].size;
        keys[i] = {static_cast<std::uint64_t>(_mm_cvtsi128_si64(text)),
                   static_cast<std::uint64_t>(_mm_extract_epi64(text, 1)), hash_of(text),
                   size <= kShortText ? size : size | kLong};
        ask_for(keys[i]);
    }
}
#endif

Dictionary::EncodeMany Dictionary::fastest_encode() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (wants_isa("avx512") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("bmi2"))
        return {&Dictionary::encode_near_avx512, &Dictionary::prepare_avx512};
#endif
    return {&Dictionary::encode_near, &Dictionary::prepare};
}

void Dictionary::encode(const Text* texts, std::size_t count, std::int32_t* codes) {
    static const EncodeMany fastest = fastest_encode();
    if (slots_.size() > kRoomySlots) return encode_far(fastest.prepare, texts, count, codes);
    for (std::size_t i = 0; i < count; ++i) {
        i += (this->*fastest.near)(texts + i, count - i, codes + i);
        if (i == count) break;
        codes[i] = encode({texts[i].data, texts[i].size});
    }
}

void Dictionary::encode_far(Prepare fastest, const Text* texts, std::size_t count, std::int32_t* codes) {
    Key keys[2][kGroup];  // this group's and the next one's
    std::uint32_t missed[kGroup];
    std::size_t group = std::min(kGroup, count);
    (this->*fastest)(texts, group, keys[0]);
    for (std::size_t turn = 0; count > 0; ++turn) {
        const std::size_t next = std::min(kGroup, count - group);
        (this->*fastest)(texts + group, next, keys[(turn + 1) % 2]);
        const std::size_t misses = look_up(keys[turn % 2], group, codes, missed);
        for (std::size_t i = 0; i < misses; ++i) {
            const Text& text = texts[missed[i]];
            codes[missed[i]] = encode({text.data, text.size});
        }
        texts += group;
        codes += group;
        count -= group;
        group = next;
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
