"""``python -m omnistream``."""

import sys

from omnistream.cli import main

if __name__ == "__main__":
    sys.exit(main())
