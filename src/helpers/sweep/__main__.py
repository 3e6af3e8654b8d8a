"""``python -m helpers.sweep``."""

import sys

from helpers.sweep.command import main

sys.exit(main())
