// window: event-time windows of exact aggregates, keyed by any columns.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "omnistream/batch.hpp"
#include "omnistream/calendar.hpp"
#include "omnistream/dictionary.hpp"
#include "omnistream/status.hpp"

namespace omnistream {

// Nulls are left out. count, sum and distinct of nothing are 0; min, max and mean of nothing are null, and so
// are the sample variance and standard deviation (n - 1) of fewer than two values. Sums and distinct need
// exact values: no float64. min and max of float64 ignore NaN, and -0.0 is below 0.0. first and last go by
// event time; at one time the smallest value is the first, the largest the last. top is the value of a rank
// by weight (rows, or the sum of `by`), top_weight its weight; of equal weights the smallest value comes
// first, and only weights above 0 count. approx_distinct and quantile: see sketch.hpp.
enum class Operation : std::uint8_t {
    count,
    sum,
    min,
    max,
    mean,
    std_dev,
    variance,
    distinct,
    first,
    last,
    top,
    top_weight,
    approx_distinct,
    quantile,
};

// A condition turns each row into a weight: rows whose `column` (a dictionary column) holds one of `plus`
// weigh +1, of `minus` -1, others (and nulls) 0 and are left out. So net units are one sum: paid less
// returned and cancelled. Count and sum add the weights up; the other operations know no negative weight, so
// a `minus` there is refused.
struct Condition {
    std::string column;  // empty: every row weighs +1
    std::vector<std::string> plus;
    std::vector<std::string> minus;
};

struct Measure {
    std::string name;
    Operation operation = Operation::count;
    std::string column;  // count: empty counts rows, else non-null values
    Condition condition;
    std::string by = {};         // top: the column whose sum is the weight; empty: rows
    Type by_type = Type::int64;  // its type
    std::int64_t argument = 0;   // top: the rank, from 0; quantile: in millionths
};

// tumbling: windows of `size_ms`, side by side. hopping: windows of `size_ms` that start every `hop_ms`, so
// that a row is in several of them. calendar: days, weeks or months of a time zone. session: from a key's
// first row to `gap_ms` after its last, where rows are less than that apart. global: one window that only the
// end of the input closes.
enum class WindowKind : std::uint8_t { tumbling, hopping, calendar, session, global };

struct WindowSpec {
    std::string name;
    WindowKind kind = WindowKind::tumbling;
    std::int64_t size_ms = 0;
    std::int64_t hop_ms = 0;                // hopping, at most the size
    std::int64_t gap_ms = 0;                // session
    std::int64_t offset_ms = 0;             // windows start at offset + k * size (hopping: k * hop)
    CalendarUnit unit = CalendarUnit::day;  // calendar
    std::string time_zone;                  // its name, so that snapshots of another are refused
    std::vector<ZoneOffset> zone;           // its rules
    std::int64_t allowed_lateness_ms = 0;
    // Not 0: groups that have changed are told, too, before their window is final, whenever the watermark
    // passes a multiple of it. A
    // session that was told and starts earlier by now, or is part of another, is retracted.
    std::int64_t early_ms = 0;
    std::string time_column;
    // Not empty: rows that `corrections` weighs fall into the windows of this column, where it is not null,
    // and not of their event time. Watermarks are of event time all the same. Not for sessions and global
    // windows.
    std::string original_time;
    Condition corrections = {};
    std::vector<std::string> keys;      // dictionary, int32, int64, bool, timestamp or string columns
    std::vector<std::string> required;  // columns that hold no null: as keys they take less room
    std::vector<Measure> measures;
};

struct WindowCounts {
    std::int64_t aggregated = 0;
    std::int64_t late = 0;
};

// A window is final when the watermark reaches its end plus the allowed lateness. A row is late when all its
// windows were final at the watermark that the row met on arrival, and is missing from those that were; so
// results do not depend on how rows are batched. Nor does a row join a window that advance() has closed. Null
// keys group together. String columns are encoded by dictionaries that each open window has of its own, so
// that they go when it closes; dictionary columns are grouped by their codes, which is faster. Batches may
// bring different dictionaries for a column (see codes.hpp). A sum that leaves int64 on its way is a Status
// state error, and so is each call after it until restore().
class FrozenWindow;

class Window {
public:
    // `key_types` and `measure_types` come from the schema of the batches that push() will see.
    Window(WindowSpec spec, std::vector<Type> key_types, std::vector<Type> measure_types);
    ~Window();
    Window(const Window&) = delete;
    Window& operator=(const Window&) = delete;

