// The state of a window and its program. window_program.cpp works the program out, window.cpp is the path of
// a row, window_slices.cpp keeps what is open, window_write.cpp writes what has closed; the other
// window_*.cpp are what their names say.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "omnistream/accumulate.hpp"
#include "omnistream/codes.hpp"
#include "omnistream/column_writer.hpp"
#include "omnistream/group_table.hpp"
#include "omnistream/key_layout.hpp"
#include "omnistream/window.hpp"

namespace omnistream {

// Times are added and divided in 128 bits, so that no time is too far away.
using Wide = __int128;

inline constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min();
inline constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

[[nodiscard]] inline std::int64_t saturate(Wide value) {
    return value < kLeast ? kLeast : value > kMost ? kMost : static_cast<std::int64_t>(value);
}
[[nodiscard]] inline Wide floor_divide(Wide value, std::int64_t divisor) {
    const Wide quotient = value / divisor;
    return quotient - (value % divisor < 0 ? 1 : 0);
}

// As jobs write them.
[[nodiscard]] const char* name_of(Operation operation);
[[nodiscard]] const char* name_of(WindowKind kind);
[[nodiscard]] const char* name_of(CalendarUnit unit);
[[nodiscard]] std::string condition_text(const Condition& condition);

// Whether a lane may hold any int64, so that no value is free to say "none".
[[nodiscard]] inline bool takes_all_of_int64(Type type) {
    return type == Type::int64 || type == Type::decimal || type == Type::timestamp_ms;
}

// What one or two words of a row hold. Measures that need the same one share it.
struct Accumulator {
    std::string name;     // what it holds, spelled out: equal names are one accumulator
    std::string measure;  // the first that needs it, to be named when it overflows
    Add add = Add::count;
    std::size_t word = 0;
    std::size_t weighing = 0;
    std::size_t input = 0;  // not count, not items
    std::size_t time = 0;   // first, last: the input that is the event time
    std::size_t items = 0;  // items: which of them
};

// What a measure keeps several of in a group, and how the word of each is combined. distinct: values, no
// word. tally: values and their weights. registers, buckets: of a sketch. earliest, latest: texts and when
// they came.
enum class ItemKind : std::uint8_t { distinct, tally, registers, buckets, earliest, latest };

struct ItemColumn {
    static constexpr std::size_t kNoInput = ~std::size_t{0};

    std::string column;
    Type column_type = Type::int64;
    Type type = Type::int64;  // of what is told apart: the column's, or a number
    ItemKind kind = ItemKind::distinct;
    const Column* bound = nullptr;
    Codes* codes = nullptr;  // where codes are told apart
    std::size_t input =
        kNoInput;  // tally: what is summed up; buckets: the values; earliest, latest: the times
    std::size_t accumulator = 0;
    std::size_t head = 0;  // sessions: the word that leads to the session's items

    // A code, an int32 or the number of a register or a bucket shares a word with the number of its group.
    [[nodiscard]] std::size_t key_words() const { return takes_all_of_int64(type) ? 2 : 1; }
    [[nodiscard]] std::size_t value_words() const { return kind == ItemKind::distinct ? 0 : 1; }
    // Sessions: what leads to the next item of the session, 1 plus its number.
    [[nodiscard]] std::size_t next_word() const { return key_words() + value_words(); }
    [[nodiscard]] std::vector<std::uint64_t> fresh(bool listed) const;
    [[nodiscard]] std::uint64_t group_of(const std::uint64_t* item) const {
        return key_words() == 2 ? item[0] : item[0] >> 32;
    }
    [[nodiscard]] std::int64_t value_of(const std::uint64_t* item) const;
    // earliest, latest: one of them is what the measure is, so the others need not be kept.
    [[nodiscard]] bool keeps_one() const { return kind == ItemKind::earliest || kind == ItemKind::latest; }
    // Whether of two of them it is the first; each a value and when it came.
    [[nodiscard]] bool wins(std::int64_t value, std::int64_t when, std::int64_t other,
                            std::int64_t other_when, const Dictionary* texts) const;
};

// How a closed window turns words into the value of a measure.
struct Output {
    Operation operation = Operation::count;
    Type column_type = Type::int64;
    Type type = Type::int64;
    std::size_t value = 0;  // the word of the count, sum, extreme or distinct count
    std::size_t count = 0;  // the word of the count behind a mean or an extreme
    std::size_t squares = 0;
    bool counted = false;   // an extreme whose `count` says whether there is one
    bool by_items = false;  // from `items`, and not from words
    std::size_t items = 0;
    std::int64_t argument = 0;  // of a top: which rank; of a quantile: in millionths
};

// What a session keeps besides its measures, one word each. A dead one has a first row after
// its last, and its next session is the one that it is part of by now.
enum SessionWord : std::size_t { kFirstMs, kLastMs, kNextSession, kKeyNumber, kSessionWords };
[[nodiscard]] inline bool is_dead_session(const std::uint64_t* words) {
    return static_cast<std::int64_t>(words[kFirstMs]) > static_cast<std::int64_t>(words[kLastMs]);
}

class Window::Impl {
public:
    using Parts = Window::Parts;

