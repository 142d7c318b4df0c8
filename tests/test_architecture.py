from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "flywheel"

# Imports go down only, that is: up in this table, or within a layer; and there are no circles anywhere.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "keys", "records", "space", "protocols", "tables", "views", "ranks", "recipes"),
    ("storage",),
    ("config",),
    (
        *("lineage", "graders", "curators", "gates", "guards", "tuners", "reviewers", "metrics"),
        *("prompting", "curves"),
    ),
    ("runtime",),
    ("stages", "trackers", "export", "executors", "report"),
    ("loop", "launch"),
    ("api",),
    ("experiments",),
    ("testing", "cli", "__main__", "__init__"),
)


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def place(module: str) -> str:
    """The entry of LAYERS that a module belongs to."""
    return module.partition(".")[0]


def layer(name: str) -> int:
    return next(k for k, names in enumerate(LAYERS) if name in names)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes that are run: what only type checkers read is left out."""
    for child in ast.iter_child_nodes(node):
        if not is_type_checking(child):
            yield child
            yield from walk(child)


def exists(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def imports(path: Path) -> set[str]:
    """Dotted names below ``flywheel`` that a module imports, also within functions."""
    found = set()
    for node in walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if exists(name) else str(node.module) for name in inner}
    own = {
        name.removeprefix("flywheel").removeprefix(".") for name in found if name.split(".")[0] == "flywheel"
    }
    return {name or "__init__" for name in own}


def edges() -> list[tuple[str, str]]:
    return [(dotted(path), name) for path in modules() for name in sorted(imports(path))]


def test_every_module_has_its_layer() -> None:
    known = {name for names in LAYERS for name in names}
    assert {place(dotted(path)) for path in modules()} <= known


def test_imports_go_down_only() -> None:
    wrong = [f"{a} imports {b}" for a, b in edges() if layer(place(a)) < layer(place(b)) and b != "__init__"]
    assert wrong == []
    assert len(LAYERS) <= 10


def test_no_circles() -> None:
    """Neither among packages nor among modules: ``prepare`` raises CycleError with the names of one."""
    packages, files = TopologicalSorter[str](), TopologicalSorter[str]()
    for a, b in edges():
        if b != "__init__":  # ``import flywheel`` alone imports nothing
            files.add(a.removesuffix(".__init__"), b.removesuffix(".__init__"))
            if place(a) != place(b):
                packages.add(place(a), place(b))
    packages.prepare()
    files.prepare()


def test_rooms_are_small() -> None:
    """At the root is only what users call and what authors of recipes import."""
    sizes = Counter(path.parent.relative_to(PACKAGE) for path in modules())
    assert sizes.pop(Path()) <= 12
    sizes.pop(Path("cli/commands"))  # one file a subcommand
    assert max(sizes.values()) <= 20, sizes


def test_the_page_on_the_layout_is_of_this_code() -> None:
    """Its picture has the layers, each package has a paragraph, and every path that it names exists."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    picture = page.split("```")[1].strip().splitlines()
    assert [set(line.split("  ")[0].split()) for line in picture] == [set(names) for names in LAYERS[::-1]]
    packages = {f"flywheel/{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    paragraphs = {line for line in page.splitlines() if line.startswith("**`flywheel/")}
    assert {name for line in paragraphs for name in re.findall(r"\*\*`([^`]*)`\*\*", line)} == packages
    named = re.findall(r"`((?:flywheel|recipes|conf|docs|tests)/[^`\s]*)`", page)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_stages_do_not_import_each_other() -> None:
    """But for the parts of some: tune makes trials, which climb rungs; curate may decide in a stream."""
    parts = {
        "stages.tune": {"stages.trials", "stages.rungs"},
        "stages.curate": {"stages.stream", "stages.decisions"},
    }
    among = [(a, b) for a, b in edges() if a.startswith("stages.") and b.startswith("stages")]
    own = [names | {whole} for whole, names in parts.items()]
    wrong = [(a, b) for a, b in among if not any({a, b} <= names and b not in parts for names in own)]
    assert wrong == []


def test_only_the_runner_and_the_writer_write_the_ledger() -> None:
    """Law 2: a stage is a function from artifacts to artifacts."""
    writers = {"runtime.runner", "launch.session", "testing.contracts.bench"}
    wrong = [
        dotted(path)
        for path in modules()
        if re.search(r"\bLedger\(", path.read_text()) and not dotted(path).startswith("storage.")
    ]
    assert set(wrong) <= writers


def test_instantiate_is_called_in_one_place() -> None:
    callers = [dotted(path) for path in modules() if "instantiate(" in path.read_text()]
    assert callers == ["config.components"]


def words_of(path: Path) -> set[str]:
    """Words of names and strings of a module, its docstrings left out."""
    tree = ast.parse(path.read_text())
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            found |= set(re.findall(r"[a-z0-9]+", node.value.lower()))
        for name in (getattr(node, "id", None), getattr(node, "attr", None), getattr(node, "module", None)):
            found |= set(re.findall(r"[a-z0-9]+", str(name).lower()))
    return found


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_nothing_knows_a_recipe_by_name(path: Path) -> None:
    recipes = {folder.name for folder in (ROOT / "recipes").iterdir() if folder.is_dir()} - {"__pycache__"}
    assert recipes
    assert not recipes & words_of(path)


UNTYPED = {"Any", "Json", "dict[str, Any]", "dict[str, Json]", "Mapping[str, Any]"}
ANSWERS = (
    *("api", "lineage.", "export.", "storage.verify", "storage.pruning", "launch.reproduce"),
    *("cli.", "trackers.", "loop", "experiments."),
)


def untyped_answers(path: Path) -> Iterator[str]:
    """Public functions that return what no type describes; ``json`` is the one way from a type to JSON."""
    tree = ast.parse(path.read_text())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    for node in [*tree.body, *(inner for one in classes for inner in one.body)]:
        if isinstance(node, ast.FunctionDef) and node.returns and not node.name.startswith("_"):
            kind = ast.unparse(node.returns).removesuffix(" | None")
            if kind.removeprefix("list[").removesuffix("]") in UNTYPED or kind in UNTYPED:
                yield f"{dotted(path)}:{node.lineno} {node.name}() -> {kind}"


def test_questions_are_answered_with_types() -> None:
    paths = [path for path in modules() if dotted(path).startswith(ANSWERS)]
    assert [name for path in paths for name in untyped_answers(path) if " json()" not in name] == []


@pytest.mark.parametrize("module", ["records", "protocols"])
def test_records_of_the_seams_are_of_one_kind(module: str) -> None:
    """So that one ``replace`` copies them all."""
    assert "@dataclass" not in (PACKAGE / f"{module}.py").read_text()


def test_importing_the_package_imports_nothing_heavy(python_env: dict[str, str]) -> None:
    program = "import sys, flywheel; print([m for m in sys.modules if m.startswith('flywheel')])"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=python_env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['flywheel']"
