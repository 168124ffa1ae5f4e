"""NDJSON to Arrow by itself: for whoever wants columns, and no job."""

from __future__ import annotations

from omnistream import _core
from omnistream.schema import Schema
from omnistream.spec import SourceSpec


class NdjsonDecoder:
    """Turns NDJSON in memory into Arrow columns, a row for each message or for each line that it holds.

    What it has learnt of the layout of messages, and the codes of its dictionary columns, go on from stream
    to stream. Streams of one decoder are to be read one at a time; two decoders do not wait for each other.

    Parameters
    ----------
    schema : Schema
        Names the columns and where they stand in a message.
    block_bytes : int
        Of lines for each batch, at least, but for the last one.

    Attributes
    ----------
    schema : Schema
    block_bytes : int
    """

    def __init__(self, schema: Schema, *, block_bytes: int = SourceSpec().batch_bytes) -> None:
        self.schema = schema
        self.block_bytes = block_bytes
        codes = {field.name: _core.Dictionary() for field in schema.fields if field.type == "dictionary"}
        self._decoder = _core.Decoder(schema.to_core(), codes)

    def stream(
        self,
        lines: bytes | bytearray | memoryview,
        *,
        source: str = "push",
        partition: int = 0,
        first_position: int = 1,
    ) -> _core.DecodeStream:
        """Return an Arrow stream of the lines' rows, which decodes them as it is read.

        Anything that speaks the Arrow PyCapsule protocol reads it, such as
        ``pyarrow.RecordBatchReader.from_stream``; neither decoding nor handing a batch on needs the GIL.
        ``counts`` of the stream say what became of the messages so far, and ``take_rejects()`` gives those
        that could not be decoded, as Arrow batches.

        Parameters
        ----------
        lines : bytes-like
            Not copied: it must not change while the stream, or a rejected message of it, is there.
        source, partition, first_position
            What rejects will say of where a message comes from; lines are numbered.

        Who reads the stream gets an error, which is pyarrow's, for a batch that would take more than 2 GiB
        because what a message says once is repeated for each of its lines.
        """
        return _core.DecodeStream(self._decoder, lines, self.block_bytes, source, partition, first_position)
