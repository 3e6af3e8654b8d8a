"""Command line of the sweeps."""

import argparse
import os
import random
import sys
import time
import traceback
from pathlib import Path

from helpers.errors import StoreError
from helpers.project import PROFILES, PUBLISHED, Run, expanded, own_package, resolve_device
from helpers.sweep.audit import audit, stored_rows
from helpers.sweep.registry import Experiment, get, names
from helpers.sweep.run import TrialError, sweep

_FAULTS = (StoreError, TrialError, ValueError, ImportError)  # what a user can put right


def main(argv: list[str] | None = None) -> int:
    """``python -m helpers.sweep list | run | audit``; returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        own_package()
        return options.command(options)
    except _FAULTS as error:
        _tell(error)
        return 1
    except KeyboardInterrupt:
        print("stopped; finished rows are stored, the next run goes on from them", file=sys.stderr)
        return 130


def _tell(error: Exception) -> None:
    lines = [f"error: {error}", *getattr(error, "__notes__", [])]
    if not isinstance(error, _FAULTS):
        lines = traceback.format_exception(error)
    print("\n".join(lines), file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m helpers.sweep",
        description="Run experiments, store one row a finished trial, and check what is stored.",
    )
    commands = parser.add_subparsers(required=True, metavar="list | run | audit")
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
    which = "which grid (smoke is stored only with --store)"
    run.add_argument("--profile", choices=PROFILES, required=True, help=which)
    run.add_argument("--jobs", type=int, default=1, help="trials at a time (1; -1: all cores)")
    run.add_argument(
        "--precision", default="auto", choices=("auto", "float32", "bfloat16"),
        help="of trainings that may be in half precision (auto: whichever is faster here)",
    )  # fmt: skip
    run.add_argument("--backend", default="loky", help="loky (here) or dask (other machines)")
    run.set_defaults(command=_run)
    again = "recompute random stored cells"
    check = commands.add_parser("audit", parents=[common, shared], help=again)
    check.add_argument("--sample", type=int, default=3, help="cells per experiment (3)")
    check.add_argument("--cheap", action="store_true", help="only cells that take seconds")
    check.add_argument("--seed", type=int, help="which cells (default: others each time)")
    check.set_defaults(command=_audit)
    return parser


def _settings(options: argparse.Namespace, profile: str) -> Run:
    folder = str(expanded(options.data_dir)) if options.data_dir else None
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
    store, status = _store(options, Run(PUBLISHED, "cpu", 0, None)), 0
    for experiment in map(get, names()):
        sizes = ", ".join(f"{p} {len(experiment.cells(p))}" for p in PROFILES)
        try:
            stored = f"{len(stored_rows(experiment, store))} rows stored"
        except StoreError as error:
            _tell(error)
            stored, status = "what is stored cannot be read", 1
        note = "" if experiment.audited else "; not audited"
        print(f"{experiment.name}: {sizes} cells; {stored}{note}")
    return status


def _run(options: argparse.Namespace) -> int:
    if bool(options.names) == options.all:
        raise ValueError("name the experiments to run, or say --all")
    run = _settings(options, options.profile)
    store = _store(options, run)
    experiments = [get(name) for name in (names() if options.all else options.names)]
    failed = []
    for experiment in experiments:
        try:
            _run_one(experiment, run, store, options)
        except BrokenPipeError:
            raise
        except Exception as error:  # told in full; the other experiments may well do
            _tell(error)
            failed.append(experiment.name)
    if failed and len(experiments) > 1:
        told = f"{len(failed)} of {len(experiments)} experiments failed: {', '.join(failed)}"
        print(told, file=sys.stderr)
    return 1 if failed else 0


def _run_one(
    experiment: Experiment, run: Run, store: Path | None, options: argparse.Namespace
) -> None:
    start = time.perf_counter()
    frame = sweep(
        experiment,
        experiment.cells(run.profile),
        store=store,
        context=run.context | {"precision": options.precision},
        n_jobs=options.jobs,
        backend=options.backend,
    )
    place = f"in {store / experiment.name}.csv" if store else "computed, not stored"
    missing, seconds = len(frame.attrs["missing"]), time.perf_counter() - start
    told = f"{len(frame)} cells {place}, {missing} missing, {seconds:.0f} s"
    print(f"{experiment.name}: {told}", flush=True)


def _audit(options: argparse.Namespace) -> int:
    seed = random.randrange(10**6) if options.seed is None else options.seed
    run = _settings(options, PUBLISHED)
    store = _store(options, run)
    print(f"audit of {store}, --seed {seed}", flush=True)
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
