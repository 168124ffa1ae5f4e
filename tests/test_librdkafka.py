"""The Kafka client without a broker: which library is loaded, and what a wrong setting says."""

from __future__ import annotations

import re
import subprocess
import sys

import pyarrow as pa
import pytest

from omnistream import _core
from omnistream.errors import SinkError, SourceError
from omnistream.librdkafka import VARIABLE, librdkafka_path

# Nothing listens on port 1.
NOWHERE = [("bootstrap.servers", "127.0.0.1:1"), ("group.id", "g"), ("socket.timeout.ms", "1000")]


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_library_of_the_wheel_is_found_without_importing_its_package() -> None:
    code = (
        "import sys; from omnistream.librdkafka import librdkafka_path; from omnistream import _core;"
        "print(_core.kafka_library_version(librdkafka_path()), 'confluent_kafka' in sys.modules)"
    )
    version, imported = run_python(code).split()
    assert re.match(r"2\.\d+\.\d+", version)
    assert imported == "False"


def test_a_library_that_is_named_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/nowhere/librdkafka.so.1")
    with pytest.raises(SourceError, match=r"/nowhere/librdkafka\.so\.1: no such file"):
        librdkafka_path()
    monkeypatch.setenv(VARIABLE, "system")
    assert librdkafka_path() == "librdkafka.so.1"


def test_a_library_without_kafka_in_it_is_refused() -> None:
    code = (
        "from omnistream import _core, errors\n"
        "try: _core.kafka_library_version('libm.so.6')\n"
        "except errors.SourceError as error: print(error)"
    )
    assert "libm.so.6: is no librdkafka" in run_python(code)


def test_a_setting_that_librdkafka_does_not_know_is_named() -> None:
    with pytest.raises(SourceError, match=r"kafka setting bootstrap\.server: No such configuration property"):
        _core.KafkaConsumer(librdkafka_path(), [("bootstrap.server", "localhost")])
    with pytest.raises(SinkError, match=r"kafka setting compression\.type: Invalid value"):
        _core.KafkaProducer(librdkafka_path(), [("compression.type", "zip")])


def test_defaults_give_way_to_settings_and_to_old_libraries() -> None:
    settings = [*NOWHERE, ("queued.min.messages", "7")]
    defaults = [("queued.min.messages", "no number"), ("of.a.later.version", "1")]
    _core.KafkaConsumer(librdkafka_path(), settings, defaults).close()


def test_a_broker_that_is_not_there_is_named() -> None:
    consumer = _core.KafkaConsumer(librdkafka_path(), NOWHERE)
    with pytest.raises(SourceError, match=r"127\.0\.0\.1:1.*Connection refused.*check that the brokers"):
        consumer.topics(2_000)
    consumer.close()


def test_a_message_that_is_not_delivered_is_an_error() -> None:
    settings = [("bootstrap.servers", "127.0.0.1:1"), ("message.timeout.ms", "300")]
    producer = _core.KafkaProducer(librdkafka_path(), settings)
    producer.produce("sales", pa.array([b"1", b"2"]))
    with pytest.raises(SinkError, match=r"topic sales: a message was not delivered: .*timed out"):
        producer.flush(5_000)
