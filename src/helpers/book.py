"""Run chapters, say which of their copies are out of date, render the site.

    python -m helpers.book run --profile smoke            notebooks/*.ipynb, the tested baselines
    python -m helpers.book run --profile laptop           book/chapters/*.ipynb, the published ones
    python -m helpers.book run 01-setting --profile paper --device cuda --out FOLDER
    python -m helpers.book refresh    prose was edited, code was not: new text, same outputs
    python -m helpers.book stale      list the copies that do not match their source
    python -m helpers.book stage      copy book/ to _build/book and run every chapter there
    python -m helpers.book build      render _build/html (--staged: what `stage` made)
    python -m helpers.book clean      remove _build

Sources are the text notebooks `notebooks/*.md`. The two executed copies that are committed come
from here and nowhere else, each with a record in its metadata (`book`) of the code that really ran.
Running needs the full environment; `stale` and `build` work in the light one, without torch.
"""

import argparse
import ast
import contextlib
import datetime
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from helpers.chapter import PROFILES, PUBLISHED, describe_device, project_root, resolve_device

INJECTED = "injected-parameters"
SMOKE_CELL_TIMEOUT = 600


class BookError(Exception):
    """Something the user can put right; the message is one paragraph."""


# --- sources ---------------------------------------------------------------------------------


def sources(names: Iterable[str] = ()) -> list[Path]:
    """Text notebooks by name; `01` will do for `01-setting`. All of them when none is named.

    Raises BookError for a name that fits none or several.
    """
    found = sorted((project_root() / "notebooks").glob("*.md"))
    return [_one(name, found) for name in names] or found


def _one(name: str, found: list[Path]) -> Path:
    name = Path(name).name.removesuffix(".md").removesuffix(".ipynb")
    fits = [s for s in found if s.stem == name] or [s for s in found if s.stem.startswith(name)]
    if len(fits) != 1 or not name:
        known = ", ".join(s.stem for s in found) or "none: notebooks/ has no .md file"
        raise BookError(
            f"{'no' if not fits else 'more than one'} chapter is called {name!r}. "
            f"Chapters: {known}."
        )
    return fits[0]


def load(source: Path) -> NotebookNode:
    """The notebook of a text source, without outputs, its cell ids made from its text alone."""
    import jupytext

    nb = jupytext.read(source)
    nb.metadata.pop("jupytext", None)
    seen: dict[str, int] = {}
    for cell in nb.cells:
        key = hashlib.sha1(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:10]
        seen[key] = seen.get(key, 0) + 1
        cell["id"] = key if seen[key] == 1 else f"{key}-{seen[key]}"
    return nb


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def parameters(nb: NotebookNode) -> dict[str, Any]:
    """Names and defaults in the cell tagged `parameters`, which holds plain assignments only."""
    for cell in nb.cells:
        if "parameters" in tags(cell):
            return {
                line.targets[0].id: ast.literal_eval(line.value)
                for line in ast.parse(cell.source).body
                if isinstance(line, ast.Assign)
            }
    return {}


def checked(source: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that differ from the chapter's defaults, in the types of the defaults.

    papermill accepts a misspelt name and then does nothing with it, so names are checked here.
    Raises BookError for an unknown name, profile or device and for a value of the wrong type.
    """
    defaults = parameters(load(source))
    result = {}
    for name, value in given.items():
        if name not in defaults:
            raise BookError(
                f"{source.stem} has no parameter {name!r}. Its parameters: "
                f"{', '.join(defaults) or 'none'}."
            )
        value = _typed(name, value, defaults[name])
        if value != defaults[name]:
            result[name] = value
    return result


def _typed(name: str, value: Any, default: Any) -> Any:
    if isinstance(value, str) and not isinstance(default, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            pass  # stays text, which the next test names
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        raise BookError(
            f"parameter {name} = {value!r} is not usable: expected "
            f"{type(default).__name__}, such as {default!r}."
        )
    return value


# --- which code an output came from ----------------------------------------------------------


def digest(texts: Iterable[str]) -> str:
    sha = hashlib.sha256()
    for text in texts:
        sha.update(text.strip().encode() + b"\0")
    return sha.hexdigest()[:16]


def code_cells(nb: NotebookNode) -> list[NotebookNode]:
    return [c for c in nb.cells if c.cell_type == "code" and INJECTED not in tags(c)]


def code_hash(nb: NotebookNode) -> str:
    return digest(c.source for c in code_cells(nb))


def imported(code: str, modules: Mapping[str, Path], inside: bool = False) -> set[str]:
    """Modules of the package that a piece of code imports by name, at any depth of it.

    Code that imports by other means (importlib, a star) may need any of them: then all but this
    one, which runs chapters and computes nothing.
    `inside` says that the code is part of the package, where `from . import x` is possible.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if inside and node.level:
                base = f"helpers.{base}".rstrip(".")
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Name) and node.id == "__import__":
            names = ["importlib"]
        if any(map(_any_module, names)):
            return set(modules) - {"book"}
        parts = [name.split(".") for name in names]
        found |= {p[1] for p in parts if p[0] == "helpers" and len(p) > 1 and p[1] in modules}
    return found


