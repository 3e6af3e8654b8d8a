"""``python -m helpers.audit``."""

import sys

from helpers.audit.command import main

if __name__ == "__main__":
    sys.exit(main())
