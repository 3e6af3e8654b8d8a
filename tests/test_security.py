"""What could run code, start a program or leave this machine, nowhere in the package."""

import ast
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = [*sorted((ROOT / "src").rglob("*.py")), *sorted((ROOT / "book" / "_ext").glob("*.py"))]
# pickles between a sweep and the processes that it has started itself; a figure's copy of itself
OWN_PICKLES = {"worker.py", "workers.py", "drawn.py"}


def name_of(call: ast.Call) -> str:
    """`torch.load` for ``torch.load(…)``."""
    return ast.unparse(call.func)


def faults(text: str, file: str = "") -> list[str]:
    """Calls in a text that would trust what they read."""
    found = []
    for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
        name, options = name_of(call), {k.arg: ast.unparse(k.value) for k in call.keywords}
        last = name.rpartition(".")[2]
        if name == "torch.load" or last in ("load_state_dict_from_url", "get_state_dict"):
            bad = options.get("weights_only") != "True"
        elif name.endswith("Image.open"):
            bad = "formats" not in options
        elif name in ("pickle.load", "pickle.loads", "cloudpickle.loads"):
            bad = file not in OWN_PICKLES
        elif name in ("np.load", "numpy.load"):
            bad = options.get("allow_pickle", "False") != "False"
        else:
            bad = (
                name
                in ("eval", "exec", "os.system", "yaml.load", "yaml.unsafe_load", "joblib.load")
                or last == "extractall"
                or name.startswith("torch.hub.load")
                or options.get("shell") == "True"
            )
        found += [f"{file}:{call.lineno} {name}"] if bad else []
    return found


def test_files_are_read_as_data_and_never_as_code():
    found = [fault for path in FILES for fault in faults(path.read_text("utf8"), path.name)]
    assert not found, found


@pytest.mark.parametrize(
    ("call", "bad"),
    [
        ("torch.load(f)", True),
        ("torch.load(f, weights_only=False)", True),
        ("torch.load(f, weights_only=True)", False),
        ("weights.get_state_dict(check_hash=True)", True),
        ("weights.get_state_dict(weights_only=True)", False),
        ("Image.open(f)", True),
        ("PIL.Image.open(f)", True),
        ("Image.open(f, formats=['PNG'])", False),
        ("pickle.load(f)", True),
        ("np.load(f, allow_pickle=True)", True),
        ("np.load(f)", False),
        ("subprocess.run(c, shell=True)", True),
        ("tar.extractall(p)", True),
        ("eval(x)", True),
        ("net.eval()", False),
    ],
)
def test_what_would_trust_a_file_is_found(call, bad):
    assert bool(faults(call)) == bad


@pytest.mark.parametrize(
    "address", [("93.184.216.34", 80), ("10.0.0.1", 80), ("169.254.169.254", 80)]
)
def test_tests_reach_this_machine_alone(address):
    with socket.socket() as one, pytest.raises(OSError, match="tests use no network"):
        one.connect(address)
    with socket.socket() as one, pytest.raises(OSError, match="tests use no network"):
        one.connect_ex(address)


def test_names_of_other_machines_are_not_looked_up():
    with pytest.raises(OSError, match="and example.org was looked up"):
        socket.getaddrinfo("example.org", 80)
    with pytest.raises(urllib.error.URLError, match="tests use no network"):
        urllib.request.urlopen("http://example.org")
    with pytest.raises(OSError, match="tests use no network"):
        socket.create_connection(("2001:db8::1", 80), timeout=1)


def test_this_machine_is_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        for host in ("127.0.0.1", "localhost"):
            socket.create_connection((host, address[1]), timeout=5).close()
