// The state of a window as batches. What it is made of is taken at once and without a copy: rows as
// frozen_rows.hpp says, strings as they are, for dictionaries only grow. The batches are written from it
// while the window goes on, in any thread.
#include <algorithm>
#include <utility>

#include "window_impl.hpp"

namespace omnistream {

namespace {

constexpr std::size_t kBlock = GroupTable::kBlock;

using Texts = std::shared_ptr<const Dictionary>;

Texts frozen_texts(const Codes* codes, const std::unique_ptr<Dictionary>& own) {
    if (codes != nullptr) return codes->dictionary().freeze();
    return own == nullptr ? nullptr : own->freeze();
}

std::shared_ptr<Batch> batch_of(std::vector<ColumnWriter> writers, std::int64_t rows) {
    auto batch = std::make_shared<Batch>();
    batch->origin = std::make_shared<Origin>();
    batch->rows = rows;
    for (ColumnWriter& writer : writers) batch->columns.push_back(writer.finish());
    return batch;
}

}  // namespace

// What must be equal for a snapshot to fit, one thing a line.
std::vector<std::string> Window::Impl::spec_lines() const {
    std::vector<std::string> lines = {
        "size_ms " + std::to_string(spec.size_ms), "offset_ms " + std::to_string(spec.offset_ms),
        "allowed_lateness_ms " + std::to_string(spec.allowed_lateness_ms), "time_column " + spec.time_column};
    if (spec.kind != WindowKind::tumbling) lines.push_back(std::string("kind ") + name_of(spec.kind));
    if (spec.kind == WindowKind::hopping) lines.push_back("hop_ms " + std::to_string(spec.hop_ms));
    if (!spec.original_time.empty())
        lines.push_back("original_time " + spec.original_time + condition_text(spec.corrections));
    if (early()) lines.push_back("early_ms " + std::to_string(spec.early_ms));
    if (in_sessions()) lines.push_back("gap_ms " + std::to_string(spec.gap_ms));
    if (spec.kind == WindowKind::calendar)
        lines.push_back(std::string("a ") + name_of(spec.unit) + " in " + spec.time_zone);
    for (std::size_t i = 0; i < keys_.size(); ++i)
        lines.push_back("key " + keys_[i].column + " " + type_name(keys_[i].type));
    for (std::size_t i = 0; i < spec.measures.size(); ++i) {
        const Measure& measure = spec.measures[i];
        std::string line = "measure " + measure.name + " = " + name_of(measure.operation);
        if (measure.argument != 0) line += " " + std::to_string(measure.argument);
        if (!measure.column.empty()) line += "(" + measure.column + " " + type_name(measure_types_[i]) + ")";
        if (!measure.by.empty()) line += " by " + measure.by + " " + type_name(measure.by_type);
        lines.push_back(line + condition_text(measure.condition));
    }
    return lines;
}

// What a window has of one owner, as if it had been alone, with the number 0; or of all.
struct Window::Impl::Frozen final : FrozenWindow {
    struct FrozenItems {
        std::shared_ptr<FrozenRows> rows;
        Texts texts;
    };
    struct FrozenSlice {
        std::int64_t start_ms;
        bool told;  // of early results, without values
        std::shared_ptr<FrozenRows> groups;
        std::vector<OwnerRun> owners;
        std::vector<Texts> key_texts;
        std::vector<FrozenItems> items;
        std::vector<std::int64_t> place_of;  // by group: the row that is written of it; where there are items
    };
    static constexpr std::int64_t kNotWritten = -1;
    struct Winner {
        std::int64_t value = 0;
        std::int64_t when = 0;
        bool is_known = false;
    };

    // Rows that are about to be written, side by side.
    struct Block {
        const std::uint64_t* words[kBlock];
        std::int32_t owners[kBlock];
        bool told[kBlock];
        std::size_t count = 0;
    };

    Frozen(const Impl& window, std::int32_t only) : owner(only), layout(window.layout_) {}
    ~Frozen() override { finish(); }
    Frozen(const Frozen&) = delete;
    Frozen& operator=(const Frozen&) = delete;

