// Sessions: found by key, grown and merged row by row, closed through a heap of their ends.
//
// A session ends `gap` after its last row. A row that is less than that away from sessions of its key joins
// them into one, unless they were final at the watermark that the row met. Closed and merged sessions leave
// dead rows behind, which go when they outnumber the living.
#include <algorithm>
#include <cstring>
#include <functional>

#include "window_impl.hpp"

namespace omnistream {

namespace {

constexpr std::size_t kBlock = GroupTable::kBlock;
constexpr std::size_t kDeadToCompact = 1024;

std::int64_t time_of(std::uint64_t word) {
    return static_cast<std::int64_t>(word);
}

}  // namespace

bool Window::Impl::is_dead(const std::uint64_t* words) const {
    return in_sessions() && is_dead_session(words + session_word(0));
}

std::unique_ptr<Window::Impl::Sessions> Window::Impl::make_sessions() const {
    auto sessions = std::make_unique<Sessions>(GroupTable(key_width_, fresh_), layout_.words());
    set_up(&sessions->slice);
    return sessions;
}

// ---- A block of rows

std::size_t Window::Impl::place_in_sessions(const std::int32_t* rows, const std::int64_t* watermarks_ms,
                                            std::size_t count, std::vector<std::int32_t>* late_rows) {
    const auto* times_ms = time_->lanes<std::int64_t>();
    const std::size_t key_words = layout_.words();
    GroupTable& groups = sessions_->slice.groups;
    GroupTable& by_key = sessions_->by_key;
    const std::int64_t closed_ms = closed_ms_of(owner_);
    std::uint32_t keys[kBlock];
    layout_.start(key_words_.data(), count);
    for (std::size_t i = 0; i < keys_.size(); ++i) {
        const Key& key = keys_[i];
        layout_.pack(i, *key.bound, rows, count, key.codes == nullptr ? nullptr : key.codes->translation(),
                     sessions_->slice.key_texts[i].get(), key_words_.data());
    }
    by_key.find_or_insert(key_words_.data(), count, keys);

    std::size_t placed = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const std::int64_t time_ms = times_ms[rows[i]];
        const std::int64_t watermark_ms = std::max(watermarks_ms[i], closed_ms);
        std::uint64_t mine = 0;  // 1 plus the number of the row's session
        std::uint64_t next = 0;
        for (std::uint64_t at = by_key.row(keys[i])[key_words]; at != 0; at = next) {
            std::uint64_t* words = groups.row(at - 1);
            next = words[session_word(kNextSession)];
            const std::int64_t first_ms = time_of(words[session_word(kFirstMs)]);
            const std::int64_t last_ms = time_of(words[session_word(kLastMs)]);
            if (session_final_ms(last_ms) <= watermark_ms) continue;
            if (static_cast<Wide>(time_ms) - last_ms >= spec.gap_ms ||
                static_cast<Wide>(first_ms) - time_ms >= spec.gap_ms)
                continue;
            if (mine != 0) {
                unlink_session(static_cast<std::uint32_t>(at - 1));
                failed_ =
                    merge_session(static_cast<std::uint32_t>(mine - 1), static_cast<std::uint32_t>(at - 1));
                if (!failed_.ok()) return 0;
                continue;
            }
            mine = at;
            words[session_word(kFirstMs)] = static_cast<std::uint64_t>(std::min(first_ms, time_ms));
            words[session_word(kLastMs)] = static_cast<std::uint64_t>(std::max(last_ms, time_ms));
        }
        if (mine == 0) {
            if (session_final_ms(time_ms) <= watermark_ms) {
                late_rows->push_back(rows[i]);
                ++counts.late;
                continue;
            }
            mine =
                open_session(key_words_.data() + i * key_words, keys[i], time_ms, time_ms) + std::uint64_t{1};
        }
        order_[placed] = rows[i];
        group_[placed++] = static_cast<std::uint32_t>(mine - 1);
    }
    // A session of the block's first rows may be part of another by now. What is added below commutes.
    for (std::size_t i = 0; i < placed; ++i) {
        group_[i] = living(group_[i]);
        words_[i] = groups.row(group_[i]);
    }
    runs_.clear();
    if (placed != 0) runs_.push_back({&sessions_->slice, 0, static_cast<std::uint32_t>(placed)});
    return placed;
}

