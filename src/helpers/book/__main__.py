"""``python -m helpers.book``."""

import sys

from helpers.book.command import main

sys.exit(main())
