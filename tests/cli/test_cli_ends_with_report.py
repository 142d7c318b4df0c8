"""A run ends by naming its report."""

from __future__ import annotations

import pytest

from tests.support.harness import MOONS


def test_a_run_ends_by_naming_its_report(cli, folder):
    pytest.importorskip("altair")
    done = cli(*MOONS, "log=plain", "generations=1", "name=run", env={"FLYWHEEL_REPORT": ""})
    report = folder / "runs" / "moons" / "run" / "report.html"
    assert done.code == 0, done.err
    assert f"\nreport    {report.relative_to(folder)}\n" in done.out
    assert "moons" in report.read_text()
    assert "report  " not in cli(*MOONS, "log=plain", "generations=1", "name=other").out
