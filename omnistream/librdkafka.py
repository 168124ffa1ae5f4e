"""Which librdkafka is used: the copy that ships with confluent-kafka, unless the environment names one."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from omnistream.errors import SourceError

VARIABLE = "OMNISTREAM_LIBRDKAFKA"
# What the dynamic linker looks for when the system's own library is asked for.
SYSTEM_NAME = "librdkafka.so.1"


def librdkafka_path() -> str:
    """Return the library to load, for `omnistream._core`. Nothing is imported to find it.

    ``OMNISTREAM_LIBRDKAFKA`` may name a file, or say ``system``.

    Raises
    ------
    SourceError
        When there is none: says what to install.
    """
    asked = os.environ.get(VARIABLE, "")
    if asked == "system":
        return SYSTEM_NAME
    if asked:
        if not Path(asked).is_file():
            raise SourceError(f"{VARIABLE}={asked}: no such file: name librdkafka.so.1, or unset it")
        return asked
    package = importlib.util.find_spec("confluent_kafka")
    folders = list(package.submodule_search_locations or ()) if package is not None else []
    for folder in map(Path, folders):
        # Wheels for Linux keep libraries beside the package, those for macOS inside it.
        for place, pattern in (
            (folder.with_name("confluent_kafka.libs"), "librdkafka*.so*"),
            (folder / ".dylibs", "librdkafka*.dylib"),
        ):
            # Some wheels carry a second build with a suffix, for other ways to authenticate.
            if found := min(place.glob(pattern), key=lambda path: len(path.name), default=None):
                return str(found)
    if folders:
        return SYSTEM_NAME  # confluent-kafka was built from source, over the system's library
    raise SourceError("Kafka needs librdkafka: pip install 'omnistream[kafka]'")
