"""Measures of your own: name this file in a job, and its functions in a derive table of kind "measures".

Each runs once a row of a closed window, compiled for the job's device. `first[0, key]` and `second[0, key]`
are measures of the row: exact integers, of which `scale` make one. NaN becomes null.
"""

from omnistream.features import measure


@measure(measures=2, unit="ratio")
def return_rate(first, second, key, known, weekday, days, scale):
    """Return the share of what was sold that came back; NaN where nothing was sold."""
    sold = second[0, key]
    return first[0, key] / sold / scale if sold != 0 else float("nan")


@measure(measures=2, unit="measure")
def margin(first, second, key, known, weekday, days, scale):
    """Return the first measure less the second, such as net amount less cost, and never less than 0."""
    return max(first[0, key] - second[0, key], 0) / scale
