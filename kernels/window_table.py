"""Rows of words on the device, each found by the words that it begins with."""

from __future__ import annotations

from typing import Any

import numpy as np

from omnistream.kernels.numbering import Numbering, Stage

_GATHERED = 1 << 20  # rows that come to the host at once


class KeyTable:
    """A table of rows that are numbered as their keys appear.

    Parameters
    ----------
    stage : Stage
        Of ``window.cu``.
    key_words, stride : int
        Words of a key, and of a row.

    Attributes
    ----------
    rows : device array of uint64
        `count` rows, one behind the other, and room for more.
    """

    def __init__(self, stage: Stage, key_words: int, stride: int) -> None:
        self._stage = stage
        self._key_words, self._stride = np.uint32(key_words), np.uint32(stride)
        self.rows = stage.xp.empty(0, np.uint64)
        self.count = 0
        self._numbering = Numbering(stage, self._insert)

    @property
    def used(self) -> Any:
        """The words of the rows, without the room for more."""
        return self.rows[: self.count * int(self._stride)]

    @property
    def memory_bytes(self) -> int:
        """Memory on the device."""
        return int(self.rows.nbytes) + int(self._numbering.slots.nbytes)

    def find(self, keys: Any, taken: Any, behind: Any = None) -> Any:
        """Return where the number of each key is; see `numbers`.

        Parameters
        ----------
        keys : device array of uint64
        taken : device array of int8
            0 for a key that is not looked up.
        behind : device array of uint64, optional
            What follows the key in the row of a new one.

        Raises
        ------
        MemoryError
            When memory is short; no key stands in the table that has no row.
        """
        self._numbering.reserve(self.count + int(taken.size))
        try:
            slot_of = self._probe(keys, taken)
            self._append(keys, slot_of, behind)
        except MemoryError:
            self._numbering.forget()  # or these keys would stand in it for good
            raise
        return slot_of

    def _probe(self, keys: Any, taken: Any) -> Any:
        count = int(taken.size)
        slot_of = self._stage.xp.empty(count, np.uint32)
        self._stage.each(
            "probe_keys",
            count,
            keys,
            np.uint32(count),
            self._key_words,
            taken,
            self.rows,
            self._stride,
            self._numbering.slots,
            self._numbering.mask,
            slot_of,
        )
        return slot_of

    def _append(self, keys: Any, slot_of: Any, behind: Any) -> None:
        firsts = self._numbering.firsts(slot_of)
        added = int(firsts.size)
        if added == 0:
            return
        stride = int(self._stride)
        self.rows = self._stage.grown(self.rows, self.count * stride, (self.count + added) * stride)
        self._stage.each(
            "append_keys",
            added,
            firsts,
            np.uint32(added),
            np.uint32(self.count),
            keys,
            self._key_words,
            behind,
            self._stride,
            self.rows,
        )
        self._numbering.publish(slot_of, firsts, self.count)
        self.count += added

    def numbers(self, slot_of: Any) -> Any:
        """Return the row number of each key."""
        return self._numbering.numbers(slot_of)

    def gather(self, rows: Any) -> Any:
        """Return the words of some rows."""
        count, stride = int(rows.size), int(self._stride)
        out = self._stage.xp.empty(count * stride, np.uint64)
        if count:
            self._stage.each(
                "gather_rows", count * stride, self.rows, self._stride, rows, np.uint32(count), out
            )
        return out

    def gather_to_host(self, rows: Any) -> np.ndarray:
        """Copy rows to the host, piece by piece, so that they need not be on the device twice."""
        to_host = self._stage.launcher.to_host
        pieces = [
            to_host(self.gather(rows[begin : begin + _GATHERED]))
            for begin in range(0, int(rows.size), _GATHERED)
        ]
        return np.concatenate([np.empty(0, np.uint64), *pieces]).reshape(-1, int(self._stride))

    def to_host(self) -> np.ndarray:
        """Copy all rows to the host."""
        return self._stage.launcher.to_host(self.used).reshape(-1, int(self._stride))

    def keep(self, words: Any) -> None:
        """Hold these rows, which `gather` returned, and no others."""
        self.rows, self.count = words, int(words.size) // int(self._stride)
        self._numbering.shrink(self.count)

    def restore(self, words: np.ndarray) -> None:
        """Hold rows of the host, and no others."""
        self.rows = self._stage.launcher.to_device(words.reshape(-1))
        self.count = len(words)
        self._numbering.rebuild(self.count)

    def _insert(self, slots: Any, mask: np.uint64) -> None:
        if self.count:
            self._stage.each(
                "insert_keys",
                self.count,
                self.rows,
                np.uint32(self.count),
                self._key_words,
                self._stride,
                slots,
                mask,
            )