def _any_module(name: str) -> bool:
    """Whether what is imported can import modules whose names are not in the text."""
    harmless = name.startswith(("importlib.metadata", "importlib.resources"))
    return name == "helpers.*" or (name.startswith(("importlib", "pkgutil")) and not harmless)


def helpers_hash(nb: NotebookNode) -> str:
    """Hash of the package's modules that the notebook imports, directly or through others."""
    modules = {p.stem: p for p in (project_root() / "src" / "helpers").glob("*.py")}
    code = "\n".join(_python(c.source) for c in code_cells(nb))
    todo, needed = {"__init__"} | imported(code, modules), set()
    while todo:
        name = todo.pop()
        needed.add(name)
        todo |= imported(modules[name].read_text(encoding="utf8"), modules, True) - needed
    return digest(modules[name].read_text(encoding="utf8") for name in sorted(needed))


def claims_hash(slug: str) -> str:
    """Hash of the words that the chapter's verdict cards take from claims.yml."""
    path = project_root() / "book" / "claims.yml"
    if not path.is_file():
        return digest([])
    from helpers import claims

    return digest(repr(c) for c in claims.load(path).values() if c.chapter == slug)


def _python(cell: str) -> str:
    """A cell without IPython's magics, so that it can be parsed."""
    return "\n".join(
        "" if line.lstrip().startswith(("%", "!")) else line for line in cell.splitlines()
    )


# --- running ---------------------------------------------------------------------------------


