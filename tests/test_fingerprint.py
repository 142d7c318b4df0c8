from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

from flywheel.components import Components
from flywheel.fingerprint import fingerprint

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


def test_it_follows_arguments_and_settings() -> None:
    target = "flywheel.graders.confidence.Confidence"
    plain = fingerprint(components(target), "grader", {"t": 0.5})
    assert plain == fingerprint(components(target), "grader", {"t": 0.7})
    assert plain != fingerprint(components(target, threshold=0.5), "grader", {"t": 0.5})
    tuned = components(target, threshold="${settings.t}")
    assert fingerprint(tuned, "grader", {"t": 0.5}) != fingerprint(tuned, "grader", {"t": 0.7})


def test_it_follows_the_source_of_bases_and_of_what_is_inside(module_dir: Path) -> None:
    for name, limit in (("graders_a", 1), ("graders_b", 2)):
        (module_dir / f"{name}.py").write_text(CODE.format(limit=limit))
    nested = [
        fingerprint(
            components(
                "flywheel.graders.confidence.Confidence", inner={"_target_": f"{name}.Grader", "threshold": 1}
            ),
            "grader",
            {},
        )
        for name in ("graders_a", "graders_b")
    ]
    assert nested[0] != nested[1]


def test_a_class_without_source_has_one_too() -> None:
    assert len(fingerprint(components("decimal.Decimal"), "grader", {})) == 64


def test_a_run_records_which_grader_and_whether_it_borrowed_the_model(finished_run: Path) -> None:
    from flywheel.questions.record import Record

    graded = Record.read(finished_run).generation(1).stages["grade"]["facts"]
    assert graded["grader"] == "Confidence"
    assert len(graded["version"]) == 64
    assert graded["lent"] is None
