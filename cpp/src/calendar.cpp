#include "omnistream/calendar.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

namespace omnistream {

namespace {

using std::chrono::days;
using std::chrono::sys_days;
using std::chrono::year_month_day;

constexpr std::int64_t kDayMs = 86'400'000;
constexpr std::int64_t kDaysToMonday = 3;  // 1970-01-01 was a Thursday
// No clock is further from UTC.
constexpr std::int64_t kLargestOffsetMs = kDayMs;
// Beyond these times, where the arithmetic of dates ends, all is one period.
constexpr std::int64_t kFurthestMs = 30'000 * 365 * kDayMs;

std::int64_t floor_divide(std::int64_t value, std::int64_t divisor) {
    return value / divisor - static_cast<std::int64_t>(value % divisor < 0);
}

}  // namespace

Calendar::Calendar(CalendarUnit unit, std::int64_t offset_ms, std::vector<ZoneOffset> zone)
    : unit_(unit), offset_ms_(offset_ms), zone_(std::move(zone)) {
    zone_.front().from_ms = std::numeric_limits<std::int64_t>::min();
}

std::size_t Calendar::segment_of(std::int64_t time_ms) const {
    const auto past =
        std::upper_bound(zone_.begin(), zone_.end(), time_ms,
                         [](std::int64_t time, const ZoneOffset& segment) { return time < segment.from_ms; });
    return static_cast<std::size_t>(past - zone_.begin()) - 1;
}

std::int64_t Calendar::period_of(std::int64_t local_ms) const {
    const std::int64_t day = floor_divide(local_ms - offset_ms_, kDayMs);
    if (unit_ == CalendarUnit::day) return day;
    if (unit_ == CalendarUnit::week) return floor_divide(day + kDaysToMonday, 7);
    const year_month_day date{sys_days(days(day))};
    return (static_cast<int>(date.year()) - 1970) * 12 +
           static_cast<int>(static_cast<unsigned>(date.month())) - 1;
}

std::int64_t Calendar::local_start_ms(std::int64_t index) const {
    std::int64_t day = index;
    if (unit_ == CalendarUnit::week) day = index * 7 - kDaysToMonday;
    if (unit_ == CalendarUnit::month) {
        const std::int64_t year = floor_divide(index, 12);
        const std::chrono::year_month_day first{
            std::chrono::year(static_cast<int>(year + 1970)),
            std::chrono::month(static_cast<unsigned>(index - year * 12 + 1)), std::chrono::day(1)};
        day = sys_days(first).time_since_epoch().count();
    }
    return day * kDayMs + offset_ms_;
}

std::int64_t Calendar::start_ms(std::int64_t index) const {
    const std::int64_t local_ms = local_start_ms(index);
    for (std::size_t at = segment_of(local_ms - kLargestOffsetMs);; ++at) {
        const std::int64_t start_ms = std::max(zone_[at].from_ms, local_ms - zone_[at].offset_ms);
        if (at + 1 == zone_.size() || start_ms < zone_[at + 1].from_ms) return start_ms;
    }
}

std::int64_t Calendar::index_of(std::int64_t time_ms) const {
    const std::int64_t near_ms = std::clamp(time_ms, -kFurthestMs, kFurthestMs);
    std::int64_t index = period_of(near_ms + zone_[segment_of(near_ms)].offset_ms);
    while (start_ms(index + 1) <= near_ms) ++index;
    while (start_ms(index) > near_ms) --index;
    return index;
}

}  // namespace omnistream