def kernel_environment(profile: str, data_dir: str | None = None) -> dict[str, str]:
    """Environment of the kernels: the one place that decides about threads.

    Smoke-sized work loses far more to threads that wait for each other than it gains from them, so
    it gets one; the other profiles take what the machine (or `$OMP_NUM_THREADS`) offers. There,
    threads sleep while they wait: when they spin, a neighbour on the same cores can make a chapter
    of small factorisations thirty times slower.
    """
    set_here = {"BOOK_PROGRESS": "0", "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    if profile == "smoke":
        set_here["OMP_NUM_THREADS"] = "1"
    else:
        set_here["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "passive")
    if data_dir:
        set_here["SPURIOUS_DATA"] = str(Path(data_dir).expanduser().resolve())
    return set_here


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """`os.environ` with `values`, as it was afterwards."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def provenance(source: Path, profile: str, device: str, seconds: float | None) -> dict[str, Any]:
    """What an output was made from and on. `seconds` is None for baselines, whose record holds
    nothing that changes from one run to the next on one machine."""
    nb = load(source)
    record = {
        "source": source.name,
        "profile": profile,
        "code": code_hash(nb),
        "helpers": helpers_hash(nb),
        "claims": claims_hash(source.stem),
        "device": device,
        "python": platform.python_version(),
        "torch": version("torch").partition("+")[0],
        "numpy": version("numpy"),
    }
    if seconds is not None:
        record |= {
            "processor": describe_device(device),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "seconds": round(seconds, 1),
        }
    return record


def tidy(nb: NotebookNode) -> NotebookNode:
    """Drop what changes from run to run; hide the cell papermill put in."""
    for key in ("papermill", "widgets"):
        nb.metadata.pop(key, None)
    for cell in nb.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if INJECTED in tags(cell):
            cell["id"] = INJECTED
            cell.metadata["tags"] = sorted({*tags(cell), "remove-cell"})
        elif not tags(cell):
            cell.metadata.pop("tags", None)
    return nb


def write(nb: NotebookNode, out: Path) -> None:
    """Replace `out` in one step: a reader sees the old copy or the new one, never half of one."""
    part = out.with_name(f".{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(nb, part)
        os.replace(part, out)
    except OSError as error:
        raise BookError(
            f"cannot write {shown(out)}: {error.strerror or error}. Nothing was replaced."
        ) from error
    finally:
        if part.exists():
            part.unlink()


def shown(path: Path) -> str:
    """`path` as the user would type it at the project's root."""
    root = project_root()
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def _kernel_manager() -> type:
    """Kernels with encrypted sockets and without a log of their own on our screen.

    The first ends ipykernel's warning at every start, the second its traceback when interrupted;
    what cells write to stderr is in the notebook all the same.
    """
    from jupyter_client.manager import AsyncKernelManager

    class Manager(AsyncKernelManager):
        def __init__(self, **kwargs: Any):
            kwargs.setdefault("transport_encryption", "auto")
            super().__init__(**kwargs)

        async def start_kernel(self, **kwargs: Any) -> None:
            await super().start_kernel(stderr=subprocess.DEVNULL, **kwargs)

    return Manager


def execute(
    source: Path,
    out: Path,
    profile: str,
    given: Mapping[str, Any] | None = None,
    data_dir: str | None = None,
) -> Path:
    """Run one chapter into `out`; the previous copy stays unless the chapter ends well.

    `given` holds parameters beside the profile. The kernel works in the project's root.
    Raises BookError for a parameter that is wrong, a cell that fails, an `out` that cannot be
    written.
    """
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    values = checked(source, {"profile": profile, **(given or {})})
    device = _device(values.get("device", "auto"))
    scratch = project_root() / "_build" / "running" / f"{os.getpid()}-{source.stem}.ipynb"
    write(load(source), scratch)
    started = time.monotonic()
    try:
        with environment(kernel_environment(profile, data_dir)):
            papermill.execute_notebook(
                str(scratch),
                str(scratch),
                parameters=values,
                kernel_name="python3",
                cwd=str(project_root()),
                progress_bar=False,
                log_output=False,
                execution_timeout=SMOKE_CELL_TIMEOUT if profile == "smoke" else None,
                kernel_manager_class=_kernel_manager(),
                coalesce_streams=True,
            )
        nb = tidy(nbformat.read(scratch, 4))
        seconds = None if profile == "smoke" else time.monotonic() - started
        nb.metadata["book"] = provenance(source, profile, device, seconds)
        write(nb, out)
    except papermill.PapermillExecutionError as error:
        raise BookError(_failure(source, error, _keep(scratch, source))) from error
    except CellTimeoutError as error:
        raise BookError(
            f"{source.stem}: a cell took longer than {SMOKE_CELL_TIMEOUT} s, which is "
            "too long for the smoke profile. The previous copy is kept."
        ) from error
    except DeadKernelError as error:
        raise KeyboardInterrupt from error
    finally:
        scratch.unlink(missing_ok=True)
    return out


def _device(name: str) -> str:
    try:
        return resolve_device(name)
    except ValueError as error:
        raise BookError(str(error)) from error


def _keep(scratch: Path, source: Path) -> Path:
    kept = project_root() / "_build" / "failed" / f"{source.stem}.ipynb"
    kept.parent.mkdir(parents=True, exist_ok=True)
    os.replace(scratch, kept)
    return kept


def _failure(source: Path, error: Any, kept: Path) -> str:
    first = next(
        (
            line.strip()
            for line in error.source.splitlines()
            if line.strip() and not line.lstrip().startswith("#")
        ),
        "",
    )
    text = " ".join(str(error.evalue).split())
    return (
        f"{source.stem} stopped at code cell {error.exec_count} ({first[:60]!r}) with "
        f"{error.ename}: {text[:600]} The previous copy is kept; the run up to that cell is "
        f"{shown(kept)}."
    )


def edition(profile: str) -> Path | None:
    """Folder of the committed copies made at `profile`; None for a profile without any."""
    root = project_root()
    return {"smoke": root / "notebooks", PUBLISHED: root / "book" / "chapters"}.get(profile)


def run(
    names: Iterable[str],
    profile: str,
    given: Mapping[str, Any],
    out: Path | None = None,
    data_dir: str | None = None,
) -> list[str]:
    """Run chapters one after the other; returns what went wrong, one paragraph a chapter.

    Without `out` the committed copies are made, which take no parameters but the profile (and,
    published, the device): they are the chapters as their sources say.
    """
    if profile not in PROFILES:
        raise BookError(f"unknown profile {profile!r}: expected one of {', '.join(PROFILES)}.")
    _device(given.get("device", "auto"))
    folder = out or edition(profile)
    free = {"device"} if profile == PUBLISHED else set()
    extra = {n: v for n, v in given.items() if n not in free}
    if folder is None or (out is None and extra):
        what = ", ".join(f"{n}={v}" for n, v in extra.items()) or f"profile={profile}"
        raise BookError(
            f"the committed copies are made at smoke and at {PUBLISHED} with default "
            f"parameters; for {what} say where to put the result with --out."
        )
    chosen = sources(names)
    for source in chosen:  # all of them before the first one computes for an hour
        checked(source, given)
    problems = []
    for source in chosen:
        started = time.monotonic()
        try:
            made = execute(source, folder / f"{source.stem}.ipynb", profile, given, data_dir)
        except BookError as error:
            problems.append(str(error))
            print(f"FAILED  {error}", file=sys.stderr, flush=True)
        else:
            print(f"{shown(made)}  {time.monotonic() - started:.0f} s", flush=True)
    return problems


# --- keeping copies and sources together -----------------------------------------------------


def _cells(nb: NotebookNode) -> list[tuple[str, str, str]]:
    return [
        (c.cell_type, c.source.strip(), repr(sorted(_lasting(c).items())))
        for c in nb.cells
        if INJECTED not in tags(c)
    ]


def _lasting(cell: NotebookNode) -> dict[str, Any]:
    """Metadata that comes from the source: tags, caption, alternative text."""
    return {k: v for k, v in cell.metadata.items() if k not in ("papermill", "execution") and v}


def staleness(copy: Path, source: Path, same_helpers: bool = True) -> str:
    """Why an executed copy does not show its source as it is now; empty when it does."""
    if not copy.is_file():
        return "missing: run it"
    nb, fresh = nbformat.read(copy, 4), load(source)
    record = nb.metadata.get("book", {})
    if record.get("code") != code_hash(fresh):
        return f"comes from other code than {source.name} has now: run it"
    if _cells(nb) != _cells(fresh):
        return f"has other text or tags than {source.name} has now: refresh it"
    if record.get("claims") != claims_hash(source.stem):
        return "shows its claims in other words than claims.yml has now: run it"
    if same_helpers and record.get("helpers") != helpers_hash(fresh):
        return "was made with other helpers than there are now: run it"
    return ""


def stale() -> tuple[list[str], list[str]]:
    """(problems, notes): committed copies that do not match. Published chapters made with older
    helpers are only noted: they cost hours, and the cheap baselines tell whether it matters."""
    problems, notes = [], []
    names = {source.stem for source in sources()}
    for profile in ("smoke", PUBLISHED):
        folder = edition(profile)
        for source in sources():
            copy = folder / f"{source.stem}.ipynb"
            published = profile == PUBLISHED
            if why := staleness(copy, source, same_helpers=not published):
                problems.append(f"{shown(copy)} {why}")
            elif published and (why := staleness(copy, source)):
                notes.append(f"{shown(copy)} {why}")
            elif nbformat.read(copy, 4).metadata["book"].get("profile") != profile:
                problems.append(f"{shown(copy)} was not made at profile {profile}: run it")
        problems += [
            f"{shown(copy)} has no source of that name"
            for copy in sorted(folder.glob("*.ipynb"))
            if copy.stem not in names
        ]
    return problems, notes


def refresh(copy: Path, source: Path) -> bool:
    """Put edited prose and tags into a copy whose code has not changed; False when it has."""
    if not copy.is_file():
        return False
    fresh, old = load(source), nbformat.read(copy, 4)
    if old.metadata.get("book", {}).get("code") != code_hash(fresh):
        return False
    ran = iter(code_cells(old))
    cells = []
    for cell in fresh.cells:
        if cell.cell_type == "code":
            before = next(ran)
            cell["outputs"], cell["execution_count"] = before.outputs, before.execution_count
        cells.append(cell)
        if "parameters" in tags(cell):
            cells += [c for c in old.cells if INJECTED in tags(c)]
    old.cells = cells
    write(tidy(old), copy)
    return True


# --- the site --------------------------------------------------------------------------------


def stage() -> Path:
    """Copy `book/` without its chapters to `_build/book`.

    Results computed there by an earlier, interrupted stage are kept as long as they continue the
    committed file, so that `make book` too can be stopped and started again.
    """
    root = project_root()
    source, target = root / "book", root / "_build" / "book"
    grown = {}
    for table in (target / "results").glob("*.csv"):
        committed = source / "results" / table.name
        start = committed.read_bytes() if committed.is_file() else b""
        text = table.read_bytes()
        if len(text) > len(start) and text.startswith(start):
            grown[table.name] = text
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.ipynb", "__pycache__"))
    (target / "chapters").mkdir(exist_ok=True)
    (target / "results").mkdir(exist_ok=True)
    for name, text in grown.items():
        (target / "results" / name).write_bytes(text)
    return target


def build(source: Path, out: Path) -> int:
    """Render a source folder into `out` with warnings as errors; returns the exit status.

    The site is made beside `out` and takes its place only when it came out well.
    """
    root = project_root()
    work = out.with_name(f".{out.name}-work")
    shutil.rmtree(work, ignore_errors=True)
    # jupyter_book 1 has no __main__, so no `python -m`; this takes the one of this interpreter
    start = "from jupyter_book.cli.main import main; main()"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            start,
            "build",
            str(source),
            "--toc",
            str(root / "_toc.yml"),
            "--config",
            str(root / "_config.yml"),
            "--path-output",
            str(work),
            "-q",
            "-W",
            "-n",
            "--keep-going",
        ],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    made = work / "_build" / "html"
    if done.returncode:
        print(done.stdout, file=sys.stderr)  # on success it would name the folder made beside `out`
    if done.returncode == 0 and not (made / "index.html").is_file():
        print(
            "jupyter-book said nothing and made no index.html: is its version 1.0.4.post1?",
            file=sys.stderr,
        )
        return 1
    if done.returncode == 0:
        shutil.rmtree(out, ignore_errors=True)
        os.replace(made, out)
        shutil.rmtree(work)
    return done.returncode


# --- command line ----------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m helpers.book",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub = parser.add_subparsers(dest="what", required=True)
    p = sub.add_parser("run", help="execute chapters")
    p.add_argument("chapters", nargs="*", help="names, or their beginnings; all when none is given")
    p.add_argument("--profile", default="smoke", help=", ".join(PROFILES))
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")
    p.add_argument("--seed", default=None, help="whole number")
    p.add_argument("--data-dir", default="", help="folder with datasets")
    p.add_argument(
        "-p",
        dest="more",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="any other parameter of the chapter",
    )
    p.add_argument("--out", type=Path, help="folder for the result")
    p = sub.add_parser("refresh", help="take over edited prose")
    p.add_argument("chapters", nargs="*")
    sub.add_parser("stale", help="list outdated copies")
    p = sub.add_parser("stage", help="run every chapter in a copy of book/")
    p.add_argument("--device", default="auto")
    p.add_argument("--data-dir", default="")
    p = sub.add_parser("build", help="render the site")
    p.add_argument("--staged", action="store_true", help="from _build/book instead of book/")
    p.add_argument("--out", type=Path, help="folder of the site, instead of _build/html")
    sub.add_parser("clean", help="remove _build")
    return parser


def _run(args: argparse.Namespace) -> int:
    given = dict(args.more)
    if args.device != "auto":
        given["device"] = args.device
    if args.seed is not None:
        given["seed"] = args.seed
    return bool(run(args.chapters, args.profile, given, args.out, _folder(args.data_dir)))


def _folder(name: str) -> str | None:
    if name and not Path(name).expanduser().is_dir():
        raise BookError(
            f"the data folder {name!r} is not there: give the folder that holds the datasets."
        )
    return name or None


def _refresh(args: argparse.Namespace) -> int:
    behind = 0
    for source in sources(args.chapters):
        for profile in ("smoke", PUBLISHED):
            copy = edition(profile) / f"{source.stem}.ipynb"
            done = refresh(copy, source)
            behind += not done
            print(shown(copy) if done else f"{shown(copy)}: the code changed, run it")
    return bool(behind)


def _stale(args: argparse.Namespace) -> int:
    problems, notes = stale()
    print("\n".join([*problems, *(f"note: {note}" for note in notes)]) or "every copy is current")
    return bool(problems)


def _stage(args: argparse.Namespace) -> int:
    target = stage()
    given = {"device": args.device} if args.device != "auto" else {}
    with environment({"BOOK_RESULTS": str(target / "results")}):
        return bool(run((), PUBLISHED, given, target / "chapters", _folder(args.data_dir)))


def _build(args: argparse.Namespace) -> int:
    root = project_root()
    source = root / "_build" / "book" if args.staged else root / "book"
    if not (source / "intro.md").is_file():
        first = "run `stage` first" if args.staged else "its first page, intro.md, is missing"
        raise BookError(f"{shown(source)} holds no book to render: {first}.")
    out = (args.out or root / "_build" / "html").resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    if status := build(source, out):
        print("The site was not replaced: see the warnings above.", file=sys.stderr)
        return status
    print(f"The book is at {out / 'index.html'}")
    return 0


def _clean(args: argparse.Namespace) -> int:
    shutil.rmtree(project_root() / "_build", ignore_errors=True)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    args = _parser().parse_args(arguments)
    commands = {
        "run": _run,
        "refresh": _refresh,
        "stale": _stale,
        "stage": _stage,
        "build": _build,
        "clean": _clean,
    }
    try:
        return commands[args.what](args)
    except BookError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "Interrupted, or the kernel died (out of memory?). Finished copies and stored "
            "results are kept, everything else is as it was before.",
            file=sys.stderr,
        )
        return 130


if __name__ == "__main__":
    sys.exit(main())
