#include "omnistream/window.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <set>
#include <utility>

#include "omnistream/moments.hpp"
#include "window_impl.hpp"

namespace omnistream {

const char* name_of(Operation operation) {
    switch (operation) {
        case Operation::count:
            return "count";
        case Operation::sum:
            return "sum";
        case Operation::min:
            return "min";
        case Operation::max:
            return "max";
        case Operation::mean:
            return "mean";
        case Operation::std_dev:
            return "std";
        case Operation::variance:
            return "variance";
        case Operation::distinct:
            return "distinct";
        case Operation::first:
            return "first";
        case Operation::last:
            return "last";
        case Operation::top:
            return "top";
        case Operation::top_weight:
            return "top_weight";
        case Operation::approx_distinct:
            return "approx_distinct";
        case Operation::quantile:
            return "quantile";
    }
    return "";
}

const char* name_of(WindowKind kind) {
    switch (kind) {
        case WindowKind::tumbling:
            return "tumbling";
        case WindowKind::hopping:
            return "hopping";
        case WindowKind::calendar:
            return "calendar";
        case WindowKind::session:
            return "session";
        case WindowKind::global:
            return "global";
    }
    return "";
}

const char* name_of(CalendarUnit unit) {
    return unit == CalendarUnit::day ? "day" : unit == CalendarUnit::week ? "week" : "month";
}

std::string condition_text(const Condition& condition) {
    if (condition.column.empty()) return "";
    const auto quoted = [](const std::string& text) {
        std::string quotes = "'";
        for (const char letter : text) quotes += letter == '\'' ? std::string("''") : std::string(1, letter);
        return quotes + "'";
    };
    std::string text = " where " + quoted(condition.column) + ":";
    for (const std::string& value : condition.plus) text += " +" + quoted(value);
    for (const std::string& value : condition.minus) text += " -" + quoted(value);
    return text;
}

namespace {

constexpr std::size_t kBlock = GroupTable::kBlock;

bool is_integer(Type type) {
    return type == Type::int32 || type == Type::int64 || type == Type::decimal;
}

Type result_type(Operation operation, Type column) {
    switch (operation) {
        case Operation::count:
        case Operation::distinct:
        case Operation::approx_distinct:
            return Type::int64;
        case Operation::sum:
            return column == Type::decimal ? Type::decimal : Type::int64;
        case Operation::min:
        case Operation::max:
            return column;
        case Operation::first:
        case Operation::last:
        case Operation::top:
            return is_text(column) ? Type::string : column;
        default:
            return Type::float64;
    }
}

}  // namespace

Window::Impl::Impl(WindowSpec spec_given, std::vector<Type> key_types, std::vector<Type> measure_types)
    : spec(std::move(spec_given)),
      measure_types_(std::move(measure_types)),
      key_types_(std::move(key_types)),
      valid_(check()),
      layout_(key_types_) {
    if (!valid_.ok()) return;
    key_width_ = layout_.words() + (in_sessions() ? 1 : 0);
    if (spec.kind == WindowKind::calendar) calendar_ = Calendar(spec.unit, spec.offset_ms, spec.zone);
    if (spec.kind == WindowKind::tumbling || spec.kind == WindowKind::hopping) {
        const std::int64_t period_ms = spec.kind == WindowKind::hopping ? spec.hop_ms : spec.size_ms;
        slice_ms_ = std::gcd(spec.size_ms, period_ms);
        slices_per_hop_ = period_ms / slice_ms_;
        slices_per_window_ = spec.size_ms / slice_ms_;
        spec.offset_ms -= static_cast<std::int64_t>(floor_divide(spec.offset_ms, period_ms) * period_ms);
    }
    per_slice_ = 1.0 / static_cast<double>(slice_ms_);
    correcting_.condition = spec.corrections;
    compile();
    if (in_sessions()) sessions_ = make_sessions();
    key_words_.resize(kBlock * std::max(layout_.words(), std::size_t{2}));
}

Status Window::Impl::check() const {
    const auto refuse = [this](const std::string& what) {
        return Status(Code::schema, "window '" + spec.name + "': " + what);
    };
    const bool sized = spec.kind == WindowKind::tumbling || spec.kind == WindowKind::hopping;
    if (sized && spec.size_ms <= 0) return refuse("its size must be longer than nothing");
    if (spec.early_ms < 0) return refuse("the interval of early results must not be negative");
    if (early() && (in_sessions() || spec.kind == WindowKind::hopping))
        return refuse("only tumbling, calendar and global windows have early results");
    if (!spec.original_time.empty()) {
        if (in_sessions() || spec.kind == WindowKind::global)
            return refuse("corrections of the original sale need windows of fixed times");
        if (spec.corrections.plus.empty()) return refuse("it does not say which rows are corrections");
    }
    if (in_sessions() && spec.gap_ms <= 0) return refuse("its gap must be longer than nothing");
    if (spec.kind == WindowKind::calendar && spec.zone.empty()) return refuse("its time zone has no rules");
    if (spec.kind == WindowKind::hopping && (spec.hop_ms <= 0 || spec.hop_ms > spec.size_ms))
        return refuse("it must hop by more than nothing and by no more than its size");
    if (spec.allowed_lateness_ms < 0) return refuse("its allowed lateness must not be negative");
    if (key_types_.size() != spec.keys.size() || measure_types_.size() != spec.measures.size())
        return refuse("it needs one type for each key and each measure");
    std::set<std::string> names;
    if (spec.kind != WindowKind::global) names = {"window_start", "window_end"};
    if (early()) names.insert({"revision", "final"});
    for (std::size_t i = 0; i < spec.keys.size(); ++i) {
        if (!names.insert(spec.keys[i]).second)
            return refuse("two result columns are called '" + spec.keys[i] + "'");
        if (!KeyLayout::accepts(key_types_[i]))
            return refuse("column '" + spec.keys[i] + "' is a " + type_name(key_types_[i]) +
                          ", which is no key");
    }
    for (std::size_t i = 0; i < spec.measures.size(); ++i) {
        const Measure& measure = spec.measures[i];
        const Type type = measure_types_[i];
        const auto refuse_measure = [&](const std::string& what) {
            return refuse("measure '" + measure.name + "': " + what);
        };
        if (!names.insert(measure.name).second)
            return refuse("two result columns are called '" + measure.name + "'");
        const std::string call =
            std::string(name_of(measure.operation)) + " of '" + measure.column + "', a " + type_name(type);
        switch (measure.operation) {
            case Operation::count:
                break;
            case Operation::sum:
            case Operation::mean:
            case Operation::std_dev:
            case Operation::variance:
                if (type == Type::float64)
                    return refuse_measure(call +
                                          ", would depend on the order of rows; declare the column decimal");
                if (!is_integer(type)) return refuse_measure(call + ", is not defined");
                break;
            case Operation::min:
            case Operation::max:
                if (!is_integer(type) && type != Type::timestamp_ms && type != Type::float64)
                    return refuse_measure(call + ", is not defined");
                break;
            case Operation::distinct:
            case Operation::approx_distinct:
            case Operation::top:
            case Operation::top_weight:
                if (!KeyLayout::accepts(type)) return refuse_measure(call + ", is not exact");
                if (!measure.by.empty() && !is_integer(measure.by_type))
                    return refuse_measure("a sum of '" + measure.by + "', a " + type_name(measure.by_type) +
                                          ", is not exact");
                if (measure.argument < 0) return refuse_measure("ranks count from 0");
                break;
            case Operation::first:
            case Operation::last:
                if (type == Type::binary) return refuse_measure(call + ", is not defined");
                break;
            case Operation::quantile:
                if (!is_integer(type)) return refuse_measure(call + ", is not defined");
                if (measure.argument < 0 || measure.argument > 1'000'000)
                    return refuse_measure("a quantile is between 0 and 1");
                break;
        }
        if (measure.operation != Operation::count && measure.column.empty())
            return refuse_measure(std::string(name_of(measure.operation)) + " needs a column");
        const bool takes_away = measure.operation == Operation::count ||
                                measure.operation == Operation::sum || measure.operation == Operation::top ||
                                measure.operation == Operation::top_weight;
        if (!measure.condition.minus.empty() && !takes_away)
            return refuse_measure("only count, sum and top can take values away");
    }
    return {};
}

// ---- compile: from measures to accumulators

void Window::Impl::compile() {
    for (std::size_t i = 0; i < spec.keys.size(); ++i) {
        keys_.push_back({spec.keys[i], key_types_[i], nullptr, nullptr, {}});
        if (key_types_[i] == Type::dictionary) keys_.back().codes = codes_of(spec.keys[i]);
    }
    fresh_.assign(in_sessions() ? std::size_t{kSessionWords} : 0, 0);
    for (std::size_t i = 0; i < spec.measures.size(); ++i) {
        const Measure& measure = spec.measures[i];
        const Type type = measure_types_[i];
        Output output;
        output.operation = measure.operation;
        output.column_type = type;
        output.type = result_type(measure.operation, type);
        const auto word_of = [&](Add add) { return accumulate(add, measure, type, measure.column); };
        switch (measure.operation) {
            case Operation::count:
                output.value = word_of(Add::count);
                break;
            case Operation::sum:
                output.value = word_of(Add::sum);
                break;
            case Operation::distinct:
                output.value =
                    accumulators_[items_[items_of(ItemKind::distinct, measure, type)].accumulator].word;
                break;
            case Operation::top:
            case Operation::top_weight:
                if (measure.operation == Operation::top_weight)
                    output.type = measure.by_type == Type::decimal ? Type::decimal : Type::int64;
                output.by_items = true;
                output.items = items_of(ItemKind::tally, measure, type);
                output.argument = measure.argument;
                break;
            case Operation::approx_distinct:
                output.by_items = true;
                output.items = items_of(ItemKind::registers, measure, type);
                break;
            case Operation::quantile:
                output.by_items = true;
                output.items = items_of(ItemKind::buckets, measure, type);
                output.argument = measure.argument;
                break;
            case Operation::first:
            case Operation::last: {
                const bool first = measure.operation == Operation::first;
                if (is_text(type)) {
                    output.by_items = true;
                    output.items = items_of(first ? ItemKind::earliest : ItemKind::latest, measure, type);
                } else {
                    output.value = word_of(first ? Add::first : Add::last) + 1;
                }
                break;
            }
            case Operation::min:
            case Operation::max:
                output.value = word_of(measure.operation == Operation::min ? Add::min
                                       : type == Type::float64             ? Add::max_float
                                                                           : Add::max);
                output.counted = takes_all_of_int64(type);
                if (output.counted) output.count = word_of(Add::count);
                break;
            case Operation::std_dev:
            case Operation::variance:
                output.squares = word_of(Add::squares);
                [[fallthrough]];
            case Operation::mean:
                output.value = word_of(Add::sum);
                output.count = word_of(Add::count);
                break;
        }
        outputs_.push_back(output);
    }
    if (early()) {
        Measure rows;
        rows.name = "revision";
        rows_word_ = accumulate(Add::count, rows, Type::int64, "");
        told_word_ = accumulators_[new_accumulator(Add::told, "rows told", rows)].word;
        revision_word_ = accumulators_[new_accumulator(Add::told, "revision", rows)].word;
    }
}

// The word (counted from the row's start) of what is asked for; made when no measure before has needed it.
std::size_t Window::Impl::accumulate(Add add, const Measure& measure, Type type, const std::string& column) {
    constexpr const char* kNames[] = {"count", "sum",   "squares", "min",     "max", "max",
                                      "items", "first", "last",    "carried", "told"};
    const std::string name = std::string(kNames[static_cast<std::size_t>(add)]) +
                             (column.empty() ? "" : "(" + column + ")") + condition_text(measure.condition);
    for (const Accumulator& accumulator : accumulators_)
        if (accumulator.name == name) return accumulator.word;
    const std::size_t number = new_accumulator(add, name, measure);
    accumulators_[number].weighing = weighing_of(column, measure.condition);
    if (add != Add::count) accumulators_[number].input = input_of(column, type);
    if (add == Add::squares) fresh_.push_back(0);
    if (add == Add::first || add == Add::last) {
        accumulators_[number].time = input_of(spec.time_column, Type::timestamp_ms);
        new_accumulator(Add::carried, "value of " + name, measure);
    }
    return accumulators_[number].word;
}

std::size_t Window::Impl::new_accumulator(Add add, const std::string& name, const Measure& measure) {
    Accumulator& accumulator = accumulators_.emplace_back();
    accumulator.name = name;
    accumulator.measure = measure.name;
    accumulator.add = add;
    accumulator.word = key_width_ + fresh_.size();
    fresh_.push_back(fresh_word(add));
    return accumulators_.size() - 1;
}

// Which items hold what is asked for; made likewise.
std::size_t Window::Impl::items_of(ItemKind kind, const Measure& measure, Type type) {
    constexpr const char* kNames[] = {"distinct", "tally", "registers", "buckets", "earliest", "latest"};
    const std::string name = std::string(kNames[static_cast<std::size_t>(kind)]) + "(" + measure.column +
                             (measure.by.empty() ? ")" : " by " + measure.by + ")") +
                             condition_text(measure.condition);
    for (std::size_t i = 0; i < items_.size(); ++i)
        if (accumulators_[items_[i].accumulator].name == name) return i;
    ItemColumn items;
    items.column = measure.column;
    items.column_type = type;
    items.kind = kind;
    const bool numbered = kind == ItemKind::registers || kind == ItemKind::buckets;
    items.type = numbered ? Type::int32 : type;
    if (items.type == Type::dictionary) items.codes = codes_of(measure.column);
    if (kind == ItemKind::buckets) items.input = input_of(measure.column, type);
    if (kind == ItemKind::tally && !measure.by.empty()) items.input = input_of(measure.by, measure.by_type);
    if (kind == ItemKind::earliest || kind == ItemKind::latest)
        items.input = input_of(spec.time_column, Type::timestamp_ms);
    items.accumulator = new_accumulator(Add::items, name, measure);
    accumulators_[items.accumulator].weighing = weighing_of(measure.column, measure.condition);
    accumulators_[items.accumulator].items = items_.size();
    if (in_sessions()) {
        items.head = key_width_ + fresh_.size();
        fresh_.push_back(0);
    }
    items_.push_back(std::move(items));
    return items_.size() - 1;
}

std::size_t Window::Impl::input_of(const std::string& column, Type type) {
    for (std::size_t i = 0; i < inputs_.size(); ++i)
        if (inputs_[i].column == column) return i;
    Input& input = inputs_.emplace_back();
    input.column = column;
    input.type = type;
    return inputs_.size() - 1;
}

std::size_t Window::Impl::weighing_of(const std::string& column, const Condition& condition) {
    std::int32_t number = -1;
    if (!condition.column.empty()) {
        const std::string wanted = condition_text(condition);
        for (std::size_t i = 0; i < conditions_.size(); ++i)
            if (condition_text(conditions_[i].condition) == wanted) number = static_cast<std::int32_t>(i);
        if (number < 0) {
            number = static_cast<std::int32_t>(conditions_.size());
            conditions_.emplace_back().condition = condition;
        }
    }
    for (std::size_t i = 0; i < weighings_.size(); ++i)
        if (weighings_[i].column == column && weighings_[i].condition == number) return i;
    Weighing& weighing = weighings_.emplace_back();
    weighing.column = column;
    weighing.condition = number;
    return weighings_.size() - 1;
}

Codes* Window::Impl::codes_of(const std::string& column) {
    return &codes_[column];
}

// ---- push: place, look up, add

Status Window::Impl::push(const CleanBatch& batch, std::vector<std::int32_t>* late_rows) {
    OMNI_RETURN_NOT_OK(valid_);
    OMNI_RETURN_NOT_OK(failed_);
    if (batch.rows.empty()) return {};
    OMNI_RETURN_NOT_OK(bind(*batch.batch));
    owner_ = batch.owner;
    for (std::size_t begin = 0; begin < batch.rows.size();) {
        const std::int64_t* watermarks_ms = batch.watermark_ms.data() + begin;
        std::size_t count = std::min(kBlock, batch.rows.size() - begin);
        if (steps()) {
            // What the next row's watermark has made final must not hold the row.
            if (watermarks_ms[0] >= next_step_ms_) OMNI_RETURN_NOT_OK(step(watermarks_ms[0], &stepped_));
            if (watermarks_ms[0] < next_step_ms_)  // else the input has ended
                count = static_cast<std::size_t>(
                    std::lower_bound(watermarks_ms, watermarks_ms + count, next_step_ms_) - watermarks_ms);
        }
        OMNI_RETURN_NOT_OK(push_block(batch.rows.data() + begin, watermarks_ms, count, late_rows));
        begin += count;
    }
    return {};
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
    for (Key& key : keys_) OMNI_RETURN_NOT_OK(bind_column(batch, key.column, key.type, &key.bound));
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

Status Window::Impl::push_block(const std::int32_t* rows, const std::int64_t* watermarks_ms,
                                std::size_t count, std::vector<std::int32_t>* late_rows) {
    if (time_->null_count != 0)
        for (std::size_t i = 0; i < count; ++i)
            if (!time_->valid(rows[i]))
                return {Code::schema, "window '" + spec.name + "': '" + spec.time_column + "' of row " +
                                          std::to_string(rows[i]) + " is null; make the column required"};

    std::size_t placed = 0;
    if (!in_sessions()) {
        placed = place(rows, watermarks_ms, count, late_rows);
        for (const Run& run : runs_) look_up(run);
    } else {
        placed = place_in_sessions(rows, watermarks_ms, count, late_rows);
        OMNI_RETURN_NOT_OK(failed_);
    }

    for (Input& input : inputs_) gather(input, order_, placed, input.values);
    for (Weighing& weighing : weighings_)
        if (!weighing.all_one)
            weigh(
                weighing.bound,
                weighing.condition < 0 ? nullptr : &conditions_[static_cast<std::size_t>(weighing.condition)],
                order_, placed, weighing.weights);
    for (const Accumulator& accumulator : accumulators_) {
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
    counts.aggregated += static_cast<std::int64_t>(placed);
    return {};
}

Status Window::Impl::overflow(const Accumulator& accumulator) const {
    return {Code::state, "window '" + spec.name + "': measure '" + accumulator.measure + "' overflows: the " +
                             (accumulator.add == Add::squares ? "sum of squares does not fit 128 bits"
                                                              : "sum does not fit 64 bits")};
}

// The slice that all rows of a block fall into, none of them late; null when that is not so, or not seen at a
// glance. A pass without branches instead of one that places row by row: 1 ns a row, not 4, where windows are
// long. The watermark never moves back, so the last row met the largest.
Window::Impl::Slice* Window::Impl::slice_of_all(const std::int32_t* rows, const std::int64_t* watermarks_ms,
                                                std::size_t count, std::int64_t closed_ms) {
    const auto* times_ms = time_->lanes<std::int64_t>();
    const std::uint64_t since = static_cast<std::uint64_t>(times_ms[rows[0]]) - near_start_ms_;
    if (since >= near_span_ms_) return nullptr;
    Slice* slice = near_[static_cast<std::int64_t>(since) / slice_ms_];
    if (slice == nullptr || slice->final_ms <= std::max(closed_ms, watermarks_ms[count - 1])) return nullptr;
    const auto start_ms = static_cast<std::uint64_t>(slice->start_ms);
    const std::uint64_t size_ms = static_cast<std::uint64_t>(slice->end_ms) - start_ms;
    const auto outside = [=](std::int32_t row) {
        return static_cast<std::uint64_t>(times_ms[row]) - start_ms >= size_ms;
    };
    if (outside(rows[count - 1])) return nullptr;
    bool any = false;
    for (std::size_t i = 0; i < count; ++i) any |= outside(rows[i]);
    if (any) return nullptr;
    near_misses_ = 0;
    return slice;
}

// Finds each row's window and sorts the rows of the block by window, late ones left out. Returns how many are
// in order_.
std::size_t Window::Impl::place(const std::int32_t* rows, const std::int64_t* watermarks_ms,
                                std::size_t count, std::vector<std::int32_t>* late_rows) {
    const std::int64_t* times_ms = placed_by_ms_;
    const std::int64_t closed_ms = closed_ms_of(owner_);
    runs_.clear();
    if (Slice* slice = slice_of_all(rows, watermarks_ms, count, closed_ms); slice != nullptr) {
        std::memcpy(order_, rows, count * sizeof *rows);
        runs_.push_back({slice, 0, static_cast<std::uint32_t>(count)});
        return count;
    }
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
    const std::int32_t* rows = order_ + run.begin;
    const std::size_t count = run.count;
    std::memset(key_words_.data(), 0, count * layout_.words() * sizeof(std::uint64_t));
    for (std::size_t i = 0; i < keys_.size(); ++i) {
        const Key& key = keys_[i];
        layout_.pack(i, *key.bound, rows, count, key.codes == nullptr ? nullptr : key.codes->translation(),
                     slice->key_texts[i].get(), key_words_.data());
    }
    std::uint32_t* groups = group_ + run.begin;
    const std::size_t known = slice->groups.size();
    slice->groups.find_or_insert(key_words_.data(), count, groups);
    own_from(slice, known, owner_);
    for (std::size_t i = 0; i < count; ++i) words_[run.begin + i] = slice->groups.row(groups[i]);
}

// ---- Open slices

// Offset is in [0, size), so the index always fits.
std::int64_t Window::Impl::index_of(std::int64_t time_ms) const {
    if (spec.kind == WindowKind::global) return 0;
    if (spec.kind == WindowKind::calendar) return calendar_.index_of(time_ms);
    return static_cast<std::int64_t>(floor_divide(static_cast<Wide>(time_ms) - spec.offset_ms, slice_ms_));
}

Window::Impl::Interval Window::Impl::interval_of(std::int64_t index) const {
    if (spec.kind == WindowKind::global) return {kLeast, kMost, kMost};
    if (spec.kind == WindowKind::calendar) {
        const std::int64_t end_ms = calendar_.start_ms(index + 1);
        return {calendar_.start_ms(index), end_ms,
                saturate(static_cast<Wide>(end_ms) + spec.allowed_lateness_ms)};
    }
    const Wide start = static_cast<Wide>(index) * slice_ms_ + spec.offset_ms;
    Wide end = start + slice_ms_;
    if (spec.kind == WindowKind::hopping)
        end = floor_divide(index, slices_per_hop_) * spec.hop_ms + spec.offset_ms + spec.size_ms;
    const std::int64_t final_ms = saturate(static_cast<Wide>(saturate(end)) + spec.allowed_lateness_ms);
    return {saturate(start), saturate(start + slice_ms_), final_ms};
}

Window::Impl::Slice* Window::Impl::find_far(std::int64_t time_ms, std::int64_t watermark_ms) {
    const bool searched = spec.kind == WindowKind::calendar || spec.kind == WindowKind::global;
    if (searched && recent_ != nullptr && time_ms >= recent_->start_ms && time_ms < recent_->end_ms)
        return recent_;
    const std::int64_t index = index_of(time_ms);
    Slice* slice = find_or_open(index, watermark_ms);
    if (searched) {
        if (slice != nullptr) recent_ = slice;
        return slice;
    }
    if (++near_misses_ == kMissesToMove) move_near(index);
    return slice;
}

// Null when the slice is not open and its last window already final.
Window::Impl::Slice* Window::Impl::find_or_open(std::int64_t index, std::int64_t watermark_ms) {
    const auto found = open_.find(index);
    if (found != open_.end()) return found->second.get();
    const Interval interval = interval_of(index);
    if (interval.final_ms <= watermark_ms) return nullptr;
    return open_.emplace(index, make_slice(interval)).first->second.get();
}

std::unique_ptr<Window::Impl::Slice> Window::Impl::make_slice(const Interval& interval) const {
    auto slice = std::make_unique<Slice>(GroupTable(key_width_, fresh_));
    slice->start_ms = interval.start_ms;
    slice->end_ms = interval.end_ms;
    slice->final_ms = interval.final_ms;
    set_up(slice.get());
    return slice;
}

void Window::Impl::set_up(Slice* slice) const {
    for (const Key& key : keys_)
        slice->key_texts.push_back(key.type == Type::string ? std::make_unique<Dictionary>() : nullptr);
    for (const ItemColumn& items : items_)
        slice->items.push_back({GroupTable(items.key_words(), items.fresh(in_sessions())),
                                items.type == Type::string ? std::make_unique<Dictionary>() : nullptr});
}

void Window::Impl::move_near(std::int64_t index) {
    constexpr std::int64_t kMostTime = std::int64_t{1} << 61;  // so that differences cannot wrap around
    constexpr Wide kMostSpan = Wide{1} << 50;                  // see place()
    const Wide base = static_cast<Wide>(index) - kNearPast;
    const Wide start = base * slice_ms_ + spec.offset_ms;
    const Wide span = static_cast<Wide>(slice_ms_) * static_cast<std::int64_t>(kNear);
    near_span_ms_ = 0;
    near_misses_ = 0;
    if (start < -kMostTime || start > kMostTime || span > kMostSpan) return;
    near_index_ = static_cast<std::int64_t>(base);
    near_start_ms_ = static_cast<std::uint64_t>(static_cast<std::int64_t>(start));
    near_span_ms_ = static_cast<std::uint64_t>(span);
    std::fill(std::begin(near_), std::end(near_), nullptr);
    for (auto at = open_.lower_bound(near_index_); at != open_.end(); ++at) {
        if (at->first - near_index_ >= static_cast<std::int64_t>(kNear)) break;
        near_[at->first - near_index_] = at->second.get();
    }
}

// What near_ and recent_ point at is gone; near_ stays in place.
void Window::Impl::forget_near() {
    recent_ = nullptr;
    if (near_span_ms_ != 0) move_near(near_index_ + kNearPast);
}

// ---- advance: closed windows become batches

Status Window::Impl::advance(std::int64_t watermark_ms, std::vector<std::shared_ptr<Batch>>* closed) {
    OMNI_RETURN_NOT_OK(valid_);
    OMNI_RETURN_NOT_OK(failed_);
    closed->insert(closed->end(), stepped_.begin(), stepped_.end());
    stepped_.clear();
    return step(watermark_ms, closed);
}

Status Window::Impl::step(std::int64_t watermark_ms, std::vector<std::shared_ptr<Batch>>* closed) {
    const std::size_t slices = open_.size();
    const std::int64_t now_ms = std::max(closed_ms_, watermark_ms);
    const bool tells = early() && now_ms != kLeast && now_ms >= next_step_ms_;
    OMNI_RETURN_NOT_OK(spec.kind == WindowKind::hopping ? close_hopping(now_ms, closed)
                       : in_sessions()                  ? close_sessions(now_ms, closed)
                                                        : close_slices(now_ms, closed));
    if (open_.size() != slices) forget_near();
    if (tells)
        for (const auto& [index, slice] : open_) {
            std::shared_ptr<Batch> changed =
                write(slice.get(), slice->start_ms, slice->end_ms, Told::what_changed);
            if (changed->rows != 0) closed->push_back(std::move(changed));
        }
    closed_ms_ = now_ms;
    forget_floors();
    next_step_ms_ = next_step_ms(now_ms);
    return {};
}

// The least watermark beyond this one that asks for a step.
std::int64_t Window::Impl::next_step_ms(std::int64_t watermark_ms) const {
    if (!steps()) return kMost;
    if (watermark_ms == kLeast || watermark_ms == kMost) return watermark_ms + (watermark_ms == kLeast);
    if (early()) return saturate((floor_divide(watermark_ms, spec.early_ms) + 1) * spec.early_ms);
    const Wide start = static_cast<Wide>(first_hop_open(watermark_ms)) * spec.hop_ms + spec.offset_ms;
    return saturate(start + spec.size_ms + spec.allowed_lateness_ms);
}

Status Window::Impl::close_slices(std::int64_t watermark_ms, std::vector<std::shared_ptr<Batch>>* closed) {
    while (!open_.empty() && open_.begin()->second->final_ms <= watermark_ms) {
        Slice* slice = open_.begin()->second.get();
        closed->push_back(write(slice, slice->start_ms, slice->end_ms));
        open_.erase(open_.begin());
    }
    return {};
}

std::shared_ptr<Batch> Window::Impl::write(Slice* slice, std::int64_t start_ms, std::int64_t end_ms,
                                           Told told) {
    std::size_t rows = slice->groups.size();
    if (told == Told::what_changed) {
        rows = 0;
        for (std::size_t number = 0; number < slice->groups.size(); ++number)
            rows += static_cast<std::size_t>(has_changed(slice->groups.row(number)));
        if (rows == 0) return empty_result();
    }
    std::vector<ColumnWriter> writers = result_writers(rows);
    const Array<std::uint32_t> order = write_rows(slice, start_ms, end_ms, told, &writers);
    std::shared_ptr<Batch> batch = finish(std::move(writers), static_cast<std::int64_t>(rows));
    if (slice->owners.size() <= 1) {
        batch->owner = slice->owners.empty() ? 0 : slice->owners[0].owner;
    } else {
        const std::vector<std::int32_t> owners = owners_of(*slice);
        batch->row_owner.reserve(order.size());
        for (const std::uint32_t number : order) batch->row_owner.push_back(owners[number]);
    }
    return batch;
}

std::vector<ColumnWriter> Window::Impl::result_writers(std::size_t rows) const {
    std::vector<ColumnWriter> writers;
    if (spec.kind != WindowKind::global) {
        writers.emplace_back("window_start", Type::timestamp_ms, rows);
        writers.emplace_back("window_end", Type::timestamp_ms, rows);
    }
    for (const Key& key : keys_)
        writers.emplace_back(key.column, is_text(key.type) ? Type::string : key.type, rows);
    for (std::size_t i = 0; i < outputs_.size(); ++i)
        writers.emplace_back(spec.measures[i].name, outputs_[i].type, rows);
    if (early()) {
        writers.emplace_back("revision", Type::int64, rows);
        writers.emplace_back("final", Type::boolean, rows);
    }
    return writers;
}

// Returns the numbers of the groups in the order of the rows.
Array<std::uint32_t> Window::Impl::write_rows(Slice* slice, std::int64_t start_ms, std::int64_t end_ms,
                                              Told told, std::vector<ColumnWriter>* out) {
    std::vector<ByteOrder> own_orders(keys_.size());
    std::vector<const std::vector<std::int32_t>*> ranks(keys_.size(), nullptr);
    std::vector<const Dictionary*> texts(keys_.size(), nullptr);
    for (std::size_t i = 0; i < keys_.size(); ++i) {
        if (!is_text(keys_[i].type)) continue;
        const bool shared = keys_[i].codes != nullptr;
        texts[i] = shared ? &keys_[i].codes->dictionary() : slice->key_texts[i].get();
        ranks[i] = &(shared ? keys_[i].byte_order : own_orders[i]).ranks(*texts[i]);
    }
    Array<std::uint32_t> order = layout_.order(slice->groups, ranks);
    if (in_sessions())
        std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
            const std::size_t last = session_word(kLastMs);
            return static_cast<std::int64_t>(slice->groups.row(a)[last]) <
                   static_cast<std::int64_t>(slice->groups.row(b)[last]);
        });

    if (told == Told::what_changed)
        order.resize(static_cast<std::size_t>(
            std::remove_if(order.begin(), order.end(),
                           [&](std::uint32_t number) { return !has_changed(slice->groups.row(number)); }) -
            order.begin()));

    std::vector<ItemOrder> items(items_.size());
    for (std::size_t i = 0; i < items_.size(); ++i)
        if (items_[i].kind != ItemKind::distinct) items[i] = order_items(*slice, i);

    // By blocks, so that the rows are fetched from memory once and read from the cache for every column.
    const std::uint64_t* words[kBlock];
    for (std::size_t begin = 0; begin < order.size(); begin += kBlock) {
        const std::size_t count = std::min(kBlock, order.size() - begin);
        for (std::size_t i = 0; i < count; ++i) {
            words[i] = slice->groups.row(order[begin + i]);
            __builtin_prefetch(words[i]);
        }
        if (in_sessions()) {
            for (std::size_t i = 0; i < count; ++i) {
                (*out)[0].put(static_cast<std::int64_t>(words[i][session_word(kFirstMs)]));
                (*out)[1].put(
                    saturate(static_cast<Wide>(static_cast<std::int64_t>(words[i][session_word(kLastMs)])) +
                             spec.gap_ms));
            }
        } else if (first_key() != 0) {
            for (std::size_t i = 0; i < count; ++i) (*out)[0].put(start_ms);
            for (std::size_t i = 0; i < count; ++i) (*out)[1].put(end_ms);
        }
        for (std::size_t key = 0; key < keys_.size(); ++key)
            for (std::size_t i = 0; i < count; ++i)
                layout_.unpack(key, words[i], texts[key], &(*out)[first_key() + key]);
        for (std::size_t measure = 0; measure < outputs_.size(); ++measure) {
            const Output& output = outputs_[measure];
            ColumnWriter* column = &(*out)[first_key() + keys_.size() + measure];
            if (output.by_items) {
                for (std::size_t i = 0; i < count; ++i)
                    write_items(output, *slice, items[output.items], order[begin + i], column);
            } else {
                for (std::size_t i = 0; i < count; ++i) write_measure(output, words[i], column);
            }
        }
        if (early()) {
            for (std::size_t i = 0; i < count; ++i) {
                std::uint64_t* group = slice->groups.row(order[begin + i]);
                group[told_word_] = group[rows_word_];
                (*out)[out->size() - 2].put(static_cast<std::int64_t>(++group[revision_word_]));
                out->back().put(told == Told::as_final);
            }
        }
    }
    return order;
}

void Window::Impl::write_measure(const Output& output, const std::uint64_t* words, ColumnWriter* out) const {
    const auto value = static_cast<std::int64_t>(words[output.value]);
    switch (output.operation) {
        case Operation::count:
        case Operation::sum:
        case Operation::distinct:
            return out->put(value);
        case Operation::min:
        case Operation::max: {
            const auto none = output.operation == Operation::min ? kMost : kLeast;
            if (output.counted ? words[output.count] == 0 : value == none) return out->put_null();
            return output.type == Type::float64 ? out->put_float(unordered(value)) : out->put(value);
        }
        case Operation::first:
        case Operation::last: {
            const auto none = fresh_word(output.operation == Operation::first ? Add::first : Add::last);
            if (words[output.value - 1] == none) return out->put_null();
            return output.type == Type::float64 ? out->put_float(unordered(value)) : out->put(value);
        }
        default:
            break;
    }
    Moments moments{static_cast<std::int64_t>(words[output.count]), value, 0};
    const std::int64_t scale = output.column_type == Type::decimal ? kDecimalOne : 1;
    if (output.operation == Operation::mean)
        return moments.n == 0 ? out->put_null() : out->put_float(moments.mean(scale));
    if (moments.n < 2) return out->put_null();
    std::memcpy(&moments.squares, words + output.squares, sizeof moments.squares);
    out->put_float(output.operation == Operation::variance ? moments.variance(scale)
                                                           : moments.std_dev(scale));
}

std::shared_ptr<Batch> Window::Impl::finish(std::vector<ColumnWriter> writers, std::int64_t rows) const {
    auto batch = std::make_shared<Batch>();
    auto origin = std::make_shared<Origin>();
    origin->source = spec.name;
    batch->origin = std::move(origin);
    batch->rows = rows;
    for (ColumnWriter& writer : writers) batch->columns.push_back(writer.finish());
    batch->row_message.resize(static_cast<std::size_t>(rows));
    for (std::int64_t row = 0; row < rows; ++row)
        batch->row_message[static_cast<std::size_t>(row)] = static_cast<std::int32_t>(row);
    return batch;
}

std::shared_ptr<Batch> Window::Impl::empty_result() const {
    return finish(result_writers(0), 0);
}

std::int64_t Window::Impl::open_windows() const {
    if (in_sessions()) return groups();
    if (spec.kind != WindowKind::hopping) return static_cast<std::int64_t>(open_.size());
    std::int64_t windows = 0;
    std::int64_t next = first_hop_open(closed_ms_);
    for (const auto& [index, slice] : open_) {
        next = std::max(next, first_hop_over(index));
        const std::int64_t past = static_cast<std::int64_t>(floor_divide(index, slices_per_hop_)) + 1;
        windows += std::max(past - next, std::int64_t{0});
        next = std::max(next, past);
    }
    return windows;
}

std::int64_t Window::Impl::groups() const {
    if (in_sessions()) return static_cast<std::int64_t>(sessions_->slice.groups.size() - sessions_->dead);
    std::int64_t groups = 0;
    for (const auto& [index, slice] : open_) groups += static_cast<std::int64_t>(slice->groups.size());
    return groups;
}

std::int64_t Window::Impl::memory_bytes() const {
    std::size_t fixed = sizeof(Impl) + inputs_.capacity() * sizeof(Input) +
                        weighings_.capacity() * sizeof(Weighing) +
                        key_words_.capacity() * sizeof(std::uint64_t);
    for (const BoundCondition& condition : conditions_) fixed += condition.weights.capacity();
    auto bytes = static_cast<std::int64_t>(fixed);
    for (const auto& [name, codes] : codes_) bytes += codes.memory_bytes();
    for (const Key& key : keys_) bytes += key.byte_order.memory_bytes();
    const auto add = [&bytes](const Slice& slice) {
        bytes += static_cast<std::int64_t>(sizeof(Slice)) + slice.groups.memory_bytes();
        for (const auto& texts : slice.key_texts) bytes += texts == nullptr ? 0 : texts->memory_bytes();
        for (const ItemSet& set : slice.items)
            bytes += set.rows.memory_bytes() + (set.texts == nullptr ? 0 : set.texts->memory_bytes());
    };
    for (const auto& [index, slice] : open_) add(*slice);
    if (in_sessions()) {
        add(sessions_->slice);
        bytes += sessions_->by_key.memory_bytes() +
                 static_cast<std::int64_t>(sessions_->due.capacity() * sizeof sessions_->due[0]);
    }
    return bytes;
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
Status Window::snapshot(Parts* parts, std::int32_t owner) const {
    return impl_->snapshot(parts, owner);
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