    Impl(WindowSpec spec, std::vector<Type> key_types, std::vector<Type> measure_types);

    Status validate() const { return valid_; }
    Status push(const CleanBatch& batch, std::vector<std::int32_t>* late_rows);
    Status advance(std::int64_t watermark_ms, std::vector<std::shared_ptr<Batch>>* closed);
    Status freeze(std::unique_ptr<FrozenWindow>* frozen, std::int32_t owner);
    Status restore(const Parts& parts);
    Status drop(std::int32_t owner);
    Status take(const Parts& parts, std::int32_t from, std::int32_t to);
    std::int64_t groups() const;
    std::int64_t memory_bytes() const;
    std::int64_t open_windows() const;
    std::shared_ptr<Batch> empty_result() const;

    WindowSpec spec;
    WindowCounts counts;

private:
    // The items of one measure in one slice. Those of a session are a list, too.
    struct ItemSet {
        GroupTable rows;
        std::unique_ptr<Dictionary> texts;  // of a string column
        std::size_t kept = 0;               // rows that the last prune left
    };
    // Items by group: those of group g are items[starts[g]] to items[starts[g + 1] - 1].
    struct ItemOrder {
        std::vector<std::uint32_t> starts;
        std::vector<std::uint32_t> items;
    };

    // Groups are numbered in the order in which they are made, so their owners are runs of numbers.
    struct OwnerRun {
        std::uint32_t first;
        std::int32_t owner;
    };

    // A stretch of event time and the groups of its rows. It is one open window; hopping windows that overlap
    // share slices, so that a row is added once.
    struct Slice {
        explicit Slice(GroupTable empty) : groups(std::move(empty)) {}

        std::int64_t start_ms = 0;
        std::int64_t end_ms = 0;
        std::int64_t final_ms = 0;  // the watermark that closes the last window that needs it
        GroupTable groups;
        std::vector<OwnerRun> owners;
        std::vector<std::unique_ptr<Dictionary>> key_texts;  // by key; null where it is no string column
        std::vector<ItemSet> items;
        bool changed = true;              // since early results were told last
        std::uint32_t block_rows = 0;     // while a block is placed: how many of its rows fall here
        std::uint32_t next_in_block = 0;  // and where the next one goes in order_
    };

    // The rows of the current block that fall into one window: block_rows_[begin, begin + count).
    struct Run {
        Slice* slice;
        std::uint32_t begin;
        std::uint32_t count;
    };

    // Open sessions. Each is a row of `slice`, whose key ends with a number that is the session's own, and
    // which has more words before the accumulators: see window_session.cpp.
    struct Sessions {
        // A start under which a session was told that is part of another by now: that row, or the row that
        // it became part of in turn.
        struct Retraction {
            std::uint32_t number;
            std::int64_t start_ms;
            std::uint64_t revision;
        };

        explicit Sessions(GroupTable empty, std::size_t key_words)
            : slice(std::move(empty)), by_key(key_words, {0}) {}

        Slice slice;
        GroupTable by_key;       // 1 plus the row of a key's first session
        std::uint64_t made = 0;  // the next one's own number
        std::size_t dead = 0;    // rows of sessions that are closed, or part of another by now
        std::vector<std::pair<std::int64_t, std::uint32_t>> due;  // a heap: (final_ms or earlier, row)
        std::vector<Retraction> retractions;                      // that are still to be told
    };

    struct Key {
        std::string column;
        Type type = Type::int64;
        const Column* bound = nullptr;
        Codes* codes = nullptr;  // of a dictionary column
        ByteOrder byte_order;
    };

    enum class Told : std::uint8_t { as_final, what_changed };

