"""Command line of the sweeps."""

import argparse
import math
import os
import random
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import fmean
from typing import Any

from helpers.errors import StoreError
from helpers.project import PROFILES, PUBLISHED, Run, expanded, own_package, resolve_device
from helpers.sweep.audit import Power, audit, codes, power, stored_rows
from helpers.sweep.costs import as_csv, as_text, plan
from helpers.sweep.course import Terms
from helpers.sweep.registry import get, names
from helpers.sweep.run import TrialError, sweep
from helpers.sweep.shards import merge, shard

_FAULTS = (StoreError, TrialError, ValueError, ImportError)  # what a user can put right


def main(argv: list[str] | None = None) -> int:
    """``python -m helpers.sweep list | plan | run | merge | audit``; returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        own_package()
        with _ends_in_order():
            return options.command(options)
    except _FAULTS as error:
        _tell(error)
        return 1
    except KeyboardInterrupt as stop:
        if isinstance(stop.__context__, _FAULTS):  # it came while this was told
            _tell(stop.__context__)
        print("stopped; finished rows are stored, the next run goes on from them", file=sys.stderr)
        return 128 + (stop.args[0] if stop.args else signal.SIGINT)


@contextmanager
def _ends_in_order() -> Iterator[None]:
    """Take a request to end, as queues and closing terminals send it, for what Ctrl-C is.

    What somebody ignores on purpose, as ``nohup`` does, stays ignored.
    """

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt(number)

    before = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        with suppress(ValueError):  # only the main thread is told
            if signal.getsignal(number) == signal.SIG_DFL:
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(error: BaseException) -> None:
    lines = [f"error: {error}", *getattr(error, "__notes__", [])]
    if not isinstance(error, _FAULTS):
        lines = traceback.format_exception(error)
    print("\n".join(lines), file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m helpers.sweep",
        description="Run experiments, store one row a finished trial, and check what is stored.",
    )
    commands = parser.add_subparsers(required=True, metavar="list | plan | run | merge | audit")
    common, shared = (argparse.ArgumentParser(add_help=False) for _ in range(2))
    folder = "folder of the results (default: $BOOK_RESULTS, else book/results)"
    common.add_argument("--store", default="", help=folder)
    shared.add_argument("names", nargs="*", metavar="NAME", help="experiments")
    shared.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 … (auto)")
    shared.add_argument("--data-dir", default="", help="where the datasets are, if anywhere")

    show = commands.add_parser("list", parents=[common], help="experiments and what is stored")
    show.set_defaults(command=_list)
    run = commands.add_parser("run", parents=[common, shared], help="compute the missing cells")
    run.add_argument("--all", action="store_true", help="every experiment")
    which = f"which grid ({PUBLISHED}; smoke is stored only with --store)"
    run.add_argument("--profile", choices=PROFILES, default=PUBLISHED, help=which)
    run.add_argument("--jobs", type=int, default=1, help="trials at a time (1; -1: all cores)")
    run.add_argument(
        "--precision", default="auto", choices=("auto", "float32", "bfloat16"),
        help="of trainings that may be in half precision (auto: whichever is faster here)",
    )  # fmt: skip
    run.add_argument("--backend", default="local", help="local (here) or dask (other machines)")
    run.add_argument("--scheduler", default="", help="address of Dask ($DASK_SCHEDULER_ADDRESS)")
    time_ = "such as 90s, 50m or 1.5h"
    run.add_argument("--budget", type=seconds, help=f"time for all of it, {time_}")
    run.add_argument("--trial-limit", type=seconds, help=f"time for one trial, {time_}")
    run.add_argument("--shard", type=_part, help="a part of each grid, such as 3/16")
    run.add_argument("--retry", action="store_true", help="what failed too often, too")
    run.set_defaults(command=_run)
    plan = commands.add_parser("plan", parents=[common], help="what a grid will cost")
    plan.add_argument("names", nargs="*", metavar="NAME", help="experiments (all)")
    plan.add_argument("--profile", choices=PROFILES, default="paper", help="which grid (paper)")
    plan.add_argument("--write", default="", help="a file for the table, as the book has it")
    plan.set_defaults(command=_plan)
    merged = commands.add_parser("merge", parents=[common], help="take in rows of other tables")
    merged.add_argument("name", metavar="NAME", help="experiment of all tables")
    merged.add_argument("files", nargs="+", metavar="FILE", help="tables that were computed apart")
    merged.set_defaults(command=_merge)
    again = "recompute random stored cells"
    check = commands.add_parser("audit", parents=[common, shared], help=again)
    check.add_argument("--sample", type=int, default=3, help="cells per experiment (3)")
    check.add_argument("--cheap", action="store_true", help="only cells that take seconds")
    check.add_argument("--seed", type=int, help="which cells (default: others each time)")
    sees = "compute nothing anew: how many planted errors would be noticed"
    check.add_argument("--power", action="store_true", help=sees)
    check.set_defaults(command=_audit)
    return parser


def seconds(text: str) -> float:
    """A time on the command line in seconds.

    >>> seconds("90s"), seconds("50m"), seconds("1.5h")
    (90.0, 3000.0, 5400.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d*)?)([smh])", text)
    if not found or not float(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write it as 90s, 50m or 1.5h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def _part(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is no part: write it as 3/16, from 1/16 on")
    return int(found[1]), int(found[2])


def _settings(options: argparse.Namespace, profile: str) -> Run:
    folder = str(expanded(options.data_dir)) if options.data_dir else None
    if getattr(options, "backend", "") == "dask":  # the workers see to both
        return Run(profile, options.device, 0, folder)
    if folder and not os.path.isdir(folder):
        raise ValueError(f"--data-dir {folder!r} is not a folder on this machine")
    return Run(profile, resolve_device(options.device), 0, folder)


def _store(options: argparse.Namespace, run: Run) -> Path | None:
    """The folder of the results; as in the chapters, a smoke run is not stored unasked."""
    store = expanded(options.store) if options.store else run.store
    if store and os.path.isfile(store):
        raise ValueError(f"{str(store)!r} is a file: --store and BOOK_RESULTS name a folder")
    return store


def _list(options: argparse.Namespace) -> int:
    store = _store(options, Run(PUBLISHED, "cpu", 0, None))
    done = [_is_done(name, _list_one, name, store) for name in names()]
    return 0 if all(done) else 1


def _list_one(name: str, store: Path) -> None:
    experiment = get(name)
    sizes = ", ".join(f"{p} {len(experiment.cells(p))}" for p in PROFILES)
    note = "" if experiment.audited else "; not audited"
    try:
        rows = stored_rows(experiment, store)
    except StoreError:
        print(f"{experiment.name}: {sizes} cells; what is stored cannot be read{note}")
        raise
    print(f"{experiment.name}: {sizes} cells; {len(rows)} rows stored{note}")
    if warning := codes(experiment, rows):
        print(f"{experiment.name}: {warning}", file=sys.stderr)


def _run(options: argparse.Namespace) -> int:
    if bool(options.names) == options.all:
        raise ValueError("name the experiments to run, or say --all")
    run = _settings(options, options.profile)
    store = _store(options, run)
    wanted = names() if options.all else [get(name).name for name in options.names]
    ends = options.budget and time.monotonic() + options.budget
    terms = Terms(options.trial_limit, ends, options.retry)
    failed = []
    try:
        for name in wanted:
            if not _is_done(name, _run_one, name, run, store, terms, options):
                failed.append(name)
    finally:  # also when somebody stops it
        if failed and len(wanted) > 1:
            told = f"{len(failed)} of {len(wanted)} experiments failed: {', '.join(failed)}"
            print(told, file=sys.stderr)
    return 1 if failed else 0


def _is_done(name: str, do: Callable[..., None], *what: Any) -> bool:
    """Whether one of many experiments went well: what is wrong is told, and the next may do."""
    try:
        do(*what)
        return True
    except BrokenPipeError:
        raise
    except (Exception, SystemExit) as error:
        if not isinstance(error, _FAULTS):
            print(f"experiment {name}:", file=sys.stderr)
        _tell(error)
        return False


def _run_one(
    name: str,
    run: Run,
    store: Path | None,
    terms: Terms,
    options: argparse.Namespace,
) -> None:
    start, experiment = time.perf_counter(), get(name)
    cells = experiment.cells(run.profile)
    if options.shard:
        cells = shard(experiment, cells, *options.shard)
    frame = sweep(
        experiment,
        cells,
        store=store,
        context=run.context | {"precision": options.precision},
        n_jobs=options.jobs,
        backend=options.backend,
        terms=terms,
        scheduler=options.scheduler,
    )
    place = f"in {store / experiment.name}.csv" if store else "computed, not stored"
    missing, took = len(frame.attrs["missing"]), time.perf_counter() - start
    left = f", {frame.attrs['left']} left for the next run" if frame.attrs["left"] else ""
    told = f"{len(frame)} cells {place}, {missing} missing{left}, {took:.0f} s"
    print(f"{experiment.name}: {told}", flush=True)


def _plan(options: argparse.Namespace) -> int:
    store = _store(options, Run(PUBLISHED, "cpu", 0, None))
    plans = []

    def add(name: str) -> None:
        experiment = get(name)
        plans.append(plan(experiment, options.profile, stored_rows(experiment, store)))

    done = [_is_done(name, add, name) for name in options.names or names()]
    if options.write:
        Path(options.write).write_text(as_csv(plans), encoding="utf-8")
    else:
        print(as_text(plans))
    return 0 if all(done) else 1


def _merge(options: argparse.Namespace) -> int:
    store = _store(options, Run(PUBLISHED, "cpu", 0, None))
    experiment = get(options.name)
    added, known, wrong = merge(experiment, store, options.files)
    print(f"{experiment.name}: {added} rows added, {known} were known")
    for line in wrong:
        print(f"two numbers for one cell: {line}", file=sys.stderr)
    return 1 if wrong else 0


def _audit(options: argparse.Namespace) -> int:
    seed = random.randrange(10**6) if options.seed is None else options.seed
    run = _settings(options, PUBLISHED)
    store = _store(options, run)
    if options.power:
        return _power(options, store)
    print(f"audit of {store}, --seed {seed}", flush=True)
    _warn_of_codes(options, store)
    results = audit(
        options.names or None,
        store=store,
        seed=seed,
        sample=options.sample,
        cheap_only=options.cheap,
        context=run.context,
    )
    for r in results:
        cell = "" if r.cell is None else " " + " ".join(f"{n}={v}" for n, v in r.cell.items())
        print(f"{r.status:<12} {r.experiment}{cell}: {r.detail}")
    count = {s: sum(r.status == s for r in results) for s in ("agrees", "differs", "not checked")}
    print(", ".join(f"{number} {status}" for status, number in count.items()))
    if not count["agrees"] + count["differs"]:
        print("NOTHING COULD BE CHECKED")
    return 1 if count["differs"] else 0


def _warn_of_codes(options: argparse.Namespace, store: Path) -> None:
    """Tell which tables hold rows of other code than the present."""
    for name in options.names or names():
        with suppress(Exception):  # the audit tells
            experiment = get(name)
            if warning := codes(experiment, stored_rows(experiment, store)):
                print(f"{experiment.name}: {warning}", file=sys.stderr)


def _power(options: argparse.Namespace, store: Path) -> int:
    columns: list[Power] = []

    def add(name: str) -> None:
        columns.extend(power([name], store=store))

    done = [_is_done(name, add, name) for name in options.names or names()]
    print(f"{'experiment':<22} columns   same arithmetic: swaps zeros   elsewhere: swaps zeros")
    audited = [c for c in columns if not c.reason]
    for name in dict.fromkeys(c.experiment for c in audited):
        mine = [c for c in audited if c.experiment == name]
        print(f"{name:<22} {len(mine):7} {_shares(mine)}")
    print(f"{'all':<22} {len(audited):7} {_shares(audited)}")
    reasons = dict.fromkeys((c.experiment, c.reason) for c in columns if c.reason)
    for name, reason in reasons:
        mine = [c.column for c in columns if (c.experiment, c.reason) == (name, reason)]
        print(f"cannot be audited ({reason}): {name}: {', '.join(mine)}")
    return 0 if all(done) else 1


def _shares(columns: list[Power]) -> str:
    kinds = [[c.same[0] for c in columns], [c.same[1] for c in columns]]
    kinds += [[c.other[0] for c in columns], [c.other[1] for c in columns]]
    means = [[v for v in kind if not math.isnan(v)] for kind in kinds]
    same = "".join(f"{fmean(v):8.1%}" if v else "       -" for v in means[:2])
    other = "".join(f"{fmean(v):8.1%}" if v else "       -" for v in means[2:])
    return f"{same:>29}{other:>25}"
