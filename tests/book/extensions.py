"""The extensions of the site, which Sphinx imports by name from a folder of their own."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parents[2] / "book" / "_ext"


def extension(name: str) -> ModuleType:
    """A module of `book/_ext`."""
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))
