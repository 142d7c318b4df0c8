from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from flywheel.config.components import Components
from flywheel.config.fingerprint import fingerprint

CODE = """
class Base:
    limit = {limit}

class Grader(Base):
    def __init__(self, threshold=0.5, inner=None):
        pass
"""


def components(target: str, **arguments: object) -> Components:
    grader = {"_target_": target, **arguments}
    return Components(OmegaConf.create({"settings": {"t": 0.5}, "grader": grader}))


CONFIDENCE = "flywheel.graders.confidence.Confidence"


def test_it_follows_arguments_and_settings() -> None:
    plain = fingerprint(components(CONFIDENCE), "grader", {"t": 0.5})
    assert plain == fingerprint(components(CONFIDENCE), "grader", {"t": 0.7})
    assert plain != fingerprint(components(CONFIDENCE, threshold=0.5), "grader", {"t": 0.5})
    tuned = components(CONFIDENCE, threshold="${settings.t}")
    assert fingerprint(tuned, "grader", {"t": 0.5}) != fingerprint(tuned, "grader", {"t": 0.7})


def test_it_follows_the_source_of_bases_and_of_what_is_inside(module_dir: Path) -> None:
    for name, limit in (("graders_a", 1), ("graders_b", 2)):
        (module_dir / f"{name}.py").write_text(CODE.format(limit=limit))
    inner = [{"_target_": f"{name}.Grader", "threshold": 1} for name in ("graders_a", "graders_b")]
    one, two = (fingerprint(components(CONFIDENCE, inner=node), "grader", {}) for node in inner)
    assert one != two


def test_it_is_none_where_nobody_knows_what_was_imported(module_dir: Path) -> None:
    path = module_dir / "graders_d.py"
    path.write_text("class Grader:\n    def grade(self):\n        return 1\n")
    importlib.import_module("graders_d")
    path.write_text(path.read_text().replace("1", "2"))
    assert fingerprint(components("graders_d.Grader"), "grader", {}) is None


def test_it_is_that_of_a_class_however_it_is_named() -> None:
    """Not of its neighbours, which the package's own __init__ imports for whoever asks it."""
    versions = []
    for target in ("flywheel.graders.Confidence", CONFIDENCE):
        graded = components(target)
        listed = graded.code.versions(graded.modules({"grader": graded.section("grader", {})}))
        versions.append(listed)
        ours = {name for name in listed if name.startswith("flywheel")}
        assert ours == {"flywheel.graders", "flywheel.graders.confidence"}
    assert versions[0] == versions[1]


def test_the_value_of_a_credential_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    graded = components(CONFIDENCE, inner={"token": "${oc.env:MY_TOKEN}"})
    versions = set()
    for value in ("one", "two"):
        monkeypatch.setenv("MY_TOKEN", value)
        versions.add(fingerprint(graded, "grader", {}))
    assert len(versions) == 1


def test_a_class_without_source_has_one_too() -> None:
    assert len(fingerprint(components("decimal.Decimal"), "grader", {})) == 64


def test_a_run_records_which_grader_and_whether_it_borrowed_the_model(finished_run: Path) -> None:
    from flywheel.lineage.record import Record

    graded = Record.read(finished_run).generation(1).grade.facts
    assert graded.grader == "Confidence"
    assert len(graded.version) == 64
    assert graded.loaded_parent is None
