from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from flywheel.runtime import checkout as module
from flywheel.runtime.checkout import Checkout, checkout


def git(folder: Path, *words: str, **options: object) -> str:
    name = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main")
    done = subprocess.run(
        ["git", "-C", str(folder), *name, *words], check=True, capture_output=True, **options
    )
    return done.stdout.decode()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    (folder / "inner").mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "inner" / "a.py").write_text("one\n")
    (folder / ".gitignore").write_text("ignored\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


def look(folder: Path) -> Checkout:
    tree = checkout(folder)
    assert tree is not None
    return tree


def test_a_clean_checkout_has_a_commit_and_nothing_else(tree: Path) -> None:
    clean = look(tree / "inner")
    assert (clean.top, clean.commit) == (tree.resolve(), git(tree, "rev-parse", "HEAD").strip())
    assert (clean.json()["dirty"], clean.kept_diff) == (False, None)


def test_the_diff_brings_the_commit_to_what_ran_and_looking_touches_nothing(tree: Path) -> None:
    (tree / "inner" / "a.py").write_text("two\n")
    (tree / "b.bin").write_bytes(bytes(range(256)))
    git(tree, "add", "b.bin")
    (tree / "new file.py").write_text("new")
    (tree / "ignored").write_text("")
    index = (tree / ".git" / "index").read_bytes()
    changed = look(tree)
    assert changed.untracked == ("new file.py",)
    assert (tree / ".git" / "index").read_bytes() == index
    git(tree, "reset", "-q", "--hard")
    git(tree, "apply", input=changed.kept_diff)
    assert (tree / "inner" / "a.py").read_text() == "two\n"
    assert (tree / "b.bin").read_bytes() == bytes(range(256))


def test_a_diff_that_is_too_large_is_counted_not_kept(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DIFF_BYTES", 10)
    (tree / "inner" / "a.py").write_text("two\n")
    assert look(tree).kept_diff is None
    assert look(tree).json()["diff_bytes"] > 10


def test_outside_a_checkout_and_without_a_commit(tmp_path: Path) -> None:
    assert checkout(tmp_path) is checkout(tmp_path / "absent") is None
    git(tmp_path, "init", "-q")
    assert (look(tmp_path).commit, look(tmp_path).diff) == (None, b"")
