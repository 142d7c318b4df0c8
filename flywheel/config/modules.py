"""The source of the modules that a session's parts come from, as it was when they were imported.

With its text, each module in which a class that the configuration names, or one of its bases, is defined;
and what such a module imports, also within functions, and what that imports: as far as it is not installed,
or lies in the same package as the module that imports it. Of the packages around these, the ``__init__``
itself; what it imports only if it is asked: in ``from a import b``, b is a module or else something of a's.
By its hash alone, each module of flywheel.

The standard library and ``FRAMEWORKS`` are left out: the list of installed distributions tells which they
are. What is imported by a name that is computed is not seen.

A file is read when its module is first seen to be imported, and once: a later edit changes nothing that ran.
Whether it was edited before that, e.g. in a notebook, is asked of the functions that are in memory: if the
text does not compile to them, the source is not known. An edit outside of functions cannot be seen so.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from itertools import accumulate
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

FRAMEWORKS = frozenset(
    {"torch", "lightning", "lightning_utilities", "pytorch_lightning", "torchmetrics", "numpy", "pyarrow"}
)
"""Packages that are identified by their versions: none of their modules is recorded."""
_OURS = str(Path(__file__).resolve().parents[1])
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(\.*[\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n;]+)|import[ \t]+([^\n;]+))",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Source:
    """A module's source."""

    sha256: str | None
    """SHA-256 of its file; None: what was imported is not known."""
    text: str | None = None
    """None: it is written in C, or its source is not known."""
    imports: frozenset[str] = frozenset()
    """Modules it imports that are recorded, too."""


_UNKNOWN = Source(None)


@dataclass(frozen=True, slots=True)
class Code:
    """The modules of a session, read once."""

    modules: Mapping[str, Source]
    own: Mapping[str, str]
    """SHA-256 of every module of flywheel, those that are not imported included."""
    _later: frozenset[str] = field(default=frozenset())
    """Modules that were not imported when they were read."""

    @classmethod
    def of(cls, roots: Iterable[str]) -> Code:
        """The code behind modules in which named classes are defined; see the top of this file."""
        recorded = (name for name in roots if not _is_framework(name))
        return cls.exactly(_reached(recorded, lambda name: _source(name).imports))

    @classmethod
    def exactly(cls, names: Iterable[str]) -> Code:
        """The code of these modules, and of none besides that they import."""
        modules = {name: _source(name) for name in names}
        return cls(modules, _own_hashes(), frozenset(modules.keys() - sys.modules.keys()))

    def json(self) -> dict[str, dict[str, str | None]]:
        """{module: its ``sha256`` and, if it is kept, ``text``}; None: not known."""
        code: dict[str, dict[str, str | None]] = {name: {"sha256": own} for name, own in self.own.items()}
        return code | {name: {"sha256": s.sha256, "text": s.text} for name, s in self.modules.items()}

    def versions(self, roots: Iterable[str]) -> dict[str, str | None]:
        """{module: SHA-256} of these modules and all that they import; of a framework's, its version.

        None: what ran is not known.
        """
        named = _reached(roots, lambda name: self.modules.get(name, _UNKNOWN).imports)
        return {name: self._version(name) for name in named}

    def _version(self, name: str) -> str | None:
        source = self.modules.get(name)
        if source is None:
            return _release(name) if _is_framework(name) else None
        module = sys.modules.get(name) if name in self._later else None  # imported since: perhaps another one
        is_known = module is None or source.text is None or _is_what_runs(module, source.text.encode())
        return source.sha256 if is_known else None


def _reached(roots: Iterable[str], imports: Callable[[str], Iterable[str]]) -> set[str]:
    """These modules, what they import, and what that imports; and the packages around all of them."""
    reached: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += imports(name)
    return reached.union(*map(_packages, reached))


def defined_in(target: Any) -> set[str]:
    """Names of the modules in which a class and its bases, or a function, are defined."""
    owner = getattr(target, "__self__", None)
    parts = getattr(owner if isinstance(owner, type) else target, "__mro__", (target,))
    return {part.__module__ for part in parts if getattr(part, "__module__", None)}


_known: set[str] = set()
_read: dict[str, tuple[ModuleSpec | None, bytes | None]] = {}


def note_imports() -> None:
    """Read the files of what was imported since the last call and is not installed."""
    for name in sys.modules.keys() - _known:
        _known.add(name)
        if not _is_framework(name) and not _is_installed(_file(name)):
            _data(name)


def _data(name: str) -> bytes | None:
    """What is in a module's file, read once for each time that it is imported; None if it cannot be."""
    spec = _spec(name)
    if name in sys.modules and name in _read and _read[name][0] is spec:
        return _read[name][1]
    path = _file(name)
    data = None
    if path:
        with contextlib.suppress(OSError):
            data = Path(path).read_bytes()
    if name in sys.modules:
        _read[name] = (spec, data)
    return data


def _source(name: str) -> Source:
    path, data, module = _file(name), _data(name), sys.modules.get(name)
    if data is None:
        return _UNKNOWN
    sha256 = hashlib.sha256(data).hexdigest()
    if not str(path).endswith(".py"):
        return Source(sha256)
    text = data.decode("utf-8", "replace")
    if module is not None and not _is_what_runs(module, data):
        return Source(None, None, _imports(text, name))
    return Source(sha256, text, _imports(text, name))


