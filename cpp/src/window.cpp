// A window takes rows in: they are placed, their groups looked up, and their values added. What it does with
// them is worked out in window_program.cpp, its open slices are kept in window_slices.cpp, and what has
// closed is written by window_write.cpp.
#include "omnistream/window.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>
#include <utility>

#include "window_impl.hpp"

namespace omnistream {

namespace {

constexpr std::size_t kBlock = GroupTable::kBlock;

}  // namespace

// ---- push: place, look up, add

Status Window::Impl::push(const CleanBatch& batch, std::vector<std::int32_t>* late_rows) {
    OMNI_RETURN_NOT_OK(valid_);
    OMNI_RETURN_NOT_OK(failed_);
    const std::size_t rows = batch.size();
    if (rows == 0) return {};
    OMNI_RETURN_NOT_OK(bind(*batch.batch));
    owner_ = batch.owner;
    // Where every row's watermark is looked at, they are worked out at once.
    const bool looks = batch.watermark_ms.empty() && (steps() || in_sessions());
    const KeptVector<std::int64_t> worked_out = looks ? batch.watermarks_ms() : KeptVector<std::int64_t>();
    const KeptVector<std::int64_t>& written = looks ? worked_out : batch.watermark_ms;
    Met met{written.empty() ? nullptr : written.data(), batch.run, batch.times.as<std::int64_t>()};
    for (std::size_t begin = 0; begin < rows;) {
        std::size_t count = std::min<std::size_t>(kBlock, rows - begin);
        if (steps()) {
            // What the next row's watermark has made final must not hold the row.
            const std::int64_t* watermarks_ms = met.written_ms;
            if (watermarks_ms[0] >= next_step_ms_) OMNI_RETURN_NOT_OK(step(watermarks_ms[0], &stepped_));
            if (watermarks_ms[0] < next_step_ms_)  // else the input has ended
                count = static_cast<std::size_t>(
                    std::lower_bound(watermarks_ms, watermarks_ms + count, next_step_ms_) - watermarks_ms);
        }
        if (batch.all) std::iota(numbers_, numbers_ + count, static_cast<std::int32_t>(begin));
        const std::int32_t* numbers = batch.all ? numbers_ : batch.rows.data() + begin;
        OMNI_RETURN_NOT_OK(push_block(numbers, &met, count, late_rows));
        begin += count;
    }
    return {};
}

std::int64_t Window::Impl::Met::last(const std::int32_t* rows, std::size_t count) {
    if (written_ms != nullptr) {
        written_ms += count;
        return written_ms[-1];
    }
    const bool consecutive = rows[count - 1] - rows[0] == static_cast<std::int32_t>(count) - 1;
    run.observe(consecutive ? times_ms + rows[0] : times_ms, consecutive ? nullptr : rows, count - 1);
    const std::int64_t met_ms = run.value();
    run.observe(times_ms[rows[count - 1]]);
    return met_ms;
}

const std::int64_t* Window::Impl::Met::each(const std::int32_t* rows, std::size_t count,
                                            std::int64_t* room) const {
    if (written_ms != nullptr) return written_ms;
    Watermark::Run local = run;
    local.meet(times_ms, rows, count, room);
    return room;
}

Status Window::Impl::bind_column(const Batch& batch, const std::string& name, Type type,
                                 const Column** column) const {
    *column = batch.find(name);
    if (*column == nullptr)
        return {Code::schema, "window '" + spec.name + "': the batch has no column '" + name + "'"};
    if ((*column)->type != type)
        return {Code::schema, "window '" + spec.name + "': column '" + name + "' is a " +
                                  type_name((*column)->type) + ", not a " + type_name(type)};
    return {};
}

// As keys: what is required has no way to say that it is null.
bool Window::Impl::fits(const Column& column, const std::string& key) const {
    return column.null_count == 0 ||
           std::find(spec.required.begin(), spec.required.end(), key) == spec.required.end();
}

Status Window::Impl::bind_times(const Batch& batch) {
    OMNI_RETURN_NOT_OK(bind_column(batch, spec.time_column, Type::timestamp_ms, &time_));
    placed_by_ms_ = time_->lanes<std::int64_t>();
    if (spec.original_time.empty()) return {};
    const Column* original = nullptr;
    const Column* type = nullptr;
    OMNI_RETURN_NOT_OK(bind_column(batch, spec.original_time, Type::timestamp_ms, &original));
    OMNI_RETURN_NOT_OK(bind_column(batch, spec.corrections.column, Type::dictionary, &type));
    correcting_.bind(*type);
    corrected_ms_.assign(placed_by_ms_, placed_by_ms_ + batch.rows);
    if (correcting_.weights.empty()) return {};
    for (std::int64_t row = 0; row < batch.rows; ++row)
        if (type->valid(row) && original->valid(row) &&
            correcting_.weights[static_cast<std::size_t>(type->lanes<std::int32_t>()[row])] != 0)
            corrected_ms_[static_cast<std::size_t>(row)] = original->lanes<std::int64_t>()[row];
    placed_by_ms_ = corrected_ms_.data();
    return {};
}

Status Window::Impl::bind(const Batch& batch) {
    OMNI_RETURN_NOT_OK(bind_times(batch));
    for (auto& [name, codes] : codes_) {
        const Column* column = nullptr;
        OMNI_RETURN_NOT_OK(bind_column(batch, name, Type::dictionary, &column));
        codes.meet(column->dictionary);
    }
    for (Key& key : keys_) {
        OMNI_RETURN_NOT_OK(bind_column(batch, key.column, key.type, &key.bound));
        if (!fits(*key.bound, key.column))
            return {Code::schema,
                    "window '" + spec.name + "': column '" + key.column + "' is required and holds nulls"};
    }
    for (Input& input : inputs_)
        OMNI_RETURN_NOT_OK(bind_column(batch, input.column, input.type, &input.bound));
    for (ItemColumn& items : items_)
        OMNI_RETURN_NOT_OK(bind_column(batch, items.column, items.column_type, &items.bound));
    for (BoundCondition& condition : conditions_) {
        const Column* column = nullptr;
        OMNI_RETURN_NOT_OK(bind_column(batch, condition.condition.column, Type::dictionary, &column));
        condition.bind(*column);
    }
    for (Weighing& weighing : weighings_) {
        weighing.bound = weighing.column.empty() ? nullptr : batch.find(weighing.column);
        if (!weighing.column.empty() && weighing.bound == nullptr)
            return {Code::schema,
                    "window '" + spec.name + "': the batch has no column '" + weighing.column + "'"};
        weighing.all_one =
            weighing.condition < 0 && (weighing.bound == nullptr || weighing.bound->null_count == 0);
    }
    return {};
}

Status Window::Impl::push_block(const std::int32_t* rows, Met* met, std::size_t count,
                                std::vector<std::int32_t>* late_rows) {
    if (time_->null_count != 0)
        for (std::size_t i = 0; i < count; ++i)
            if (!time_->valid(rows[i]))
                return {Code::schema, "window '" + spec.name + "': '" + spec.time_column + "' of row " +
                                          std::to_string(rows[i]) + " is null; make the column required"};

    std::size_t placed = 0;
    if (!in_sessions()) {
        placed = place(rows, met, count, late_rows);
        for (const Run& run : runs_) look_up(run);
    } else {
        placed = place_in_sessions(rows, met->written_ms, count, late_rows);
        met->written_ms += count;
        OMNI_RETURN_NOT_OK(failed_);
    }

    for (Input& input : inputs_) gather(&input, block_rows_, placed, consecutive_);
    for (Weighing& weighing : weighings_)
        if (!weighing.all_one)
            weigh(
                weighing.bound,
                weighing.condition < 0 ? nullptr : &conditions_[static_cast<std::size_t>(weighing.condition)],
                block_rows_, placed, weighing.weights);
    OMNI_RETURN_NOT_OK(add(placed));
    counts.aggregated += static_cast<std::int64_t>(placed);
    return {};
}

// The block to its groups: what is plain in one pass, then one accumulator after the other.
Status Window::Impl::add(std::size_t placed) {
    const Accumulator* plain_count = nullptr;
    const Accumulator* plain[kMostPlain];
    PlainSum sums[kMostPlain];
    std::size_t sum_count = 0;
    const auto is_plain = [&](const Accumulator& accumulator) {
        if (!weighings_[accumulator.weighing].all_one) return false;
        if (accumulator.add == Add::count && (plain_count == nullptr || plain_count == &accumulator)) {
            plain_count = &accumulator;
            return true;
        }
        if (accumulator.add != Add::sum || sum_count == kMostPlain) return false;
        plain[sum_count] = &accumulator;
        sums[sum_count++] = {accumulator.word, inputs_[accumulator.input].values};
        return true;
    };
    const auto add_plainly = [&]() -> Status {
        if (plain_count == nullptr && sum_count == 0) return {};
        const unsigned overflowed =
            add_plain(words_, placed, plain_count == nullptr ? nullptr : &plain_count->word, sums, sum_count);
        if (overflowed != 0)
            return failed_ = overflow(*plain[static_cast<std::size_t>(std::countr_zero(overflowed))]);
        plain_count = nullptr;
        sum_count = 0;
        return {};
    };
    for (const Accumulator& accumulator : accumulators_) {
        if (is_plain(accumulator)) continue;
        const Weighing& weighing = weighings_[accumulator.weighing];
        const std::int8_t* weights = weighing.all_one ? nullptr : weighing.weights;
        if (accumulator.add == Add::carried || accumulator.add == Add::told) continue;
        if (accumulator.add == Add::items) {
            for (const Run& run : runs_)
                if (!add_items(run, accumulator.items)) return failed_ = overflow(accumulator);
            continue;
        }
        const std::int64_t* values =
            accumulator.add == Add::count ? nullptr : inputs_[accumulator.input].values;
        if (accumulator.add == Add::first || accumulator.add == Add::last) {
            add_block_by_time(accumulator.add, words_, accumulator.word, placed, values,
                              inputs_[accumulator.time].values, weights);
            continue;
        }
        if (add_block(accumulator.add, words_, accumulator.word, placed, values, weights))
            return failed_ = overflow(accumulator);
    }
    return add_plainly();
}

Status Window::Impl::overflow(const Accumulator& accumulator) const {
    return {Code::state, "window '" + spec.name + "': measure '" + accumulator.measure + "' overflows: the " +
                             (accumulator.add == Add::squares ? "sum of squares does not fit 128 bits"
                                                              : "sum does not fit 64 bits")};
}

// Places a block of consecutive rows that all fall into one window, none late: nothing is to be moved then.
bool Window::Impl::place_in_one(const std::int32_t* rows, std::size_t count, std::int64_t watermark_ms) {
    if (rows[count - 1] - rows[0] != static_cast<std::int32_t>(count) - 1) return false;
    const std::int64_t* times_ms = placed_by_ms_ + rows[0];
    Slice* slice = slice_near(times_ms[count - 1], watermark_ms);
    if (slice == nullptr || slice->final_ms <= watermark_ms) return false;
    const auto start_ms = static_cast<std::uint64_t>(slice->start_ms);
    const std::uint64_t size_ms = static_cast<std::uint64_t>(slice->end_ms) - start_ms;
    bool outside = false;
    for (std::size_t i = 0; i < count; ++i)
        outside |= static_cast<std::uint64_t>(times_ms[i]) - start_ms >= size_ms;
    if (outside) return false;
    runs_.push_back({slice, 0, static_cast<std::uint32_t>(count)});
    near_misses_ = 0;
    return true;
}

// Places a block in which no row is late, if its rows fall into few slices: a pass without branches for each
// of them parts its rows from the others. `watermark_ms` is the one that the last row met, which is the
// largest. False when it is not so, or not seen at a glance.
bool Window::Impl::place_at_a_glance(const std::int32_t* rows, std::size_t count, std::int64_t watermark_ms) {
    constexpr std::size_t kMostSlices = 4;
    const std::int64_t* times_ms = placed_by_ms_;
    const std::int32_t* left = rows;
    std::uint32_t begin = 0;
    while (count > 0) {
        Slice* slice =
            runs_.size() == kMostSlices ? nullptr : slice_near(times_ms[left[count - 1]], watermark_ms);
        if (slice == nullptr || slice->final_ms <= watermark_ms) {
            runs_.clear();
            return false;
        }
        const auto start_ms = static_cast<std::uint64_t>(slice->start_ms);
        const std::uint64_t size_ms = static_cast<std::uint64_t>(slice->end_ms) - start_ms;
        std::size_t inside = 0;
        std::size_t outside = 0;
        for (std::size_t i = 0; i < count; ++i) {
            const std::int32_t row = left[i];
            const bool falls = static_cast<std::uint64_t>(times_ms[row]) - start_ms < size_ms;
            order_[begin + inside] = row;
            placed_[outside] = row;
            inside += falls;
            outside += !falls;
        }
        runs_.push_back({slice, begin, static_cast<std::uint32_t>(inside)});
        begin += static_cast<std::uint32_t>(inside);
        left = placed_;
        count = outside;
    }
    near_misses_ = 0;
    return true;
}

// Finds each row's window and sorts the rows of the block by window, late ones left out. Returns how many are
// in order_.
std::size_t Window::Impl::place(const std::int32_t* rows, Met* met, std::size_t count,
                                std::vector<std::int32_t>* late_rows) {
    const std::int64_t* times_ms = placed_by_ms_;
    const std::int64_t closed_ms = closed_ms_of(owner_);
    const Met before = *met;
    const std::int64_t last_ms = std::max(met->last(rows, count), closed_ms);
    runs_.clear();
    consecutive_ = place_in_one(rows, count, last_ms);
    block_rows_ = consecutive_ ? rows : order_;
    if (consecutive_ || place_at_a_glance(rows, count, last_ms)) return count;
    const std::int64_t* watermarks_ms = before.each(rows, count, met_);
    std::size_t placed = 0;
    touched_.clear();
    for (std::size_t i = 0; i < count; ++i) {
        const std::int64_t time_ms = times_ms[rows[i]];
        const std::int64_t watermark_ms = std::max(watermarks_ms[i], closed_ms);
        Slice* slice = nullptr;
        const std::uint64_t since = static_cast<std::uint64_t>(time_ms) - near_start_ms_;
        if (since < near_span_ms_) {
            near_misses_ = 0;
            // The product with the reciprocal never comes out too large and at most one too small: quotients
            // are below 64 and the span is below 2^50, so their distance to the next integer is far above the
            // error.
            const auto past = static_cast<std::int64_t>(since);
            auto ahead = static_cast<std::int64_t>(static_cast<double>(past) * per_slice_);
            ahead += static_cast<std::int64_t>(past - ahead * slice_ms_ >= slice_ms_);
            slice = near_[ahead];
            if (slice == nullptr) slice = near_[ahead] = find_or_open(near_index_ + ahead, watermark_ms);
        } else {
            slice = find_far(time_ms, watermark_ms);
        }
        if (slice == nullptr || slice->final_ms <= watermark_ms) {
            late_rows->push_back(rows[i]);
            ++counts.late;
            continue;
        }
        if (slice->block_rows++ == 0) touched_.push_back(slice);
        slice_of_[placed] = slice;
        placed_[placed++] = rows[i];
    }
    std::uint32_t begin = 0;
    for (Slice* slice : touched_) {
        runs_.push_back({slice, begin, slice->block_rows});
        slice->next_in_block = begin;
        begin += std::exchange(slice->block_rows, 0);
    }
    for (std::size_t i = 0; i < placed; ++i) order_[slice_of_[i]->next_in_block++] = placed_[i];
    return placed;
}

// The groups of the block's rows in one window, made where they are new.
void Window::Impl::look_up(const Run& run) {
    Slice* slice = run.slice;
    const std::int32_t* rows = block_rows_ + run.begin;
    const std::size_t count = run.count;
    const std::uint64_t* key_words =
        consecutive_ && !keys_.empty() ? layout_.keys_in_place(*keys_[0].bound, rows[0]) : nullptr;
    if (key_words == nullptr) {
        key_words = key_words_.data();
        layout_.start(key_words_.data(), count);
        for (std::size_t i = 0; i < keys_.size(); ++i) {
            const Key& key = keys_[i];
            layout_.pack(i, *key.bound, rows, count,
                         key.codes == nullptr ? nullptr : key.codes->translation(), slice->key_texts[i].get(),
                         key_words_.data());
        }
    }
    std::uint32_t* groups = group_ + run.begin;
    const std::size_t known = slice->groups.size();
    slice->groups.find_or_insert(key_words, count, groups, words_ + run.begin);
    own_from(slice, known, owner_);
    slice->changed = true;
}

// ---- The face

Window::Window(WindowSpec spec, std::vector<Type> key_types, std::vector<Type> measure_types)
    : impl_(std::make_unique<Impl>(std::move(spec), std::move(key_types), std::move(measure_types))) {}
Window::~Window() = default;

Status Window::validate() const {
    return impl_->validate();
}
Status Window::push(const CleanBatch& batch, std::vector<std::int32_t>* late_rows) {
    return impl_->push(batch, late_rows);
}
Status Window::advance(std::int64_t watermark_ms, std::vector<std::shared_ptr<Batch>>* closed) {
    return impl_->advance(watermark_ms, closed);
}
const WindowSpec& Window::spec() const {
    return impl_->spec;
}
const WindowCounts& Window::counts() const {
    return impl_->counts;
}
std::int64_t Window::open_windows() const {
    return impl_->open_windows();
}
std::int64_t Window::groups() const {
    return impl_->groups();
}
std::int64_t Window::memory_bytes() const {
    return impl_->memory_bytes();
}
std::shared_ptr<Batch> Window::empty_result() const {
    return impl_->empty_result();
}
Status Window::freeze(std::unique_ptr<FrozenWindow>* frozen, std::int32_t owner) {
    return impl_->freeze(frozen, owner);
}
Status Window::restore(const Parts& parts) {
    return impl_->restore(parts);
}
Status Window::drop(std::int32_t owner) {
    return impl_->drop(owner);
}
Status Window::take(const Parts& parts, std::int32_t from, std::int32_t to) {
    return impl_->take(parts, from, to);
}

}  // namespace omnistream
