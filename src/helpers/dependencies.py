"""Which modules of the package a piece of code reaches, and a hash of what they do.

Read from the text, so that neither torch nor an experiment is imported:

- ``from helpers import kernels`` and then ``kernels.relu_ntk(…)`` reach the module that defines
  ``relu_ntk``, wherever the door ``helpers/kernels/__init__.py`` has it from, and nothing else of
  the door; a door that is handed around whole, or asked with ``getattr``, reaches all behind it;
- ``sweep.results("resnet", run)`` reaches the module that registers the experiment "resnet". Names
  that are no literals are those among the strings of the text, and all experiments if none is.

Where a text does not tell, more modules are reached rather than fewer. What it cannot see is a name
of an experiment that is put together from pieces or comes from another module while some other
experiment is named in full: chapters write such names out.

What is hashed is the syntax tree without docstrings (and so without comments and layout): words
may change freely, an operator may not. What a row of an experiment names is the hash without grids:
a cell more is no other code.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from pathlib import Path

from helpers.syntax import dumped, is_words, parsed, syntax, text_of, uncollected

PACKAGE = "helpers"
# these modules get experiments by name; the one that imports all of them is among them
SWEEP, EXPERIMENTS = (PACKAGE, "sweep"), (PACKAGE, "experiments")
# functions of the sweep whose first argument is an experiment or its name
ASKING = {"get", "results", "sweep", "audit"}
# what says in a text that there is an experiment, and its settings that compute no number
REGISTERING = {"experiment", "Experiment"}
LISTING = {"cells", "cheap"}

Chain = tuple[str, ...]
Target = tuple[str, Chain]  # a module, and the attributes of it


@dataclass
class Facts:
    """What the text of a module or a chapter says about others.

    Attributes:
        bound: Names that imports bind -> what each may stand for, ``("helpers", ("kernels",))``.
        uses: For each name: the chains of attributes with which it is used, ``("relu_ntk",)``.
        imported: Modules under their full names, as in ``import helpers.data.images``.
        calls: All calls.
        values: Names, with their attributes, that are used and not called.
        given: For each name: what is assigned to it, None for what a loop or a caller gives.
        strings: All strings.
        computed: Whether modules are imported under names that the text does not tell.
        only_imports: Whether there is nothing but imports, as in most doors.
    """

    bound: dict[str, set[Target]] = field(default_factory=lambda: defaultdict(set))
    uses: dict[str, set[Chain]] = field(default_factory=lambda: defaultdict(set))
    imported: set[str] = field(default_factory=set)
    calls: list[ast.Call] = field(default_factory=list)
    values: list[ast.AST] = field(default_factory=list)
    given: dict[str, list[ast.AST | None]] = field(default_factory=lambda: defaultdict(list))
    strings: set[str] = field(default_factory=set)
    computed: bool = False
    only_imports: bool = False

    @classmethod
    @cache
    @uncollected()
    def read(cls, code: str, home: Chain = ()) -> Facts:
        """The facts of a text; `home` is the package that its relative imports start from."""
        tree = parsed(code)
        facts = cls(only_imports=all(map(_only_imports, tree.body)))
        known: set[int] = set()  # called, assigned to, or a part of a longer chain
        for node in _walk(tree):  # outer nodes come before the ones inside
            match node:
                case ast.Import() | ast.ImportFrom():
                    facts._bind(node, home)
                case ast.Assign():
                    for target in node.targets:
                        if isinstance(target, ast.Name):
                            facts.given[target.id].append(node.value)
                            known.add(id(target))
                case ast.arg():
                    facts.given[node.arg].append(None)
                case ast.Name(ctx=ast.Store()):
                    facts.given[node.id] += [] if id(node) in known else [None]
                case ast.Call():
                    facts.calls.append(node)
                    name, chain = _chain(node.func, known)
                    facts.uses[name].add(chain)
                    known.add(id(node.func))
                    facts.computed |= _imports_computed(node)
                case ast.Attribute() | ast.Name() if id(node) not in known:
                    name, chain = _chain(node, known)
                    facts.uses[name].add(chain)
                    facts.values.append(node)
                case ast.Constant(value=str(text)):
                    facts.strings.add(text)
                    if re.fullmatch(PACKAGE + r"(\.\w+)+", text):
                        facts.imported.add(text)
        return facts

    def _bind(self, node: ast.Import | ast.ImportFrom, home: Chain) -> None:
        if isinstance(node, ast.Import):
            for name in (alias for alias in node.names if _path(alias.name)[0] == PACKAGE):
                self.bound[name.asname or PACKAGE].add((name.name if name.asname else PACKAGE, ()))
                self.imported |= set() if name.asname or name.name == PACKAGE else {name.name}
            return
        start = home[: len(home) - node.level + 1] if node.level else ()
        module = ".".join((*start, node.module) if node.module else start)
        for alias in node.names:
            if _path(module)[0] == PACKAGE:
                inside = () if alias.name == "*" else (alias.name,)
                self.bound[alias.asname or alias.name].add((module, inside))
            self.computed |= alias.name == "import_module" and alias.asname is not None

    @cached_property
    def foreign(self) -> set[str]:
        """Names that are imported or asked for, strings, and modules imported with ``*``."""
        bound = {inside for to in self.bound.values() for _, inside in to}
        used = {chain for chains in self.uses.values() for chain in chains}
        return {module for module, _ in self.bound.get("*", ())}.union(*bound, *used, self.strings)

    def stands_for(self, node: ast.AST) -> set[Chain]:
        """Where in the package a name with its attributes comes from."""
        name, chain = _chain(node, set())
        return {(*_path(module), *inside, *chain) for module, inside in self.bound.get(name, ())}

    def asks(self, node: ast.AST | None) -> bool:
        """Whether this is a function of the sweep that takes an experiment."""
        return any(p[:2] == SWEEP and p[-1] in ASKING for p in self.stands_for(node))


@dataclass(frozen=True, eq=False)
class Tree:
    """The package's modules by dotted name (``helpers.kernels.hermite``) and their text."""

    texts: Mapping[str, str]
    _known: dict[str, set[str]] = field(default_factory=dict, repr=False)  # links of modules

    @classmethod
    def read(cls, folder: Path) -> Tree:
        """The package in a folder, ``src/helpers``; texts that were read before are not again."""
        files = sorted(folder.rglob("*.py"))
        return _tree(tuple((_name(path, folder), path.read_text("utf-8-sig")) for path in files))

    def closure(self, code: str) -> set[str]:
        """Every module that a chapter's code reaches, directly or through others."""
        todo, reached = self.direct(Facts.read(code)), set()
        while todo:
            module = todo.pop()
            reached.add(module)
            todo |= self._links(module) - reached
        return reached

    def digest(self, modules: Iterable[str], *, grids: bool = True) -> str:
        """One hash for what these modules do; without `grids`, for what they compute in a cell."""
        sha = hashlib.sha256()
        for module in sorted(modules):
            text = self.texts[module]
            listing = set() if grids else self._listing(module)
            told = dumped(parsed(text), listing) if listing else syntax(text)
            sha.update(f"{module}\n{told}\0".encode())
        return sha.hexdigest()[:16]

    def _listing(self, module: str) -> set[ast.AST]:
        """What lists an experiment's cells: settings, and functions that serve nothing else."""
        calls = [c for c in self._facts(module).calls if _last(c.func) in REGISTERING]
        listed = (k for call in calls for k in call.keywords if k.arg in LISTING)
        settings = {k for k in listed if isinstance(k.value, ast.Name | ast.Lambda)}
        if not settings or self._is_handed_on(module):
            return set()
        tree = parsed(self.texts[module])
        named = Counter(getattr(node, "id", "") for node in ast.walk(tree))
        given = Counter(getattr(setting.value, "id", "") for setting in settings)
        return settings | {
            node
            for node in tree.body
            if isinstance(node, ast.FunctionDef) and 0 < given[node.name] == named[node.name]
            if not (node.decorator_list or node.args.defaults or node.args.kw_defaults)
            if not any(isinstance(inner, ast.Global) for inner in ast.walk(node))
            if not self._is_handed_on(node.name)
        }

    def _is_handed_on(self, name: str) -> bool:
        """Whether any module names it as another's; the sweep asks for grids alone.

        Only texts that hold it are read: a name that is put together from pieces is not seen.
        """
        held = re.compile(rf"{re.escape(_path(name)[-1])}|import[\s\\]*\*")
        some = (m for m, text in self.texts.items() if held.search(text) and _path(m)[:2] != SWEEP)
        return any(name in self._facts(module).foreign for module in some)

    @cached_property
    def experiments(self) -> dict[str, str]:
        """Module of each experiment: ``@experiment("name", …)`` or ``Experiment("name", …)``."""
        return {
            text_of(call.args[0]): module
            for module, text in self.texts.items()
            if re.search(r"\b[eE]xperiment\b", text)  # faster than to read them all
            for call in self._facts(module).calls
            if _last(call.func) in REGISTERING and call.args
            if isinstance(text_of(call.args[0]), str)
        }

    def direct(self, facts: Facts) -> set[str]:
        """Modules that a text names itself, experiments among them."""
        named = self._imported(facts) | self._asked(facts)
        return named.union(self.texts if facts.computed else ())

    def _imported(self, facts: Facts) -> set[str]:
        targets: set[Target] = {(module, ()) for module in facts.imported}
        for name, bound in facts.bound.items():
            # what is imported and not used is handed on
            chains = facts.uses.get(name, set() if name == PACKAGE else {()})
            targets |= {(module, inside + c) for module, inside in bound for c in chains}
        return set().union(*(self._behind(target, set()) for target in targets))

    def _behind(self, target: Target, seen: set[Target]) -> set[str]:
        """Modules behind ``module.attribute.attribute…``, wherever each has the next one from."""
        module, chain = target
        if target in seen:
            return set()
        seen.add(target)
        if not chain:
            return {m for m in self.texts if f"{m}.".startswith(f"{module}.")}
        name, *rest = chain
        found = set(self._facts(module).bound.get(name, ())) if module in self.texts else set()
        if f"{module}.{name}" in {*self.texts, *self._packages}:
            found.add((f"{module}.{name}", ()))
        own = set() if found and module in self._doors else {module} & set(self.texts)
        return own.union(*(self._behind((m, (*inside, *rest)), seen) for m, inside in found))

    def _asked(self, facts: Facts) -> set[str]:
        """Modules of the experiments that a text names in calls of the sweep."""
        names = set()
        for call in facts.calls:
            given = [*call.args, *(keyword.value for keyword in call.keywords)]
            if any(path[:2] == SWEEP for path in facts.stands_for(call.func)):
                names |= {text_of(value) for value in given} & set(self.experiments)
            if given and facts.asks(call.func) and not isinstance(given[0], ast.Constant):
                names |= self._meant(given[0], facts)
        for value in filter(facts.asks, facts.values):
            names |= self._meant(value, facts)
        return {self.experiments[name] for name in names}

    def _meant(self, asked: ast.AST, facts: Facts) -> set[str]:
        """Experiments that an expression may name: those among the strings, or all."""
        values = facts.given.get(getattr(asked, "id", ""), [asked])
        # what the sweep itself has given is accounted for where it was asked
        values = [v for v in values if not isinstance(v, ast.Call) or not facts.asks(v.func)]
        kinds = ast.Call | ast.JoinedStr | ast.BinOp | ast.Starred
        made = any(isinstance(value, kinds) for value in values)
        told = set() if made else facts.strings & set(self.experiments)
        return (told or set(self.experiments)) if values else set()

    def _facts(self, module: str) -> Facts:
        return Facts.read(self.texts[module], self._home(module))

    def _links(self, module: str) -> set[str]:
        if module not in self._known:
            facts = self._facts(module)
            found = self.direct(facts)
            if _path(module)[:2] == SWEEP:
                # it imports all experiments; which of them matter, the names in calls tell
                found = {m for m in self._imported(facts) if _path(m)[:2] != EXPERIMENTS}
            self._known[module] = found
        return self._known[module]

    @cached_property
    def _packages(self) -> set[str]:
        return {module.rpartition(".")[0] for module in self.texts}

    @cached_property
    def _doors(self) -> set[str]:
        """Packages that only hand on: what they do is done by the modules behind."""
        return {m for m in self._packages & set(self.texts) if self._facts(m).only_imports}

    def _home(self, module: str) -> Chain:
        return _path(module) if module in self._packages else _path(module)[:-1]