    // The program
    Status check() const;
    void compile();
    std::size_t input_of(const std::string& column, Type type);
    std::size_t weighing_of(const std::string& column, const Condition& condition);
    std::size_t accumulate(Add add, const Measure& measure, Type type, const std::string& column);
    std::size_t items_of(ItemKind kind, const Measure& measure, Type type);
    std::size_t new_accumulator(Add add, const std::string& name, const Measure& measure);
    Codes* codes_of(const std::string& column);
    std::vector<std::string> spec_lines() const;

    // The path of a row
    Status bind(const Batch& batch);
    Status bind_times(const Batch& batch);
    [[nodiscard]] bool fits(const Column& column, const std::string& key) const;
    Status bind_column(const Batch& batch, const std::string& name, Type type, const Column** column) const;
    // The watermarks that rows met: as they are written down, or to be worked out.
    struct Met {
        const std::int64_t* written_ms;  // of the next row
        Watermark::Run run;
        const std::int64_t* times_ms;

        // By the last of `count` rows, which is the largest; the next rows are those after it.
        std::int64_t last(const std::int32_t* rows, std::size_t count);
        const std::int64_t* each(const std::int32_t* rows, std::size_t count, std::int64_t* room) const;
    };
    Status push_block(const std::int32_t* rows, Met* met, std::size_t count,
                      std::vector<std::int32_t>* late_rows);
    std::size_t place(const std::int32_t* rows, Met* met, std::size_t count,
                      std::vector<std::int32_t>* late_rows);
    bool place_in_one(const std::int32_t* rows, std::size_t count, std::int64_t watermark_ms);
    Status add(std::size_t placed);
    bool place_at_a_glance(const std::int32_t* rows, std::size_t count, std::int64_t watermark_ms);
    void look_up(const Run& run);
    bool add_items(const Run& run, std::size_t number);
    void pack_value(const ItemColumn& column, ItemSet* set, std::int32_t row, std::uint64_t group,
                    std::uint64_t* key) const;
    std::uint64_t hash_value(ItemColumn* column, std::int32_t row) const;
    Status overflow(const Accumulator& accumulator) const;

    // Open slices
    struct Interval {
        std::int64_t start_ms;
        std::int64_t end_ms;
        std::int64_t final_ms;
    };
    std::int64_t index_of(std::int64_t time_ms) const;
    Interval interval_of(std::int64_t index) const;
    Slice* slice_near(std::int64_t time_ms, std::int64_t watermark_ms);
    Slice* find_far(std::int64_t time_ms, std::int64_t watermark_ms);
    Slice* find_or_open(std::int64_t index, std::int64_t watermark_ms);
    std::unique_ptr<Slice> make_slice(const Interval& interval) const;
    void move_near(std::int64_t index);
    void forget_near();
    void set_up(Slice* slice) const;
    std::vector<ItemSet> no_items() const;
    Status absorb(Slice* into, const Slice& from, std::int64_t final_ms);
    void copy_keys(const Slice& from, const std::uint64_t* const* rows, std::size_t count, Slice* into,
                   std::uint64_t* keys);

    // Sessions
    std::unique_ptr<Sessions> make_sessions() const;
    std::size_t place_in_sessions(const std::int32_t* rows, const std::int64_t* watermarks_ms,
                                  std::size_t count, std::vector<std::int32_t>* late_rows);
    std::uint32_t open_session(const std::uint64_t* key, std::uint32_t key_number, std::int64_t first_ms,
                               std::int64_t last_ms);
    Status merge_session(std::uint32_t into, std::uint32_t from);
    std::uint32_t living(std::uint32_t number) const;
    Status join_sessions(std::uint32_t number);
    void drop_sessions(std::int32_t owner);
    void unlink_session(std::uint32_t number);
    void end_session(std::uint32_t number);
    std::shared_ptr<Batch> write_sessions(const std::vector<std::uint32_t>& numbers, Told told);
    void take_retractions(const std::vector<std::uint32_t>& numbers, Slice* result);
    void merge_told(std::uint32_t into, std::uint32_t from);
    void move_sessions(Slice* from, const std::vector<std::uint32_t>& numbers, Slice* into);
    Status close_sessions(std::int64_t watermark_ms, std::vector<std::shared_ptr<Batch>>* closed);
    Status tell_sessions(std::vector<std::shared_ptr<Batch>>* told);
    void compact_sessions();
    bool add_item(Slice* slice, std::size_t number, std::uint32_t group, const std::uint64_t* key,
                  std::uint64_t value) const;
    bool copy_item(const ItemSet& from, const std::uint64_t* item, Slice* into, std::size_t number,
                   std::uint32_t group) const;
    void prune_items(Slice* slice, std::size_t number) const;
    ItemOrder order_items(const Slice& slice, std::size_t number) const;
    const Dictionary* text_of(const ItemColumn& column, const ItemSet& set) const;
    void write_items(const Output& output, const Slice& slice, const ItemOrder& order, std::uint32_t group,
                     ColumnWriter* out) const;
    Status restore_sessions(const Batch& groups, const std::int32_t* owners, std::int32_t from,
                            std::int32_t to, std::int64_t closed_ms, const std::vector<const Column*>& keys,
                            const std::vector<const Column*>& words,
                            std::vector<std::pair<Slice*, std::uint32_t>>* restored);
    [[nodiscard]] bool in_sessions() const { return spec.kind == WindowKind::session; }
    [[nodiscard]] bool is_dead(const std::uint64_t* words) const;
    [[nodiscard]] std::int64_t session_final_ms(std::int64_t last_ms) const {
        return saturate(static_cast<Wide>(last_ms) + spec.gap_ms + spec.allowed_lateness_ms);
    }
    [[nodiscard]] std::size_t session_word(std::size_t which) const { return key_width_ + which; }

