"""Tables that number things on the device: the driver of ``numbering.cuh``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from omnistream.kernels.launch import Launcher, blocks_for

THREADS = 256
FIRST_SLOTS = 1024


@dataclass(frozen=True, slots=True)
class Stage:
    """The kernels of one stage on one device."""

    launcher: Launcher
    name: str

    @property
    def xp(self) -> Any:
        """The array module of the device's memory."""
        return self.launcher.xp

    def each(self, kernel: str, items: int, *arguments: Any) -> None:
        """Start a kernel that strides over its items."""
        self.launcher.launch(self.name, kernel, blocks_for(items, THREADS), THREADS, *arguments)

    def tiles(self, kernel: str, blocks: int, *arguments: Any) -> None:
        """Start a kernel that takes a tile of rows with each block."""
        self.launcher.launch(self.name, kernel, blocks, THREADS, *arguments)

    def grown(self, array: Any, used: int, wanted: int) -> Any:
        """Return the array, or a larger one with the same first `used` items, that has room for `wanted`."""
        if array.size >= wanted:
            return array
        larger = self.xp.empty(max(wanted, array.size + array.size // 2), array.dtype)
        larger[:used] = array[:used]
        return larger

    def select(self, flags: Any) -> Any:
        """Return the numbers of the rows that have a flag, ascending."""
        return self.xp.flatnonzero(flags).astype(np.uint32)


class Numbering:
    """The slots of a table, at most half of which are ever taken.

    Parameters
    ----------
    stage : Stage
        Of a source that includes ``numbering.cuh``.
    insert : callable
        Takes the slots and their mask, and puts every thing that has a number into them.
    """

    def __init__(self, stage: Stage, insert: Callable[[Any, np.uint64], None]) -> None:
        self._stage = stage
        self._insert = insert
        self.slots = stage.xp.zeros(FIRST_SLOTS, np.uint64)

    @property
    def mask(self) -> np.uint64:
        """Turns a hash into a slot."""
        return np.uint64(self.slots.size - 1)

    def reserve(self, things: int) -> None:
        """Make room for so many things in all."""
        if self.slots.size < 2 * things:
            self.rebuild(things)

    def rebuild(self, things: int) -> None:
        """Start over with free slots, and put in what has a number."""
        slots = max(FIRST_SLOTS, 1 << (2 * things).bit_length())
        self.slots = self._stage.xp.zeros(slots, np.uint64)
        self._insert(self.slots, self.mask)

    def shrink(self, things: int) -> None:
        """Start over for so many things, where memory is short with the slots that there are."""
        try:
            self.rebuild(things)
        except MemoryError:
            self.forget()

    def forget(self) -> None:
        """Take out what was looked up and got no number. Needs no memory."""
        self.slots[:] = 0
        self._insert(self.slots, self.mask)

    def firsts(self, slot_of: Any) -> Any:
        """Return the rows that showed something new, in the order in which it will be numbered."""
        flags = self._stage.xp.empty(slot_of.size, np.uint8)
        self._stage.each("mark_firsts", slot_of.size, self.slots, slot_of, np.uint32(slot_of.size), flags)
        return self._stage.select(flags)

    def publish(self, slot_of: Any, firsts: Any, base: int) -> None:
        """Give the things that `firsts` showed their numbers, from `base` on."""
        count = firsts.size
        self._stage.each("publish", count, self.slots, slot_of, firsts, np.uint32(count), np.uint32(base))

    def numbers(self, slot_of: Any) -> Any:
        """Return the number of each row's thing."""
        out = self._stage.xp.empty(slot_of.size, np.uint32)
        self._stage.each("read_numbers", out.size, self.slots, slot_of, np.uint32(out.size), out)
        return out
