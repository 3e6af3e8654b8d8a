"""What cells cost, parts of a grid, and tables put together again."""

import csv
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.errors import StoreError
from helpers.project import describe_device, project_root
from helpers.sweep import Experiment, Terms, get, grid, names, register, sweep
from helpers.sweep.command import main
from helpers.sweep.costs import Costs, as_csv, plan
from helpers.sweep.shards import merge, shard
from helpers.sweep.workers import Here

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def sized(toy):
    """An experiment of networks of some width on some samples, of kind a or b."""
    cells = grid(kind=["a", "b"], samples=[10, 20], width=[1], trial=range(2))
    return replace(
        toy(cells=lambda profile: cells),
        trial=lambda call: {"y": 1.0},
        cheap=lambda cell: True,
    )


def rows(*settings):
    """Stored rows of these (kind, samples, width, trial, seconds)."""
    keys = ("kind", "samples", "width", "trial", "seconds")
    return [dict(zip(keys, one, strict=True)) | {"device": "Abacus, 1 core"} for one in settings]


def test_repetitions_cost_the_mean_of_their_like(sized):
    costs = Costs(sized, rows(("a", 10, 1, 0, 2.0), ("a", 10, 1, 1, 4.0), ("b", 10, 1, 0, 9.0)))
    assert costs.seconds({"kind": "a", "samples": 10, "width": 1, "trial": 7}) == (3.0, True)
    assert costs.total([{"kind": k, "samples": 10, "width": 1, "trial": 7} for k in "ab"]) == 12.0


def test_sizes_scale_with_the_power_that_rows_tell_and_in_proportion_where_none_do(sized):
    cubic = rows(*(("a", n, 2, 0, n**2.5) for n in (10, 20, 40)), ("b", 10, 2, 0, 7.0))
    costs = Costs(sized, cubic)
    found, like = costs.seconds({"kind": "a", "samples": 80, "width": 2, "trial": 0})
    assert found == pytest.approx(80**2.5, rel=1e-9) and not like
    found, _ = costs.seconds({"kind": "b", "samples": 40, "width": 2, "trial": 0})
    assert found == pytest.approx(7 * 4**2.5), "of its own kind, with the power of the others"
    found, _ = costs.seconds({"kind": "a", "samples": 10, "width": 6, "trial": 0})
    assert found == pytest.approx(10**2.5 * 3), "nothing tells: in proportion"
    found, _ = costs.seconds({"kind": "a", "samples": 10, "width": 1, "trial": 0})
    assert found == pytest.approx(10**2.5), "and a guess makes nothing cheaper"


def test_an_empty_table_tells_nothing(sized):
    costs = Costs(sized, [])
    cell = {"kind": "a", "samples": 10, "width": 1, "trial": 0}
    assert costs.seconds(cell) == (None, False) and costs.total([cell]) is None


def test_a_plan_counts_what_is_missing_and_what_it_takes(sized, tmp_path):
    sweep(sized, sized.cells("smoke")[:3], store=tmp_path)
    from helpers.sweep import stored_rows

    stored = [row | {"seconds": 2.0} for row in stored_rows(sized, tmp_path)]
    found = plan(sized, "paper", stored)
    assert (found.cells, found.groups, found.missing, found.missing_groups) == (8, 8, 5, 5)
    assert found.whole == pytest.approx(3 * 2.0 + found.seconds)
    assert 0 < found.own < 1 and found.device == stored[0]["device"]
    size = (tmp_path / "toy.csv").stat().st_size
    assert found.size == pytest.approx(size / 3 * 8, rel=0.25)
    assert (text := as_csv([found, plan(sized, "smoke", [])])).count("\n") == 3
    assert [line["seconds"] == "" for line in csv.DictReader(text.splitlines())] == [False, True]


