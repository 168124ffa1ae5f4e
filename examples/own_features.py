"""Features of your own: name this file in a job, and its functions in the features of a derive table.

Each runs once a key, compiled for the job's device. Rows of `first` and `second` are days, yesterday first;
numbers are exact integers, of which `scale` make one. There are at least `days` days, and those before the
key was known hold 0.
"""

from omnistream.features import feature


@feature(measures=1, takes_days=True, unit="plain")
def trend(first, second, key, known, weekday, days, scale):
    """Return the demand of the newer half of the days over that of the older; NaN while there is none."""
    half = days // 2
    if known < days:
        return float("nan")
    late, early = 0, 0
    for ago in range(half):
        late += first[ago, key]
        early += first[ago + half, key]
    return late / early if early != 0 else float("nan")


@feature(measures=2, unit="measure")
def margin(first, second, key, known, weekday, days, scale):
    """Return yesterday's first measure less the second, such as net amount less cost."""
    return (first[0, key] - second[0, key]) / scale
