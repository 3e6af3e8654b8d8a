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
OWN_PICKLES = {"worker.py", "workers.py", "letters.py"}


# these may be called with weights_only=True; the last two by whatever object has them
LOADERS = {"torch.load", "load_state_dict_from_url", "get_state_dict"}
FORBIDDEN = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "yaml.full_load",
    "yaml.unsafe_load", "yaml.load_all", "joblib.load", "marshal.load", "marshal.loads",
    "shelve.open", "pickle.Unpickler", "dill.load", "dill.loads", "cloudpickle.load",
    "pandas.read_pickle", "torch.jit.load", "torch.package.PackageImporter", "runpy.run_path",
    "subprocess.getoutput", "subprocess.getstatusoutput",
}  # fmt: skip
SAFE_YAML = {
    "yaml.SafeLoader", "yaml.CSafeLoader", "getattr(yaml, 'CSafeLoader', yaml.SafeLoader)",
}  # fmt: skip
PICKLES = {"pickle.load", "pickle.loads", "cloudpickle.loads"}
# how modules are called at home
HOME = {"numpy": "np", "numpy.lib.npyio": "np", "_pickle": "pickle", "builtins": ""}


class Names(ast.NodeVisitor):
    """What names of a text mean, whatever it calls them: imports, and names for names."""

    def __init__(self, tree: ast.AST) -> None:
        self.known: dict[str, str] = {}
        self.visit(tree)

    def visit_Import(self, node: ast.Import) -> None:
        for name in node.names:
            if name.asname:
                self.known[name.asname] = name.name

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for name in node.names:
            self.known[name.asname or name.name] = f"{node.module}.{name.name}"

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        meant = self.of(node.value)
        if meant and (meant in self.known.values() or is_risky(meant)):
            self.known |= {t.id: meant for t in node.targets if isinstance(t, ast.Name)}

    def of(self, node: ast.AST) -> str:
        """`torch.load` for all that is it; "" for what is no name."""
        if isinstance(node, ast.Name):
            return self.home(self.known.get(node.id, node.id))
        if isinstance(node, ast.Attribute):
            owner = self.of(node.value)
            return self.home(f"{owner}.{node.attr}") if owner else f"?.{node.attr}"
        if isinstance(node, ast.Call) and self.of(node.func) == "getattr" and len(node.args) > 1:
            name = node.args[1]
            return f"{self.of(node.args[0])}.{name.value}" if isinstance(name, ast.Constant) else ""
        if isinstance(node, ast.Call) and self.of(node.func).endswith("import_module"):
            return node.args[0].value if isinstance(node.args[0], ast.Constant) else ""
        return ""

    def home(self, name: str) -> str:
        owner, _, last = name.rpartition(".")
        return f"{HOME[owner]}.{last}".lstrip(".") if owner in HOME else HOME.get(name, name)


def is_risky(name: str) -> bool:
    """Whether a function of this full name runs what it reads, unless it is told otherwise."""
    last = name.rpartition(".")[2]
    return (
        name in FORBIDDEN | PICKLES | LOADERS | {"np.load"}
        or last in LOADERS | {"extractall"}
        or name.startswith("torch.hub.load")
        or name.endswith("Image.open")
    )


def is_safe(name: str, options: dict[str, str], file: str) -> bool:
    """Whether a call of what is risky cannot run anything."""
    if name in PICKLES:
        return file in OWN_PICKLES
    if name.endswith("Image.open"):
        return "formats" in options
    if name == "yaml.load":
        return options.get("Loader") in SAFE_YAML
    if name == "np.load":
        return options.get("allow_pickle", "False") == "False"
    may = name in LOADERS or name.rpartition(".")[2] in LOADERS
    return may and options.get("weights_only") == "True"


def guarded(tree: ast.AST) -> set[ast.AST]:
    """Bases of classes that say themselves what a pickle may name."""
    return {
        base
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and any(isinstance(f, ast.FunctionDef) and f.name == "find_class" for f in node.body)
        for base in node.bases
    }


def faults(text: str, file: str = "") -> list[str]:
    """Where a text would trust what it reads, or hands on a function that would."""
    tree = ast.parse(text)
    names, called, found = Names(tree), guarded(tree), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name, options = (
                names.of(node.func),
                {k.arg: ast.unparse(k.value) for k in node.keywords},
            )
            called.add(node.func)
            if (
                options.get("shell") == "True"
                or is_risky(name)
                and not is_safe(name, options, file)
            ):
                found.append(f"{file}:{node.lineno} {name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name | ast.Call) and node not in called:
            name = names.of(node)
            if isinstance(getattr(node, "ctx", None), ast.Store):
                continue
            if is_risky(name) and (file not in OWN_PICKLES or name not in PICKLES):
                found.append(f"{file}:{node.lineno} {name}, not called")
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
        ("yaml.load(f)", True),
        ("yaml.load(f, Loader=yaml.Loader)", True),
        ("yaml.load(f, Loader=getattr(yaml, 'CLoader', yaml.SafeLoader))", True),
        ("yaml.load(f, Loader=getattr(yaml, 'CSafeLoader', yaml.SafeLoader))", False),
        ("subprocess.run(c, shell=True)", True),
        ("tar.extractall(p)", True),
        ("eval(x)", True),
        ("net.eval()", False),
        ("from torch import load as l\nl(f)", True),
        ("from torch import load as l\nl(f, weights_only=True)", False),
        ("from torch import load\nmap(load, files)", True),
        ("import torch as t\nt.load(f)", True),
        ("import torch as t\nt.hub.load(f)", True),
        ("import torch\nl = torch.load\nl(f)", True),
        ("import torch as t\nu = t\nu.load(f)", True),
        ("import torch, functools\nfunctools.partial(torch.load, weights_only=True)", True),
        ("import torch\ngetattr(torch, 'load')(f)", True),
        ("import importlib\nimportlib.import_module('pickle').loads(f)", True),
        ("import pickle as p\np.loads(f)", True),
        ("from pickle import loads\nloads(f)", True),
        ("from pickle import Unpickler\nUnpickler(f).load()", True),
        ("import _pickle\n_pickle.load(f)", True),
        ("import pickle\nclass U(pickle.Unpickler):\n  pass", True),
        ("import pickle\nclass U(pickle.Unpickler):\n  def find_class(self, *a): 0", False),
        ("from numpy import load as read\nread(f, allow_pickle=True)", True),
        ("import numpy\nnumpy.load(f)", False),
        ("import pandas as pd\npd.read_pickle(f)", True),
        ("from PIL.Image import open as show\nshow(f)", True),
        ("from os import system as s\ns(c)", True),
        ("from builtins import eval as e\ne(x)", True),
        ("e = eval\ne(x)", True),
        ("import json as pickle\npickle.loads(f)", False),
        ("def load(f): return 1\nload(f)", False),
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
