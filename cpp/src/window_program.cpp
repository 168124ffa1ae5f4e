// What a window does with a row, worked out once: the specification is checked, and measures are compiled to
// accumulators.
#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

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

std::vector<bool> required_keys(const WindowSpec& spec) {
    std::vector<bool> required;
    for (const std::string& key : spec.keys)
        required.push_back(std::find(spec.required.begin(), spec.required.end(), key) != spec.required.end());
    return required;
}

}  // namespace

Window::Impl::Impl(WindowSpec spec_given, std::vector<Type> key_types, std::vector<Type> measure_types)
    : spec(std::move(spec_given)),
      measure_types_(std::move(measure_types)),
      key_types_(std::move(key_types)),
      valid_(check()),
      layout_(key_types_, required_keys(spec)) {
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
    key_words_.resize(GroupTable::kBlock * std::max(layout_.words(), std::size_t{2}));
}

Status Window::Impl::check() const {
    const auto refuse = [this](const std::string& what) {
        return Status(Code::schema, "window '" + spec.name + "': " + what);
    };
    const bool sized = spec.kind == WindowKind::tumbling || spec.kind == WindowKind::hopping;
    if (sized && spec.size_ms <= 0) return refuse("its size must be longer than nothing");
    if (spec.early_ms < 0) return refuse("the interval of early results must not be negative");
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
    if (early() && in_sessions()) names.insert("retracted");
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
        if (in_sessions())
            start_told_word_ = accumulators_[new_accumulator(Add::carried, "start told", rows)].word;
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

}  // namespace omnistream
