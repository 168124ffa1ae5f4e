"""decode, ahead: blocks are decoded in other threads while earlier ones go through the other stages.

Each thread's decoder learns layouts and numbers strings on its own. When a block's turn comes, its new
strings are given their numbers in the order in which one decoder would have met them; so results are the same
bytes for any number of threads, and threads share nothing but finished blocks.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from omnistream import _core


class Readable(Protocol):
    """What a source yields: data and where it comes from."""

    @property
    def data(self) -> Any:
        """NDJSON bytes, or what `Pipeline.push` takes besides."""

    @property
    def source(self) -> str:
        """Its name."""

    @property
    def partition(self) -> int:
        """Its partition."""

    @property
    def first_position(self) -> int:
        """Line number or offset of the first message."""


AnyBlock = TypeVar("AnyBlock", bound=Readable)


@dataclass(frozen=True, slots=True)
class Decoded:
    """A block that was decoded in a thread, in the codes of that thread."""

    batch: _core.Batch
    rejects: _core.Batch
    counts: dict[str, int]
    texts: dict[str, _core.Batch]  # by column: the strings that are new to the thread
    translations: dict[str, _core.Translation]  # of the thread's codes, touched when the block's turn comes
    size_bytes: int
    seconds: float  # that one block more takes, when all threads decode

    def take(self) -> tuple[_core.Batch, _core.Batch, dict[str, int]]:
        """Return the block in the codes of the job. Blocks of one pipeline are taken in their order, once."""
        for name, texts in self.texts.items():
            self.translations[name].learn(texts)
        return _core.translate_columns(self.batch, self.translations), self.rejects, self.counts


class _Decoder:
    """A decoder with dictionaries of its own, used by one thread at a time."""

    def __init__(self, core_schema: dict[str, Any], dictionaries: dict[str, _core.Dictionary]) -> None:
        self._own = {name: _core.Dictionary() for name in dictionaries}
        self._told = dict.fromkeys(dictionaries, 0)
        self._translations = {name: _core.Translation(ours) for name, ours in dictionaries.items()}
        self._decoder = _core.Decoder(core_schema, self._own)

    def run(self, block: Readable, threads: int) -> Decoded:
        start = time.perf_counter()
        batch, rejects, counts = self._decoder.decode_lines(
            block.data, block.source, block.partition, block.first_position
        )
        texts = {name: own.to_batch(self._told[name]) for name, own in self._own.items()}
        self._told = {name: len(own) for name, own in self._own.items()}
        seconds = (time.perf_counter() - start) / threads
        return Decoded(batch, rejects, counts, texts, self._translations, len(block.data), seconds)


class DecodeAhead:
    """Threads that decode.

    Parameters
    ----------
    core_schema, dictionaries : dict
        As for `Decode`.
    threads : int
        How many blocks are decoded at once; as many again are ready or in the queue.
    """

    def __init__(
        self, core_schema: dict[str, Any], dictionaries: dict[str, _core.Dictionary], threads: int
    ) -> None:
        self._threads, self._depth = threads, 2 * threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="omnistream-decode")
        self._idle: SimpleQueue[_Decoder] = SimpleQueue()
        for _ in range(threads):
            self._idle.put(_Decoder(core_schema, dictionaries))

    def run(
        self, blocks: Iterable[AnyBlock], is_for_device: Callable[[int], bool]
    ) -> Iterator[tuple[AnyBlock, Any]]:
        """Yield each block with what `Decode.run` takes for it, in order.

        ``is_for_device`` says of a size in bytes whether the threads leave a block as it is.
        """
        waiting: deque[tuple[AnyBlock, Any]] = deque()
        try:
            for block in blocks:
                is_text = isinstance(block.data, (bytes, bytearray, memoryview))
                ours = is_text and not is_for_device(len(block.data))
                waiting.append((block, self._pool.submit(self._decode, block) if ours else block.data))
                if len(waiting) > self._depth:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            for _, left in waiting:
                if isinstance(left, Future):
                    left.cancel()

    def _decode(self, block: Readable) -> Decoded:
        decoder = self._idle.get()
        try:
            return decoder.run(block, self._threads)
        finally:
            self._idle.put(decoder)