    // Owners (window_owners.cpp)
    static void own_from(Slice* slice, std::size_t first, std::int32_t owner);
    static std::vector<std::int32_t> owners_of(const Slice& slice);
    static std::vector<std::int32_t> owners_of(const std::vector<OwnerRun>& runs, std::size_t groups);
    std::int64_t closed_ms_of(std::int32_t owner) const;
    [[nodiscard]] bool has_closed(const Slice& slice, std::int64_t final_ms) const;
    std::unique_ptr<Slice> without(Slice* slice, std::int32_t owner) const;
    void join_owner(std::int32_t owner, std::int64_t closed_ms);
    void forget_floors();

    // Closing
    [[nodiscard]] bool early() const { return spec.early_ms > 0; }
    [[nodiscard]] bool steps() const { return spec.kind == WindowKind::hopping || early(); }
    bool passes_early(std::int64_t watermark_ms) const;
    std::int64_t next_step_ms(std::int64_t watermark_ms) const;
    Status step(std::int64_t watermark_ms, std::vector<std::shared_ptr<Batch>>* closed);
    Status close_slices(std::int64_t watermark_ms, std::vector<std::shared_ptr<Batch>>* closed);
    Status close_hopping(std::int64_t watermark_ms, std::vector<std::shared_ptr<Batch>>* closed);
    Status tell_hopping(std::int64_t watermark_ms, std::vector<std::shared_ptr<Batch>>* told);
    Status merge_window(std::int64_t window, std::unique_ptr<Slice>* whole);
    void keep_told_alone(Slice* slice) const;
    [[nodiscard]] bool keeps_told() const {
        return early() && (spec.kind == WindowKind::hopping || in_sessions());
    }
    std::int64_t first_hop_over(std::int64_t slice_index) const;
    std::int64_t first_hop_open(std::int64_t watermark_ms) const;
    [[nodiscard]] std::int64_t hop_end_ms(std::int64_t window) const {
        return saturate(static_cast<Wide>(window) * spec.hop_ms + spec.offset_ms + spec.size_ms);
    }
    Array<std::uint32_t> write_rows(Slice* slice, std::int64_t start_ms, std::int64_t end_ms, Told told,
                                    std::vector<ColumnWriter>* out);
    std::shared_ptr<Batch> write(Slice* slice, std::int64_t start_ms, std::int64_t end_ms,
                                 Told told = Told::as_final);
    [[nodiscard]] bool has_changed(const std::uint64_t* words) const {
        return words[rows_word_] != words[told_word_];
    }
    [[nodiscard]] std::size_t first_key() const { return spec.kind == WindowKind::global ? 0 : 2; }
    void write_measure(const Output& output, const std::uint64_t* words, ColumnWriter* out) const;
    std::vector<ColumnWriter> result_writers(std::size_t rows) const;
    std::shared_ptr<Batch> finish(std::vector<ColumnWriter> writers, std::int64_t rows) const;

