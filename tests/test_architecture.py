"""The house stands: floors, shelves, one-way imports, and modules that say what they are.

The laws are those of docs/adr/0008; they are read off the source with `ast`, so that nothing has to be imported.
The second half plants broken houses and sees them fall: a law that cannot be broken is not held by anything.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

POSSESSIVE = re.compile(r"(?<!\\)\)(?:[*+?]|\{\d*,?\d*\})\+|\(\?>")
CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]")
HOUSE = Path(__file__).parent.parent / "guardproxy"
FLOORS = {
    "core": 0,
    "openai": 1,
    "flow": 2,
    "guards": 2,
    "dialects": 2,
    "net": 3,
    "telemetry": 3,
    "stores": 3,
    "simulator": 3,
    "checklist": 3,
    "config": 4,
    "app": 5,
    "cli": 6,
}
ROOF = 7
"""``__main__``, which may see everything."""
PURE = 2
"""The highest floor that waits for nothing."""
IMPURE = frozenset(
    (
        "aiohttp",
        "asyncio",
        "httptools",
        "logging",
        "os",
        "prometheus_client",
        "random",
        "socket",
        "subprocess",
        "threading",
        "time",
        "uvloop",
    )
)
SHELVES = frozenset(("guards", "dialects", "stores"))
"""Packages of which each module can be taken out without touching another."""
LINES = 300
NO_NOUN = re.compile(r"(Manager|Handler|Helper|Utils?|Service|Context|Base)s?$")


@dataclass(frozen=True)
class Import:
    """One import of one module."""

    target: str
    line: int
    typing: bool
    """Whether it is for the type checker alone."""


class Module:
    """One file of the house."""

    def __init__(self, root: Path, path: Path) -> None:
        parts = path.relative_to(root.parent).with_suffix("").parts
        self.path = path
        self.name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        self.package = parts[1] if len(parts) > 2 else ""
        self.floor = FLOORS.get(self.package, ROOF) if self.package else ROOF
        self.text = path.read_text()
        self.tree = ast.parse(self.text)
        base = parts[:-1]
        self.imports = list(_imports(self.tree, base, root))

    def __str__(self) -> str:
        return self.name


def _imports(tree: ast.Module, base: tuple[str, ...], root: Path) -> Iterator[Import]:
    for node, typing in _walk(tree, typing=False):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, typing)
        elif isinstance(node, ast.ImportFrom):
            start = base[: len(base) - node.level + 1] if node.level else ()
            module = ".".join((*start, *(node.module or "").split("."))).strip(".")
            for alias in node.names:
                full = f"{module}.{alias.name}"
                yield Import(full if _is_module(full, root) else module, node.lineno, typing)


def _walk(node: ast.AST, *, typing: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        yield child, typing
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for one in child.body:
                yield one, True
                yield from _walk(one, typing=True)
            for one in child.orelse:
                yield one, typing
                yield from _walk(one, typing=typing)
        else:
            yield from _walk(child, typing=typing)


def _is_module(name: str, root: Path) -> bool:
    place = root.parent.joinpath(*name.split("."))
    return name.startswith(root.name) and (place.with_suffix(".py").exists() or (place / "__init__.py").exists())


def house(root: Path) -> list[Module]:
    return [Module(root, path) for path in sorted(root.rglob("*.py"))]


def strangers(modules: list[Module]) -> Iterator[str]:
    """Packages that stand on no floor."""
    for module in modules:
        if module.package and module.package not in FLOORS:
            yield f"{module}: {module.package} is on no floor"


def upwards(modules: list[Module]) -> Iterator[str]:
    """Imports of a neighbour or of a floor above; imports for the type checker count too."""
    for module in modules:
        for one in module.imports:
            parts = one.target.split(".")
            if parts[0] != "guardproxy" or len(parts) < 2 or parts[1] not in FLOORS or parts[1] == module.package:
                continue
            if FLOORS[parts[1]] >= module.floor:
                yield f"{module}:{one.line} (floor {module.floor}) imports {one.target} (floor {FLOORS[parts[1]]})"


def impurities(modules: list[Module]) -> Iterator[str]:
    """Clocks, dice, loops and sockets on the pure floors."""
    for module in modules:
        if module.floor <= PURE:
            for one in module.imports:
                if one.target.split(".")[0] in IMPURE:
                    yield f"{module}:{one.line} imports {one.target}, and has to be pure"


def siblings(modules: list[Module]) -> Iterator[str]:
    """Imports between modules that have to be removable one by one: on shelves, and between sinks."""
    sinks = {module.name for module in modules if module.package == "telemetry" and _is_sink(module.tree)}
    for module in modules:
        for one in module.imports:
            if one.target == module.name:
                continue
            on_shelf = module.package in SHELVES and one.target.startswith(f"guardproxy.{module.package}.")
            if on_shelf or (module.name in sinks and one.target in sinks):
                yield f"{module}:{one.line} imports its sibling {one.target}"


def _is_sink(tree: ast.Module) -> bool:
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return any(isinstance(one, ast.FunctionDef) and one.name == "told" for node in classes for one in node.body)


def circles(modules: list[Module]) -> Iterator[str]:
    """Imports that come back to where they began, at run time."""
    names = {module.name for module in modules}
    graph = {
        module.name: {one.target for one in module.imports if not one.typing and one.target in names} - {module.name}
        for module in modules
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield " imports ".join(reversed(error.args[1]))


def silence(modules: list[Module]) -> Iterator[str]:
    """Modules that do not open by saying what belongs in them."""
    for module in modules:
        if not ast.get_docstring(module.tree):
            yield f"{module} opens without a docstring"


def length(modules: list[Module]) -> Iterator[str]:
    """Modules that nobody reads to the end."""
    for module in modules:
        if (lines := len(module.text.splitlines())) > LINES:
            yield f"{module} has {lines} lines, {LINES} at most"


def nouns(modules: list[Module]) -> Iterator[str]:
    """Classes named for what they are good for rather than for what they are."""
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and NO_NOUN.search(node.name):
                yield f"{module}:{node.lineno}: no class is called {node.name}"


def possessives(modules: list[Module]) -> Iterator[str]:
    """Groups in patterns that give nothing back: wrong before CPython 3.11.5 where they fail half-way (gh-106052)."""
    for module in modules:
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str | bytes):
                continue
            text = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
            if POSSESSIVE.search(CLASS.sub("x", text)):
                yield f"{module}:{node.lineno}: a possessive or atomic group"


LAWS = (strangers, upwards, impurities, siblings, circles, silence, length, nouns, possessives)


@pytest.fixture(scope="module")
def modules() -> list[Module]:
    return house(HOUSE)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_house_keeps(law, modules):
    """Each law of docs/adr/0008, over every module there is."""
    assert len(modules) > 40
    assert list(law(modules)) == []


def test_flow_knows_no_guard(modules):
    """The story asks whoever is there: a guard can be added or taken out without touching it."""
    known = [one.target for module in modules if module.package == "flow" for one in module.imports]
    assert not [target for target in known if target.startswith(("guardproxy.guards", "guardproxy.dialects"))]


SOUND = {
    "__init__.py": '"""A house."""\n',
    "__main__.py": '"""The door."""\nfrom guardproxy.cli import main\n',
    "core/values.py": '"""Values."""\nif TYPE_CHECKING:\n    from .dialect import Dialect\n',
    "core/dialect.py": '"""The base."""\nfrom guardproxy.core import values\n',
    "openai/scan.py": '"""Scans."""\nfrom guardproxy.core.values import Call\nfrom email.utils import parsedate\n',
    "flow/story.py": '"""Tells."""\nfrom guardproxy.openai import scan\n',
    "guards/breaker.py": '"""Guards."""\nfrom guardproxy.core.values import Call\n',
    "guards/cache.py": '"""Keeps."""\n',
    "telemetry/log.py": '"""Logs."""\nclass Log:\n    def told(self, record): ...\n',
    "telemetry/metrics.py": '"""Counts."""\nclass Metrics:\n    def told(self, record): ...\n',
    "net/wire.py": '"""Wires."""\nimport asyncio\nfrom guardproxy.guards.breaker import Breaker\n',
    "cli/main.py": '"""Argv."""\nfrom guardproxy.net import wire\n',
}


def build(folder: Path, **changes: str) -> list[Module]:
    """Build the sound house in *folder*, with *changes* added to its files (``core__values`` is core/values.py)."""
    root = folder / "guardproxy"
    files = dict(SOUND)
    for name, added in changes.items():
        file = name.replace("__", "/") + ".py"
        files[file] = files.get(file, '"""New."""\n') + added
    for file in list(files):
        files.setdefault(str(Path(file).parent / "__init__.py"), '"""A floor."""\n')
    for file, text in files.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text)
    return house(root)


def broken(modules: list[Module]) -> set[str]:
    return {law.__name__ for law in LAWS if list(law(modules))}


def test_a_sound_house_stands(tmp_path):
    """What is allowed is not complained about: a cycle for the type checker alone, dates, the sight of the roof."""
    assert broken(build(tmp_path)) == set()


@pytest.mark.parametrize(
    "law, change",
    [
        ("upwards", {"core__values": "from guardproxy.openai import scan\n"}),
        ("upwards", {"core__values": "import guardproxy.openai.scan\n"}),
        ("upwards", {"core__values": "if TYPE_CHECKING:\n    from guardproxy.net.wire import Wire\n"}),
        ("upwards", {"core__values": "def late():\n    from guardproxy.net.wire import Wire\n"}),
        ("upwards", {"core__values": "from ..openai import scan\n"}),
        ("upwards", {"flow__story": "from guardproxy.guards.breaker import Breaker\n"}),
        ("upwards", {"flow__story": "if TYPE_CHECKING:\n    from guardproxy.guards.breaker import Breaker\n"}),
        ("upwards", {"net__wire": "from guardproxy.telemetry import log\n"}),
        ("impurities", {"guards__cache": "import time\n"}),
        ("impurities", {"openai__scan": "from os.path import join\n"}),
        ("impurities", {"core__values": "if TYPE_CHECKING:\n    import asyncio\n"}),
        ("impurities", {"flow__story": "def late():\n    import random\n"}),
        ("siblings", {"guards__cache": "from guardproxy.guards.breaker import Breaker\n"}),
        ("siblings", {"guards__cache": "from guardproxy.guards import breaker\n"}),
        ("siblings", {"guards__cache": "from .breaker import Breaker\n"}),
        ("siblings", {"guards__cache": "if 1:\n    from . import breaker\n"}),
        ("siblings", {"telemetry__log": "from guardproxy.telemetry.metrics import Metrics\n"}),
        ("circles", {"core__values": "from guardproxy.core.dialect import Dialect\n"}),
        ("circles", {"net__wire": "from guardproxy.net import b\n", "net__b": "if 1:\n    from . import wire\n"}),
        ("strangers", {"utils__things": ""}),
        ("length", {"guards__cache": "#\n" * 300}),
        ("nouns", {"guards__cache": "class CacheManager: ...\n"}),
        ("nouns", {"guards__cache": "class Cache:\n    class _Handler: ...\n"}),
        ("nouns", {"core__values": "class GuardBase: ...\n"}),
        ("possessives", {"core__values": "X = r'(?:ab|c)*+d'\n"}),
        ("possessives", {"core__values": "X = rb'(?>ab|c)d'\n"}),
    ],
)
def test_a_broken_house_falls(tmp_path, law, change):
    """Each law can be broken, in every way in which an import can be written, and says so."""
    found = broken(build(tmp_path, **change))
    assert law in found
    assert found <= {law, "circles"}  # who imports upwards may come back to where he began


def test_a_module_without_a_word_is_found(tmp_path):
    """A comment is no docstring."""
    modules = build(tmp_path)
    (tmp_path / "guardproxy" / "guards" / "cache.py").write_text("# keeps answers\nx = 1\n")
    assert broken(modules) == set()
    assert broken(house(tmp_path / "guardproxy")) == {"silence"}
