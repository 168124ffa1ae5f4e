"""Where what was compiled is kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return ``$OMNISTREAM_CACHE_DIR``, else omnistream's folder in the user's cache."""
    given = os.environ.get("OMNISTREAM_CACHE_DIR")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "omnistream"
