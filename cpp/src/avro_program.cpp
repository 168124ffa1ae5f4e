#include "avro_program.hpp"

namespace omnistream {
namespace {

AvroStep::Op op_of(AvroType::Kind kind) {
    static constexpr AvroStep::Op kOps[] = {
        AvroStep::null,  AvroStep::boolean, AvroStep::integer, AvroStep::float32,     AvroStep::float64,
        AvroStep::bytes, AvroStep::string,  AvroStep::fixed,   AvroStep::enumeration, AvroStep::record,
        AvroStep::array, AvroStep::map,     AvroStep::either,
    };
    return kOps[kind];
}

bool is_compound(AvroType::Kind kind) {
    return kind == AvroType::record || kind == AvroType::array || kind == AvroType::map;
}

}  // namespace

class AvroProgram::Compiler {
public:
    Compiler(const DecodePlan& plan, AvroProgram* program) : plan_(plan), out_(*program) {}

    Status run() {
        if (!is_tree()) return {Code::schema, "the writer schema refers to types that are not there"};
        bytes_.assign(out_.writer.size(), Bytes::unknown);
        reserve(1);
        compile(0, 0, {AvroPlace::message, kMessage, 0, plan_.exploded(), 0});
        if (too_large_)
            return {Code::schema, "the writer schema is too large once its types are spelled out"};
        return {};
    }

private:
    static constexpr std::size_t kMostSteps = 1 << 18;
    enum class Bytes : std::uint8_t { unknown, asked, none, some };

    // Children exist, and every kind has as many as it needs.
    [[nodiscard]] bool is_tree() const {
        if (out_.writer.empty()) return false;
        for (const AvroType& type : out_.writer) {
            for (const std::uint32_t child : type.children)
                if (child >= out_.writer.size()) return false;
            if (type.kind == AvroType::record && type.children.size() != type.names.size()) return false;
            if ((type.kind == AvroType::array || type.kind == AvroType::map) && type.children.size() != 1)
                return false;
            if (type.size < 0 || type.scale < 0) return false;
            if ((type.logical == AvroType::moment || type.logical == AvroType::local) && type.size == 0)
                return false;
            if (type.kind != AvroType::either) continue;
            for (const std::uint32_t child : type.children)
                if (out_.writer[child].kind == AvroType::either) return false;
        }
        return true;
    }

    std::uint32_t reserve(std::size_t count) {
        const std::size_t first = out_.steps.size();
        too_large_ |= first + count > kMostSteps;
        if (!too_large_) out_.steps.resize(first + count);
        return static_cast<std::uint32_t>(first);
    }

    // Whether a value takes any bytes at all. A type that holds itself counts as one that does.
    bool has_bytes(std::uint32_t type) {
        Bytes& known = bytes_[type];
        if (known == Bytes::asked || known == Bytes::some) return true;
        if (known == Bytes::none) return false;
        known = Bytes::asked;
        const AvroType& writer = out_.writer[type];
        bool some = true;
        if (writer.kind == AvroType::null) some = false;
        if (writer.kind == AvroType::fixed) some = writer.size != 0;
        if (writer.kind == AvroType::record) {
            some = false;
            for (const std::uint32_t child : writer.children) some |= has_bytes(child);
        }
        bytes_[type] = some ? Bytes::some : Bytes::none;
        return some;
    }

    void compile(std::uint32_t slot, std::uint32_t type, const AvroPlace& place) {
        if (too_large_) return;
        const AvroType::Kind kind = out_.writer[type].kind;
        AvroStep step;
        step.op = op_of(kind);
        step.place = place;
        step.type = type;
        if (place.kind == AvroPlace::nowhere) return skip(slot, type);
        if (kind == AvroType::null || kind == AvroType::either || takes(place.kind, kind)) {
            out_.steps[slot] = step;
            return children(slot, type);
        }
        step.op = AvroStep::wrong;
        step.first = reserve(1);
        if (too_large_) return;
        out_.steps[slot] = step;
        skip(step.first, type);
    }

    static bool takes(AvroPlace::Kind place, AvroType::Kind kind) {
        if (place == AvroPlace::field) return !is_compound(kind);
        if (place == AvroPlace::explode) return kind == AvroType::array;
        return kind == AvroType::record || kind == AvroType::map;
    }

    // A value of no interest. Each type is spelled out once, however often and however deep it is met.
    void skip(std::uint32_t slot, std::uint32_t type) {
        const AvroType::Kind kind = out_.writer[type].kind;
        AvroStep& step = out_.steps[slot];
        step = {};
        step.type = type;
        if (!has_bytes(type)) return;
        const bool spelled_out = is_compound(kind) || kind == AvroType::either;
        if (spelled_out) {
            const auto [known, is_new] = skips_.try_emplace(type, slot);
            if (!is_new) {
                step.op = AvroStep::call;
                step.first = known->second;
                return;
            }
        }
        step.op = op_of(kind);
        children(slot, type);
    }

