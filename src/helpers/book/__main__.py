"""``python -m helpers.book``."""

import sys

from helpers.book.command import main
from helpers.project import run_command

sys.exit(run_command(main))
