#include "decode_plan.hpp"

#include <functional>

namespace omnistream {

void KeyTable::insert(std::string_view key, const Target& target) {
    if (2 * (size_ + 1) > slots_.size()) {
        std::vector<Slot> old = std::move(slots_);
        slots_ = std::vector<Slot>(old.size() * 4);
        mask_ = slots_.size() - 1;
        for (Slot& slot : old) {
            if (slot.target.kind == Target::unknown) continue;
            std::size_t i = hash(slot.key.data(), slot.key.size()) & mask_;
            while (slots_[i].target.kind != Target::unknown) i = (i + 1) & mask_;
            slots_[i] = std::move(slot);
        }
    }
    std::size_t i = hash(key.data(), key.size()) & mask_;
    while (slots_[i].target.kind != Target::unknown) i = (i + 1) & mask_;
    slots_[i] = {std::string(key), target};
    ++size_;
}

std::vector<std::pair<std::string, Target*>> KeyTable::entries() {
    std::vector<std::pair<std::string, Target*>> out;
    for (Slot& slot : slots_)
        if (slot.target.kind != Target::unknown) out.emplace_back(slot.key, &slot.target);
    return out;
}

DecodePlan::DecodePlan(Schema given) : schema(std::move(given)), nodes(1) {
    constexpr int kMostNodes = 64;  // object and explode keys; bits of one word
    int node_bits = 0;
    const auto next_bit = [&]() -> std::uint64_t {
        if (node_bits >= kMostNodes) speculate = false;
        return std::uint64_t{1} << (node_bits++ % kMostNodes);
    };

    const auto target_of = [&](std::uint16_t node, const std::string& key) -> Target* {
        for (auto& [name, target] : nodes[node].keys.entries())
            if (name == key) return target;
        return nullptr;
    };
    // The node behind the last key of `path`, made on the way where missing.
    const auto descend = [&](std::uint16_t node, const std::vector<std::string>& path, std::size_t count,
                             Level level) {
        for (std::size_t i = 0; i < count; ++i) {
            Target* known = target_of(node, path[i]);
            if (known != nullptr) {
                node = known->index;
                continue;
            }
            const auto made = static_cast<std::uint16_t>(nodes.size());
            nodes.emplace_back();
            nodes[node].keys.insert(path[i], Target{Target::object, level, made, 0, next_bit(), 0});
            node = made;
        }
        return node;
    };

    for (const Explode& array : schema.explode) {
        const auto level = static_cast<Level>(levels);
        const auto parent_level = static_cast<Level>(level - 1);
        const std::uint16_t parent =
            descend(root[parent_level], array.path, array.path.size() - 1, parent_level);
        root[level] = static_cast<std::uint16_t>(nodes.size());
        nodes.emplace_back();
        array_bit[level] = next_bit();
        nodes[parent].keys.insert(array.path.back(), Target{Target::explode, level, root[level], 0,
                                                            array_bit[level], array_bit[level]});
        ++levels;
    }
    for (std::uint16_t i = 0; i < schema.fields.size(); ++i) {
        const Field& field = schema.fields[i];
        const std::uint64_t bit = std::uint64_t{1} << by_bit[field.level].size();
        by_bit[field.level].push_back(i);
        all[field.level] |= bit;
        if (field.required) required[field.level] |= bit;
        fields.push_back({field, field.level, bit});
        // Of such a text nothing is copied; nobody gives a checked one codes.
        if (field.checked) fields.back().field.type = Type::dictionary;
        const std::uint16_t node = descend(root[field.level], field.path, field.path.size() - 1, field.level);
        nodes[node].keys.insert(field.path.back(), Target{Target::field, field.level, i, bit, 0, 0});
    }

    // What hangs below each key, bottom up: fields of the key's own level, nodes of all levels.
    const std::function<std::uint64_t(std::uint16_t)> sum = [&](std::uint16_t node) {
        std::uint64_t inside = 0;
        for (auto& [name, target] : nodes[node].keys.entries()) {
            if (target->kind != Target::object && target->kind != Target::explode) continue;
            target->nodes_below = target->node_bit | sum(target->index);
            inside |= target->nodes_below;
            if (target->kind == Target::explode) continue;
            for (auto& [inner_name, inner] : nodes[target->index].keys.entries())
                if (inner->kind != Target::explode) target->below |= inner->below;
        }
        return inside;
    };
    for (std::size_t level = levels; level-- > 0;) inner_nodes[level] = sum(root[level]);
}

}  // namespace omnistream
