"""Run chapters, say which of their copies are out of date, render the site.

    python -m helpers.book run --profile smoke            notebooks/*.ipynb, the tested baselines
    python -m helpers.book run --profile laptop           book/chapters/*.ipynb, the published ones
    python -m helpers.book run 01-setting --profile paper --device cuda --out FOLDER
    python -m helpers.book refresh    prose was edited, code was not: new text, same outputs
    python -m helpers.book stale      list the copies that do not match their source
    python -m helpers.book stage      copy book/ to _build/book and run there what is not current
    python -m helpers.book build      render _build/html (--staged: what `stage` made)
    python -m helpers.book clean      remove _build

Sources are the text notebooks `notebooks/*.md`. The two executed copies that are committed come
from here and nowhere else, each with a record in its metadata (`book`) of the code that really ran.
Running needs the full environment; `stale` and `build` work in the light one, without torch.
"""

import argparse
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from helpers.book.children import side_by_side, usual_lanes
from helpers.book.freshness import edition, protect, refresh, stale, staleness
from helpers.book.runner import device_of, environment, run
from helpers.book.site import build, is_staged, made_from, mark_staged, stage, surroundings
from helpers.book.sources import BookError, shown, sources
from helpers.project import PROFILES, PUBLISHED, expanded, own_package, project_root


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m helpers.book",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub = parser.add_subparsers(
        required=True, metavar="run | refresh | stale | stage | build | clean"
    )

    def add(command: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        one = sub.add_parser(command.__name__.strip("_"), help=help)
        one.set_defaults(command=command)
        return one

    p = add(_run, "execute chapters")
    p.add_argument("chapters", nargs="*", help="names, or their beginnings; all when none is given")
    p.add_argument("--profile", default="smoke", help=", ".join(PROFILES))
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")
    p.add_argument("--seed", default=None, help="whole number")
    p.add_argument("--data-dir", default="", help="folder with datasets")
    more = {"dest": "more", "nargs": 2, "action": "append", "metavar": ("NAME", "VALUE")}
    p.add_argument("-p", **more, default=[], help="any other parameter of the chapter")
    p.add_argument("--out", type=expanded, help="folder for the result")
    p = add(_refresh, "take over edited prose")
    p.add_argument("chapters", nargs="*")
    add(_stale, "list outdated copies")
    p = add(_stage, "run what is not current in a copy of book/")
    p.add_argument("--device", default="auto")
    p.add_argument("--data-dir", default="")
    jobs = {"default": usual_lanes(), "help": "chapters side by side (here: %(default)s)"}
    p.add_argument("--jobs", type=_count, **jobs)
    p = add(_build, "render the site")
    p.add_argument("--staged", action="store_true", help="from _build/book instead of book/")
    p.add_argument("--out", type=expanded, help="folder of the site, instead of _build/html")
    add(_clean, "remove _build")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def _run(args: argparse.Namespace) -> int:
    given = dict(args.more)
    if args.device != "auto":
        given["device"] = args.device
    if args.seed is not None:
        given["seed"] = args.seed
    return bool(run(args.chapters, args.profile, given, args.out, _folder(args.data_dir)))


def _folder(name: str) -> str | None:
    if name and not expanded(name).is_dir():
        raise BookError(
            f"the data folder {name!r} is not there: give the folder that holds the datasets."
        )
    return name or None


def _refresh(args: argparse.Namespace) -> int:
    behind = 0
    copies = {
        edition(profile) / f"{source.stem}.ipynb": source
        for source in sources(args.chapters)
        for profile in ("smoke", PUBLISHED)
    }
    protect(copies)
    for copy, source in copies.items():
        done = refresh(copy, source)
        behind += not done
        print(shown(copy) if done else f"{shown(copy)}: the code changed, run it")
    return bool(behind)


def _stale(args: argparse.Namespace) -> int:
    problems = stale()
    print("\n".join(problems) or "every copy is current")
    return bool(problems)


def _stage(args: argparse.Namespace) -> int:
    data_dir = _folder(args.data_dir)
    target = stage()
    copies = {target / "chapters" / f"{source.stem}.ipynb": source for source in sources()}
    protect(copies)
    given = {"device": args.device} if args.device != "auto" else {}
    around, left, failed = surroundings(device_of(args.device), data_dir), copies, False
    work = partial(_stage_one, target=target, around=around, given=given, data_dir=data_dir)
    with environment({"BOOK_RESULTS": str(target / "results")}):
        for copy, source in copies.items():
            if staleness(copy, source):
                refresh(copy, source)  # words alone may have changed
        # chapters add results that were missing, also to tables of others
        while todo := {
            source.stem: copy
            for copy, source in left.items()
            if not is_staged(copy, source, made_from(source, target, around))
        }:
            left = {copy: s for copy, s in left.items() if s.stem not in todo}
            for name, problems in side_by_side(work, list(todo), args.jobs):
                if problems is None:
                    print(f"FAILED  {name}: its process has ended: killed?", file=sys.stderr)
                failed |= problems != []
    for copy in left:
        print(f"{shown(copy)}  current", flush=True)
    return failed


def _stage_one(
    name: str, target: Path, around: str, given: dict[str, str], data_dir: str | None
) -> list[str]:
    """Run one chapter of the staged book; returns what went wrong."""
    (source,), folder = sources([name]), target / "chapters"
    problems = run([name], PUBLISHED, given, folder, data_dir, fork=True)
    if not problems:  # running adds the results that were missing
        mark_staged(folder / f"{name}.ipynb", made_from(source, target, around))
    return problems


def _build(args: argparse.Namespace) -> int:
    root = project_root()
    source = root / "_build" / "book" if args.staged else root / "book"
    if not (source / "intro.md").is_file():
        first = "run `stage` first" if args.staged else "its first page, intro.md, is missing"
        raise BookError(f"{shown(source)} holds no book to render: {first}.")
    out = (args.out or root / "_build" / "html").resolve()
    if status := build(source, out):
        print("The site was not replaced: see the warnings above.", file=sys.stderr)
        return status
    print(f"The book is at {out / 'index.html'}")
    return 0


def _clean(args: argparse.Namespace) -> int:
    if (built := project_root() / "_build").exists():
        shutil.rmtree(built)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    args = _parser().parse_args(arguments)
    try:
        own_package()
        return args.command(args)
    except BrokenPipeError:
        raise
    except ModuleNotFoundError as error:
        print(f"{error}: running needs the full environment (`make setup`).", file=sys.stderr)
        return 2
    except (BookError, ValueError, ImportError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "Interrupted. Finished copies and stored results are kept, everything else is as it "
            "was before.",
            file=sys.stderr,
        )
        return 130
