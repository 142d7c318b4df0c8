"""Text of a recipe is shown as it was written, whatever it looks like to a terminal library."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest
from msgspec.structs import replace

import flywheel
from flywheel.cli.main import main
from flywheel.metrics import Mean
from flywheel.records import Suite
from flywheel.testing import CONFIG_DIR
from flywheel.testing.moons.task import Moons
from flywheel.trackers.event_text import ending_text
from flywheel.trackers.terminal import LiveView, Turns

ODD = ["[INST] add [/INST]", "x[i] = [red] y", "[/]", ":smile: [link=x]", "math[/easy]", "\x1b[2Jgone"]


@dataclass(kw_only=True)
class Odd(Moons):
    """Prompts, suite and metric have an odd name; generation 2 fails with it."""

    text: str = ""

    def prompts(self, generation: int, carry: Any, key: Any) -> pa.Table:
        table = super().prompts(generation, carry, key)
        odd = [f"{self.text} {prompt}" for prompt in table["prompt"].to_pylist()]
        if generation == 2:
            raise ValueError(self.text)
        return table.set_column(0, "prompt", pa.array(odd))

    def suites(self) -> list[Suite]:
        metrics = (Mean(self.text),)
        return [replace(s, name=f"{s.name}{self.text}", metrics=metrics) for s in super().suites()]


@pytest.fixture(scope="module", params=ODD)
def odd_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """(the text as it is to be shown, directory) of a run that failed in its second turn."""
    config = {"recipe": "moons", "generations": 2, "threads": 1, "log": "quiet", "debug": "none"}
    task = {"task._target_": f"{__name__}.Odd", "+task.text": request.param, "task.unlabelled": 20}
    runs = str(tmp_path_factory.mktemp("runs"))
    run = flywheel.run({**config, **task, "settings.steps": 2, "runs_dir": runs}, config_dir=CONFIG_DIR)
    assert run.exit_code == 1
    return request.param.replace("\x1b", "\N{REPLACEMENT CHARACTER}"), str(run.path)


def shows(out: str, text: str) -> bool:
    """Whether all words of a text are there; tables break lines between them."""
    return all(word in out for word in text.split())


@pytest.mark.parametrize(
    "words", [("status",), ("lineage",), ("samples", "1"), ("show", "1"), ("trace", "--generation", "1")]
)
def test_commands_show_text_as_it_is(
    words: tuple[str, ...], odd_run: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    text, directory = odd_run
    assert main([words[0], directory, *words[1:]]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    if words[0] != "trace":
        assert shows(out, text)


def test_errors_have_no_power_over_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["status", "[/]\x1b[2J"], ["recipe=\x1b[2J"], ["--config-dir", "\x1b[2J", "recipe=x"]):
        assert main(words) == 2
        err = capsys.readouterr().err
        assert "\x1b" not in err
        assert "[2J" in err


def test_live_and_plain_views_show_text_as_it_is(
    odd_run: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    from flywheel.records import Progress
    from flywheel.storage.ledger import read
    from flywheel.storage.state import RunState
    from flywheel.trackers.console import plain_console
    from flywheel.trackers.terminal import PlainLines

    text, directory = odd_run
    for view in (PlainLines(Turns(2)), LiveView(plain_console(), Turns(2))):
        state = RunState()
        for event in read(flywheel.open_run(directory).path):
            state.apply(event)
            view.event(event, state)
            view.progress(Progress(1, "evaluate", 1, 2, "[/]"))
        if isinstance(view, LiveView):
            plain_console().print(view._render())
        view.close()
        out = capsys.readouterr().out
        assert shows(out, text)
        assert "\x1b[2J" not in out


def test_a_champion_stays_only_where_there_is_one(odd_run: tuple[str, str]) -> None:
    from flywheel.lineage.status import read_state
    from flywheel.storage.events import RunEnded
    from flywheel.storage.state import RunState

    failed = RunEnded(event="run_failed", reason="why")
    assert "The champion stays" in ending_text(failed, read_state(flywheel.open_run(odd_run[1]).path))
    assert "champion" not in ending_text(failed, RunState())
