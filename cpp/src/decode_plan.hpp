// A schema compiled for decoding: which key, in which object, leads to which column.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "omnistream/schema.hpp"

namespace omnistream {

// Level 0 is the message, level k an element of the k-th exploded array; the deepest level makes the rows.
// Fields are counted per level, so that what an element has shown fits one word.
using Level = std::uint8_t;
inline constexpr Level kMessage = 0;
inline constexpr std::size_t kMostFieldsPerLevel = 64;

// What stands behind a key of an object that the schema knows.
struct Target {
    enum Kind : std::uint8_t { unknown, field, object, explode };
    Kind kind = unknown;
    Level level = kMessage;
    std::uint16_t index = 0;        // of the field, or of the node for object
    std::uint64_t below = 0;        // bits of all fields at or below this key, of its level
    std::uint64_t node_bit = 0;     // object, explode: marks that it was entered
    std::uint64_t nodes_below = 0;  // of this node and those inside it
};

// Keys of one object, looked up by their bytes. Open addressing on size and the outer bytes: no key is hashed
// whole.
class KeyTable {
public:
    void insert(std::string_view key, const Target& target);
    [[nodiscard]] const Target& find(const char* key, std::size_t size) const {
        for (std::size_t i = hash(key, size) & mask_;; i = (i + 1) & mask_) {
            const Slot& slot = slots_[i];
            if (slot.target.kind == Target::unknown) return slot.target;
            if (slot.key.size() == size && same(slot.key.data(), key, size)) return slot.target;
        }
    }
    [[nodiscard]] std::vector<std::pair<std::string, Target*>> entries();

private:
    // Keys are short: a call to memcmp costs more than the comparison.
    static bool same(const char* a, const char* b, std::size_t size) {
        while (size >= 8) {
            std::uint64_t x, y;
            std::memcpy(&x, a, 8);
            std::memcpy(&y, b, 8);
            if (x != y) return false;
            a += 8;
            b += 8;
            size -= 8;
        }
        for (; size != 0; --size)
            if (*a++ != *b++) return false;
        return true;
    }

    struct Slot {
        std::string key;
        Target target;
    };
    static std::size_t hash(const char* key, std::size_t size) {
        if (size == 0) return 0;
        const auto at = [&](std::size_t i) {
            return static_cast<std::size_t>(static_cast<unsigned char>(key[i]));
        };
        return (size * 31 + at(0) * 7 + at(size / 2) * 13 + at(size - 1)) * 0x9e3779b1U >> 8;
    }

    std::vector<Slot> slots_ = std::vector<Slot>(2);
    std::size_t mask_ = 1;
    std::size_t size_ = 0;
};

struct Node {
    KeyTable keys;
};

struct FieldPlan {
    Field field;
    Level level = kMessage;
    std::uint64_t bit = 0;  // in its level's word
};

struct DecodePlan {
    Schema schema;
    std::vector<FieldPlan> fields;  // schema order
    std::vector<Node> nodes;        // [0]: the message
    std::size_t levels = 1;
    std::uint16_t root[kMostLevels] = {};  // by level: the node of its elements
    std::uint64_t array_bit[kMostLevels] =
        {};  // by level from 1: node bit of the array that its elements are in
    std::uint64_t inner_nodes[kMostLevels] = {};  // by level: bits of all nodes inside its elements
    std::uint64_t all[kMostLevels] = {};          // bits of all fields
    std::uint64_t required[kMostLevels] = {};
    std::vector<std::uint16_t> by_bit[kMostLevels];  // bit number to field
    bool speculate = true;  // false when there are too many nested objects to keep in a word

    explicit DecodePlan(Schema schema);
    [[nodiscard]] Level lines() const { return static_cast<Level>(levels - 1); }
    [[nodiscard]] bool exploded() const { return levels > 1; }
};

}  // namespace omnistream