    void children(std::uint32_t slot, std::uint32_t type) {
        const AvroType& writer = out_.writer[type];
        const AvroPlace place = out_.steps[slot].place;
        out_.steps[slot].size = writer.size;
        switch (writer.kind) {
            case AvroType::record:
                return record(slot, writer, place);
            case AvroType::map:
                return map(slot, writer, place);
            case AvroType::array: {
                AvroPlace inner;
                if (place.kind == AvroPlace::explode) {
                    inner = place;
                    inner.kind = AvroPlace::element;
                }
                out_.steps[slot].item_has_bytes = has_bytes(writer.children[0]);
                return list(slot, {writer.children[0]}, {inner});
            }
            case AvroType::either:
                return list(slot, writer.children, std::vector<AvroPlace>(writer.children.size(), place));
            default:
                out_.steps[slot].count = static_cast<std::uint32_t>(writer.names.size());
        }
    }

    void list(std::uint32_t slot, const std::vector<std::uint32_t>& types,
              const std::vector<AvroPlace>& places) {
        const std::uint32_t first = reserve(types.size());
        if (too_large_) return;
        out_.steps[slot].first = first;
        out_.steps[slot].count = static_cast<std::uint32_t>(types.size());
        for (std::uint32_t i = 0; i < types.size(); ++i) compile(first + i, types[i], places[i]);
    }

    void record(std::uint32_t slot, const AvroType& writer, const AvroPlace& place) {
        std::vector<AvroPlace> places;
        std::int64_t unknown = 0;
        for (const std::string& name : writer.names) {
            places.push_back(inside(place, name));
            unknown += place.kind != AvroPlace::nowhere && places.back().kind == AvroPlace::nowhere;
        }
        out_.steps[slot].size = unknown;
        list(slot, writer.children, places);
    }

    // [first]: a value of no interest. The others belong to the keys that the node knows.
    void map(std::uint32_t slot, const AvroType& writer, const AvroPlace& place) {
        list(slot, {writer.children[0]}, {AvroPlace{}});
        if (too_large_ || place.kind == AvroPlace::nowhere) return;
        auto known = plan_.nodes[place.index].keys;
        for (const auto& [key, target] : known.entries()) {
            AvroPlace inner = inside(place, key);
            const std::uint32_t value = reserve(1);
            if (too_large_) return;
            if (inner.kind == AvroPlace::explode || inner.holds_array) {
                not_exploded(value, writer.children[0], inner);
            } else {
                compile(value, writer.children[0], inner);
            }
            out_.members_[slot][key] = value;
        }
    }

    // Keys of a map may come again, which rows cannot: an array inside a map is a value of the wrong type.
    void not_exploded(std::uint32_t slot, std::uint32_t type, const AvroPlace& place) {
        const AvroType& writer = out_.writer[type];
        AvroStep step;
        step.place = place;
        step.type = type;
        step.op = op_of(writer.kind);
        if (writer.kind == AvroType::null) {
            out_.steps[slot] = step;
            return;
        }
        const bool either = writer.kind == AvroType::either;
        step.count = either ? static_cast<std::uint32_t>(writer.children.size()) : 1;
        step.first = reserve(step.count);
        if (too_large_) return;
        if (!either) step.op = AvroStep::wrong;
        out_.steps[slot] = step;
        if (!either) return skip(step.first, type);
        for (std::uint32_t i = 0; i < step.count; ++i)
            not_exploded(step.first + i, writer.children[i], place);
    }

    // What stands behind a key of an object.
    [[nodiscard]] AvroPlace inside(const AvroPlace& object, const std::string& key) const {
        if (object.kind == AvroPlace::nowhere) return {};
        const Target& target = plan_.nodes[object.index].keys.find(key.data(), key.size());
        AvroPlace place;
        place.level = target.level;
        place.index = target.index;
        switch (target.kind) {
            case Target::unknown:
                return {};
            case Target::field:
                place.kind = AvroPlace::field;
                break;
            case Target::explode:
                place.kind = AvroPlace::explode;
                break;
            case Target::object: {
                const auto inner = static_cast<std::size_t>(target.level) + 1;
                place.kind = AvroPlace::object;
                place.below = target.below;
                place.holds_array =
                    inner < plan_.levels && (target.nodes_below & plan_.array_bit[inner]) != 0;
            }
        }
        return place;
    }

    const DecodePlan& plan_;
    AvroProgram& out_;
    std::vector<Bytes> bytes_;
    std::map<std::uint32_t, std::uint32_t> skips_;  // by type
    bool too_large_ = false;
};

Status AvroProgram::compile(const DecodePlan& plan, AvroSchema writer, AvroProgram* out) {
    out->writer = std::move(writer);
    return Compiler(plan, out).run();
}

const AvroStep* AvroProgram::member(const AvroStep& map, std::string_view key) const {
    const auto of_map = members_.find(static_cast<std::uint32_t>(&map - steps.data()));
    if (of_map == members_.end()) return nullptr;
    const auto found = of_map->second.find(key);
    return found == of_map->second.end() ? nullptr : &steps[found->second];
}

}  // namespace omnistream