def _is_what_runs(module: ModuleType, data: bytes) -> bool:
    """Whether the functions of a module are among those that this source compiles to."""
    compiled = getattr(module.__loader__, "source_to_code", None)  # as the loader does it, whatever it adds
    path = getattr(module, "__file__", None)
    if compiled is None or path is None:
        return True
    try:
        code = compiled(data, path)
    except (SyntaxError, ValueError):
        return False
    known = set(_inner(code))
    return all(code in known for code in _functions(module) if code.co_filename == path)


def _inner(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _inner(constant)


def _functions(module: ModuleType) -> Iterator[CodeType]:
    """Code of the functions of a module, and of the methods of its classes."""
    for value in list(vars(module).values()):
        if isinstance(value, type) and value.__module__ == module.__name__:
            yield from (code for inner in list(vars(value).values()) for code in _codes(inner))
        else:
            yield from _codes(value)


def _codes(value: Any) -> Iterator[CodeType]:
    parts = [value.fget, value.fset] if isinstance(value, property) else [value]
    for part in parts:
        function: Any = part.__func__ if isinstance(part, (classmethod, staticmethod, MethodType)) else part
        is_plain = isinstance(function, FunctionType)
        # Other objects are not asked: a module that loads lazily, as wandb has them, would be imported.
        code: Any = function.__code__ if is_plain else inspect.getattr_static(function, "__code__", None)
        if isinstance(code, CodeType):
            yield code


def _imports(text: str, name: str) -> frozenset[str]:
    """Modules that a source imports and that are recorded with it."""
    named = filter(_is_dotted, _named(text, _package(name)))  # a docstring may begin a line with "import"
    return frozenset(other for other in named if other != name and _belongs(other, name))


def _named(text: str, package: str) -> Iterator[str]:
    """Of ``import a.b as c`` ``a.b``, of ``import a.b`` ``a``, too; of ``from a import b`` ``a.b`` or ``a``.

    The latter if b is no module: then the file of a says what it is.
    """
    for base, names, plain in _IMPORT.findall(text):
        parts = re.sub(r"#.*", "", plain or names).strip("() \t\\").split(",")
        for imported, *alias in filter(None, map(str.split, parts)):
            if plain:
                yield from [imported] if alias else accumulate(imported.split("."), "{}.{}".format)
                continue
            try:
                above = importlib.util.resolve_name(base, package) if base.startswith(".") else base
            except ImportError:
                continue
            inner = f"{above}.{imported}"
            yield inner if _is_dotted(inner) and _file(inner) else above


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _packages(name: str) -> Iterator[str]:
    """``a`` and ``a.b`` around ``a.b.c``: to import a module is to import its packages."""
    around = accumulate(name.split(".")[:-1], "{}.{}".format)
    return (package for package in around if _belongs(package, name))


def _belongs(name: str, importer: str) -> bool:
    """Whether a module is recorded because another one imports it."""
    if _is_framework(name):
        return False
    path, package = _file(name), _package(importer)
    is_beside = package in (name, name.rpartition(".")[0]) and package != "flywheel"
    return path is not None and (is_beside or not _is_installed(path))


def _package(name: str) -> str:
    """The package that a module lies in; a package lies in itself."""
    spec = _spec(name)
    is_package = spec is not None and spec.submodule_search_locations is not None
    return name if is_package else name.rpartition(".")[0]


def _spec(name: str) -> ModuleSpec | None:
    """How a module was, or would be, found; nothing is imported to say so."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    above = name.rpartition(".")[0]
    parent = _spec(above) if above else None
    if above and (parent is None or parent.submodule_search_locations is None):
        return None
    try:
        return PathFinder.find_spec(name, parent.submodule_search_locations if parent else None)
    except KeyError:  # below a folder without __init__.py whose parent is not imported
        return None


def is_there(name: str) -> bool:
    """Whether a module is imported, or could be; it is not imported to say so."""
    return name in sys.modules or _spec(name) is not None


def _file(name: str) -> str | None:
    spec = _spec(name)
    if spec is not None and spec.has_location:
        return spec.origin
    return getattr(sys.modules.get(name), "__file__", None)  # e.g. a script


def _is_framework(name: str) -> bool:
    top = name.partition(".")[0]
    return top in sys.stdlib_module_names or top in FRAMEWORKS


def _is_installed(path: str | None) -> bool:
    return path is None or path.startswith(_installed())


@cache
def _installed() -> tuple[str, ...]:
    """Folders of the standard library, of installed packages, and of flywheel itself."""
    import site
    import sysconfig

    keys = ("stdlib", "platstdlib", "purelib", "platlib")
    places = [*(sysconfig.get_path(key) for key in keys), *site.getsitepackages(), site.getusersitepackages()]
    places.append(_OURS)
    return tuple({os.path.join(place, "") for path in places for place in (path, os.path.realpath(path))})


def _release(name: str) -> str:
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return f"python {sys.version.partition(' ')[0]}"
    return " ".join(filter(None, (top, version_of(top))))


def version_of(package: str) -> str | None:
    """Version of a distribution; None if it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _own_hashes() -> dict[str, str]:
    hashes = {}
    for path in sorted(Path(_OURS).rglob("*.py")):
        parts = path.relative_to(_OURS).with_suffix("").parts
        name = ".".join(("flywheel", *(parts[:-1] if parts[-1] == "__init__" else parts)))
        hashes[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return hashes
