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

    exploded = !schema.explode.empty();
    if (exploded) {
        const std::uint16_t parent = descend(0, schema.explode, schema.explode.size() - 1, kMessage);
        line_node = static_cast<std::uint16_t>(nodes.size());
        nodes.emplace_back();
        explode_bit = next_bit();
        nodes[parent].keys.insert(schema.explode.back(),
                                  Target{Target::explode, kMessage, line_node, 0, explode_bit, explode_bit});
    }
    for (std::uint16_t i = 0; i < schema.fields.size(); ++i) {
        const Field& field = schema.fields[i];
        const Level level = field.in_line ? kLine : kMessage;
        const std::uint64_t bit = std::uint64_t{1} << by_bit[level].size();
        by_bit[level].push_back(i);
        all[level] |= bit;
        if (field.required) required[level] |= bit;
        fields.push_back({field, level, bit});
        const std::uint16_t root = field.in_line ? line_node : 0;
        const std::uint16_t node = descend(root, field.path, field.path.size() - 1, level);
        nodes[node].keys.insert(field.path.back(), Target{Target::field, level, i, bit, 0, 0});
    }

    // What hangs below each key, bottom up.
    const std::function<void(std::uint16_t)> sum = [&](std::uint16_t node) {
        for (auto& [name, target] : nodes[node].keys.entries()) {
            if (target->kind == Target::explode) sum(target->index);
            if (target->kind != Target::object) continue;
            sum(target->index);
            target->nodes_below = target->node_bit;
            for (auto& [inner_name, inner] : nodes[target->index].keys.entries()) {
                if (inner->kind != Target::explode) target->below |= inner->below;
                target->nodes_below |= inner->nodes_below;
            }
        }
    };
    sum(0);
}

}  // namespace omnistream