std::uint32_t Window::Impl::open_session(const std::uint64_t* key, std::uint32_t key_number,
                                         std::int64_t first_ms, std::int64_t last_ms) {
    std::vector<std::uint64_t> own(key, key + layout_.words());
    own.push_back(sessions_->made++);
    std::uint32_t number = 0;
    sessions_->slice.groups.find_or_insert(own.data(), 1, &number);
    own_from(&sessions_->slice, number, owner_);
    std::uint64_t* words = sessions_->slice.groups.row(number);
    std::uint64_t& head = sessions_->by_key.row(key_number)[layout_.words()];
    words[session_word(kFirstMs)] = static_cast<std::uint64_t>(first_ms);
    words[session_word(kLastMs)] = static_cast<std::uint64_t>(last_ms);
    words[session_word(kKeyNumber)] = key_number;
    words[session_word(kNextSession)] = std::exchange(head, number + std::uint64_t{1});
    sessions_->due.emplace_back(session_final_ms(last_ms), number);
    std::push_heap(sessions_->due.begin(), sessions_->due.end(), std::greater<>());
    return number;
}

Status Window::Impl::merge_session(std::uint32_t into, std::uint32_t from) {
    Slice* slice = &sessions_->slice;
    std::uint64_t* mine = slice->groups.row(into);
    std::uint64_t* theirs = slice->groups.row(from);
    if (early()) merge_told(into, from);
    const std::uint64_t* const_theirs = theirs;
    for (const Accumulator& accumulator : accumulators_)
        if (merge_block(accumulator.add, &mine, &const_theirs, accumulator.word, 1))
            return overflow(accumulator);
    for (std::size_t number = 0; number < items_.size(); ++number) {
        const ItemColumn& column = items_[number];
        const ItemSet& set = slice->items[number];
        for (std::uint64_t at = theirs[column.head]; at != 0;) {
            std::uint64_t item[3];  // a copy: the table grows
            std::memcpy(item, set.rows.row(at - 1), column.next_word() * sizeof item[0]);
            at = set.rows.row(at - 1)[column.next_word()];
            if (!copy_item(set, item, slice, number, into))
                return overflow(accumulators_[column.accumulator]);
        }
    }
    mine[session_word(kFirstMs)] = static_cast<std::uint64_t>(
        std::min(time_of(mine[session_word(kFirstMs)]), time_of(theirs[session_word(kFirstMs)])));
    mine[session_word(kLastMs)] = static_cast<std::uint64_t>(
        std::max(time_of(mine[session_word(kLastMs)]), time_of(theirs[session_word(kLastMs)])));
    theirs[session_word(kFirstMs)] = static_cast<std::uint64_t>(kMost);
    theirs[session_word(kLastMs)] = static_cast<std::uint64_t>(kLeast);
    theirs[session_word(kNextSession)] = into + std::uint64_t{1};
    ++sessions_->dead;
    return {};
}

// A session that came from elsewhere becomes one with those of its key that are less than a gap away.
Status Window::Impl::join_sessions(std::uint32_t number) {
    GroupTable& groups = sessions_->slice.groups;
    if (is_dead(groups.row(number))) return {};
    const std::uint64_t* mine = groups.row(number);
    const std::uint64_t head = sessions_->by_key.row(mine[session_word(kKeyNumber)])[layout_.words()];
    std::uint64_t next = 0;
    for (std::uint64_t at = head; at != 0; at = next) {
        const std::uint64_t* words = groups.row(at - 1);
        next = words[session_word(kNextSession)];
        if (at == number + std::uint64_t{1}) continue;
        const Wide after =
            static_cast<Wide>(time_of(words[session_word(kFirstMs)])) - time_of(mine[session_word(kLastMs)]);
        const Wide before =
            static_cast<Wide>(time_of(mine[session_word(kFirstMs)])) - time_of(words[session_word(kLastMs)]);
        if (after >= spec.gap_ms || before >= spec.gap_ms) continue;
        unlink_session(static_cast<std::uint32_t>(at - 1));
        OMNI_RETURN_NOT_OK(merge_session(number, static_cast<std::uint32_t>(at - 1)));
    }
    return {};
}

void Window::Impl::drop_sessions(std::int32_t owner) {
    GroupTable& groups = sessions_->slice.groups;
    const std::vector<std::int32_t> owners = owners_of(sessions_->slice);
    std::erase_if(sessions_->retractions,
                  [&](const Sessions::Retraction& each) { return owners[living(each.number)] == owner; });
    for (std::uint32_t number = 0; number < owners.size(); ++number)
        if (owners[number] == owner && !is_dead(groups.row(number))) end_session(number);
    compact_sessions();
}

// ---- Closing

void Window::Impl::unlink_session(std::uint32_t number) {
    GroupTable& groups = sessions_->slice.groups;
    const std::uint64_t* words = groups.row(number);
    std::uint64_t* link = &sessions_->by_key.row(words[session_word(kKeyNumber)])[layout_.words()];
    while (*link != number + std::uint64_t{1}) link = &groups.row(*link - 1)[session_word(kNextSession)];
    *link = words[session_word(kNextSession)];
}

