"""`{door} kernels`: a page of reference for one door of the package, from its docstrings.

Every name that the door hands on, with signature, description, what it raises and an example: that
of its docstring, or else a call that chapters, tests or the package make. The sources are read by
griffe and not imported, so the page needs no torch.
"""

import re
from functools import cache
from pathlib import Path

import api_names
import griffe
from docutils import nodes
from docutils.frontend import get_default_settings
from docutils.parsers.rst import Parser, directives
from docutils.utils import new_document
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from helpers.project import project_root

# roles of Python's domain, which has no entries here: their text is code
ROLE = re.compile(r":(?:\w+:)?(?:func|class|mod|meth|attr|data|exc|obj):`~?([^`<]+?)`")
TITLES = {
    "parameters": "Arguments",
    "attributes": "Attributes",
    "returns": "Returns",
    "yields": "Yields",
    "raises": "Raises",
}


@cache
def package(root: Path) -> griffe.Module:
    """The package as its sources describe it."""
    options = {"search_paths": [root / "src"], "allow_inspection": False}
    return griffe.load("helpers", docstring_parser="google", **options)


def parsed(text: str, env: BuildEnvironment | None) -> list[nodes.Node]:
    """The nodes of a piece of a docstring, which is reStructuredText."""
    settings = get_default_settings(Parser)
    settings.env = env  # formulas ask for it
    # a piece that does not parse shows as it stands; the tests look for what that leaves behind
    settings.report_level, settings.halt_level = 5, 5
    document = new_document("docstring", settings)
    Parser().parse(ROLE.sub(r"``\1``", text), document)
    for node in list(document.findall(nodes.title_reference)):
        node.replace_self(nodes.literal("", node.astext()))
    return [node.deepcopy() for node in document.children]


def code(text: str, language: str = "python") -> nodes.literal_block:
    return nodes.literal_block(text, text, language=language)


def named(word: str, text: str, env: BuildEnvironment | None) -> nodes.list_item:
    """`word`: text, as an item of a list."""
    body = parsed(text, env) or [nodes.paragraph()]
    if not isinstance(body[0], nodes.paragraph):
        body.insert(0, nodes.paragraph())
    body[0].insert(0, nodes.Text(": "))
    body[0].insert(0, nodes.literal("", word))
    return nodes.list_item("", *body)


def entries(section) -> list[tuple[str, str]]:
    """(name, description) of the lines of a section of arguments, results or errors."""
    found = []
    for item in section.value:
        name = getattr(item, "name", "") or str(item.annotation or "")
        if section.kind.value in ("raises", "returns", "yields"):
            name = str(item.annotation or getattr(item, "name", "") or "")
        found.append((name, item.description))
    return found


def described(
    thing: griffe.Object, env: BuildEnvironment | None = None
) -> tuple[list[nodes.Node], bool]:
    """Nodes of a docstring, and whether it has an example."""
    body: list[nodes.Node] = []
    shown = False
    for section in thing.docstring.parse("google", warnings=False) if thing.docstring else []:
        kind = section.kind.value
        if kind == "text":
            shown |= ">>>" in section.value
            body += parsed(section.value, env)
        elif kind == "examples":
            shown = True
            body += [n for _, text in section.value for n in parsed(text, env)]
        elif kind in TITLES:
            items = nodes.bullet_list("", *(named(*one, env) for one in entries(section)))
            body += [nodes.paragraph("", "", nodes.strong("", TITLES[kind])), items]
        else:
            text = section.value if isinstance(section.value, str) else str(section.title or "")
            body += parsed(text, env)
    return body, shown


def signature(thing: griffe.Object, written: str) -> str:
    """How it is called, on one line or one argument a line."""
    parts, star = [], False
    for one in thing.parameters:
        kind = one.kind.value if one.kind else ""
        if one.name in ("self", "cls"):
            continue
        if kind == "keyword-only" and not star:
            parts.append("*")
            star = True
        star |= kind == "variadic positional"
        marks = {"variadic positional": "*", "variadic keyword": "**"}.get(kind, "")
        text = f"{marks}{one.name}" + (f": {one.annotation}" if one.annotation else "")
        usual = one.default is not None and not marks
        parts.append(text + (f" = {one.default}" if usual else ""))
    result = f" -> {thing.returns}" if getattr(thing, "returns", None) else ""
    line = f"{written}({', '.join(parts)}){result}"
    if len(line) <= 76:
        return line
    return f"{written}(\n" + "".join(f"    {part},\n" for part in parts) + f"){result}"


