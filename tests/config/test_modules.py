from __future__ import annotations

import hashlib
import importlib
import re
import sys
from pathlib import Path

import pytest

from flywheel.config import modules
from flywheel.config.modules import Code, defined_in, note_imports


def write(folder: Path, **sources: str) -> None:
    for name, text in sources.items():
        path = folder / (re.sub("_in_", "/", name).replace("/init", "/__init__") + ".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    importlib.invalidate_caches()


def imported(name: str) -> object:
    module = importlib.import_module(name)
    note_imports()
    return module


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


METHOD = "class G:\n    @staticmethod\n    def grade(x):\n        return x > 1\n"
GRADER = "def grade(x):\n    return x > 1\n"


def test_what_it_imports_is_there_however_deep_and_wherever_it_says_so(module_dir: Path) -> None:
    write(
        module_dir,
        top_b="import deep_b.inner as x\n\ndef f():\n    from late_b import (\n        one,  # two\n    )\n",
        deep_b_in_init="from . import beside\nunused_name = 1\n",
        deep_b_in_inner="from .beside import y\nfrom deep_b import unused_name\n",
        deep_b_in_beside="y = 1\n",
        deep_b_in_other="",
        late_b="import numpy, os\none = 1\n",
    )
    imported("top_b")
    assert "late_b" not in sys.modules
    code = Code.of(["top_b"])
    assert set(code.modules) == {"top_b", "deep_b", "deep_b.inner", "deep_b.beside", "late_b"}
    assert None not in {source.sha256 for source in code.modules.values()}


def test_of_frameworks_the_version_counts_and_no_module_is_kept() -> None:
    import torch

    code = Code.of(["torch.nn.modules.linear", "decimal"])
    assert code.modules == {}
    versions = code.versions(["torch.nn.modules.linear", "decimal"])
    assert versions["torch.nn.modules.linear"].startswith("torch 2")
    assert versions["decimal"].startswith("python 3")
    assert defined_in(torch.nn.Embedding.from_pretrained) >= {"torch.nn.modules.sparse"}


def test_an_installed_part_is_kept_with_its_package_and_nothing_else_that_is_installed(
    module_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grader = "import big\nfrom lab import helper\n"
    write(module_dir, lab_in_init="", lab_in_grader=grader, lab_in_helper="", big="")
    monkeypatch.setattr(modules, "_installed", lambda: (f"{module_dir}/",))
    imported("lab.grader")
    assert set(Code.of(["lab.grader"]).modules) == {"lab", "lab.grader", "lab.helper"}


@pytest.mark.parametrize("asks_package", [False, True])
def test_of_a_package_that_re_exports_only_what_a_part_imports_is_kept(
    asks_package: bool, module_dir: Path
) -> None:
    write(
        module_dir,
        shop_in_init="from shop.grader import Grader\nfrom shop.sibling import Sibling\n",
        shop_in_grader="from shop import helper\nfrom .deep import level\nclass Grader: ...\n",
        shop_in_helper="",
        shop_in_deep="def level():\n    from shop import " + ("Sibling\n" if asks_package else "helper\n"),
        shop_in_sibling="class Sibling: ...\n",
    )
    imported("shop.grader")
    expected = {"shop", "shop.grader", "shop.helper", "shop.deep", *(["shop.sibling"] * asks_package)}
    code = Code.of(["shop.grader"])
    assert set(code.modules) == set(code.versions(["shop.grader"])) == expected
    assert set(Code.of(["shop"]).modules) >= {"shop.sibling"}


def test_every_module_of_flywheel_has_a_hash() -> None:
    own = Code.of([]).json()
    root = Path(modules.__file__).resolve().parents[1]
    assert own["flywheel.loop"] == {"sha256": sha256((root / "loop.py").read_text())}
    assert own["flywheel"] == {"sha256": sha256((root / "__init__.py").read_text())}


def test_an_edit_after_the_import_changes_nothing(module_dir: Path) -> None:
    write(module_dir, grader_c=GRADER)
    imported("grader_c")
    write(module_dir, grader_c=GRADER.replace("1", "2"))
    code = Code.of(["grader_c"])
    assert code.json()["grader_c"] == {"sha256": sha256(GRADER), "text": GRADER}
    assert code.versions(["grader_c"]) == {"grader_c": sha256(GRADER)}


def test_what_is_imported_anew_is_read_anew(module_dir: Path) -> None:
    write(module_dir, grader_d=GRADER)
    module = imported("grader_d")
    other = GRADER.replace("> 1", ">= 2")  # another size: Python's own cache goes by that and the second
    write(module_dir, grader_d=other)
    importlib.reload(module)  # type: ignore[arg-type]
    assert Code.of(["grader_d"]).versions(["grader_d"]) == {"grader_d": sha256(other)}


def test_an_edit_between_the_import_and_the_first_look_is_found(module_dir: Path) -> None:
    """As in a notebook, which imports its parts long before it runs anything."""
    write(module_dir, grader_e=GRADER, grader_f=METHOD)
    for name in ("grader_e", "grader_f"):
        sys.modules.pop(name, None)
        importlib.import_module(name)
        path = module_dir / f"{name}.py"
        path.write_text(path.read_text().replace("1", "2"))
    code = Code.of(["grader_e", "grader_f"])
    assert {source.sha256 for source in code.modules.values()} == {None}
    assert code.json()["grader_e"] == {"sha256": None, "text": None}


def test_functions_that_ran_hot_still_are_those_of_the_file(module_dir: Path) -> None:
    text = (
        "def f(n):\n    s = 0.0\n    for i in range(n):\n"
        "        s += i * 2 if i in {1, 2} else (lambda: i)()\n    return s\n"
    )
    write(module_dir, hot=text)
    module = importlib.import_module("hot")
    for _ in range(300):
        module.f(50)
    assert Code.of(["hot"]).versions(["hot"]) == {"hot": sha256(text)}


def test_what_is_imported_later_and_was_edited_before_is_not_known(module_dir: Path) -> None:
    write(module_dir, outer="def f():\n    import lazy\n    return lazy.grade(1)\n", lazy=GRADER)
    module = imported("outer")
    code = Code.of(["outer"])
    assert code.versions(["outer"])["lazy"] == sha256(GRADER)
    write(module_dir, lazy=GRADER.replace("1", "2"))
    module.f()  # type: ignore[attr-defined]
    assert code.versions(["outer"])["lazy"] is None


def test_what_was_typed_in_or_not_named_at_the_start_is_not_known(module_dir: Path) -> None:
    write(module_dir, grader_g=GRADER)
    assert Code.of(["__nowhere__"]).versions(["__nowhere__"]) == {"__nowhere__": None}
    assert Code.of([]).versions(["grader_g"]) == {"grader_g": None}


def test_what_loads_lazily_is_not_loaded(module_dir: Path) -> None:
    """As modules of wandb do, whose import of tensorflow fails; other objects raise what they like."""
    lazy = (
        "import types\n\nclass Lazy(types.ModuleType):\n    def __getattr__(self, name):\n"
        "        raise ModuleNotFoundError(name)\n\nclass Odd:\n    def __getattr__(self, name):\n"
        "        raise KeyError(name)\n\nkeras, config = Lazy('keras'), Odd()\n"
    )
    write(module_dir, lazy_parts=lazy + METHOD)
    imported("lazy_parts")
    assert Code.of(["lazy_parts"]).json()["lazy_parts"]["sha256"] == sha256(lazy + METHOD)
