"""The book in `_build/book`, with chapters executed here, and the site rendered from a book."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import distributions
from pathlib import Path

import nbformat

from helpers.book.freshness import digest, package, reached, staleness
from helpers.book.runner import environment, python_environment
from helpers.book.sources import code_cells, load, sources, write
from helpers.project import describe_device, project_root

# written into a site, so that it is not rendered again from the same files
STAMP = ".made-from"


def stage() -> Path:
    """Copy `book/` to `_build/book`, where executed chapters stay.

    Results computed there by an earlier, interrupted stage are kept as long as they continue the
    committed file, so that `make book` too can be stopped and started again.
    """
    root = project_root()
    source, target = root / "book", root / "_build" / "book"
    kept = {copy: copy.read_bytes() for copy in _executed(target)}
    for table in (target / "results").glob("*.csv"):
        committed = source / "results" / table.name
        start = committed.read_bytes() if committed.is_file() else b""
        text = table.read_bytes()
        if len(text) > len(start) and text.startswith(start):
            kept[table] = text
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.ipynb", "__pycache__"))
    (target / "chapters").mkdir(exist_ok=True)
    (target / "results").mkdir(exist_ok=True)
    for path, content in kept.items():
        path.write_bytes(content)
    return target


def _executed(target: Path) -> list[Path]:
    copies = (target / "chapters" / f"{source.stem}.ipynb" for source in sources())
    return [copy for copy in copies if copy.is_file()]


def surroundings(device: str, data_dir: str | None) -> str:
    """Hash of what every staged chapter depends on: machine, installed packages, data at hand.

    Args:
        device: Where the chapters compute, "cpu" or "cuda…".
        data_dir: Folder with datasets, or None.
    """
    home = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    cache = Path(os.environ.get("TORCH_HOME", f"{home}/torch"), "datasets")
    places = (data_dir or os.environ.get("SPURIOUS_DATA"), cache, "/usr/share/datasets")
    facts = [device, describe_device(device), os.environ.get("OMP_NUM_THREADS", "")]
    for place in (Path(place).expanduser() for place in places if place):
        # three folders deep: what a folder further down holds shows in its time
        files = [p for depth in ("*", "*/*", "*/*/*") for p in place.glob(depth) if p.exists()]
        facts += [f"{p} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in sorted(files)]
    return digest([*facts, *_installed()])


def made_from(source: Path, target: Path, around: str) -> str:
    """Hash of what a staged chapter depends on beside its text, its claims and its helpers.

    Args:
        source: The chapter.
        target: Folder of the staged book, with the stored results.
        around: What `surroundings` says.
    """
    nb, experiments = load(source), package().experiments
    modules = reached(nb)
    files = [
        target / "results" / f"{e}.csv" for e, module in experiments.items() if module in modules
    ]
    if "helpers.book.pictures" in modules:
        files += (target / "results" / "pictures").glob("*.npz")
    if any("project_root" in cell.source for cell in code_cells(nb)):  # it may read anything
        files += (project_root() / "book").rglob("*")
    return digest([around, _contents(files)])


def is_staged(copy: Path, source: Path, inputs: str) -> bool:
    """Whether a staged chapter need not be executed again; `inputs` is what `made_from` says."""
    if staleness(copy, source):
        return False
    return nbformat.read(copy, 4).metadata["book"].get("inputs") == inputs


def mark_staged(copy: Path, inputs: str) -> None:
    """Note in a staged chapter what it was made from."""
    nb = nbformat.read(copy, 4)
    nb.metadata["book"]["inputs"] = inputs
    write(nb, copy)


def _installed() -> list[str]:
    found = {f"{d.name} {d.version}" for d in distributions()}
    return [platform.python_version(), *sorted(found)]


def _contents(files: Iterable[Path]) -> str:
    """Hash of names and contents of those files that are there."""
    sha = hashlib.sha256()
    for path in sorted(filter(Path.is_file, files)):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        sha.update(f"{path}\0{content}\0".encode())
    return sha.hexdigest()


def build(source: Path, out: Path) -> int:
    """Render a source folder into `out` with warnings as errors; returns the exit status.

    The site is made beside `out` and takes its place only when it came out well. A site that was
    made from the same files stays as it is.
    """
    root = project_root()
    settings = (root / "_config.yml", root / "_toc.yml")
    # pages tell whether chapters match their sources and the package
    inside = (root / "book" / "_ext", root / "src" / "helpers", root / "notebooks", source)
    files = [p for folder in inside for p in folder.rglob("*") if p.suffix != ".pyc"]
    made = digest([_contents({*settings, *files}), *_installed()])
    stamp = out / STAMP
    if stamp.is_file() and stamp.read_text() == made and (out / "index.html").is_file():
        return 0
    work = out.with_name(f".{out.name}-work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    options = ("--toc", root / "_toc.yml", "--config", root / "_config.yml", "--path-output", work)
    # jupyter_book 1 has no __main__, so no `python -m`; this takes the one of this interpreter
    start = "from jupyter_book.cli.main import main; main()"
    command = [
        sys.executable,
        "-c",
        start,
        "build",
        source,
        *options,
        *"-q -W -n --keep-going".split(),
    ]
    with environment(python_environment()):
        done = subprocess.run(
            list(map(str, command)), stdout=subprocess.PIPE, text=True, check=False
        )
    site = work / "_build" / "html"
    if done.returncode:
        print(done.stdout, file=sys.stderr)  # on success it would name the folder made beside `out`
        return done.returncode
    if not (site / "index.html").is_file():
        print(
            "jupyter-book said nothing and made no index.html: is its version 1.0.4.post1?",
            file=sys.stderr,
        )
        return 1
    (site / STAMP).write_text(made)
    shutil.rmtree(out, ignore_errors=True)
    os.replace(site, out)
    shutil.rmtree(work)
    return 0
