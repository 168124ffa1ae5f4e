#include "omnistream/window.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "omnistream/codes.hpp"
#include "omnistream/column_writer.hpp"
#include "omnistream/group_table.hpp"
#include "omnistream/key_layout.hpp"
#include "omnistream/moments.hpp"

namespace omnistream {

namespace {

using Wide = __int128;

constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
constexpr std::size_t kBlock = GroupTable::kBlock;

std::int64_t saturate(Wide value) {
    return value < kLeast ? kLeast : value > kMost ? kMost : static_cast<std::int64_t>(value);
}

Wide floor_divide(Wide value, std::int64_t divisor) {
    const Wide quotient = value / divisor;
    return quotient - (value % divisor < 0 ? 1 : 0);
}

// ---- The lanes of measures
// -------------------------------------------------------------------------------------------

// A double as an integer in the same order, -0.0 below 0.0: so its minimum does not depend on the order of
// the rows. Every NaN becomes kNan, which no number takes.
constexpr std::int64_t kNan = kMost;

std::int64_t ordered(double value) {
    if (std::isnan(value)) return kNan;
    const auto bits = std::bit_cast<std::int64_t>(value);
    return bits ^ ((bits >> 63) & kMost);
}

double unordered(std::int64_t bits) {
    return std::bit_cast<double>(bits ^ ((bits >> 63) & kMost));
}

bool is_integer(Type type) {
    return type == Type::int32 || type == Type::int64 || type == Type::decimal;
}

bool is_text(Type type) {
    return type == Type::string || type == Type::dictionary;
}

// Whether a lane may hold any int64, so that no value is free to say "none".
bool takes_all_of_int64(Type type) {
    return type == Type::int64 || type == Type::decimal || type == Type::timestamp_ms;
}

const char* type_name(Type type) {
    switch (type) {
        case Type::boolean:
            return "bool";
        case Type::int32:
            return "int32";
        case Type::int64:
            return "int64";
        case Type::decimal:
            return "decimal";
        case Type::float64:
            return "float64";
        case Type::timestamp_ms:
            return "timestamp";
        case Type::string:
            return "string";
        case Type::dictionary:
            return "dictionary";
        case Type::binary:
            return "binary";
    }
    return "";
}

const char* operation_name(Operation operation) {
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
    }
    return "";
}

std::string condition_text(const Condition& condition) {
    if (condition.column.empty()) return "";
    std::string text = " where " + condition.column + ":";
    for (const std::string& value : condition.plus) text += " +" + value;
    for (const std::string& value : condition.minus) text += " -" + value;
    return text;
}

Type result_type(Operation operation, Type column) {
    switch (operation) {
        case Operation::count:
        case Operation::distinct:
            return Type::int64;
        case Operation::sum:
            return column == Type::decimal ? Type::decimal : Type::int64;
        case Operation::min:
        case Operation::max:
            return column;
        default:
            return Type::float64;
    }
}

// ---- The program of a window: what is gathered from a block, and what is added to each row
// ---------------------------

// A numeric column whose lanes a block gathers, widened to int64 once for all measures that read it.
struct Input {
    std::string column;
    Type type = Type::int64;
    const Column* bound = nullptr;
    std::int64_t values[kBlock];
};

// By row, how much it weighs in a measure: the condition's weight, 0 where the column is null.
struct Weighing {
    std::string column;           // empty: the condition alone
    std::int32_t condition = -1;  // -1: none
    const Column* bound = nullptr;
    bool all_one = false;  // in this batch
    std::int8_t weights[kBlock];
};

struct BoundCondition {
    Condition condition;
    const Column* bound = nullptr;
    std::shared_ptr<const Dictionary> dictionary;  // whose codes `weights` is by
    std::vector<std::int8_t> weights;

    void bind(const Column& column) {
        bound = &column;
        if (column.dictionary == nullptr) return;
        if (column.dictionary != dictionary) {
            dictionary = column.dictionary;
            weights.clear();
        }
        for (auto code = static_cast<std::int32_t>(weights.size()); code < dictionary->size(); ++code) {
            const auto is = [text = dictionary->value(code)](const std::string& value) {
                return value == text;
            };
            const bool plus = std::any_of(condition.plus.begin(), condition.plus.end(), is);
            const bool minus = std::any_of(condition.minus.begin(), condition.minus.end(), is);
            weights.push_back(static_cast<std::int8_t>(static_cast<int>(plus) - static_cast<int>(minus)));
        }
    }
};

enum class Add : std::uint8_t { count, sum, squares, min, max, max_float, distinct };

// What one or two words of a row hold. Measures that need the same one share it.
struct Accumulator {
    std::string name;     // what it holds, spelled out: equal names are one accumulator
    std::string measure;  // the first that needs it, to be named when it overflows
    Add add = Add::count;
    std::size_t word = 0;
    std::size_t weighing = 0;
    std::size_t input = 0;     // not count, not distinct
    std::size_t distinct = 0;  // distinct: which set
};

// A column whose values are told apart: by code, or as a 64-bit number.
struct DistinctColumn {
    std::string column;
    Type type = Type::int64;
    const Column* bound = nullptr;
    Codes* codes = nullptr;
    std::size_t accumulator = 0;

