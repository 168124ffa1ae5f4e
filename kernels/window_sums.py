"""Adding rows to the groups of a device, exactly: the driver of ``window.cu``'s accumulators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from omnistream.errors import StateError
from omnistream.kernels.columns import CleanRows
from omnistream.kernels.numbering import Stage
from omnistream.kernels.window_program import LANES, MOST, Accumulator, Program
from omnistream.kernels.window_table import KeyTable

_TILE, _PLACES = 2048, 1024  # kTile and kPlaces of window.cu
_ORDERED_BLOCKS = 4  # of the kernel that adds row after row
_KERNELS = {"sum": "add_sums", "min": "add_mins", "max": "add_maxs"}


class Sums:
    """The accumulators of all groups but those of distinct values.

    Parameters
    ----------
    stage : Stage
        Of ``window.cu``.
    program : Program
    groups : KeyTable
    """

    def __init__(self, stage: Stage, program: Program, groups: KeyTable) -> None:
        self._stage, self._program, self._groups = stage, program, groups
        # No sum or square of any group is larger than these.
        self._bounds = {each.name: 0 for each in program.accumulators}

    def lose_bounds(self) -> None:
        """Reckon with sums of any size, as a snapshot brings them."""
        self._bounds = {
            each.name: MOST if each.add == "sum" else 2**128 for each in self._program.accumulators
        }

    def add(self, batch: CleanRows, group_of: Any, weights: Mapping[str, Any]) -> None:
        """Add rows to their groups.

        Parameters
        ----------
        batch : CleanRows
        group_of : device array of uint32
            By row.
        weights : mapping
            By `Accumulator.weighing` a device array of int8: how often a row counts, 0 for one that is late.

        Raises
        ------
        StateError
            When a sum overflows: sums are wrong from then on.
        MemoryError
            When memory is short; nothing has been added.
        """
        stage, count = self._stage, batch.count
        tiles = -(-count // _TILE)
        place_of = stage.xp.empty(count, np.uint16)
        tile_groups = stage.xp.empty(tiles * _PLACES, np.uint32)
        largest = self._largest(batch, weights)
        accumulators, stride = self._program.accumulators, np.uint32(self._program.stride)
        overflowed = stage.xp.zeros(len(accumulators) + 1, np.uint32)
        fits = [
            each.add != "sum" or self._fits(each, count * most)
            for each, most in zip(accumulators, largest, strict=False)
        ]
        may_overflow = False
        stage.tiles("find_places", tiles, group_of, np.uint32(count), place_of, tile_groups)
        for number, each in enumerate(accumulators):
            if each.add == "distinct":
                continue
            taken = weights[each.weighing]
            table = (self._groups.rows, stride, np.uint32(each.word))
            places = (group_of, place_of, tile_groups, np.uint32(count), taken, *table)
            if each.add == "count":
                stage.tiles("add_counts", tiles, *places)
                continue
            lane = (
                batch.columns[each.column].values,
                batch.rows,
                np.uint32(LANES[self._program.types[each.column]]),
            )
            flag = overflowed[number : number + 1]
            if not fits[number]:
                may_overflow = True
                stage.tiles(
                    "add_sums_in_order",
                    _ORDERED_BLOCKS,
                    group_of,
                    np.uint32(count),
                    taken,
                    *table,
                    *lane,
                    flag,
                )
                self._bounds[each.name] = MOST
            elif each.add == "squares":
                self._bounds[each.name] += count * largest[number] ** 2
                may_overflow = may_overflow or self._bounds[each.name] >= 2**128
                stage.tiles("add_squares", tiles, *places, *lane, flag)
            else:
                stage.tiles(_KERNELS[each.add], tiles, *places, *lane)
        if may_overflow:
            self._check_overflow(stage.launcher.to_host(overflowed))

    def _largest(self, batch: CleanRows, weights: Mapping[str, Any]) -> list[int]:
        """Return by accumulator the largest magnitude that it may add."""
        stage = self._stage
        accumulators = self._program.accumulators
        largest = self._stage.xp.zeros(len(accumulators) + 1, np.uint64)
        for number, each in enumerate(accumulators):
            if each.add in ("sum", "squares"):
                stage.each(
                    "largest_magnitude",
                    batch.count,
                    weights[each.weighing],
                    np.uint32(batch.count),
                    batch.columns[each.column].values,
                    batch.rows,
                    np.uint32(LANES[self._program.types[each.column]]),
                    largest[number : number + 1],
                )
        return [int(word) for word in self._stage.launcher.to_host(largest)]

    def _fits(self, each: Accumulator, most_added: int) -> bool:
        """Whether no sum can leave int64 on its way, in whatever order the rows are added."""
        if self._bounds[each.name] + most_added > MOST:
            # The bound has grown by the worst of every batch; what the sums are now is less.
            largest = self._stage.xp.zeros(1, np.uint64)
            self._stage.each(
                "largest_sum",
                self._groups.count,
                self._groups.rows,
                np.uint32(self._program.stride),
                np.uint32(each.word),
                np.uint32(self._groups.count),
                largest,
            )
            self._bounds[each.name] = int(self._stage.launcher.to_host(largest)[0])
        if self._bounds[each.name] + most_added > MOST:
            return False
        self._bounds[each.name] += most_added
        return True

    def _check_overflow(self, overflowed: np.ndarray) -> None:
        for each, flag in zip(self._program.accumulators, overflowed, strict=False):
            if flag:
                what = (
                    "the sum does not fit 64 bits"
                    if each.add == "sum"
                    else "the sum of squares does not fit 128 bits"
                )
                raise StateError(f"window '{self._program.name}': measure '{each.measure}' overflows: {what}")
