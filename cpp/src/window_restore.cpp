// The state of a window back from batches.
#include <algorithm>
#include <cstring>
#include <set>

#include "window_impl.hpp"

namespace omnistream {

namespace {

constexpr std::size_t kBlock = GroupTable::kBlock;

Status lacks(const std::string& what) {
    return {Code::state, "the window snapshot has no " + what};
}

Status find_column(const Batch& batch, const std::string& part, const std::string& name, Type type,
                   const Column** column) {
    *column = batch.find(name);
    if (*column == nullptr) return lacks("column '" + name + "' in its part '" + part + "'");
    if ((*column)->type != type)
        return {Code::state, "column '" + name + "' of the window snapshot is a " +
                                 type_name((*column)->type) + ", not a " + type_name(type)};
    return {};
}

}  // namespace

// The parts of a snapshot of this window. It may lack measures that the window has by now: `begin` are then
// the accumulators that begin here.
Status Window::Impl::find_parts(const Parts& parts, std::map<std::string, const Batch*>* by_name,
                                std::set<std::string>* begin) const {
    for (const auto& [name, batch] : parts) (*by_name)[name] = batch.get();
    for (const char* name : {"spec", "counts", "owners", "groups", "distinct"})
        if (by_name->count(name) == 0) return lacks(std::string("part '") + name + "'");
    if ((*by_name)["counts"]->rows != 1) return lacks("row in its part 'counts'");

    const Column* lines = nullptr;
    OMNI_RETURN_NOT_OK(find_column(*(*by_name)["spec"], "spec", "line", Type::string, &lines));
    std::set<std::string> names;  // of measures: up to the definition
    const auto name_in = [](const std::string& line) { return line.substr(0, line.find(" = ")); };
    for (std::int64_t i = 0; i < lines->length; ++i) names.insert(name_in(std::string(lines->text(i))));
    const std::vector<std::string> wanted = spec_lines();
    const std::size_t first_measure = wanted.size() - spec.measures.size();
    std::vector<std::size_t> added;
    std::int64_t at = 0;
    for (std::size_t i = 0; i <= wanted.size(); ++i) {
        const std::string saved = at < lines->length ? std::string(lines->text(at)) : "nothing";
        const std::string ours = i < wanted.size() ? wanted[i] : "nothing";
        if (saved == ours) {
            ++at;
        } else if (i < wanted.size() && i >= first_measure && names.count(name_in(ours)) == 0) {
            added.push_back(i - first_measure);
        } else {
            return {Code::state, "the snapshot of window '" + spec.name + "' does not fit: it has \"" +
                                     saved + "\" where the job has \"" + ours + "\""};
        }
    }
    return added.empty() ? Status() : find_what_begins(added, begin);
}

// A measure that the snapshot lacks knows the rows from here on, or all, if what it is made of is there. One
// that would put sums of all rows next to counts of some is refused.
Status Window::Impl::find_what_begins(const std::vector<std::size_t>& added,
                                      std::set<std::string>* begin) const {
    const auto accumulators_of = [&](const std::vector<std::size_t>& measures, bool with_early) {
        WindowSpec part = spec;
        part.measures.clear();
        if (!with_early) part.early_ms = 0;
        std::vector<Type> types;
        for (const std::size_t measure : measures) {
            part.measures.push_back(spec.measures[measure]);
            types.push_back(measure_types_[measure]);
        }
        std::set<std::string> names;
        for (const Accumulator& each : Impl(std::move(part), key_types_, types).accumulators_)
            names.insert(each.name);
        return names;
    };
    std::vector<std::size_t> there;
    for (std::size_t i = 0; i < spec.measures.size(); ++i)
        if (std::find(added.begin(), added.end(), i) == added.end()) there.push_back(i);
    const std::set<std::string> known = accumulators_of(there, true);
    for (const std::size_t measure : added) {
        const std::set<std::string> needed = accumulators_of({measure}, false);
        const auto is_known = [&](const std::string& name) { return known.count(name) != 0; };
        if (std::all_of(needed.begin(), needed.end(), is_known)) continue;
        const auto shared = std::find_if(needed.begin(), needed.end(), is_known);
        if (shared != needed.end())
            return {Code::state, "window '" + spec.name + "': measure '" + spec.measures[measure].name +
                                     "' cannot be added to what is open: its " + *shared +
                                     " is known of all rows, and the rest of it of those to come; let the "
                                     "job end, or give the window with this measure another name"};
        begin->insert(needed.begin(), needed.end());
    }
    return {};
}

namespace {

// How far an owner's windows are closed; kAllOwners: those that are not listed.
Status floors_of(const Batch& owners, std::map<std::int32_t, std::int64_t>* floors_ms) {
    const Column* numbers = nullptr;
    const Column* closed_ms = nullptr;
    OMNI_RETURN_NOT_OK(find_column(owners, "owners", "owner", Type::int32, &numbers));
    OMNI_RETURN_NOT_OK(find_column(owners, "owners", "closed_ms", Type::int64, &closed_ms));
    for (std::int64_t row = 0; row < owners.rows; ++row)
        (*floors_ms)[numbers->lanes<std::int32_t>()[row]] = closed_ms->lanes<std::int64_t>()[row];
    return {};
}

}  // namespace

Status Window::Impl::restore(const Parts& parts) {
    OMNI_RETURN_NOT_OK(valid_);
    std::map<std::string, const Batch*> by_name;
    std::set<std::string> begin;
    OMNI_RETURN_NOT_OK(find_parts(parts, &by_name, &begin));
    const Batch& saved_counts = *by_name["counts"];
    const Column* aggregated = nullptr;
    const Column* late = nullptr;
    const Column* watermark = nullptr;
    OMNI_RETURN_NOT_OK(find_column(saved_counts, "counts", "aggregated", Type::int64, &aggregated));
    OMNI_RETURN_NOT_OK(find_column(saved_counts, "counts", "late", Type::int64, &late));
    OMNI_RETURN_NOT_OK(find_column(saved_counts, "counts", "watermark_ms", Type::int64, &watermark));
    std::map<std::int32_t, std::int64_t> floors_ms;
    OMNI_RETURN_NOT_OK(floors_of(*by_name["owners"], &floors_ms));

    failed_ = Status();
    open_.clear();
    told_.clear();
    stepped_.clear();
    near_span_ms_ = 0;
    recent_ = nullptr;
    if (in_sessions()) sessions_ = make_sessions();
    counts.aggregated = aggregated->lanes<std::int64_t>()[0];
    counts.late = late->lanes<std::int64_t>()[0];
    closed_ms_ = watermark->lanes<std::int64_t>()[0];
    next_step_ms_ = next_step_ms(closed_ms_);
    const auto rest = floors_ms.find(kAllOwners);
    floor_ms_ = rest == floors_ms.end() ? kLeast : rest->second;
    floors_ms.erase(kAllOwners);
    floors_ms_ = std::move(floors_ms);
    std::vector<std::pair<Slice*, std::uint32_t>> restored;
    OMNI_RETURN_NOT_OK(restore_groups(*by_name["groups"], kAllOwners, 0, closed_ms_, begin, &restored));
    return restore_distinct(*by_name["distinct"], restored);
}

Status Window::Impl::take(const Parts& parts, std::int32_t from, std::int32_t to) {
    OMNI_RETURN_NOT_OK(valid_);
    OMNI_RETURN_NOT_OK(failed_);
    std::map<std::string, const Batch*> by_name;
    std::set<std::string> begin;
    OMNI_RETURN_NOT_OK(find_parts(parts, &by_name, &begin));
    const Column* watermark = nullptr;
    OMNI_RETURN_NOT_OK(find_column(*by_name["counts"], "counts", "watermark_ms", Type::int64, &watermark));
    std::map<std::int32_t, std::int64_t> floors_ms;
    OMNI_RETURN_NOT_OK(floors_of(*by_name["owners"], &floors_ms));
    auto floor = floors_ms.find(from);
    if (floor == floors_ms.end()) floor = floors_ms.find(kAllOwners);
    std::int64_t closed_ms = watermark->lanes<std::int64_t>()[0];
    if (floor != floors_ms.end()) closed_ms = std::max(closed_ms, floor->second);

    join_owner(to, closed_ms);
    std::vector<std::pair<Slice*, std::uint32_t>> restored;
    OMNI_RETURN_NOT_OK(restore_groups(*by_name["groups"], from, to, closed_ms, begin, &restored));
    OMNI_RETURN_NOT_OK(restore_distinct(*by_name["distinct"], restored));
    if (in_sessions())
        for (const auto& [slice, number] : restored)
            if (slice != nullptr) OMNI_RETURN_NOT_OK(failed_ = join_sessions(number));
    forget_near();
    return {};
}

// Those of `from` as `to`'s, added to the groups that are here; kAllOwners: all, each as its own owner's.
Status Window::Impl::restore_groups(const Batch& groups, std::int32_t from, std::int32_t to,
                                    std::int64_t closed_ms, const std::set<std::string>& begin_here,
                                    std::vector<std::pair<Slice*, std::uint32_t>>* restored) {
    const Column* starts = nullptr;
    OMNI_RETURN_NOT_OK(find_column(groups, "groups", "window_start_ms", Type::int64, &starts));
    const Column* owner_column = nullptr;
    OMNI_RETURN_NOT_OK(find_column(groups, "groups", "owner", Type::int32, &owner_column));
    const Column* told_column = nullptr;
    if (keeps_told()) OMNI_RETURN_NOT_OK(find_column(groups, "groups", "told", Type::boolean, &told_column));
    const auto is_told = [told_column](std::int64_t row) {
        return told_column != nullptr && told_column->lanes<std::uint8_t>()[row] != 0;
    };
    const bool all = from == kAllOwners;
    std::vector<const Column*> keys(keys_.size());
    for (std::size_t i = 0; i < keys_.size(); ++i)
        OMNI_RETURN_NOT_OK(find_column(groups, "groups", "key " + keys_[i].column,
                                       is_text(keys_[i].type) ? Type::string : keys_[i].type, &keys[i]));
    for (std::size_t i = 0; i < keys_.size(); ++i)
        if (!fits(*keys[i], keys_[i].column))
            return {Code::state,
                    "the window snapshot has a null '" + keys_[i].column + "', which is required by now"};
    std::vector<const Column*> words;  // null where the group's word is still a new one's
    for (const Accumulator& accumulator : accumulators_) {
        const std::size_t count = accumulator.add == Add::squares ? 2 : 1;
        if (begin_here.count(accumulator.name) != 0) {
            words.resize(words.size() + count, nullptr);
            continue;
        }
        for (std::size_t i = 0; i < count; ++i)
            OMNI_RETURN_NOT_OK(find_column(groups, "groups", accumulator.name + (i == 0 ? "" : " high"),
                                           Type::int64, &words.emplace_back()));
    }

    const auto* starts_ms = starts->lanes<std::int64_t>();
    const auto* owners = owner_column->lanes<std::int32_t>();
    const bool asked_for = in_sessions() || !items_.empty();
    if (asked_for) restored->resize(static_cast<std::size_t>(groups.rows), {nullptr, 0});
    if (in_sessions()) return restore_sessions(groups, owners, from, to, closed_ms, keys, words, restored);
    const std::size_t row_words = key_width_ + words.size();
    std::vector<std::uint64_t> saved(kBlock * row_words);
    const std::uint64_t* theirs[kBlock];
    for (std::int64_t begin = 0; begin < groups.rows;) {
        if (!all && owners[begin] != from) {
            ++begin;
            continue;
        }
        std::size_t count = 0;
        for (std::int64_t row = begin; count < kBlock && row < groups.rows && owners[row] == owners[begin] &&
                                       starts_ms[row] == starts_ms[begin] && is_told(row) == is_told(begin);
             ++row)
            order_[count++] = static_cast<std::int32_t>(row);
        const std::int64_t index = index_of(starts_ms[begin]);
        std::unique_ptr<Slice>& slice =
            is_told(begin) ? told_[static_cast<std::int64_t>(floor_divide(index, slices_per_hop_))]
                           : open_[index];
        if (slice == nullptr) {
            slice = make_slice(interval_of(index));
            // Rows of a slice stand together: its table grows once.
            const auto* past = std::find_if(starts_ms + begin, starts_ms + groups.rows,
                                            [&](std::int64_t start) { return start != starts_ms[begin]; });
            const auto rows = all ? past - (starts_ms + begin)
                                  : std::count(owners + begin, owners + (past - starts_ms), from);
            slice->groups.reserve(static_cast<std::size_t>(rows));
        }
        if (slice->start_ms != starts_ms[begin] || slice->final_ms <= closed_ms)
            return {Code::state, "the window snapshot has a window that cannot be open, from " +
                                     std::to_string(starts_ms[begin]) + " ms"};
        layout_.start(key_words_.data(), count);
        for (std::size_t i = 0; i < keys_.size(); ++i) {
            Dictionary* texts =
                keys_[i].codes != nullptr ? &keys_[i].codes->own() : slice->key_texts[i].get();
            layout_.pack(i, *keys[i], order_, count, nullptr, texts, key_words_.data());
        }
        const std::size_t known = slice->groups.size();
        slice->groups.find_or_insert(key_words_.data(), count, group_);
        if (all && slice->groups.size() != known + count)
            return {Code::state, "the window snapshot has a key twice"};
        own_from(slice.get(), known, all ? owners[begin] : to);
        for (std::size_t word = 0; word < words.size(); ++word) {
            std::uint64_t* out = saved.data() + key_width_ + word;
            const auto* lanes = words[word] == nullptr ? nullptr : words[word]->lanes<std::int64_t>() + begin;
            for (std::size_t i = 0; i < count; ++i)
                out[i * row_words] = lanes == nullptr ? fresh_[word] : static_cast<std::uint64_t>(lanes[i]);
        }
        for (std::size_t i = 0; i < count; ++i) {
            theirs[i] = saved.data() + i * row_words;
            words_[i] = slice->groups.row(group_[i]);
        }
        if (asked_for)
            for (std::size_t i = 0; i < count; ++i)
                (*restored)[static_cast<std::size_t>(order_[i])] = {slice.get(), group_[i]};
        // A new group's words change nothing that they are merged with.
        for (const Accumulator& accumulator : accumulators_)
            if (merge_block(accumulator.add, words_, theirs, accumulator.word, count))
                return failed_ = overflow(accumulator);
        begin += static_cast<std::int64_t>(count);
    }
    return {};
}

Status Window::Impl::restore_distinct(const Batch& values,
                                      const std::vector<std::pair<Slice*, std::uint32_t>>& restored) {
    const Column* names = nullptr;
    const Column* groups = nullptr;
    const Column* numbers = nullptr;
    const Column* texts = nullptr;
    const Column* added = nullptr;
    OMNI_RETURN_NOT_OK(find_column(values, "distinct", "accumulator", Type::string, &names));
    OMNI_RETURN_NOT_OK(find_column(values, "distinct", "group", Type::int64, &groups));
    OMNI_RETURN_NOT_OK(find_column(values, "distinct", "number", Type::int64, &numbers));
    OMNI_RETURN_NOT_OK(find_column(values, "distinct", "text", Type::string, &texts));
    OMNI_RETURN_NOT_OK(find_column(values, "distinct", "value", Type::int64, &added));
    for (std::int64_t row = 0; row < values.rows; ++row) {
        std::size_t number = 0;
        while (number < items_.size() && accumulators_[items_[number].accumulator].name != names->text(row))
            ++number;
        const auto group = static_cast<std::uint64_t>(groups->lanes<std::int64_t>()[row]);
        if (number == items_.size() || group >= restored.size())
            return {Code::state, "the window snapshot has a distinct value that belongs to no group"};
        if (restored[group].first == nullptr) continue;  // another owner's
        const ItemColumn& column = items_[number];
        Slice* slice = restored[group].first;
        std::uint64_t value = static_cast<std::uint64_t>(numbers->lanes<std::int64_t>()[row]);
        if (is_text(column.type)) {
            Dictionary& dictionary =
                column.codes != nullptr ? column.codes->own() : *slice->items[number].texts;
            value = static_cast<std::uint64_t>(dictionary.encode(texts->text(row)));
        }
        std::uint64_t key[2] = {restored[group].second, value};
        if (column.key_words() == 1) key[0] = key[0] << 32 | static_cast<std::uint32_t>(value);
        const auto weight = static_cast<std::uint64_t>(added->lanes<std::int64_t>()[row]);
        if (!add_item(slice, number, restored[group].second, key, weight))
            return overflow(accumulators_[column.accumulator]);
    }
    return {};
}

Status Window::Impl::restore_sessions(const Batch& groups, const std::int32_t* owners, std::int32_t from,
                                      std::int32_t to, std::int64_t closed_ms,
                                      const std::vector<const Column*>& keys,
                                      const std::vector<const Column*>& words,
                                      std::vector<std::pair<Slice*, std::uint32_t>>* restored) {
    const Column* firsts = groups.find("window_start_ms");
    const Column* lasts = nullptr;
    OMNI_RETURN_NOT_OK(find_column(groups, "groups", "last_ms", Type::int64, &lasts));
    const Column* told = keeps_told() ? groups.find("told") : nullptr;
    const Column* revisions = keeps_told() ? groups.find("revision") : nullptr;
    Slice* slice = &sessions_->slice;
    for (std::int64_t row = 0; row < groups.rows; ++row) {
        if (from != kAllOwners && owners[row] != from) continue;
        owner_ = from == kAllOwners ? owners[row] : to;
        const auto at = static_cast<std::int32_t>(row);
        const std::int64_t first_ms = firsts->lanes<std::int64_t>()[row];
        const std::int64_t last_ms = lasts->lanes<std::int64_t>()[row];
        if (told != nullptr && told->lanes<std::uint8_t>()[row] != 0) {  // of the session before
            if (slice->groups.size() == 0) return lacks("session of which it has something told");
            const auto number = static_cast<std::uint32_t>(slice->groups.size() - 1);
            const auto revision = static_cast<std::uint64_t>(revisions->lanes<std::int64_t>()[row]);
            sessions_->retractions.push_back({number, first_ms, revision});
            continue;
        }
        if (first_ms > last_ms || session_final_ms(last_ms) <= closed_ms)
            return {Code::state, "the window snapshot has a session that cannot be open, from " +
                                     std::to_string(first_ms) + " ms"};
        layout_.start(key_words_.data(), 1);
        for (std::size_t i = 0; i < keys_.size(); ++i) {
            Dictionary* texts =
                keys_[i].codes != nullptr ? &keys_[i].codes->own() : slice->key_texts[i].get();
            layout_.pack(i, *keys[i], &at, 1, nullptr, texts, key_words_.data());
        }
        std::uint32_t key_number = 0;
        sessions_->by_key.find_or_insert(key_words_.data(), 1, &key_number);
        const std::uint32_t number = open_session(key_words_.data(), key_number, first_ms, last_ms);
        std::uint64_t* out = slice->groups.row(number);
        std::size_t column = 0;
        for (const Accumulator& accumulator : accumulators_) {
            for (std::size_t word = 0; word < (accumulator.add == Add::squares ? 2U : 1U); ++word)
                if (const Column* lanes = words[column++]; lanes != nullptr)
                    out[accumulator.word + word] =
                        static_cast<std::uint64_t>(lanes->lanes<std::int64_t>()[row]);
            if (accumulator.add == Add::items) out[accumulator.word] = 0;  // counted as they come
        }
        (*restored)[static_cast<std::size_t>(row)] = {slice, number};
    }
    return {};
}

}  // namespace omnistream