void Window::Impl::end_session(std::uint32_t number) {
    unlink_session(number);
    std::uint64_t* words = sessions_->slice.groups.row(number);
    words[session_word(kFirstMs)] = static_cast<std::uint64_t>(kMost);
    words[session_word(kLastMs)] = static_cast<std::uint64_t>(kLeast);
    ++sessions_->dead;
}

Status Window::Impl::close_sessions(std::int64_t watermark_ms, std::vector<std::shared_ptr<Batch>>* closed) {
    auto& due = sessions_->due;
    GroupTable& groups = sessions_->slice.groups;
    std::vector<std::uint32_t> numbers;
    while (!due.empty() && due.front().first <= watermark_ms) {
        std::pop_heap(due.begin(), due.end(), std::greater<>());
        const std::uint32_t number = due.back().second;
        const std::uint64_t* words = groups.row(number);
        const std::int64_t final_ms = session_final_ms(time_of(words[session_word(kLastMs)]));
        if (!is_dead(words) && final_ms > watermark_ms) {
            due.back().first = final_ms;  // it has grown
            std::push_heap(due.begin(), due.end(), std::greater<>());
            continue;
        }
        due.pop_back();
        if (!is_dead(words)) numbers.push_back(number);
    }
    if (numbers.empty()) return {};
    closed->push_back(write_sessions(numbers, Told::as_final));
    for (const std::uint32_t number : numbers) end_session(number);
    if (sessions_->dead >= kDeadToCompact && sessions_->dead * 2 > groups.size()) compact_sessions();
    return {};
}

std::shared_ptr<Batch> Window::Impl::write_sessions(const std::vector<std::uint32_t>& numbers, Told told) {
    Slice result(GroupTable(key_width_, fresh_));
    set_up(&result);
    if (early()) take_retractions(numbers, &result);
    move_sessions(&sessions_->slice, numbers, &result);
    return write(&result, 0, 0, told);
}

// ---- Early results
//
// A session is told under its start. When its start moves back, or it becomes part of a session that starts
// earlier, what was told under the old start is retracted together with the next word on the session.

// The session that a row is part of.
std::uint32_t Window::Impl::living(std::uint32_t number) const {
    const GroupTable& groups = sessions_->slice.groups;
    while (is_dead(groups.row(number)))
        number = static_cast<std::uint32_t>(groups.row(number)[session_word(kNextSession)] - 1);
    return number;
}

// Of two starts that were told, the session goes on with the earlier one.
void Window::Impl::merge_told(std::uint32_t into, std::uint32_t from) {
    std::uint64_t* mine = sessions_->slice.groups.row(into);
    std::uint64_t* theirs = sessions_->slice.groups.row(from);
    if (theirs[revision_word_] == 0) return;
    if (mine[revision_word_] == 0 || time_of(theirs[start_told_word_]) < time_of(mine[start_told_word_])) {
        std::swap(mine[revision_word_], theirs[revision_word_]);
        std::swap(mine[start_told_word_], theirs[start_told_word_]);
    }
    if (theirs[revision_word_] != 0)
        sessions_->retractions.push_back({into, time_of(theirs[start_told_word_]), theirs[revision_word_]});
    theirs[revision_word_] = 0;
}

// Moves what is to be retracted with these sessions to the result, as sessions without a row that end where
// the one ends that has their rows now.
void Window::Impl::take_retractions(const std::vector<std::uint32_t>& numbers, Slice* result) {
    GroupTable& groups = sessions_->slice.groups;
    std::vector<Sessions::Retraction> gone;
    if (!sessions_->retractions.empty()) {
        std::vector<bool> told(groups.size());
        for (const std::uint32_t number : numbers) told[number] = true;
        const auto stays = [&](const Sessions::Retraction& each) { return !told[living(each.number)]; };
        auto& waiting = sessions_->retractions;
        const auto first = std::partition(waiting.begin(), waiting.end(), stays);
        gone.assign(first, waiting.end());
        waiting.erase(first, waiting.end());
    }
    for (const std::uint32_t number : numbers) {
        std::uint64_t* words = groups.row(number);
        if (words[revision_word_] == 0 || words[start_told_word_] == words[session_word(kFirstMs)]) continue;
        gone.push_back({number, time_of(words[start_told_word_]), std::exchange(words[revision_word_], 0)});
    }
    // Of one session they are written in the order in which they are made.
    std::sort(gone.begin(), gone.end(), [](const auto& a, const auto& b) { return a.start_ms < b.start_ms; });
    std::vector<std::uint64_t> own(key_width_);
    for (const Sessions::Retraction& each : gone) {
        const std::uint64_t* session = groups.row(living(each.number));
        copy_keys(sessions_->slice, &session, 1, result, key_words_.data());
        std::copy_n(key_words_.data(), layout_.words(), own.data());
        own.back() = sessions_->made++;
        std::uint32_t number = 0;
        result->groups.find_or_insert(own.data(), 1, &number);
        std::uint64_t* words = result->groups.row(number);
        words[session_word(kFirstMs)] = static_cast<std::uint64_t>(each.start_ms);
        words[session_word(kLastMs)] = session[session_word(kLastMs)];
        words[told_word_] = 1;  // it had rows
        words[revision_word_] = each.revision;
    }
}

