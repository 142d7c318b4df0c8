import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import MOONS, PROBE, Child, Ended, ForkServer, shared_fork_server
from tests.support.loop_runs import quick_folder


@pytest.fixture(scope="session")
def fork_server() -> ForkServer:
    return shared_fork_server()


@pytest.fixture
def cli(fork_server: ForkServer, folder: Path) -> Callable[..., Ended]:
    """Runs ``python -m flywheel WORDS`` to its end."""
    return lambda *words, **options: fork_server.run(words, folder, **options)


@pytest.fixture
def answer(cli: Callable[..., Ended]) -> Callable[..., str]:
    """What a command prints that goes well."""

    def answer(*words: str, **options: Any) -> str:
        done = cli(*words, **options)
        assert done.code == 0, done.out + done.err
        return done.out

    return answer


@pytest.fixture
def json_answer(answer: Callable[..., str]) -> Callable[..., Any]:
    """What a command answers with --json."""
    return lambda *words, **options: json.loads(answer(*words, "--json", **options))


@pytest.fixture
def refusal(cli: Callable[..., Ended]) -> Callable[..., str]:
    """What a command says that is refused: in a sentence, and without an answer."""

    def refusal(*words: str, **options: Any) -> str:
        done = cli(*words, **options)
        assert (done.code, done.out, "Traceback" in done.err) == (2, "", False), done.out + done.err
        return done.err

    return refusal


@pytest.fixture
def start(fork_server: ForkServer, folder: Path) -> Iterator[Callable[..., Child]]:
    """Starts ``python -m flywheel WORDS``; what still runs when the test ends is killed."""
    children: list[Child] = []

    def begin(*words: str, **options: object) -> Child:
        children.append(fork_server.start(words, folder, **options))
        return children[-1]

    yield begin
    for child in children:
        if child.code is None:
            child.signal(9)
            child.wait()


@pytest.fixture(scope="session")
def _finished(fork_server: ForkServer) -> Iterator[Path]:
    with quick_folder() as folder:
        done = fork_server.run([*MOONS, "log=quiet", "generations=1", "name=run"], folder)
        assert done.code == 0, done.err
        yield folder


@pytest.fixture
def finished(_finished: Path, folder: Path) -> Path:
    """A finished run of ``moons`` with the name ``run``, below the working directory."""
    shutil.copytree(_finished, folder, dirs_exist_ok=True)
    return folder / "runs" / "moons" / "run"


@pytest.fixture
def long_run() -> tuple[str, ...]:
    """A run that lasts until it is stopped, for all that a test cares: its first fit takes minutes."""
    return (*PROBE, "log=plain", "name=run", "settings.steps=20000")
