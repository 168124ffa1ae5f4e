"""Copies that run beside the kernels: from pinned memory to the device, and back into pinned memory.

`Uploads` sends blocks ahead: while kernels work on one block, the next is copied out of the other of two
pinned buffers. `Downloads` brings results back while kernels work on what comes after them. Each has a queue
of copies (a stream on a GPU), and `Mark` is a place in a queue that the host or the kernels wait for::

    put a block into a pinned buffer      the buffer's last copy must be over (Mark.wait)
    queue its copy                        behind the kernels that may still read that memory (after_kernels)
    launch kernels that read it           behind the copy (Mark.before_kernels)

Nothing else orders the two, so all three belong to every block. The host launcher copies as late as these
waits allow, and keeps a trace of them (``trace``), so that a missing one shows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

if TYPE_CHECKING:
    from omnistream import _core
    from omnistream.kernels.launch import Launcher

# One is copied while the host fills the other.
BUFFERS = 2


class Mark(Protocol):
    """What was queued up to here."""

    def wait(self) -> None:
        """Let the host wait until it is done."""

    def before_kernels(self) -> None:
        """Let kernels that are launched from now on wait until it is done."""


class Copies(Protocol):
    """A queue of copies, which keeps both sides of each in memory until it is done."""

    def upload(self, to: Any, pinned: np.ndarray[Any, Any]) -> None:
        """Queue a copy to the device. Neither side may be touched before it is done."""

    def download(self, to: np.ndarray[Any, Any], array: Any) -> None:
        """Queue a copy to pinned memory. Neither side may be touched before it is done."""

    def after_kernels(self) -> None:
        """Let what is queued from now on wait for the kernels that were launched."""

    def mark(self) -> Mark:
        """Return this place in the queue."""


# ---- to the device


@dataclass(slots=True)
class Block:
    """Bytes on their way to the device.

    Attributes
    ----------
    data : bytes-like
        The same bytes on the host.
    words : device array of uint64
        The bytes, padded with zeros to whole words; kernels may read them after `arrive`.
    """

    data: Any
    words: Any
    mark: Mark

    def __len__(self) -> int:
        return len(self.data)

    def arrive(self) -> Any:
        """Let the kernels to come wait for the bytes; return the words."""
        self.mark.before_kernels()
        return self.words


class Pinned:
    """Bytes in pinned memory, which a source writes itself, so that the host copies nothing.

    They may not change from when they are sent until the kernels that read them have been waited for.
    """

    def __init__(self, launcher: Launcher, size_bytes: int) -> None:
        self.words = launcher.pinned(8 * _words(size_bytes)).view(np.uint64)
        self.words[-1] = 0
        self.data = memoryview(cast("Any", self.words.view(np.uint8)[:size_bytes]))

    def __len__(self) -> int:
        return len(self.data)


def _words(size_bytes: int) -> int:
    """Return how many words hold so many bytes and at least one zero behind them."""
    return size_bytes // 8 + 1


Fill = Callable[[np.ndarray[Any, Any]], None]


@dataclass(slots=True)
class _Buffer:
    pinned: np.ndarray[Any, Any] = field(default_factory=lambda: np.empty(0, np.uint8))
    last: Mark | None = None  # copy out of it

    def filled(self, launcher: Launcher, size_bytes: int, fill: Fill) -> np.ndarray[Any, Any]:
        """Return words that hold the data, in this buffer or in a larger one from now on."""
        size = 8 * _words(size_bytes)
        if self.pinned.size < size:
            self.pinned = launcher.pinned(size + size // 64 * 8)  # some room for the next
        fill(self.pinned[:size_bytes])
        self.pinned[size_bytes:size] = 0
        return self.pinned[:size].view(np.uint64)


class Uploads:
    """Blocks of bytes to a device."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._copies = launcher.copies()
        self._buffers = [_Buffer() for _ in range(BUFFERS)]
        self._next = 0

    def send(self, data: Any) -> Block:
        """Start to copy a block, bytes-like or `Pinned`; kernels launched meanwhile do not wait for it."""
        if isinstance(data, Pinned):
            on_device = self._launcher.xp.empty(_words(len(data)), np.uint64)
            return Block(data.data, on_device, self._start(on_device, data.words))

        def fill(pinned: np.ndarray[Any, Any]) -> None:
            pinned[:] = np.frombuffer(data, np.uint8)

        return self._fill(data, len(data), fill)

    def send_messages(self, messages: _core.Messages, size_bytes: int) -> Block:
        """Start to copy messages, one behind the other; they have so many bytes in all."""
        return self._fill(messages, size_bytes, messages.copy_to)

    def _fill(self, data: Any, size_bytes: int, fill: Fill) -> Block:
        on_device = self._launcher.xp.empty(_words(size_bytes), np.uint64)
        buffer = self._buffers[self._next]
        self._next = (self._next + 1) % BUFFERS
        if buffer.last is not None:
            buffer.last.wait()
        buffer.last = self._start(on_device, buffer.filled(self._launcher, size_bytes, fill))
        return Block(data, on_device, buffer.last)

    def _start(self, on_device: Any, words: np.ndarray[Any, Any]) -> Mark:
        self._copies.after_kernels()
        self._copies.upload(on_device, words)
        return self._copies.mark()

    def ahead(self, blocks: Iterable[Any]) -> Iterator[Block]:
        """Send blocks, each while the one before it is in use."""
        before = None
        for data in blocks:
            block = self.send(data)
            if before is not None:
                yield before
            before = block
        if before is not None:
            yield before


