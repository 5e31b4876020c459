"""`python -m app` is `phalanx`."""

import sys

from app.cli import main

if __name__ == "__main__":
    sys.exit(main())
