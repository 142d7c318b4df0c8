"""What is not imported early, in processes of their own, and how long answers take."""

import signal
import subprocess
import sys
import time
import tomllib

import pytest

from tests.support.harness import MOONS, MOONS_CONF, ROOT, command, environment

HEAVY = ("torch", "lightning", "wandb", "pytorch_lightning", "torchmetrics", "pandas", "scipy", "sklearn")
HEAVY += ("optuna", "transformers")
READS = (*HEAVY, "hydra", "omegaconf", "numpy", "pyarrow")
LIGHT = {
    "help": (["--help"], 0, (*HEAVY, "hydra", "omegaconf", "numpy", "rich", "dataclasses")),
    "version": (["--version"], 0, (*HEAVY, "hydra", "omegaconf", "numpy", "rich", "dataclasses")),
    "unknown subcommand": (["statsu"], 2, (*HEAVY, "hydra", "omegaconf")),
    "status": (["status", "run"], 0, READS),
    "status as JSON": (["status", "run", "--json"], 0, (*READS, "rich")),
    "lineage": (["lineage", "run"], 0, READS),
    "lineage as JSON": (["lineage", "run", "--json"], 0, READS),
    "verify": (["verify", "run"], 0, READS),
    "verify as JSON": (["verify", "run", "--json"], 0, READS),
    "recipes": (["recipes", "--config-dir", MOONS_CONF], 0, READS),
    "recipes as JSON": (["recipes", "--json"], 0, READS),
    "new": (["new", "beans"], 0, (*HEAVY, "hydra", "omegaconf")),
    "doctor": (["doctor"], None, HEAVY),
    "tune-space of a recipe": (["tune-space", "moons", "--config-dir", MOONS_CONF], 0, (*HEAVY, "pyarrow")),
    "tune-space of a run": (["tune-space", "run", "--config-dir", MOONS_CONF], 0, (*HEAVY, "pyarrow")),
    "finished run": ([*MOONS, "name=run", "generations=1"], 0, HEAVY),
    "cfg": ([*MOONS, "--cfg", "job"], 0, HEAVY),
    "no recipe": (["recipe=minst"], 2, (*HEAVY, "hydra", "numpy")),
    "wrong key": ([*MOONS, "genertions=1"], 2, (*HEAVY, "numpy")),
    "wrong value": ([*MOONS, "generations=x"], 2, (*HEAVY, "numpy")),
    "out of range": ([*MOONS, "settings.lr=7"], 2, (*HEAVY, "pyarrow")),
    "wrong class": ([*MOONS, "gate._target_=flywheel.gates.paired.Piared"], 2, HEAVY),
    "another identity": ([*MOONS, "name=run", "seed=8"], 2, HEAVY),
}


def python(folder, *words):
    """A Python of its own, which has imported nothing."""
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)


@pytest.mark.parametrize("what", LIGHT)
def test_nothing_heavy_is_imported(finished, folder, what):
    words, code, heavy = LIGHT[what]
    loop = (
        "import sys\n"
        "from flywheel.cli.main import main\n"
        "code = main(sys.argv[1:])\n"
        "sys.stderr.write('\\nIMPORTED ' + ' '.join({name.partition('.')[0] for name in sys.modules}))\n"
        "sys.exit(code)\n"
    )
    done = python(folder, "-c", loop, *words)
    _, mark, imported = done.stderr.rpartition("IMPORTED ")
    assert mark, done.stderr
    assert code in (None, done.returncode), done.stderr
    assert sorted(set(heavy) & set(imported.split())) == []


def test_a_whole_run_in_a_process_of_its_own(folder):
    """All other runs here start in a process that has imported everything; this one does not."""
    done = command([*MOONS, "generations=1", "name=cold"], folder)
    assert (done.code, done.err) == (0, "")
    assert (folder / "runs" / "moons" / "cold" / "HEAD").read_text().strip() in done.out


def test_ctrl_c_before_the_loop_begins_is_answered_calmly(folder):
    """While torch is still being imported there is nothing to stop yet."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flywheel", *MOONS, "name=early"],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background jobs with SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    assert process.returncode == 130


def test_ctrl_c_in_generated_code_has_the_same_exit_code(folder):
    """A dataclass's methods are exec'd strings; CPython dies of an interrupt that passed through one."""
    (folder / "interrupted.py").write_text(
        "import sys\nfrom flywheel.cli import main as cli\n"
        "cli._subcommand = lambda words: exec('raise KeyboardInterrupt')\n"
        "sys.exit(cli.main(['status']))\n"
    )
    done = python(folder, "-m", "interrupted")
    assert (done.returncode, done.stderr) == (130, "Interrupted before anything was done.\n")


def test_the_console_script_and_the_module_are_the_same(folder):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["scripts"]["flywheel"].partition(":")
    code = f"import sys; from {module} import {name}; sys.argv = ['flywheel', '--version']; {name}()"
    assert python(folder, "-c", code).stdout.startswith("flywheel ")
