"""encode: persistent dictionaries from strings to dense int32 codes.

Decode writes codes at once where it can (a fused stage, one set of dictionaries); rows that were pushed as
Arrow columns get theirs here. The C++ engine is ``cpp/src/dictionary.cpp`` and ``cpp/src/encode.cpp``, the
device's is ``kernels/encode.py``.
"""

from __future__ import annotations

from collections.abc import Callable

from omnistream import _core
from omnistream.clean import CleanRows
from omnistream.schema import Schema


class Encode:
    """Owns one dictionary for each dictionary field of the schema."""

    def __init__(self, schema: Schema) -> None:
        self.dictionaries = {
            field.name: _core.Dictionary() for field in schema.fields if field.type == "dictionary"
        }

    def run(self, clean: CleanRows) -> CleanRows:
        """Return the batch with every dictionary column in this job's codes, as on a device all are."""
        if not isinstance(clean, _core.CleanBatch):
            return clean
        batch = clean.batch
        encoded = _core.encode_columns(batch, self.dictionaries)
        return clean if encoded is batch else clean.with_batch(encoded)

    @property
    def state_bytes(self) -> int:
        """Memory of all dictionaries."""
        return sum(dictionary.memory_bytes for dictionary in self.dictionaries.values())

    def explain(self) -> str:
        """One line: what runs here."""
        if not self.dictionaries:
            return "no dictionary columns"
        return f"{', '.join(self.dictionaries)} to codes, fused into decode"

    def freeze(self) -> Callable[[], dict[str, _core.Batch]]:
        """Return what gives the strings of this moment, in code order, by field; later, in any thread."""
        frozen = {name: dictionary.freeze() for name, dictionary in self.dictionaries.items()}
        return lambda: {name: dictionary.to_batch() for name, dictionary in frozen.items()}

    def restore(self, parts: dict[str, object]) -> None:
        """Take back what `freeze` gave. A column that no stage read before starts anew."""
        for name, dictionary in self.dictionaries.items():
            if name in parts:
                dictionary.restore(parts[name])