Status Window::Impl::tell_sessions(std::vector<std::shared_ptr<Batch>>* told) {
    GroupTable& groups = sessions_->slice.groups;
    std::vector<std::uint32_t> numbers;
    for (std::uint32_t number = 0; number < groups.size(); ++number)
        if (!is_dead(groups.row(number)) && has_changed(groups.row(number))) numbers.push_back(number);
    if (numbers.empty()) return {};
    told->push_back(write_sessions(numbers, Told::what_changed));
    for (const std::uint32_t number : numbers) {
        std::uint64_t* words = groups.row(number);
        words[told_word_] = words[rows_word_];
        words[start_told_word_] = words[session_word(kFirstMs)];
        ++words[revision_word_];
    }
    return {};
}

// ---- Room

// Copies sessions with their values into a slice that has none of them.
void Window::Impl::move_sessions(Slice* from, const std::vector<std::uint32_t>& numbers, Slice* into) {
    const std::size_t key_words = layout_.words();
    const std::size_t row_words = key_width_ + fresh_.size();
    const std::vector<std::int32_t> owners = owners_of(*from);
    const std::uint64_t* rows[kBlock];
    std::vector<std::uint64_t> own(key_width_);
    for (std::size_t begin = 0; begin < numbers.size(); begin += kBlock) {
        const std::size_t count = std::min(kBlock, numbers.size() - begin);
        for (std::size_t i = 0; i < count; ++i) rows[i] = from->groups.row(numbers[begin + i]);
        copy_keys(*from, rows, count, into, key_words_.data());
        for (std::size_t i = 0; i < count; ++i) {
            std::memcpy(own.data(), key_words_.data() + i * key_words, key_words * sizeof own[0]);
            own[key_words] = rows[i][key_words];
            std::uint32_t group = 0;
            into->groups.find_or_insert(own.data(), 1, &group);
            own_from(into, group, owners[numbers[begin + i]]);
            std::uint64_t* words = into->groups.row(group);
            std::memcpy(words + key_width_, rows[i] + key_width_, (row_words - key_width_) * sizeof own[0]);
            for (std::size_t number = 0; number < items_.size(); ++number) {
                const ItemColumn& column = items_[number];
                const ItemSet& set = from->items[number];
                words[column.head] = 0;
                words[accumulators_[column.accumulator].word] = 0;
                for (std::uint64_t at = rows[i][column.head]; at != 0;) {
                    const std::uint64_t* item = set.rows.row(at - 1);
                    at = item[column.next_word()];
                    static_cast<void>(copy_item(set, item, into, number, group));  // nothing to add up
                }
            }
        }
    }
}

void Window::Impl::compact_sessions() {
    std::vector<std::uint32_t> kept_rows;
    for (std::size_t number = 0; number < sessions_->slice.groups.size(); ++number)
        if (!is_dead(sessions_->slice.groups.row(number)))
            kept_rows.push_back(static_cast<std::uint32_t>(number));
    std::unique_ptr<Sessions> kept = make_sessions();
    kept->made = sessions_->made;
    kept->retractions = std::move(sessions_->retractions);
    for (Sessions::Retraction& each : kept->retractions) {
        const auto place = std::lower_bound(kept_rows.begin(), kept_rows.end(), living(each.number));
        each.number = static_cast<std::uint32_t>(place - kept_rows.begin());
    }
    move_sessions(&sessions_->slice, kept_rows, &kept->slice);
    for (std::size_t number = 0; number < kept->slice.groups.size(); ++number) {
        std::uint64_t* words = kept->slice.groups.row(number);
        std::uint32_t key_number = 0;
        kept->by_key.find_or_insert(words, 1, &key_number);
        std::uint64_t& head = kept->by_key.row(key_number)[layout_.words()];
        words[session_word(kKeyNumber)] = key_number;
        words[session_word(kNextSession)] = std::exchange(head, number + std::uint64_t{1});
        kept->due.emplace_back(session_final_ms(time_of(words[session_word(kLastMs)])),
                               static_cast<std::uint32_t>(number));
    }
    std::make_heap(kept->due.begin(), kept->due.end(), std::greater<>());
    sessions_ = std::move(kept);
}

}  // namespace omnistream
