"""A run whose data were mended after a crash goes on without another name, and loses nothing."""

from __future__ import annotations

import functools
import os
from typing import Any

import pyarrow as pa
import pytest

import flywheel
from flywheel.errors import ExitCode, IdentityError
from flywheel.testing.moons.task import Moons
from tests.support.loop_runs import SMALL, run_moons, statuses


class Changing(Moons):
    """Human samples and crashes as the environment says."""

    def seed(self) -> pa.Table:
        rows = super().seed()
        return rows.slice(int(os.environ.get("SKIPPED", "0")))

    def data(self, corpus: pa.Table, settings: Any) -> Any:
        if os.environ.get("CRASH"):
            raise ValueError("a broken row")
        return super().data(corpus, settings)


@pytest.fixture
def run(tmp_path):
    return functools.partial(run_moons, tmp_path, task___target_=f"{__name__}.Changing")


def test_where_no_generation_ended_well_the_run_begins_anew_and_keeps_the_old_one(
    run, tmp_path, monkeypatch, capsys
):
    for tries, skipped in enumerate(("0", "1", "2")):
        monkeypatch.setenv("SKIPPED", skipped)
        monkeypatch.setenv("CRASH", "yes")
        assert run(**SMALL).exit_code is ExitCode.FAILED
        assert len(list(tmp_path.glob("moons/*"))) == tries + 1
    assert "the run begins anew" in capsys.readouterr().out
    monkeypatch.delenv("CRASH")
    mended = run(**SMALL)
    assert mended.exit_code is ExitCode.FINISHED
    assert statuses(mended) == ["failed", "promoted"]
    kept = [path for path in tmp_path.glob("moons/*") if path != mended.path]
    assert len(kept) == 2
    assert all(flywheel.open_run(path).verify().first_bad is None for path in kept)


def test_where_one_ended_well_a_name_that_works_is_suggested(run, monkeypatch):
    name = run(**SMALL).path.name
    monkeypatch.setenv("SKIPPED", "1")
    with pytest.raises(IdentityError, match=f"Give name={name}-2 to start a new run"):
        run(**SMALL | {"generations": 1})
    assert run(**SMALL, name=f"{name}-2").exit_code is ExitCode.FINISHED
    monkeypatch.setenv("SKIPPED", "2")
    with pytest.raises(IdentityError, match=f"Give name={name}-3 to"):
        run(**SMALL | {"generations": 1})
