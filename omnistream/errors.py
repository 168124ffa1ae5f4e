"""The tree of exceptions: a bad job raises one before any data is read; a bad message never does."""

from __future__ import annotations


class OmnistreamError(Exception):
    """Anything that omnistream raises on purpose."""


class SchemaError(OmnistreamError):
    """A schema that makes no sense, or a batch that does not fit it."""


class JobError(OmnistreamError):
    """A job file with mistakes.

    Attributes
    ----------
    problems : list of str
        One line per mistake: the file, the key and the fix.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class DecodeError(OmnistreamError):
    """Input that cannot be read as messages at all."""


class StateError(OmnistreamError):
    """A sum that overflows, or a snapshot that does not fit the job."""


class MemoryLimitError(StateError):
    """The state takes more than the job's ``state.memory_limit``. Nothing of this push was taken."""


class SourceError(OmnistreamError):
    """A source that cannot be read."""


class SinkError(OmnistreamError):
    """A sink that cannot be written."""


class NotCommittedError(OmnistreamError):
    """A checkpoint that Kafka has refused: the job goes on from the one before."""


class DeviceError(OmnistreamError):
    """A device that was asked for and cannot be used."""
