// Days, weeks and months as the clocks of a time zone show them.
#pragma once

#include <cstdint>
#include <vector>

namespace omnistream {

enum class CalendarUnit : std::uint8_t { day, week, month };

// From `from_ms` (UTC) on, clocks are ahead of UTC by `offset_ms`.
struct ZoneOffset {
    std::int64_t from_ms;
    std::int64_t offset_ms;
};

// Periods are numbered: days since 1970-01-01, weeks since Monday 1969-12-29, months since January 1970. A
// period starts at the first instant at which clocks show its first moment, or a later one: so each instant
// is in exactly one, also where clocks skip midnight or show it twice. A day that clocks skip is empty.
class Calendar {
public:
    Calendar() = default;
    // `zone` is ordered by time and not empty; its first offset holds before it, too. Periods start
    // `offset_ms` of the clock after midnight.
    Calendar(CalendarUnit unit, std::int64_t offset_ms, std::vector<ZoneOffset> zone);

    [[nodiscard]] std::int64_t index_of(std::int64_t time_ms) const;
    [[nodiscard]] std::int64_t start_ms(std::int64_t index) const;

private:
    [[nodiscard]] std::size_t segment_of(std::int64_t time_ms) const;
    [[nodiscard]] std::int64_t period_of(std::int64_t local_ms) const;
    [[nodiscard]] std::int64_t local_start_ms(std::int64_t index) const;

    CalendarUnit unit_ = CalendarUnit::day;
    std::int64_t offset_ms_ = 0;
    std::vector<ZoneOffset> zone_;
};

}  // namespace omnistream
