"""The environment of all tests: doctests, replayed notebooks, and what is in tests/.

Kernels inherit this process's environment, so what is set here holds in every notebook that nbval
replays. It has to be set before anything imports torch.
"""

import os
from pathlib import Path

from helpers.book import runner
from helpers.project import own_package

ROOT = Path(__file__).resolve().parent

own_package(ROOT)
for name in ("BOOK_ROOT", "BOOK_RESULTS", "SPURIOUS_DATA"):
    os.environ.pop(name, None)
runner.set_environment(runner.kernel_environment("smoke"))
os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(ROOT / "_build" / ".cache" / "hypothesis")
