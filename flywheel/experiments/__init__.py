"""Many runs, one answer: what the loop is worth, how likely it sees a gain, if its gate keeps its promise."""

from flywheel.experiments.controls import ArmRun, Contribution, Controls, Experiment
from flywheel.experiments.power import Case, Power, Simulated, power_of_recipe
from flywheel.experiments.report import Report, Summary, report_of_run, summary_of_run
from flywheel.experiments.self_check import LookCheck, SelfCheck, check_run

__all__ = [
    "ArmRun",
    "Case",
    "Contribution",
    "Controls",
    "Experiment",
    "LookCheck",
    "Power",
    "Report",
    "SelfCheck",
    "Simulated",
    "Summary",
    "check_run",
    "power_of_recipe",
    "report_of_run",
    "summary_of_run",
]