    // Whether such a window can be computed; if not, push, advance and restore say the same.
    [[nodiscard]] Status validate() const;
    // Rows that are late are appended to late_rows (row numbers of the batch).
    Status push(const CleanBatch& batch, std::vector<std::int32_t>* late_rows);
    // Closes what `watermark_ms` has made final: one batch per window, by start; rows by key, ordered by
    // value (nulls first, strings by bytes). Columns: window_start, window_end (a global window has neither),
    // keys (strings as utf8), measures; with early results also revision (from 1, by group) and final. What
    // push() had to close on its way comes first. Sessions come in one batch, by end, then by key.
    Status advance(std::int64_t watermark_ms, std::vector<std::shared_ptr<Batch>>* closed);

    [[nodiscard]] const WindowSpec& spec() const;
    [[nodiscard]] const WindowCounts& counts() const;
    [[nodiscard]] std::int64_t open_windows() const;
    [[nodiscard]] std::int64_t groups() const;
    [[nodiscard]] std::int64_t memory_bytes() const;
    // The columns of a closed window, with no rows: its schema.
    [[nodiscard]] std::shared_ptr<Batch> empty_result() const;

    // State as batches, of all owners or of one: "spec" (the window spelled out, one line a thing), "counts",
    // "owners" (owner, closed_ms: those whose windows are closed further than the others'), "groups"
    // (window_start_ms of the slice, a session's last_ms, owner, keys by value, accumulators), "distinct"
    // (values counted so far). Keys are written by value, so that a snapshot needs no dictionary to be read.
    // freeze() takes little time whatever the size of the state; the frozen window gives the batches.
    // restore() replaces the state; a snapshot of another spec is refused and named.
    using Parts = std::vector<std::pair<std::string, std::shared_ptr<Batch>>>;
    Status freeze(std::unique_ptr<FrozenWindow>* frozen, std::int32_t owner = kAllOwners);
    Status restore(const Parts& parts);
    // A group belongs to the partition whose row was its first, whoever adds to it later. drop() removes the
    // groups of one owner. take() adds those that `from` owned in a snapshot of another process, as `to`'s,
    // to the groups that are here already. Where that process was behind, windows that are closed here are
    // open again, for `to` alone; where it was ahead, what it has closed stays closed for `to`.
    Status drop(std::int32_t owner);
    Status take(const Parts& parts, std::int32_t from, std::int32_t to);

private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

// The state of a window at one moment. The window may go on, or be gone.
class FrozenWindow {
public:
    FrozenWindow() = default;
    FrozenWindow(const FrozenWindow&) = delete;
    FrozenWindow& operator=(const FrozenWindow&) = delete;
    virtual ~FrozenWindow() = default;

    // The batches, once; in any thread.
    virtual Status write(Window::Parts* parts) = 0;
};

// A line's amount: quantity x unit_price x (1 - discount), rounded half-even to scale 4. Null where an
// operand is null (a null discount is none); an amount that int64 cannot hold is null and its row is listed.
// Of an amount that is not wanted only those rows are found; the column is good for nothing then.
enum class Wanted : std::uint8_t { no, yes };
[[nodiscard]] Column line_amount(const Column& quantity, const Column& unit_price, const Column* discount,
                                 std::string name, std::vector<std::int32_t>* overflowed,
                                 Wanted wanted = Wanted::yes);

}  // namespace omnistream