# ---- to the host


@dataclass(slots=True)
class Download:
    """An array on its way to the host."""

    pinned: np.ndarray[Any, Any]
    mark: Mark

    def wait(self) -> np.ndarray[Any, Any]:
        """Return the array on the host."""
        self.mark.wait()
        return self.pinned


class Downloads:
    """Arrays to the host."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._copies = launcher.copies()

    def start(self, array: Any) -> Download:
        """Start to copy an array, behind the kernels that were launched."""
        pinned = self._launcher.pinned(max(array.nbytes, 1))[: array.nbytes].view(array.dtype)
        self._copies.after_kernels()
        if array.size:
            self._copies.download(pinned, array)
        return Download(pinned, self._copies.mark())


# ---- on a GPU


class CudaCopies:
    """A stream beside the default one."""

    def __init__(self, cupy: Any) -> None:
        self._cuda = cupy.cuda
        self._stream = cupy.cuda.Stream(non_blocking=True)
        # Whoever asked for a copy may forget it, and a pool would give its memory to others.
        self._begun: list[Any] = []
        self._in_flight: deque[tuple[Any, list[Any]]] = deque()

    def __del__(self) -> None:
        self._stream.synchronize()

    def upload(self, to: Any, pinned: np.ndarray[Any, Any]) -> None:
        """Queue a copy to the device."""
        self._begun += [to, pinned]
        to.set(pinned, stream=self._stream)

    def download(self, to: np.ndarray[Any, Any], array: Any) -> None:
        """Queue a copy to pinned memory."""
        self._begun += [to, array]
        array.get(stream=self._stream, out=to, blocking=False)

    def after_kernels(self) -> None:
        """Wait for the kernels' stream."""
        event = self._cuda.Event(disable_timing=True)
        event.record(self._cuda.get_current_stream())
        self._stream.wait_event(event)

    def mark(self) -> Mark:
        """Record an event."""
        event = self._cuda.Event(disable_timing=True)
        event.record(self._stream)
        self._in_flight.append((event, self._begun))
        self._begun = []
        while self._in_flight and self._in_flight[0][0].done:
            self._in_flight.popleft()
        return _CudaMark(self._cuda, event)


class _CudaMark:
    def __init__(self, cuda: Any, event: Any) -> None:
        self._cuda = cuda
        self._event = event

    def wait(self) -> None:
        self._event.synchronize()

    def before_kernels(self) -> None:
        self._cuda.get_current_stream().wait_event(self._event)


# ---- on the host, as late as possible


class HostCopies:
    """A queue whose copies are made when something waits for them, and no sooner."""

    def __init__(self, name: str, trace: deque[str]) -> None:
        self._name = name
        self._trace = trace
        self._waiting: list[Callable[[], None]] = []
        self._done = 0

    def upload(self, to: Any, pinned: np.ndarray[Any, Any]) -> None:
        """Queue a copy to the device."""
        self._note("upload")
        self._waiting.append(lambda: to.set(pinned))

    def download(self, to: np.ndarray[Any, Any], array: Any) -> None:
        """Queue a copy to pinned memory."""
        self._note("download")
        self._waiting.append(lambda: array.get(out=to))

    def after_kernels(self) -> None:
        """Note it: kernels of the host launcher are over when they have been launched."""
        self._note("after kernels")

    def mark(self) -> Mark:
        """Return this place in the queue."""
        return _HostMark(self, self._done + len(self._waiting))

    def run(self, end: int, why: str) -> None:
        """Make the copies up to a place in the queue."""
        self._note(f"{why} {end}")
        while self._done < end:
            self._waiting.pop(0)()
            self._done += 1

    def _note(self, what: str) -> None:
        self._trace.append(f"{self._name} {what}")


@dataclass(frozen=True, slots=True)
class _HostMark:
    copies: HostCopies
    end: int

    def wait(self) -> None:
        self.copies.run(self.end, "host waits for")

    def before_kernels(self) -> None:
        self.copies.run(self.end, "kernels wait for")
