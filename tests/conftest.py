"""What all tests share: settings of hypothesis, the rendered site, a Chromium."""

import fcntl
import functools
import gc
import http.server
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import hypothesis
import matplotlib
import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parents[1]

matplotlib.use("agg")
# No deadline: a busy machine is no bug. The same examples every time: a failure is for everyone.
hypothesis.settings.register_profile("book", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("book")


# tests of one rendering of the site
SITE = (
    "test_site.py", "test_browser.py", "test_reading.py", "test_published.py", "test_front_page.py",
    "test_reference.py",
)  # fmt: skip


class Scheduler(LoadScopeScheduling):
    """Says what stays in one process where tests run side by side.

    The cells of a notebook share a kernel, the tests of the site one rendering, those of a file its
    fixtures. The bugs that are planted in turn (half of all the time) know nothing of each other.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        if file.endswith("test_bite.py"):
            return nodeid
        return "site" if file.endswith(SITE) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduler:
    """Called by xdist with `--dist loadscope`."""
    return Scheduler(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long scopes first, planted bugs last: they are many, and fill what others leave idle.

    Needs `--no-loadscope-reorder`: by their number of tests, files of few that wait long come last.
    """
    long = (*SITE, "test_cluster.py", "test_faults.py", "test_gpu.py")
    rank = {name: 0 for name in long} | {"test_bite.py": 2}
    items.sort(key=lambda item: rank.get(item.path.name, 1))


def pytest_collection_finish(session: pytest.Session) -> None:
    """What was collected stays: garbage collection need not look at a million objects each time."""
    gc.collect()
    gc.freeze()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than cores: minutes are spent on waiting, for slow lines and trials that hang."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session")
def site() -> Path:
    """The site of what is committed, freshly rendered (or the one in `$BOOK_SITE`)."""
    if given := os.environ.get("BOOK_SITE"):
        return Path(given).expanduser().resolve()
    out = ROOT / "_build" / "test-html"
    out.parent.mkdir(exist_ok=True)
    # side by side they would render it once each, in one folder; who comes second finds it done
    with out.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            [sys.executable, "-m", "helpers.book", "build", "--out", str(out)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, f"the book does not render:\n{done.stdout}{done.stderr}"
    return out


@pytest.fixture(scope="session")
def address(site):
    """The site served on this machine, as a reader's web server would."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            """Say nothing: the browser's own record of failed requests is what is tested."""

    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="session")
def chromium():
    """The system's Chromium, driven by playwright; tests that need it are skipped without one."""
    program = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if program is None:
        pytest.skip("no Chromium on this machine: install it to test the pages in a browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # a container's root has no sandbox; the pages are our own, and nothing else is to be found
        nowhere = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"
        arguments = ["--no-sandbox", "--disable-background-networking", nowhere]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()
