from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from flywheel.runtime import checkout as module
from flywheel.runtime.checkout import checkout


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


def test_a_clean_checkout_has_a_commit_and_nothing_else(tree: Path) -> None:
    found = checkout(tree / "inner")
    assert found is not None
    assert found.top == tree.resolve()
    assert found.commit == git(tree, "rev-parse", "HEAD").strip()
    assert found.json()["dirty"] is False
    assert found.kept_diff is None


def test_the_diff_brings_the_commit_to_what_ran(tree: Path) -> None:
    (tree / "inner" / "a.py").write_text("two\n")
    (tree / "b.bin").write_bytes(bytes(range(256)))
    git(tree, "add", "b.bin")
    (tree / "new file.py").write_text("new")
    (tree / "ignored").write_text("")
    found = checkout(tree)
    assert found is not None
    assert found.untracked == ("new file.py",)
    git(tree, "reset", "-q", "--hard")
    git(tree, "apply", input=found.kept_diff)
    assert (tree / "inner" / "a.py").read_text() == "two\n"
    assert (tree / "b.bin").read_bytes() == bytes(range(256))


def test_looking_does_not_touch_the_checkout(tree: Path) -> None:
    (tree / "inner" / "a.py").write_text("two\n")
    before = (tree / ".git" / "index").read_bytes()
    checkout(tree)
    assert (tree / ".git" / "index").read_bytes() == before


def test_a_diff_that_is_too_large_is_counted_not_kept(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DIFF_BYTES", 10)
    (tree / "inner" / "a.py").write_text("two\n")
    found = checkout(tree)
    assert found is not None
    assert found.kept_diff is None
    assert found.json()["diff_bytes"] > 10


def test_outside_a_checkout_and_without_a_commit(tmp_path: Path) -> None:
    assert checkout(tmp_path) is None
    assert checkout(tmp_path / "absent") is None
    git(tmp_path, "init", "-q")
    found = checkout(tmp_path)
    assert found is not None
    assert (found.commit, found.diff) == (None, b"")