    Status write(Parts* out) override;
    std::shared_ptr<Batch> write_groups();
    void write_slice(FrozenSlice* slice, std::vector<ColumnWriter>* out);
    void write_block(const FrozenSlice& slice, Block* block, std::vector<ColumnWriter>* out);
    std::shared_ptr<Batch> write_items();
    void finish();

    std::int32_t owner;
    KeyLayout layout;
    bool keeps_told = false;
    std::size_t session_words = 0;  // where those of a session stand; 0: it is no window of sessions
    std::multimap<std::uint32_t, std::vector<std::uint64_t>> retractions;  // by session; they follow it
    std::vector<std::pair<std::string, Type>> keys;
    std::vector<Accumulator> accumulators;
    std::vector<ItemColumn> items;  // what they are, not what they are bound to
    std::vector<FrozenSlice> slices;
    Parts parts;  // those that are small
    std::int64_t written = 0;
    bool finished = false;
};

// ---- Freezing

Status Window::Impl::freeze(std::unique_ptr<FrozenWindow>* frozen, std::int32_t owner) {
    OMNI_RETURN_NOT_OK(failed_);  // no state that lacks what overflowed is ever kept
    if (!stepped_.empty())
        return {Code::state, "window '" + spec.name +
                                 "' holds results that nobody has taken; call advance() before snapshot()"};
    auto state = std::make_unique<Frozen>(*this, owner);
    state->parts = small_parts(owner);
    state->keeps_told = keeps_told();
    for (const Key& key : keys_) state->keys.emplace_back(key.column, key.type);
    state->accumulators = accumulators_;
    state->items = items_;
    for (const auto& [index, slice] : open_) freeze_slice(slice.get(), false, state.get());
    for (const auto& [window, slice] : told_) freeze_slice(slice.get(), true, state.get());
    if (in_sessions()) freeze_sessions(state.get());
    *frozen = std::move(state);
    return {};
}

// Sessions are written to by number, in many places: they are copied here and now.
void Window::Impl::freeze_sessions(Frozen* state) {
    Slice* slice = &sessions_->slice;
    freeze_slice(slice, false, state);
    slice->groups.keep_all();
    for (ItemSet& set : slice->items) set.rows.keep_all();
    state->session_words = session_word(0);
    for (const Sessions::Retraction& each : sessions_->retractions) {
        const std::uint32_t number = living(each.number);
        const std::uint64_t* words = slice->groups.row(number);
        std::vector<std::uint64_t> without_rows(words, words + key_width_);
        without_rows.insert(without_rows.end(), fresh_.begin(), fresh_.end());
        without_rows[session_word(kFirstMs)] = static_cast<std::uint64_t>(each.start_ms);
        without_rows[session_word(kLastMs)] = static_cast<std::uint64_t>(each.start_ms);
        without_rows[revision_word_] = each.revision;
        state->retractions.emplace(number, std::move(without_rows));
    }
}

void Window::Impl::freeze_slice(Slice* slice, bool told, Frozen* state) {
    Frozen::FrozenSlice& out = state->slices.emplace_back();
    out.start_ms = slice->start_ms;
    out.told = told;
    out.groups = slice->groups.freeze();
    out.owners = slice->owners;
    for (std::size_t i = 0; i < keys_.size(); ++i)
        out.key_texts.push_back(frozen_texts(keys_[i].codes, slice->key_texts[i]));
    for (std::size_t i = 0; i < items_.size(); ++i)
        out.items.push_back(
            {slice->items[i].rows.freeze(), frozen_texts(items_[i].codes, slice->items[i].texts)});
}

Window::Parts Window::Impl::small_parts(std::int32_t owner) const {
    Parts parts;
    std::vector<ColumnWriter> spec_part;
    spec_part.emplace_back("line", Type::string);
    const std::vector<std::string> lines = spec_lines();
    for (const std::string& line : lines) spec_part[0].put_text(line);
    parts.emplace_back("spec", batch_of(std::move(spec_part), static_cast<std::int64_t>(lines.size())));

    std::vector<ColumnWriter> counts_part;
    const bool all = owner == kAllOwners;
    for (const auto& [name, value] :
         {std::pair<const char*, std::int64_t>{"aggregated", all ? counts.aggregated : 0},
          {"late", all ? counts.late : 0},
          {"watermark_ms", all ? closed_ms_ : closed_ms_of(owner)}})
        counts_part.emplace_back(name, Type::int64).put(value);
    parts.emplace_back("counts", batch_of(std::move(counts_part), 1));

    std::vector<ColumnWriter> owners_part;
    owners_part.emplace_back("owner", Type::int32);
    owners_part.emplace_back("closed_ms", Type::int64);
    std::int64_t floors = 0;
    const auto put_floor = [&](std::int32_t of, std::int64_t floor_ms) {
        owners_part[0].put(of);
        owners_part[1].put(floor_ms);
        ++floors;
    };
    if (all && floor_ms_ != kLeast) put_floor(kAllOwners, floor_ms_);
    if (all)
        for (const auto& [of, floor_ms] : floors_ms_) put_floor(of, floor_ms);
    parts.emplace_back("owners", batch_of(std::move(owners_part), floors));
    return parts;
}

// ---- Writing

Status Window::Impl::Frozen::write(Parts* out) {
    if (finished) return {Code::state, "a frozen window is written once"};
    parts.emplace_back("groups", write_groups());
    parts.emplace_back("distinct", write_items());
    finish();
    *out = std::move(parts);
    return {};
}

std::shared_ptr<Batch> Window::Impl::Frozen::write_groups() {
    std::size_t rows = retractions.size();
    for (const FrozenSlice& slice : slices) rows += slice.groups->size();
    std::vector<ColumnWriter> out;
    out.emplace_back("window_start_ms", Type::int64, rows);
    if (session_words != 0) out.emplace_back("last_ms", Type::int64, rows);
    if (keeps_told) out.emplace_back("told", Type::boolean, rows);
    out.emplace_back("owner", Type::int32, rows);
    for (const auto& [column, type] : keys)
        out.emplace_back("key " + column, is_text(type) ? Type::string : type, rows);
    for (const Accumulator& accumulator : accumulators) {
        out.emplace_back(accumulator.name, Type::int64, rows);
        if (accumulator.add == Add::squares) out.emplace_back(accumulator.name + " high", Type::int64, rows);
    }
    for (FrozenSlice& slice : slices) write_slice(&slice, &out);
    return batch_of(std::move(out), written);
}

// By blocks, so that the rows are read from memory once and from the cache for every column.
void Window::Impl::Frozen::write_slice(FrozenSlice* slice, std::vector<ColumnWriter>* out) {
    const std::size_t groups = slice->groups->size();
    const std::size_t stride = slice->groups->stride();
    const std::vector<std::int32_t> owners = owners_of(slice->owners, groups);
    if (!items.empty()) slice->place_of.assign(groups, kNotWritten);
    std::vector<std::uint64_t> rows(std::min(kBlock, groups) * stride);
    Block block;
    const auto put = [&](const std::uint64_t* words, std::int32_t group_owner, bool told) {
        if (block.count == kBlock) write_block(*slice, &block, out);
        block.words[block.count] = words;
        block.owners[block.count] = owner == kAllOwners ? group_owner : 0;
        block.told[block.count++] = told;
    };
    for (std::size_t begin = 0; begin < groups; begin += kBlock) {
        const std::size_t count = std::min(kBlock, groups - begin);
        slice->groups->read(count, rows.data());
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t number = begin + i;
            const std::uint64_t* words = rows.data() + i * stride;
            if (session_words != 0 && is_dead_session(words + session_words)) continue;
            if (owner != kAllOwners && owners[number] != owner) continue;
            if (!items.empty()) slice->place_of[number] = written + static_cast<std::int64_t>(block.count);
            put(words, owners[number], slice->told);
            if (retractions.empty()) continue;
            const auto [first, past] = retractions.equal_range(static_cast<std::uint32_t>(number));
            for (auto at = first; at != past; ++at) put(at->second.data(), owners[number], true);
        }
        write_block(*slice, &block, out);
    }
}