def test_the_plan_is_printed_and_written(registry, toy, tmp_path, capsys):
    register(toy("first"))
    register(toy("second"))
    sweep("first", grid(x=range(3)), store=tmp_path)
    assert main(["plan", "--store", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:6] == ["first", "6", "6", "3", "in", "3"]
    assert lines[2].split()[:7] == ["second", "6", "6", "6", "in", "6", "?"]
    assert lines[3].startswith("all: 9 cells missing") and lines[3].endswith("known of second")
    assert main(["plan", "first", "--store", str(tmp_path), "--write", str(tmp_path / "p")]) == 0
    assert (tmp_path / "p").read_text().startswith("experiment,profile,cells,groups,missing,")


def test_the_book_shows_the_plan_of_every_grid():
    """Of the counts, that is; seconds change with each stored row."""
    with (project_root() / "book" / "plan.csv").open(newline="") as file:
        shown = {line["experiment"]: line for line in csv.DictReader(file)}
    again = "python -m helpers.sweep plan --write book/plan.csv"
    assert list(shown) == names(), again
    for name, line in shown.items():
        cells = get(name).cells("paper")
        assert (line["profile"], int(line["cells"])) == ("paper", len(cells)), again
        assert int(line["groups"]) == len(get(name).groups(cells)), again


# -- parts -----------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 7))
def test_parts_are_disjoint_complete_in_order_and_split_no_group(size, count, kinds):
    experiment = Experiment("parts", lambda calls: [], list, 0.0, bool, lambda c: c["x"] % kinds)
    cells = grid(x=range(size))
    parts = [shard(experiment, cells, k + 1, count) for k in range(count)]
    together = [cell["x"] for part in parts for cell in part]
    assert sorted(together) == list(range(size))
    for kind in range(kinds):
        assert sum(any(c["x"] % kinds == kind for c in part) for part in parts) <= 1
    groups = [len({c["x"] % kinds for c in part}) for part in parts]
    assert max(groups) - min(groups) <= 1


def test_parts_do_not_depend_on_what_is_stored_and_merge_to_the_table_of_one_run(
    registry, together, tmp_path, capsys
):
    experiment = register(together(cells=lambda profile: grid(x=range(7))))
    experiment = registry["toy"] = replace(
        experiment,
        trial=lambda calls: [{"y": c.x**2} for c in calls],
        group=lambda cell: cell["x"] % 3,
    )
    run = ["run", "toy", "--profile", "laptop", "--device", "cpu"]
    sweep(experiment, grid(x=[1]), store=tmp_path / "2")
    for part in "123":
        assert main([*run, "--shard", f"{part}/3", "--store", str(tmp_path / part)]) == 0
    assert main([*run, "--store", str(tmp_path / "all")]) == 0
    capsys.readouterr()
    files = [str(tmp_path / part / "toy.csv") for part in "312"]
    assert main(["merge", "toy", "--store", str(tmp_path / "merged"), *files]) == 0
    assert "toy: 7 rows added, 0 were known" in capsys.readouterr().out

    def stored(where):
        with (tmp_path / where / "toy.csv").open(newline="") as file:
            return [(line["x"], line["y"]) for line in csv.DictReader(file)]

    assert stored("merged") == [(str(x), str(x * x)) for x in range(7)]
    assert sorted(stored("merged")) == sorted(stored("all"))
    before = (tmp_path / "merged" / "toy.csv").read_bytes()
    assert main(["merge", "toy", "--store", str(tmp_path / "merged"), *files]) == 0
    assert "0 rows added, 7 were known" in capsys.readouterr().out
    assert (tmp_path / "merged" / "toy.csv").read_bytes() == before


def test_tables_that_contradict_each_other_are_named(registry, toy, tmp_path, capsys, alter):
    experiment = register(toy())
    sweep(experiment, grid(x=range(3)), store=tmp_path / "other")
    sweep(experiment, grid(x=range(2)), store=tmp_path)
    alter("\n1,1.0,", "\n1,1.5,")
    assert main(["merge", "toy", "--store", str(tmp_path), str(tmp_path / "other/toy.csv")]) == 1
    told = capsys.readouterr()
    assert "1 rows added, 2 were known" in told.out
    assert "cell {'x': 1}: y 1.5 and 1.0" in told.err


def test_a_merge_that_cannot_be_changes_nothing(toy, tmp_path):
    sweep(toy(), grid(x=range(2)), store=tmp_path)
    before = (tmp_path / "toy.csv").read_bytes()
    with pytest.raises(StoreError, match="there is no results file"):
        merge(toy(), tmp_path, [tmp_path / "absent.csv"])
    sweep(toy(result=lambda x: {"z": 1}), grid(x=5), store=tmp_path / "other")
    with pytest.raises(StoreError, match="has other columns than"):
        merge(toy(), tmp_path, [tmp_path / "other" / "toy.csv"])
    assert (tmp_path / "toy.csv").read_bytes() == before


def test_tables_that_do_not_belong_together_are_not_merged(toy, tmp_path, monkeypatch, capsys):
    """Whichever table is there first, and also where all that is taken in is new."""
    files = [tmp_path / place / "toy.csv" for place in "abc"]
    monkeypatch.setattr("helpers.sweep.worker.package_text", lambda: "")
    for x, (file, code) in enumerate(zip(files, ["aaaa", "aaaa", "bbbb"], strict=True)):
        monkeypatch.setattr(Experiment, "code", code)
        sweep(toy(), grid(x=x), store=file.parent)
    sweep(toy(result=lambda x: {"z": 1}), grid(x=7), store=tmp_path / "columns")
    other = toy(cells=lambda profile: grid(z=0))
    sweep(replace(other, trial=lambda call: {"y": 1}), grid(z=0), store=tmp_path / "parameters")
    for bad, message in (
        (
            [files[0], files[2]],
            rf"different code: aaaa in {files[0]}, bbbb in {files[2]}\. If that",
        ),
        (
            [files[0], tmp_path / "columns/toy.csv"],
            r"columns/toy.csv has other columns than .*'z'\]",
        ),
        ([tmp_path / "parameters/toy.csv"], r"is no table of toy: it lacks the columns \['x'\]"),
    ):
        with pytest.raises(StoreError, match=message):
            merge(toy(), tmp_path / "new", bad)
        assert not (tmp_path / "new").exists()
    with files[1].open("a") as file:
        file.write("3,9.0,torn")
    assert merge(toy(), tmp_path / "new", files[:2]) == (2, 0, [])
    assert f"{files[1]}: ignored an incomplete last line" in capsys.readouterr().out
    assert merge(toy(), tmp_path / "new", files[2:]) == (1, 0, []), "one by one, on purpose"


def test_rows_that_were_swapped_are_named_by_a_merge_with_what_they_were(toy, tmp_path):
    """The tolerance is for other processors: on the same one, numbers come out as they were."""
    experiment = toy(tolerance=100.0)
    for place in ("one", "other"):
        sweep(experiment, grid(x=range(3)), store=tmp_path / place)
    path = tmp_path / "other" / "toy.csv"
    text = path.read_text().replace("\n1,1.0,", "\n1,was 4,").replace("\n2,4.0,", "\n2,1.0,")
    path.write_text(text.replace("was 4", "4.0"))
    added, known, told = merge(experiment, tmp_path / "one", [path])
    assert (added, known) == (0, 3)
    assert [line.partition(", ")[2] for line in told] == [
        "cell {'x': 1}: y 1.0 and 4.0",
        "cell {'x': 2}: y 4.0 and 1.0",
    ]
    path.write_text(path.read_text().replace(describe_device("cpu"), "Abacus, 2 cores"))
    assert merge(experiment, tmp_path / "one", [path]) == (0, 3, [])


# -- what comes first ------------------------------------------------------------------------------


def test_where_time_is_limited_first_repetitions_of_everything_come_first(toy, tmp_path):
    order = []
    experiment = replace(
        toy(cells=lambda profile: grid(x=0, trial=0)),
        trial=lambda call: order.append((call.x, call.trial)) or {"y": 1},
    )
    cells = grid(x=[5, 9, 2], trial=[7, 3, 4])
    with pytest.MonkeyPatch.context() as patch:  # in this process, where it can be seen
        patch.setattr("helpers.sweep.run.Pool", lambda jobs: Here())
        limited = Terms(ends=time.monotonic() + 100)
        sweep(experiment, cells, store=tmp_path / "limited", terms=limited)
        assert order == [(x, trial) for trial in (7, 3, 4) for x in (5, 9, 2)]
        # a run that goes on keeps to the order: what is stored counts
        order.clear()
        sweep(experiment, cells[1:3] + cells[4:6], store=tmp_path / "again")
        order.clear()
        sweep(experiment, cells, store=tmp_path / "again", terms=limited)
        assert order == [(5, 7), (9, 7), (2, 7), (2, 3), (2, 4)]
    order.clear()
    sweep(experiment, cells, store=tmp_path / "all")
    assert order == [(x, trial) for x in (5, 9, 2) for trial in (7, 3, 4)]


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "1/0", "a/b"])
def test_parts_that_there_are_not_are_refused(text, capsys, toy):
    with pytest.raises(SystemExit):
        main(["run", "x", "--profile", "smoke", "--shard", text])
    assert f"'{text}' is no part" in capsys.readouterr().err
    if text == "4/3":
        with pytest.raises(ValueError, match="shard 4/3: the first number is one of 1 to 3"):
            shard(toy(), grid(x=range(3)), 4, 3)
