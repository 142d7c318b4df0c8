"""The tutorial does what it says: its files and its commands, as they stand in the text."""

import re
from pathlib import Path

import pytest

from tests.support.harness import shared_fork_server

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = (DOCS / "your-own-model.md").read_text()
FILES = dict(re.findall(r"`([\w/.]+)`\n\n```(?:python|yaml)\n(.*?)```", TEXT, re.DOTALL))
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", TEXT, re.DOTALL)
COMMANDS, *OUTPUTS = [text for language, text in BLOCKS if not language]


def shape(line: str) -> str:
    """A line without its numbers, its verdicts and its champion, which differ between CPU types."""
    words = re.sub(r"[0-9a-f]{8,}|[-+]?[\d.]+(e-\d+)?", "#", line.replace("promoted", "rejected"))
    return re.sub(r"[\s*]+", " ", words).strip()


def test_all_code_is_in_files_that_are_written() -> None:
    assert len(FILES) == sum(bool(language) for language, _ in BLOCKS) == 4


def test_at_most_60_lines_of_python_and_yaml() -> None:
    assert sum(bool(line.strip()) for text in FILES.values() for line in text.splitlines()) <= 60


def test_the_model_knows_nothing_of_flywheel() -> None:
    assert "flywheel" not in FILES["net.py"]


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the commands print, one after the other, in a folder with the files."""
    pytest.importorskip("river", reason='pip install -e ".[dev]" brings it')
    folder, said = tmp_path_factory.mktemp("tutorial"), []
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for line in COMMANDS.splitlines():
        words = line.split("#")[0].split()
        assert words[:2] == ["python", "-m"]
        done = shared_fork_server().run(words[3:], folder, module=words[2])
        assert done.code == 0, done.out + done.err
        said.append(done.out)
    return "".join(said)


def test_the_commands_print_what_is_quoted(printed: str) -> None:
    shapes = {shape(line) for line in printed.splitlines()}
    quoted = [line for output in OUTPUTS for line in output.splitlines()]
    assert len(quoted) > 10
    assert [line for line in quoted if shape(line) not in shapes] == []


def test_the_test_passed(printed: str) -> None:
    assert "1 passed" in printed