class Door(SphinxDirective):
    """The names of a door; `:modules:` shows those modules of a door that hands on no names."""

    required_arguments = 1
    option_spec = {"modules": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        self.root, door = project_root(), self.arguments[0]
        self.package = package(self.root)
        for folder in ("src/helpers", "notebooks"):
            for path in (self.root / folder).rglob("*"):
                if path.suffix in (".py", ".md"):
                    self.env.note_dependency(str(path))
        shown = described(self.package[door], self.env)[0]
        handed = api_names.handed_on(self.root, door)
        values = [one for one in handed if api_names.is_value(self.root, one.path)]
        shown += [self.entry(f"{door}.{one.name}", one.path) for one in handed if one not in values]
        for name in self.options.get("modules", "").split():
            shown.append(self.entry(f"{door}.{name}", f"helpers.{door}.{name}"))
        if values:
            shown.append(self.values(door, values))
        if not handed and "modules" not in self.options:
            shown.append(self.files(door))
        return shown

    def values(self, door: str, names: list[api_names.Handed]) -> nodes.section:
        """Constants and names of types, each with the line that sets it."""
        section = nodes.section(ids=[f"api-{door}-values"])
        lines = dict.fromkeys(api_names.value(self.root, one.path) for one in names)
        section += [nodes.title("", "Values"), code("\n".join(lines))]
        return section

    def files(self, door: str) -> nodes.Node:
        """The first sentence of every module of a door, where that is all that there is to say."""
        items = []
        for path in sorted((self.root / "src" / "helpers" / door).rglob("*.py")):
            if path.name != "__init__.py":
                words = ".".join(path.relative_to(self.root / "src").with_suffix("").parts[1:])
                module = self.package[words]
                items.append(named(words, module.docstring.value.split("\n\n")[0], self.env))
        return nodes.bullet_list("", *items)

    def entry(self, written: str, path: str) -> nodes.section:
        thing = self.package[path.removeprefix("helpers.")]
        title = written.partition(".")[2]
        section = nodes.section(ids=[f"api-{written.replace('.', '-').replace('_', '-').lower()}"])
        section += nodes.title("", "", nodes.literal("", title))
        body, has_example = described(thing, self.env)
        if thing.is_module:
            section += body
            for name in api_names.public(self.root, path):
                section += self.entry(f"{written}.{name}", f"{path}.{name}")
            return section
        section += code(signature(thing, written))
        section += body
        if not has_example:
            section += self.example(path)
        section += self.places(path)
        return section

    def example(self, path: str) -> list[nodes.Node]:
        """A call that the project makes, for what has no example in its docstring."""
        found = api_names.example(self.root, path)
        if found is None:
            return []
        where = nodes.paragraph("", "", nodes.strong("", "Example"), nodes.Text(", from "))
        where += self.link(found.place)
        return [where, code(found.text)]

    def places(self, path: str) -> list[nodes.Node]:
        """Links to the chapters that use it."""
        chapters = api_names.chapters(self.root, path)
        if not chapters:
            return []
        line = nodes.paragraph("", "Used in ", classes=["api-used"])
        for number, chapter in enumerate(chapters):
            line += [nodes.Text(", ")] * (number > 0) + [self.link(chapter)]
        return [line]

    def link(self, place: str) -> nodes.Node:
        """A chapter by its number with a link, a test or module by its file."""
        if "/" in place:
            return nodes.literal("", place)
        page = self.env.app.builder.get_relative_uri(self.env.docname, f"chapters/{place}")
        return nodes.reference("", f"chapter {int(place[:2])}", refuri=page, internal=True)


def setup(app) -> dict:
    app.add_directive("door", Door)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