void Window::Impl::Frozen::write_block(const FrozenSlice& slice, Block* block,
                                       std::vector<ColumnWriter>* out) {
    const std::size_t count = block->count;
    auto column = out->begin();
    const auto put_words = [&](std::size_t word) {
        std::int64_t* lanes = (column++)->put_block(count);
        for (std::size_t i = 0; i < count; ++i) lanes[i] = static_cast<std::int64_t>(block->words[i][word]);
    };
    if (session_words != 0) {
        put_words(session_words + kFirstMs);
        put_words(session_words + kLastMs);
    } else {
        std::fill_n((column++)->put_block(count), count, slice.start_ms);
    }
    if (keeps_told) {
        for (std::size_t i = 0; i < count; ++i) column->put(block->told[i]);
        ++column;
    }
    for (std::size_t i = 0; i < count; ++i) column->put(block->owners[i]);
    ++column;
    for (std::size_t key = 0; key < keys.size(); ++key, ++column) {
        const Dictionary* texts = slice.key_texts[key].get();
        if (texts == nullptr) {
            layout.unpack(key, block->words, count, nullptr, &*column);
        } else {  // one by one, for a block may read beyond the last text, which somebody writes to
            for (std::size_t i = 0; i < count; ++i) layout.unpack(key, block->words[i], texts, &*column);
        }
    }
    for (const Accumulator& accumulator : accumulators) {
        if (accumulator.add == Add::items && items[accumulator.items].keeps_one()) {
            // Of items one is written; how many others are still there does not show.
            std::int64_t* lanes = (column++)->put_block(count);
            for (std::size_t i = 0; i < count; ++i) lanes[i] = block->words[i][accumulator.word] != 0;
            continue;
        }
        put_words(accumulator.word);
        if (accumulator.add == Add::squares) put_words(accumulator.word + 1);
    }
    written += static_cast<std::int64_t>(count);
    block->count = 0;
}

