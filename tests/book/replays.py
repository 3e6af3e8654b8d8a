"""What the checked cells of a chapter say, without a kernel and without drawings.

nbval replays the notebooks as readers run them. Whoever wants many replays with another package
each needs the numbers alone.
"""

import gc
import os
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import nbformat

from helpers.book.forks import Fork
from tests.forks import share_rows

LIMIT = 480  # seconds


class Checked(NamedTuple):
    """A checked cell: what is stored, and what it says now (None: an error)."""

    stored: str
    now: str | None


def replay(notebook: Path, source: Path) -> list[Checked]:
    """The checked cells of a notebook with the package in the folder `source`."""
    fork = Fork(_tell, str(notebook), str(source))
    try:
        assert fork.pipe.poll(LIMIT), f"{notebook.stem} is not done after {LIMIT} s"
        return [Checked(*cell) for cell in fork.pipe.recv()]
    finally:
        fork.close()


def _tell(there: Connection, notebook: str, source: str) -> None:
    """Execute what comes before the last checked cell, and tell what these say."""
    gc.freeze()
    for name in [name for name in sys.modules if name.partition(".")[0] == "helpers"]:
        del sys.modules[name]  # what a fork is made by is no part of the package in `source`
    sys.path.insert(0, source)
    os.environ |= {"PYTHONPATH": source, "MPLBACKEND": "agg"}  # for what chapters start, too
    os.chdir(Path(notebook).parent)
    import matplotlib.pyplot as plt
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output
    from traitlets.config import Config

    import helpers

    assert Path(helpers.__file__).is_relative_to(source), helpers.__file__
    share_rows()
    plt.switch_backend("agg")
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    told, cells = [], [c for c in nbformat.read(notebook, 4).cells if c.cell_type == "code"]
    checked = [k for k, c in enumerate(cells) if "nbval-check-output" in c.metadata.get("tags", ())]
    for k, cell in enumerate(cells[: checked[-1] + 1]):
        with capture_output() as said:
            done = shell.run_cell(cell.source)
        plt.close("all")
        if k in checked:
            stored = "".join(o.text for o in cell.outputs if o.get("name") == "stdout")
            told.append((stored, said.stdout if done.success else None))
    there.send(told)