    // A code or an int32 shares a word with the number of its group.
    [[nodiscard]] std::size_t key_words() const { return takes_all_of_int64(type) ? 2 : 1; }
};

// How a closed window turns words into the value of a measure.
struct Output {
    Operation operation = Operation::count;
    Type column_type = Type::int64;
    Type type = Type::int64;
    std::size_t value = 0;  // the word of the count, sum, extreme or distinct count
    std::size_t count = 0;  // the word of the count behind a mean or an extreme
    std::size_t squares = 0;
    bool counted = false;  // an extreme whose `count` says whether there is one
};

std::uint64_t fresh_word(Add add) {
    if (add == Add::min) return static_cast<std::uint64_t>(kMost);
    if (add == Add::max || add == Add::max_float) return static_cast<std::uint64_t>(kLeast);
    return 0;
}

// ---- The hot loops: `rows` are the accumulator rows of a block, `word` a word of each
// --------------------------------

void gather(const Input& input, const std::int32_t* rows, std::size_t count, std::int64_t* values) {
    if (input.type == Type::int32) {
        const auto* lanes = input.bound->lanes<std::int32_t>();
        for (std::size_t i = 0; i < count; ++i) values[i] = lanes[rows[i]];
    } else if (input.type == Type::float64) {
        const auto* lanes = input.bound->lanes<double>();
        for (std::size_t i = 0; i < count; ++i) values[i] = ordered(lanes[rows[i]]);
    } else {
        const auto* lanes = input.bound->lanes<std::int64_t>();
        for (std::size_t i = 0; i < count; ++i) values[i] = lanes[rows[i]];
    }
}

void weigh(const Column* column, const BoundCondition* condition, const std::int32_t* rows, std::size_t count,
           std::int8_t* weights) {
    if (condition == nullptr || condition->weights.empty()) {
        std::memset(weights, condition == nullptr ? 1 : 0, count);
    } else {
        const auto* codes = condition->bound->lanes<std::int32_t>();
        const std::int8_t* by_code = condition->weights.data();
        if (condition->bound->null_count == 0) {
            for (std::size_t i = 0; i < count; ++i) weights[i] = by_code[codes[rows[i]]];
        } else {
            for (std::size_t i = 0; i < count; ++i)
                weights[i] = condition->bound->valid(rows[i]) ? by_code[codes[rows[i]]] : std::int8_t{0};
        }
    }
    if (column != nullptr && column->null_count != 0)
        for (std::size_t i = 0; i < count; ++i)
            if (!column->valid(rows[i])) weights[i] = 0;
}

void add_count(std::uint64_t* const* rows, std::size_t word, std::size_t count, const std::int8_t* weights) {
    if (weights == nullptr) {
        for (std::size_t i = 0; i < count; ++i) ++rows[i][word];
    } else {
        for (std::size_t i = 0; i < count; ++i)
            rows[i][word] += static_cast<std::uint64_t>(static_cast<std::int64_t>(weights[i]));
    }
}

// The loops that may overflow go on to the end of the block and say so once: the job ends then.
bool add_sum(std::uint64_t* const* rows, std::size_t word, std::size_t count, const std::int64_t* values,
             const std::int8_t* weights) {
    bool overflow = false;
    if (weights == nullptr) {
        for (std::size_t i = 0; i < count; ++i) {
            std::int64_t sum = 0;
            overflow |= __builtin_add_overflow(static_cast<std::int64_t>(rows[i][word]), values[i], &sum);
            rows[i][word] = static_cast<std::uint64_t>(sum);
        }
    } else {
        for (std::size_t i = 0; i < count; ++i) {
            const Wide sum =
                static_cast<Wide>(values[i]) * weights[i] + static_cast<std::int64_t>(rows[i][word]);
            rows[i][word] = static_cast<std::uint64_t>(sum);
            overflow |= sum != static_cast<std::int64_t>(sum);
        }
    }
    return overflow;
}

bool add_squares(std::uint64_t* const* rows, std::size_t word, std::size_t count, const std::int64_t* values,
                 const std::int8_t* weights) {
    bool overflow = false;
    for (std::size_t i = 0; i < count; ++i) {
        if (weights != nullptr && weights[i] == 0) continue;
        unsigned __int128 sum = 0;
        std::memcpy(&sum, rows[i] + word, sizeof sum);
        const Wide square = static_cast<Wide>(values[i]) * values[i];
        overflow |= __builtin_add_overflow(sum, static_cast<unsigned __int128>(square), &sum);
        std::memcpy(rows[i] + word, &sum, sizeof sum);
    }
    return overflow;
}

template <Add kAdd>
void add_extreme(std::uint64_t* const* rows, std::size_t word, std::size_t count, const std::int64_t* values,
                 const std::int8_t* weights) {
    for (std::size_t i = 0; i < count; ++i) {
        if (weights != nullptr && weights[i] == 0) continue;
        if (kAdd == Add::max_float && values[i] == kNan) continue;
        const auto extreme = static_cast<std::int64_t>(rows[i][word]);
        const bool beyond = kAdd == Add::min ? values[i] < extreme : values[i] > extreme;
        if (beyond) rows[i][word] = static_cast<std::uint64_t>(values[i]);
    }
}

// ---- Snapshots
// ---------------------------------------------------------------------------------------------------

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

// ---- The window
// ------------------------------------------------------------------------------------------------------

class Window::Impl {
public:
    Impl(WindowSpec spec, std::vector<Type> key_types, std::vector<Type> measure_types);

    Status validate() const { return valid_; }
    Status push(const CleanBatch& batch, std::vector<std::int32_t>* late_rows);
    void advance(std::int64_t watermark_ms, std::vector<std::shared_ptr<Batch>>* closed);
    std::vector<std::pair<std::string, std::shared_ptr<Batch>>> snapshot() const;
    Status restore(const std::vector<std::pair<std::string, std::shared_ptr<Batch>>>& parts);
    std::int64_t groups() const;
    std::int64_t memory_bytes() const;
    std::int64_t open_windows() const { return static_cast<std::int64_t>(open_.size()); }
    std::shared_ptr<Batch> empty_result() const;

    WindowSpec spec;
    WindowCounts counts;

private:
    // The distinct values of one column in one open window: (group, value) pairs.
    struct DistinctSet {
        GroupTable pairs;
        std::unique_ptr<Dictionary> texts;  // of a string column
    };

