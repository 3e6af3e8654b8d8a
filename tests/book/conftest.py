"""A small project of its own: the runner's root is a parameter, not a place."""

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from helpers.book import figures, freshness, runner, sources

HEAD = "---\nkernelspec: {display_name: Python 3, language: python, name: python3}\n---\n"
PARAMETERS = """```{code-cell} ipython3
:tags: [parameters, remove-cell]

profile = "smoke"
device = "auto"
seed = 0
data_dir = ""
rate = 0.5
```
"""
PACKAGE = {
    "__init__": "",
    "one": "from helpers.two import x\n",
    "two": "x = 1\n",
    "other": "y = 1\n",
    "sweep": "",
    "trial": 'from helpers.sweep import experiment\n\nexperiment("toy")(lambda: 1)\n',
}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    for folder in ("notebooks", "book", "src/helpers"):
        (tmp_path / folder).mkdir(parents=True)
    for module, text in PACKAGE.items():
        (tmp_path / "src" / "helpers" / f"{module}.py").write_text(text)
    monkeypatch.setenv("BOOK_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def put(project) -> Callable[..., Path]:
    """Write a chapter of some cells: `put("01-a", "print(1)", ("print(2)", "some-tag"))`."""

    def write(name: str, *cells: str | tuple[str, str], prose: str = "Some prose.") -> Path:
        parts = [HEAD, f"# A title\n\n{prose}\n", PARAMETERS]
        for code, tags in ((c, "") if isinstance(c, str) else c for c in cells):
            parts.append(f"```{{code-cell}} ipython3\n:tags: [{tags}]\n\n{code}\n```\n")
        path = project / "notebooks" / f"{name}.md"
        path.write_text("\n".join(parts))
        return path

    return write


@pytest.fixture
def copy_of() -> Callable[..., Path]:
    """An executed copy as the runner would leave it, without running anything."""

    def write(source: Path, profile: str = "smoke") -> Path:
        nb = sources.load(source)
        for one in sources.code_cells(nb):
            one["execution_count"] = 1
        nb.metadata["book"] = runner.provenance(source, profile, "cpu")
        out = freshness.edition(profile) / f"{source.stem}.ipynb"
        sources.write(nb, out)
        return out

    return write


@pytest.fixture
def style():
    """The book's style of figures; all that a test draws is gone after it."""
    with plt.rc_context():
        figures.use_style()
        yield
        plt.close("all")