@lru_cache(maxsize=4)
def _tree(texts: tuple[tuple[str, str], ...]) -> Tree:
    return Tree(dict(texts))


def _name(path: Path, folder: Path) -> str:
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join((PACKAGE, *(parts[:-1] if parts[-1] == "__init__" else parts)))


def _path(module: str) -> Chain:
    return tuple(module.split("."))


def _walk(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those of ``if TYPE_CHECKING:``, as what is for hints alone computes nothing."""
    todo = deque([tree])
    while todo:
        node = todo.popleft()
        yield node
        if isinstance(node, ast.If) and _last(node.test) == "TYPE_CHECKING":
            todo.extend(node.orelse)
        else:
            todo.extend(ast.iter_child_nodes(node))


def _only_imports(node: ast.stmt) -> bool:
    """Whether this statement of a module is an import, words, or the like of ``__all__ = …``."""
    names = [getattr(target, "id", "") for target in getattr(node, "targets", ())]
    dunder = isinstance(node, ast.Assign) and all(re.fullmatch("__\\w+__", n) for n in names)
    return dunder or isinstance(node, ast.Import | ast.ImportFrom) or is_words(node)


def _imports_computed(call: ast.Call) -> bool:
    """Whether a call imports, or runs, what the text does not tell."""
    if isinstance(call.func, ast.Name) and call.func.id in ("exec", "eval"):
        return True
    told = call.args and isinstance(text_of(call.args[0]), str) and call.args[0].value[:1] != "."
    return _last(call.func) in ("import_module", "__import__") and not told


def _last(node: ast.AST) -> str:
    return getattr(node, "attr", None) or getattr(node, "id", "")


def _chain(node: ast.AST, passed: set[int]) -> tuple[str, Chain]:
    """Name and attributes of ``name.attribute.attribute``, whose parts go into `passed`."""
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
        passed.add(id(node))
    return getattr(node, "id", ""), tuple(reversed(attributes))


def package_tree() -> Tree:
    """The package that is running."""
    return Tree.read(Path(__file__).parent)


def code_of(*modules: str) -> str:
    """A hash of what these modules do, and of all that they reach: other code, another hash.

    Raises:
        KeyError: The package has no such module.
    """
    tree = package_tree()
    for module in modules:
        tree.texts[module]
    return tree.digest(tree.closure("\n".join(f"import {module}" for module in modules)))