    // One open window.
    struct Slice {
        explicit Slice(GroupTable empty) : groups(std::move(empty)) {}

        std::int64_t start_ms = 0;
        std::int64_t end_ms = 0;
        std::int64_t final_ms = 0;  // the watermark that closes it
        GroupTable groups;
        std::vector<std::unique_ptr<Dictionary>> key_texts;  // by key; null where it is no string column
        std::vector<DistinctSet> distinct;
        std::uint32_t block_rows = 0;   // rows of the current block that fall here
        std::uint32_t block_begin = 0;  // where they stand in order_
    };

    struct Key {
        std::string column;
        Type type = Type::int64;
        const Column* bound = nullptr;
        Codes* codes = nullptr;  // of a dictionary column
        ByteOrder byte_order;
    };

    // The program
    Status check() const;
    void compile();
    std::size_t input_of(const std::string& column, Type type);
    std::size_t weighing_of(const std::string& column, const Condition& condition);
    std::size_t accumulate(Add add, const Measure& measure, Type type, const std::string& column);
    Codes* codes_of(const std::string& column);
    std::vector<std::string> spec_lines() const;

    // The path of a row
    Status bind(const Batch& batch);
    Status bind_column(const Batch& batch, const std::string& name, Type type, const Column** column) const;
    Status push_block(const std::int32_t* rows, const std::int64_t* watermarks_ms, std::size_t count,
                      std::vector<std::int32_t>* late_rows);
    std::size_t place(const std::int32_t* rows, const std::int64_t* watermarks_ms, std::size_t count,
                      std::vector<std::int32_t>* late_rows);
    void look_up(Slice* slice);
    void add_distinct(Slice* slice, std::size_t number);
    Status overflow(const Accumulator& accumulator) const;

    // Open windows
    std::int64_t index_of(std::int64_t time_ms) const;
    Slice* find_or_open(std::int64_t index, std::int64_t watermark_ms);
    std::unique_ptr<Slice> make_slice(std::int64_t index) const;
    void move_near(std::int64_t index);

    void write_rows(Slice* slice, std::vector<ColumnWriter>* out);
    void write_measure(const Output& output, const std::uint64_t* words, ColumnWriter* out) const;
    std::vector<ColumnWriter> result_writers(std::size_t rows) const;
    std::shared_ptr<Batch> finish(std::vector<ColumnWriter> writers, std::int64_t rows) const;
    Status restore_groups(const Batch& groups, std::vector<std::pair<Slice*, std::uint32_t>>* restored);
    Status restore_distinct(const Batch& values,
                            const std::vector<std::pair<Slice*, std::uint32_t>>& restored);

    std::vector<Type> measure_types_;
    std::vector<Type> key_types_;
    Status valid_;

    KeyLayout layout_;
    std::vector<Key> keys_;
    std::map<std::string, Codes> codes_;  // by dictionary column that is a key or counted distinct
    std::vector<Input> inputs_;
    std::vector<Weighing> weighings_;
    std::vector<BoundCondition> conditions_;
    std::vector<DistinctColumn> distinct_;
    std::vector<Accumulator> accumulators_;
    std::vector<Output> outputs_;
    std::vector<std::uint64_t> fresh_;
    const Column* time_ = nullptr;

    std::map<std::int64_t, std::unique_ptr<Slice>> open_;  // by index
    std::int64_t closed_ms_ = kLeast;                      // the largest watermark that advance() has seen
    std::size_t groups_expected_ = 0;                      // what the last closed window held

    // Windows around the present, found without a division or a search.
    static constexpr std::size_t kNear = 64;
    static constexpr std::int64_t kNearPast = 16;
    Slice* near_[kNear] = {};
    std::int64_t near_index_ = 0;
    std::uint64_t near_start_ms_ = 0;
    std::uint64_t near_span_ms_ = 0;  // 0: off
    double per_size_ = 0;

    // The current block, ordered by window
    std::vector<Slice*> touched_;
    Slice* slice_of_[kBlock];
    std::int32_t placed_[kBlock];
    std::int32_t order_[kBlock];
    std::uint32_t group_[kBlock];
    std::uint64_t* words_[kBlock];
    std::vector<std::uint64_t> key_words_;
};

Window::Impl::Impl(WindowSpec spec_given, std::vector<Type> key_types, std::vector<Type> measure_types)
    : spec(std::move(spec_given)),
      measure_types_(std::move(measure_types)),
      key_types_(std::move(key_types)),
      valid_(check()),
      layout_(key_types_) {
    if (!valid_.ok()) return;
    per_size_ = 1.0 / static_cast<double>(spec.size_ms);
    spec.offset_ms =
        static_cast<std::int64_t>(spec.offset_ms - floor_divide(spec.offset_ms, spec.size_ms) * spec.size_ms);
    compile();
    key_words_.resize(kBlock * std::max(layout_.words(), std::size_t{2}));
}

Status Window::Impl::check() const {
    const auto refuse = [this](const std::string& what) {
        return Status(Code::schema, "window '" + spec.name + "': " + what);
    };
    if (spec.size_ms <= 0) return refuse("its size must be longer than nothing");
    if (spec.allowed_lateness_ms < 0) return refuse("its allowed lateness must not be negative");
    if (key_types_.size() != spec.keys.size() || measure_types_.size() != spec.measures.size())
        return refuse("it needs one type for each key and each measure");
    std::set<std::string> names = {"window_start", "window_end"};
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
        const std::string call = std::string(operation_name(measure.operation)) + " of '" + measure.column +
                                 "', a " + type_name(type);
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
                if (!KeyLayout::accepts(type)) return refuse_measure(call + ", is not exact");
                break;
        }
        if (measure.operation != Operation::count && measure.column.empty())
            return refuse_measure(std::string(operation_name(measure.operation)) + " needs a column");
        if (!measure.condition.minus.empty() && measure.operation != Operation::count &&
            measure.operation != Operation::sum)
            return refuse_measure("only count and sum can take values away");
    }
    return {};
}

