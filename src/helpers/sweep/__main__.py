"""``python -m helpers.sweep``."""

import sys

from helpers.project import run_command
from helpers.sweep.command import main

sys.exit(run_command(main))