// `group` is a row number of the part "groups".
std::shared_ptr<Batch> Window::Impl::Frozen::write_items() {
    std::vector<ColumnWriter> out;
    out.emplace_back("accumulator", Type::string);
    out.emplace_back("group", Type::int64);
    out.emplace_back("number", Type::int64);
    out.emplace_back("text", Type::string);
    out.emplace_back("value", Type::int64);
    std::int64_t rows = 0;
    for (const FrozenSlice& slice : slices) {
        for (std::size_t i = 0; i < items.size(); ++i) {
            const ItemColumn& column = items[i];
            FrozenRows& set = *slice.items[i].rows;
            const Dictionary* texts = slice.items[i].texts.get();
            const auto put = [&](std::int64_t row, std::int64_t value, std::int64_t word) {
                out[0].put_text(accumulators[column.accumulator].name);
                out[1].put(row);
                if (texts != nullptr) {
                    out[2].put_null();
                    out[3].put_text(texts->value(static_cast<std::int32_t>(value)));
                } else {
                    out[2].put(value);
                    out[3].put_null();
                }
                out[4].put(word);
                ++rows;
            };
            // Of a group that keeps one, the one that it is, whichever others are still there.
            std::vector<Winner> winners(column.keeps_one() ? slice.place_of.size() : 0);
            std::vector<std::uint64_t> block(std::min(kBlock, set.size()) * set.stride());
            for (std::size_t number = 0; number < set.size(); ++number) {
                const std::size_t at = number % kBlock;
                if (at == 0) set.read(std::min(kBlock, set.size() - number), block.data());
                const std::uint64_t* item = block.data() + at * set.stride();
                const std::uint64_t group = column.group_of(item);
                const std::int64_t row = slice.place_of[group];
                if (row == kNotWritten) continue;
                const std::int64_t value = column.value_of(item);
                const auto word = column.value_words() == 0
                                      ? std::int64_t{0}
                                      : static_cast<std::int64_t>(item[column.key_words()]);
                if (!column.keeps_one()) {
                    put(row, value, word);
                } else if (Winner& winner = winners[group];
                           !winner.is_known || column.wins(value, word, winner.value, winner.when, texts)) {
                    winner = {value, word, true};
                }
            }
            for (std::size_t group = 0; group < winners.size(); ++group)
                if (winners[group].is_known)
                    put(slice.place_of[group], winners[group].value, winners[group].when);
        }
    }
    return batch_of(std::move(out), rows);
}

// The window need not keep anything for us any more.
void Window::Impl::Frozen::finish() {
    finished = true;
    for (FrozenSlice& slice : slices) {
        slice.groups->finish();
        for (FrozenItems& set : slice.items) set.rows->finish();
    }
}

}  // namespace omnistream