// ---- compile: from measures to accumulators
// --------------------------------------------------------------------------

void Window::Impl::compile() {
    for (std::size_t i = 0; i < spec.keys.size(); ++i) {
        keys_.push_back({spec.keys[i], key_types_[i], nullptr, nullptr, {}});
        if (key_types_[i] == Type::dictionary) keys_.back().codes = codes_of(spec.keys[i]);
    }
    fresh_.clear();
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
                output.value = word_of(Add::distinct);
                break;
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
}

// The word (counted from the row's start) of what is asked for; made when no measure before has needed it.
std::size_t Window::Impl::accumulate(Add add, const Measure& measure, Type type, const std::string& column) {
    static constexpr const char* kNames[] = {"count", "sum", "squares", "min", "max", "max", "distinct"};
    const std::string name = std::string(kNames[static_cast<std::size_t>(add)]) +
                             (column.empty() ? "" : "(" + column + ")") + condition_text(measure.condition);
    for (const Accumulator& accumulator : accumulators_)
        if (accumulator.name == name) return accumulator.word;

    Accumulator accumulator;
    accumulator.name = name;
    accumulator.measure = measure.name;
    accumulator.add = add;
    accumulator.word = layout_.words() + fresh_.size();
    accumulator.weighing = weighing_of(column, measure.condition);
    if (add == Add::distinct) {
        accumulator.distinct = distinct_.size();
        distinct_.push_back({column, type, nullptr, type == Type::dictionary ? codes_of(column) : nullptr,
                             accumulators_.size()});
    } else if (add != Add::count) {
        accumulator.input = input_of(column, type);
    }
    fresh_.push_back(fresh_word(add));
    if (add == Add::squares) fresh_.push_back(0);
    accumulators_.push_back(std::move(accumulator));
    return accumulators_.back().word;
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
// ---------------------------------------------------------------------------------------

Status Window::Impl::push(const CleanBatch& batch, std::vector<std::int32_t>* late_rows) {
    OMNI_RETURN_NOT_OK(valid_);
    if (batch.rows.empty()) return {};
    OMNI_RETURN_NOT_OK(bind(*batch.batch));
    for (std::size_t begin = 0; begin < batch.rows.size(); begin += kBlock) {
        const std::size_t count = std::min(kBlock, batch.rows.size() - begin);
        OMNI_RETURN_NOT_OK(
            push_block(batch.rows.data() + begin, batch.watermark_ms.data() + begin, count, late_rows));
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

Status Window::Impl::bind(const Batch& batch) {
    OMNI_RETURN_NOT_OK(bind_column(batch, spec.time_column, Type::timestamp_ms, &time_));
    for (auto& [name, codes] : codes_) {
        const Column* column = nullptr;
        OMNI_RETURN_NOT_OK(bind_column(batch, name, Type::dictionary, &column));
        codes.meet(column->dictionary);
    }
    for (Key& key : keys_) OMNI_RETURN_NOT_OK(bind_column(batch, key.column, key.type, &key.bound));
    for (Input& input : inputs_)
        OMNI_RETURN_NOT_OK(bind_column(batch, input.column, input.type, &input.bound));
    for (DistinctColumn& distinct : distinct_)
        OMNI_RETURN_NOT_OK(bind_column(batch, distinct.column, distinct.type, &distinct.bound));
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

    const std::size_t placed = place(rows, watermarks_ms, count, late_rows);
    for (Slice* slice : touched_) look_up(slice);

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
        const std::size_t word = accumulator.word;
        const std::int64_t* values = nullptr;
        if (accumulator.add != Add::count && accumulator.add != Add::distinct)
            values = inputs_[accumulator.input].values;
        bool overflowed = false;
        switch (accumulator.add) {
            case Add::count:
                add_count(words_, word, placed, weights);
                break;
            case Add::sum:
                overflowed = add_sum(words_, word, placed, values, weights);
                break;
            case Add::squares:
                overflowed = add_squares(words_, word, placed, values, weights);
                break;
            case Add::min:
                add_extreme<Add::min>(words_, word, placed, values, weights);
                break;
            case Add::max:
                add_extreme<Add::max>(words_, word, placed, values, weights);
                break;
            case Add::max_float:
                add_extreme<Add::max_float>(words_, word, placed, values, weights);
                break;
            case Add::distinct:
                for (Slice* slice : touched_) add_distinct(slice, accumulator.distinct);
                break;
        }
        if (overflowed) return overflow(accumulator);
    }
    for (Slice* slice : touched_) slice->block_rows = 0;
    counts.aggregated += static_cast<std::int64_t>(placed);
    return {};
}

Status Window::Impl::overflow(const Accumulator& accumulator) const {
    return {Code::state, "window '" + spec.name + "': measure '" + accumulator.measure + "' overflows: the " +
                             (accumulator.add == Add::sum ? "sum does not fit 64 bits"
                                                          : "sum of squares does not fit 128 bits")};
}

// Finds each row's window and sorts the rows of the block by window, late ones left out. Returns how many are
// in order_.
std::size_t Window::Impl::place(const std::int32_t* rows, const std::int64_t* watermarks_ms,
                                std::size_t count, std::vector<std::int32_t>* late_rows) {
    const auto* times_ms = time_->lanes<std::int64_t>();
    bool may_move = true;  // at most once a block, so that scattered times do not pay for it row by row
    std::size_t placed = 0;
    touched_.clear();
    for (std::size_t i = 0; i < count; ++i) {
        const std::int64_t time_ms = times_ms[rows[i]];
        const std::int64_t watermark_ms = std::max(watermarks_ms[i], closed_ms_);
        Slice* slice = nullptr;
        std::uint64_t since = static_cast<std::uint64_t>(time_ms) - near_start_ms_;
        if (since >= near_span_ms_ && may_move) {
            may_move = false;
            move_near(index_of(time_ms));
            since = static_cast<std::uint64_t>(time_ms) - near_start_ms_;
        }
        if (since < near_span_ms_) {
            // The product with the reciprocal is off by one at most; the remainder says which way.
            auto ahead =
                static_cast<std::int64_t>(static_cast<double>(static_cast<std::int64_t>(since)) * per_size_);
            const std::int64_t remainder = static_cast<std::int64_t>(since) - ahead * spec.size_ms;
            ahead += static_cast<std::int64_t>(remainder >= spec.size_ms) -
                     static_cast<std::int64_t>(remainder < 0);
            slice = near_[ahead];
            if (slice == nullptr) slice = near_[ahead] = find_or_open(near_index_ + ahead, watermark_ms);
        } else {
            slice = find_or_open(index_of(time_ms), watermark_ms);
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
        slice->block_begin = begin;
        begin += slice->block_rows;
    }
    for (std::size_t i = 0; i < placed; ++i) order_[slice_of_[i]->block_begin++] = placed_[i];
    for (Slice* slice : touched_) slice->block_begin -= slice->block_rows;
    return placed;
}

// The groups of the block's rows in one window, made where they are new.
void Window::Impl::look_up(Slice* slice) {
    const std::int32_t* rows = order_ + slice->block_begin;
    const std::size_t count = slice->block_rows;
    std::memset(key_words_.data(), 0, count * layout_.words() * sizeof(std::uint64_t));
    for (std::size_t i = 0; i < keys_.size(); ++i) {
        const Key& key = keys_[i];
        layout_.pack(i, *key.bound, rows, count, key.codes == nullptr ? nullptr : key.codes->translation(),
                     slice->key_texts[i].get(), key_words_.data());
    }
    std::uint32_t* groups = group_ + slice->block_begin;
    slice->groups.find_or_insert(key_words_.data(), count, groups);
    for (std::size_t i = 0; i < count; ++i) words_[slice->block_begin + i] = slice->groups.row(groups[i]);
}

void Window::Impl::add_distinct(Slice* slice, std::size_t number) {
    const DistinctColumn& distinct = distinct_[number];
    const Accumulator& accumulator = accumulators_[distinct.accumulator];
    const Weighing& weighing = weighings_[accumulator.weighing];
    const Column& column = *distinct.bound;
    const std::int32_t* translation = distinct.codes == nullptr ? nullptr : distinct.codes->translation();
    DistinctSet& set = slice->distinct[number];
    std::uint32_t block_at[kBlock];
    std::size_t count = 0;
    for (std::size_t i = slice->block_begin; i < slice->block_begin + slice->block_rows; ++i) {
        if (!weighing.all_one && weighing.weights[i] == 0) continue;
        const std::int32_t row = order_[i];
        const std::uint64_t group = group_[i];
        std::uint64_t* pair = key_words_.data() + count * distinct.key_words();
        switch (distinct.type) {
            case Type::dictionary: {
                const std::int32_t code = column.lanes<std::int32_t>()[row];
                pair[0] = group << 32 |
                          static_cast<std::uint32_t>(translation == nullptr ? code : translation[code]);
                break;
            }
            case Type::string:
                pair[0] = group << 32 | static_cast<std::uint32_t>(set.texts->encode(column.text(row)));
                break;
            case Type::int32:
                pair[0] = group << 32 | static_cast<std::uint32_t>(column.lanes<std::int32_t>()[row]);
                break;
            case Type::boolean:
                pair[0] = group << 32 | column.lanes<std::uint8_t>()[row];
                break;
            default:
                pair[0] = group;
                pair[1] = static_cast<std::uint64_t>(column.lanes<std::int64_t>()[row]);
        }
        block_at[count++] = static_cast<std::uint32_t>(i);
    }
    // New pairs are numbered in the order in which they come.
    std::uint32_t pairs[kBlock];
    std::size_t known = set.pairs.size();
    set.pairs.find_or_insert(key_words_.data(), count, pairs);
    for (std::size_t i = 0; i < count; ++i) {
        if (pairs[i] != known) continue;
        ++known;
        ++words_[block_at[i]][accumulator.word];
    }
}

// ---- Open windows
// ----------------------------------------------------------------------------------------------------

// Offset is in [0, size), so the index always fits.
std::int64_t Window::Impl::index_of(std::int64_t time_ms) const {
    return static_cast<std::int64_t>(floor_divide(static_cast<Wide>(time_ms) - spec.offset_ms, spec.size_ms));
}

// Null when the window is not open and already final.
Window::Impl::Slice* Window::Impl::find_or_open(std::int64_t index, std::int64_t watermark_ms) {
    const auto found = open_.find(index);
    if (found != open_.end()) return found->second.get();
    const Wide end = (static_cast<Wide>(index) + 1) * spec.size_ms + spec.offset_ms;
    if (saturate(static_cast<Wide>(saturate(end)) + spec.allowed_lateness_ms) <= watermark_ms) return nullptr;
    std::unique_ptr<Slice> slice = make_slice(index);
    return open_.emplace(index, std::move(slice)).first->second.get();
}

std::unique_ptr<Window::Impl::Slice> Window::Impl::make_slice(std::int64_t index) const {
    const Wide start = static_cast<Wide>(index) * spec.size_ms + spec.offset_ms;
    auto slice = std::make_unique<Slice>(GroupTable(layout_.words(), fresh_));
    slice->start_ms = saturate(start);
    slice->end_ms = saturate(start + spec.size_ms);
    slice->final_ms = saturate(static_cast<Wide>(slice->end_ms) + spec.allowed_lateness_ms);
    for (const Key& key : keys_)
        slice->key_texts.push_back(key.type == Type::string ? std::make_unique<Dictionary>() : nullptr);
    for (const DistinctColumn& distinct : distinct_)
        slice->distinct.push_back({GroupTable(distinct.key_words(), {}),
                                   distinct.type == Type::string ? std::make_unique<Dictionary>() : nullptr});
    return slice;
}

void Window::Impl::move_near(std::int64_t index) {
    constexpr std::int64_t kMostTime = std::int64_t{1} << 61;  // so that differences cannot wrap around
    constexpr Wide kMostSpan = Wide{1} << 52;                  // so that a double holds them
    const Wide base = static_cast<Wide>(index) - kNearPast;
    const Wide start = base * spec.size_ms + spec.offset_ms;
    const Wide span = static_cast<Wide>(spec.size_ms) * static_cast<std::int64_t>(kNear);
    near_span_ms_ = 0;
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

// ---- advance: closed windows become batches
// --------------------------------------------------------------------------

void Window::Impl::advance(std::int64_t watermark_ms, std::vector<std::shared_ptr<Batch>>* closed) {
    closed_ms_ = std::max(closed_ms_, watermark_ms);
    bool any = false;
    while (!open_.empty() && open_.begin()->second->final_ms <= closed_ms_) {
        Slice* slice = open_.begin()->second.get();
        std::vector<ColumnWriter> writers = result_writers(slice->groups.size());
        write_rows(slice, &writers);
        closed->push_back(finish(std::move(writers), static_cast<std::int64_t>(slice->groups.size())));
        open_.erase(open_.begin());
        any = true;
    }
    if (any) near_span_ms_ = 0;  // its pointers are stale: the next row moves it
}

std::vector<ColumnWriter> Window::Impl::result_writers(std::size_t rows) const {
    std::vector<ColumnWriter> writers;
    writers.emplace_back("window_start", Type::timestamp_ms, rows);
    writers.emplace_back("window_end", Type::timestamp_ms, rows);
    for (const Key& key : keys_)
        writers.emplace_back(key.column, is_text(key.type) ? Type::string : key.type, rows);
    for (std::size_t i = 0; i < outputs_.size(); ++i)
        writers.emplace_back(spec.measures[i].name, outputs_[i].type, rows);
    return writers;
}

void Window::Impl::write_rows(Slice* slice, std::vector<ColumnWriter>* out) {
    std::vector<ByteOrder> own_orders(keys_.size());
    std::vector<const std::vector<std::int32_t>*> ranks(keys_.size(), nullptr);
    std::vector<const Dictionary*> texts(keys_.size(), nullptr);
    for (std::size_t i = 0; i < keys_.size(); ++i) {
        if (!is_text(keys_[i].type)) continue;
        const bool shared = keys_[i].codes != nullptr;
        texts[i] = shared ? &keys_[i].codes->dictionary() : slice->key_texts[i].get();
        ranks[i] = &(shared ? keys_[i].byte_order : own_orders[i]).ranks(*texts[i]);
    }
    const Array<std::uint32_t> order = layout_.order(slice->groups, ranks);

    // By blocks, so that the rows are fetched from memory once and read from the cache for every column.
    const std::uint64_t* words[kBlock];
    for (std::size_t begin = 0; begin < order.size(); begin += kBlock) {
        const std::size_t count = std::min(kBlock, order.size() - begin);
        for (std::size_t i = 0; i < count; ++i) {
            words[i] = slice->groups.row(order[begin + i]);
            __builtin_prefetch(words[i]);
        }
        for (std::size_t i = 0; i < count; ++i) (*out)[0].put(slice->start_ms);
        for (std::size_t i = 0; i < count; ++i) (*out)[1].put(slice->end_ms);
        for (std::size_t key = 0; key < keys_.size(); ++key)
            for (std::size_t i = 0; i < count; ++i)
                layout_.unpack(key, words[i], texts[key], &(*out)[2 + key]);
        for (std::size_t measure = 0; measure < outputs_.size(); ++measure)
            for (std::size_t i = 0; i < count; ++i)
                write_measure(outputs_[measure], words[i], &(*out)[2 + keys_.size() + measure]);
    }
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

std::int64_t Window::Impl::groups() const {
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
    for (const auto& [index, slice] : open_) {
        bytes += static_cast<std::int64_t>(sizeof(Slice)) + slice->groups.memory_bytes();
        for (const auto& texts : slice->key_texts) bytes += texts == nullptr ? 0 : texts->memory_bytes();
        for (const DistinctSet& set : slice->distinct)
            bytes += set.pairs.memory_bytes() + (set.texts == nullptr ? 0 : set.texts->memory_bytes());
    }
    return bytes;
}

// ---- snapshot and restore
// --------------------------------------------------------------------------------------------

// What must be equal for a snapshot to fit, one thing a line.
std::vector<std::string> Window::Impl::spec_lines() const {
    std::vector<std::string> lines = {
        "size_ms " + std::to_string(spec.size_ms), "offset_ms " + std::to_string(spec.offset_ms),
        "allowed_lateness_ms " + std::to_string(spec.allowed_lateness_ms), "time_column " + spec.time_column};
    for (std::size_t i = 0; i < keys_.size(); ++i)
        lines.push_back("key " + keys_[i].column + " " + type_name(keys_[i].type));
    for (std::size_t i = 0; i < spec.measures.size(); ++i) {
        const Measure& measure = spec.measures[i];
        std::string line = "measure " + measure.name + " = " + operation_name(measure.operation);
        if (!measure.column.empty()) line += "(" + measure.column + " " + type_name(measure_types_[i]) + ")";
        lines.push_back(line + condition_text(measure.condition));
    }
    return lines;
}

std::vector<std::pair<std::string, std::shared_ptr<Batch>>> Window::Impl::snapshot() const {
    std::vector<std::pair<std::string, std::shared_ptr<Batch>>> parts;
    const auto add = [&](std::string name, std::vector<ColumnWriter> writers, std::int64_t rows) {
        parts.emplace_back(std::move(name), finish(std::move(writers), rows));
    };

    const std::vector<std::string> lines = spec_lines();
    std::vector<ColumnWriter> spec_part;
    spec_part.emplace_back("line", Type::string);
    for (const std::string& line : lines) spec_part[0].put_text(line);
    add("spec", std::move(spec_part), static_cast<std::int64_t>(lines.size()));

    std::vector<ColumnWriter> counts_part;
    for (const auto& [name, value] : {std::pair<const char*, std::int64_t>{"aggregated", counts.aggregated},
                                      {"late", counts.late},
                                      {"watermark_ms", closed_ms_}})
        counts_part.emplace_back(name, Type::int64).put(value);
    add("counts", std::move(counts_part), 1);

    const auto rows = static_cast<std::size_t>(groups());
    std::vector<ColumnWriter> groups_part;
    groups_part.emplace_back("window_start_ms", Type::int64, rows);
    for (const Key& key : keys_)
        groups_part.emplace_back("key " + key.column, is_text(key.type) ? Type::string : key.type, rows);
    for (const Accumulator& accumulator : accumulators_) {
        groups_part.emplace_back(accumulator.name, Type::int64, rows);
        if (accumulator.add == Add::squares)
            groups_part.emplace_back(accumulator.name + " high", Type::int64, rows);
    }
    for (const auto& [index, slice] : open_) {
        for (std::size_t number = 0; number < slice->groups.size(); ++number) {
            const std::uint64_t* words = slice->groups.row(number);
            auto out = groups_part.begin();
            (out++)->put(slice->start_ms);
            for (std::size_t i = 0; i < keys_.size(); ++i) {
                const Dictionary* texts =
                    keys_[i].codes != nullptr ? &keys_[i].codes->dictionary() : slice->key_texts[i].get();
                layout_.unpack(i, words, texts, &*out++);
            }
            for (std::size_t word = layout_.words(); out != groups_part.end(); ++word)
                (out++)->put(static_cast<std::int64_t>(words[word]));
        }
    }
    add("groups", std::move(groups_part), static_cast<std::int64_t>(rows));

    // `group` is a row number of the part "groups".
    std::vector<ColumnWriter> distinct_part;
    distinct_part.emplace_back("accumulator", Type::string);
    distinct_part.emplace_back("group", Type::int64);
    distinct_part.emplace_back("number", Type::int64);
    distinct_part.emplace_back("text", Type::string);
    std::int64_t pairs = 0;
    std::int64_t first_group = 0;
    for (const auto& [index, slice] : open_) {
        for (std::size_t i = 0; i < distinct_.size(); ++i) {
            const DistinctColumn& distinct = distinct_[i];
            const DistinctSet& set = slice->distinct[i];
            const Dictionary* texts =
                distinct.codes != nullptr ? &distinct.codes->dictionary() : set.texts.get();
            for (std::size_t number = 0; number < set.pairs.size(); ++number) {
                const std::uint64_t* pair = set.pairs.row(number);
                const bool two_words = distinct.key_words() == 2;
                const auto group = static_cast<std::int64_t>(two_words ? pair[0] : pair[0] >> 32);
                const auto value =
                    two_words ? static_cast<std::int64_t>(pair[1]) : static_cast<std::int32_t>(pair[0]);
                distinct_part[0].put_text(accumulators_[distinct.accumulator].name);
                distinct_part[1].put(first_group + group);
                if (texts != nullptr) {
                    distinct_part[2].put_null();
                    distinct_part[3].put_text(texts->value(static_cast<std::int32_t>(value)));
                } else {
                    distinct_part[2].put(value);
                    distinct_part[3].put_null();
                }
                ++pairs;
            }
        }
        first_group += static_cast<std::int64_t>(slice->groups.size());
    }
    add("distinct", std::move(distinct_part), pairs);
    return parts;
}

Status Window::Impl::restore(const std::vector<std::pair<std::string, std::shared_ptr<Batch>>>& parts) {
    OMNI_RETURN_NOT_OK(valid_);
    std::map<std::string, const Batch*> by_name;
    for (const auto& [name, batch] : parts) by_name[name] = batch.get();
    for (const char* name : {"spec", "counts", "groups", "distinct"})
        if (by_name.count(name) == 0) return lacks(std::string("part '") + name + "'");

    const Column* lines = nullptr;
    OMNI_RETURN_NOT_OK(find_column(*by_name["spec"], "spec", "line", Type::string, &lines));
    const std::vector<std::string> wanted = spec_lines();
    for (std::size_t i = 0; i < std::max(wanted.size(), static_cast<std::size_t>(lines->length)); ++i) {
        const bool saved_has = i < static_cast<std::size_t>(lines->length);
        const std::string saved =
            saved_has ? std::string(lines->text(static_cast<std::int64_t>(i))) : "nothing";
        const std::string ours = i < wanted.size() ? wanted[i] : "nothing";
        if (saved != ours)
            return {Code::state, "the snapshot of window '" + spec.name + "' does not fit: it has \"" +
                                     saved + "\" where the job has \"" + ours + "\""};
    }

    const Batch& saved_counts = *by_name["counts"];
    const Column* aggregated = nullptr;
    const Column* late = nullptr;
    const Column* watermark = nullptr;
    OMNI_RETURN_NOT_OK(find_column(saved_counts, "counts", "aggregated", Type::int64, &aggregated));
    OMNI_RETURN_NOT_OK(find_column(saved_counts, "counts", "late", Type::int64, &late));
    OMNI_RETURN_NOT_OK(find_column(saved_counts, "counts", "watermark_ms", Type::int64, &watermark));
    if (saved_counts.rows != 1) return lacks("row in its part 'counts'");

    open_.clear();
    near_span_ms_ = 0;
    counts.aggregated = aggregated->lanes<std::int64_t>()[0];
    counts.late = late->lanes<std::int64_t>()[0];
    closed_ms_ = watermark->lanes<std::int64_t>()[0];
    std::vector<std::pair<Slice*, std::uint32_t>> restored;
    OMNI_RETURN_NOT_OK(restore_groups(*by_name["groups"], &restored));
    return restore_distinct(*by_name["distinct"], restored);
}

Status Window::Impl::restore_groups(const Batch& groups,
                                    std::vector<std::pair<Slice*, std::uint32_t>>* restored) {
    const Column* starts = nullptr;
    OMNI_RETURN_NOT_OK(find_column(groups, "groups", "window_start_ms", Type::int64, &starts));
    std::vector<const Column*> keys(keys_.size());
    for (std::size_t i = 0; i < keys_.size(); ++i)
        OMNI_RETURN_NOT_OK(find_column(groups, "groups", "key " + keys_[i].column,
                                       is_text(keys_[i].type) ? Type::string : keys_[i].type, &keys[i]));
    std::vector<const Column*> words;
    for (const Accumulator& accumulator : accumulators_) {
        OMNI_RETURN_NOT_OK(
            find_column(groups, "groups", accumulator.name, Type::int64, &words.emplace_back()));
        if (accumulator.add == Add::squares)
            OMNI_RETURN_NOT_OK(find_column(groups, "groups", accumulator.name + " high", Type::int64,
                                           &words.emplace_back()));
    }

    const auto* starts_ms = starts->lanes<std::int64_t>();
    for (std::int64_t begin = 0; begin < groups.rows;) {
        std::size_t count = 0;
        while (count < kBlock && begin + static_cast<std::int64_t>(count) < groups.rows &&
               starts_ms[begin + static_cast<std::int64_t>(count)] == starts_ms[begin]) {
            order_[count] = static_cast<std::int32_t>(begin + static_cast<std::int64_t>(count));
            ++count;
        }
        const std::int64_t index = index_of(starts_ms[begin]);
        std::unique_ptr<Slice>& slice = open_[index];
        if (slice == nullptr) slice = make_slice(index);
        if (slice->start_ms != starts_ms[begin] || slice->final_ms <= closed_ms_)
            return {Code::state, "the window snapshot has a window that cannot be open, from " +
                                     std::to_string(starts_ms[begin]) + " ms"};
        std::memset(key_words_.data(), 0, count * layout_.words() * sizeof(std::uint64_t));
        for (std::size_t i = 0; i < keys_.size(); ++i) {
            Dictionary* texts =
                keys_[i].codes != nullptr ? &keys_[i].codes->own() : slice->key_texts[i].get();
            layout_.pack(i, *keys[i], order_, count, nullptr, texts, key_words_.data());
        }
        const std::size_t known = slice->groups.size();
        slice->groups.find_or_insert(key_words_.data(), count, group_);
        if (slice->groups.size() != known + count)
            return {Code::state, "the window snapshot has a key twice"};
        for (std::size_t i = 0; i < count; ++i) {
            std::uint64_t* row = slice->groups.row(group_[i]);
            for (std::size_t word = 0; word < words.size(); ++word)
                row[layout_.words() + word] =
                    static_cast<std::uint64_t>(words[word]->lanes<std::int64_t>()[order_[i]]);
            restored->emplace_back(slice.get(), group_[i]);
        }
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
    OMNI_RETURN_NOT_OK(find_column(values, "distinct", "accumulator", Type::string, &names));
    OMNI_RETURN_NOT_OK(find_column(values, "distinct", "group", Type::int64, &groups));
    OMNI_RETURN_NOT_OK(find_column(values, "distinct", "number", Type::int64, &numbers));
    OMNI_RETURN_NOT_OK(find_column(values, "distinct", "text", Type::string, &texts));
    for (std::int64_t row = 0; row < values.rows; ++row) {
        std::size_t number = 0;
        while (number < distinct_.size() &&
               accumulators_[distinct_[number].accumulator].name != names->text(row))
            ++number;
        const auto group = static_cast<std::uint64_t>(groups->lanes<std::int64_t>()[row]);
        if (number == distinct_.size() || group >= restored.size())
            return {Code::state, "the window snapshot has a distinct value that belongs to no group"};
        const DistinctColumn& distinct = distinct_[number];
        DistinctSet& set = restored[group].first->distinct[number];
        std::uint64_t value = static_cast<std::uint64_t>(numbers->lanes<std::int64_t>()[row]);
        if (is_text(distinct.type)) {
            Dictionary& dictionary = distinct.codes != nullptr ? distinct.codes->own() : *set.texts;
            value = static_cast<std::uint64_t>(dictionary.encode(texts->text(row)));
        }
        std::uint64_t pair[2] = {restored[group].second, value};
        if (distinct.key_words() == 1) pair[0] = pair[0] << 32 | static_cast<std::uint32_t>(value);
        std::uint32_t ignored = 0;
        set.pairs.find_or_insert(pair, 1, &ignored);
    }
    return {};
}

// ---- The face
// --------------------------------------------------------------------------------------------------------

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
    OMNI_RETURN_NOT_OK(impl_->validate());
    impl_->advance(watermark_ms, closed);
    return {};
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
std::vector<std::pair<std::string, std::shared_ptr<Batch>>> Window::snapshot() const {
    return impl_->snapshot();
}
Status Window::restore(const std::vector<std::pair<std::string, std::shared_ptr<Batch>>>& parts) {
    return impl_->restore(parts);
}

}  // namespace omnistream