    // Snapshots (window_freeze.cpp, window_restore.cpp)
    struct Frozen;
    void freeze_slice(Slice* slice, bool told, Frozen* state);
    void freeze_sessions(Frozen* state);
    Parts small_parts(std::int32_t owner) const;
    Status find_parts(const Parts& parts, std::map<std::string, const Batch*>* by_name,
                      std::set<std::string>* begin) const;
    Status find_what_begins(const std::vector<std::size_t>& added, std::set<std::string>* begin) const;
    Status restore_groups(const Batch& groups, std::int32_t from, std::int32_t to, std::int64_t closed_ms,
                          const std::set<std::string>& begin_here,
                          std::vector<std::pair<Slice*, std::uint32_t>>* restored);
    Status restore_distinct(const Batch& values,
                            const std::vector<std::pair<Slice*, std::uint32_t>>& restored);

    std::vector<Type> measure_types_;
    std::vector<Type> key_types_;
    Status valid_;
    Status failed_;  // set by an overflow, which leaves a block half added

    KeyLayout layout_;
    std::size_t key_width_ = 0;  // words of a group's key: those of layout_, and a session's own number
    std::vector<Key> keys_;
    std::map<std::string, Codes> codes_;  // by dictionary column that is a key or counted distinct
    std::vector<Input> inputs_;
    std::vector<Weighing> weighings_;
    std::vector<BoundCondition> conditions_;
    std::vector<ItemColumn> items_;
    std::vector<Accumulator> accumulators_;
    std::vector<Output> outputs_;
    std::vector<std::uint64_t> fresh_;
    std::size_t rows_word_ = 0;  // early results: how many rows a group has,
    std::size_t told_word_ = 0;  // had when it was told last, and how often it was
    std::size_t revision_word_ = 0;
    std::size_t start_told_word_ = 0;  // of a session whose revision is not 0
    const Column* time_ = nullptr;
    const std::int64_t* placed_by_ms_ = nullptr;  // by row of the batch: the time whose window it falls into
    BoundCondition correcting_;
    std::vector<std::int64_t> corrected_ms_;

    Calendar calendar_;
    std::int64_t slice_ms_ = 1;                            // how long a slice is
    std::int64_t slices_per_hop_ = 1;                      // hopping
    std::int64_t slices_per_window_ = 1;                   // hopping
    std::map<std::int64_t, std::unique_ptr<Slice>> open_;  // by index
    // Hopping windows with early results: by window, the groups that have been told. They hold no values, but
    // how often they were and with how many rows.
    std::map<std::int64_t, std::unique_ptr<Slice>> told_;
    // The largest watermark up to which all is closed, and the next one that needs a step before the row that
    // meets it is added (where steps() are needed).
    std::int64_t closed_ms_ = kLeast;
    std::int64_t next_step_ms_ = kLeast;
    std::vector<std::shared_ptr<Batch>> stepped_;  // what push() closed
    std::int32_t owner_ = 0;                       // of the batch
    // Owners whose windows are closed beyond closed_ms_, and how far those are that are not listed.
    std::map<std::int32_t, std::int64_t> floors_ms_;
    std::int64_t floor_ms_ = kLeast;

    // A window that fills up makes room for as many groups as the one that closed last had, unless so many
    // are open that what they do not need would add up.
    static constexpr std::size_t kFewOpen = 8;
    static constexpr std::size_t kMostExpected = std::size_t{1} << 16;
    std::size_t groups_expected_ = 0;

    // Windows around the present, found without a division or a search.
    static constexpr std::size_t kNear = 64;
    static constexpr std::int64_t kNearPast = 16;
    static constexpr int kMissesToMove = 4;  // in a row, so that a stray time moves nothing
    Slice* near_[kNear] = {};
    std::int64_t near_index_ = 0;
    std::uint64_t near_start_ms_ = 0;
    std::uint64_t near_span_ms_ = 0;  // 0: off
    int near_misses_ = 0;
    double per_slice_ = 0;
    std::unique_ptr<Sessions> sessions_;
    Slice* recent_ = nullptr;  // where slices are of different lengths

    // The current block, ordered by window
    std::vector<Slice*> touched_;
    std::vector<Run> runs_;
    Slice* slice_of_[GroupTable::kBlock];
    std::int32_t numbers_[GroupTable::kBlock];  // of rows, where all of the batch live on
    std::int64_t met_[GroupTable::kBlock];
    std::int32_t placed_[GroupTable::kBlock];
    std::int32_t order_[GroupTable::kBlock];
    const std::int32_t* block_rows_ = order_;  // in this order; those of the batch if all are in one window
    bool consecutive_ = false;                 // and one follows the other
    std::uint32_t group_[GroupTable::kBlock];
    std::uint64_t* words_[GroupTable::kBlock];
    std::vector<std::uint64_t> key_words_;
};

}  // namespace omnistream
