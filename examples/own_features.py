"""Features of your own: name this file in a job, and its functions in the features of a derive table.

Each runs once a key, compiled for the job's device. Rows of `first` and `second` are days, yesterday first;
numbers are exact integers, of which `scale` make one. Days before the key was known hold 0.
"""

from omnistream.features import feature


@feature(measures=1, takes_days=True, unit="plain")
def trend(first, second, key, known, weekday, days, scale):
    """Return the demand of the last days over that of as many days before; NaN while there is none before."""
    if known < 2 * days:
        return float("nan")
    late, early = 0, 0
    for ago in range(days):
        late += first[ago, key]
        early += first[ago + days, key]
    return late / early if early != 0 else float("nan")


@feature(measures=2, unit="measure")
def margin(first, second, key, known, weekday, days, scale):
    """Return yesterday's first measure less the second, such as net amount less cost."""
    return (first[0, key] - second[0, key]) / scale
