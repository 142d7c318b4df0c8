"""What the README tells people to type is accepted by the program as it is."""

import re
import shlex
from pathlib import Path

import pytest

from flywheel.cli import commands
from flywheel.cli.commands import NAMES, SUBCOMMANDS
from flywheel.config.components import check_components
from flywheel.config.compose import compose

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
COMMANDS = sorted(
    {
        line.split("#")[0].strip()
        for line in TEXT.splitlines()
        if " -m flywheel " in line and not {"RUN", "|", *NAMES} & set(line.split())
    }
)
BUILT_IN = ("recipe=addition", "recipe=mnist")


def overrides(command):
    words = shlex.split(command.split("-m flywheel ")[1])
    return [word for word in words if re.match(r"[\w.]+=", word)]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_composes(command):
    values = [word.split(",")[0] for word in overrides(command)]
    assert values[0] in BUILT_IN
    check_components(compose(values))


def test_readme_lists_the_subcommands_as_help_does():
    usages = [one.usage.replace("|", r"\|") for one in SUBCOMMANDS]
    rows = [f"| `{usage}` | {one.answers} |" for usage, one in zip(usages, SUBCOMMANDS, strict=True)]
    assert "\n".join(["| subcommand | answers |", "| --- | --- |", *rows, ""]) in TEXT


def test_every_subcommand_has_its_module():
    modules = {path.stem.replace("_", "-") for path in Path(commands.__file__).parent.glob("[a-z]*.py")}
    assert modules == {subcommand.name for subcommand in SUBCOMMANDS}


def test_the_quick_start_is_what_ci_runs():
    ran = (ROOT / ".ci" / "run").read_text().splitlines()
    commands = ["scripts/install", "scripts/check", "python -m flywheel recipe=addition", "scripts/test"]
    assert [line.partition(" runs_dir=")[0] for line in ran[-4:]] == commands
    for command in (f"{commands[0]} && {commands[2]} ", f"\n{commands[3]} "):
        assert command in TEXT


def test_no_placeholder_is_left():
    assert not re.findall(r"^(?:QUICK|MEASURED|OTHER|OVERHEAD)\w*", TEXT, re.MULTILINE)
