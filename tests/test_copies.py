"""Copies beside the kernels: what waits for what, with copies that are made as late as that allows."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from omnistream import _core
from omnistream.kernels.copies import BUFFERS, Downloads, Uploads
from omnistream.kernels.decode import DeviceDecoder
from omnistream.kernels.launch import HostLauncher
from omnistream.schema import Schema

SCHEMA = Schema.from_dict(
    {
        "field": [
            {"name": "id", "type": "string", "required": True},
            {"name": "units", "type": "int64"},
            {"name": "price", "type": "decimal"},
        ]
    }
).to_core()


def blocks(count: int) -> list[bytes]:
    """Return blocks of growing and shrinking sizes, so that buffers are made anew and reused."""
    lines = (
        json.dumps({"id": f"é{block}-{row}", "units": row, "price": row / 4}, ensure_ascii=False)
        for block in range(count)
        for row in range(1 + block * 37 % 50)
    )
    return [
        "".join(next(lines) + "\n" for _ in range(1 + block * 37 % 50)).encode() for block in range(count)
    ]


def test_blocks_that_are_sent_ahead_arrive_whole() -> None:
    decoder, cpu = DeviceDecoder(HostLauncher(), SCHEMA), _core.Decoder(SCHEMA, {})
    for sent in decoder.ahead(blocks(7)):
        meant = pa.record_batch(cpu.decode_lines(sent.data)[0])
        assert decoder.to_arrow(decoder.decode_lines(sent)).equals(meant)


def test_results_come_back_while_later_blocks_are_decoded() -> None:
    decoder, cpu = DeviceDecoder(HostLauncher(), SCHEMA), _core.Decoder(SCHEMA, {})
    given = blocks(5)
    started = [decoder.start_to_arrow(decoder.decode_lines(sent)) for sent in decoder.ahead(given)]
    for finish, block in zip(started, given, strict=True):
        assert finish().equals(pa.record_batch(cpu.decode_lines(block)[0]))


def test_kernels_of_a_block_do_not_wait_for_the_next() -> None:
    """The next upload is queued before a block's first kernel, which waits for its own block alone."""
    launcher = HostLauncher()
    decoder = DeviceDecoder(launcher, SCHEMA)
    for sent in decoder.ahead(blocks(3)):
        decoder.decode_lines(sent)
    steps = [each for each in launcher.trace if each.startswith("queue 1") or each == "count_feeds"]
    sent_one = ["queue 1 after kernels", "queue 1 upload"]
    assert steps == [
        *sent_one,
        *sent_one,
        "queue 1 kernels wait for 1",
        "count_feeds",
        "queue 1 host waits for 1",  # the first buffer is used again
        *sent_one,
        "queue 1 kernels wait for 2",
        "count_feeds",
        "queue 1 kernels wait for 3",
        "count_feeds",
    ]


def test_a_buffer_is_not_filled_before_its_copy_is_over() -> None:
    launcher = HostLauncher()
    uploads = Uploads(launcher)
    given = [bytes([number]) * 24 for number in range(2 * BUFFERS + 1)]
    sent = [uploads.send(data) for data in given]
    for block, data in zip(sent, given, strict=True):
        assert launcher.to_host(block.arrive()).tobytes()[:24] == data


def test_what_is_being_copied_is_kept_though_nobody_waits_for_it() -> None:
    launcher = HostLauncher()
    downloads = Downloads(launcher)
    downloads.start(launcher.xp.zeros(100, np.int64))
    assert launcher.xp.used_bytes == 1024
    last = downloads.start(launcher.to_device(np.arange(100)))
    assert last.wait().tolist() == list(range(100))
    assert launcher.xp.used_bytes == 0
