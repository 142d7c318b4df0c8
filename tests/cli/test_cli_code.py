"""The code that ran is the code that is recorded, and credentials are recorded nowhere."""

from __future__ import annotations

import hashlib
import json

import pytest

from tests.support.harness import MOONS, events, only_run

PART = '''"""A grader that somebody edits while it works."""

from pathlib import Path

import shared_part
from flywheel.graders.confidence import Confidence

EDITION = "first edition"


class Grader(Confidence):
    def __init__(self, api_key=None):
        self.api_key = api_key

    def grade(self, samples, load_parent, keys):
        if self.api_key is not None:
            raise RuntimeError(f"401: {self.api_key} may not")
        path = Path(__file__)
        path.write_text(path.read_text().replace("first " + "edition", "second " + "edition"))
        return super().grade(samples, load_parent, keys)
'''
RUN = (*MOONS, "grader._target_=own_part.Grader", "name=run", "log=plain")
SECRET = "s3cr3t-of-the-test"


@pytest.fixture
def part(folder):
    (folder / "shared_part.py").write_text("SHARED = 'shared text'\n")
    (folder / "own_part.py").write_text(PART)
    return folder / "own_part.py"


def versions(run):
    return [event["facts"]["version"] for event in events(run) if event.get("stage") == "grade"]


def test_what_was_imported_is_recorded_though_the_file_is_edited(cli, folder, part):
    done = cli(*RUN, "generations=2")
    assert done.code == 0, done.err
    assert "second edition" in part.read_text()
    run = only_run(folder)
    first, second = versions(run)
    assert first == second
    assert not any(event["event"] == "code_changed" for event in events(run))
    assert cli("show", "run", "1", "--source", "own_part").out == PART
    assert cli("show", "run", "1", "--source", "shared_part").out == "SHARED = 'shared text'\n"

    again = cli(*RUN, "generations=3")
    assert "code changed before generation 3: own_part\n" in again.out
    assert versions(run)[:2] == [first, second]
    assert versions(run)[2] != first
    assert "code changed before generation 3: own_part\n" in cli("status", "run").out
    (change,) = json.loads(cli("status", "run", "--json").out)["code_changes"]
    assert (change["generation"], list(change["modules"]), change["distributions"]) == (3, ["own_part"], {})
    assert cli("verify", "run").code == 0


def test_diff_and_show_say_which_modules_differ(cli, folder, part):
    cli(*RUN, "generations=1")
    cli(*RUN, "generations=2")
    report = json.loads(cli("diff", "run", "1", "2", "--json").out)
    assert report["code"]["same"] is False
    assert list(report["code"]["modules"]) == ["own_part"]
    text = cli("diff", "run", "1", "2", "--code").out
    assert text.startswith("--- a/own_part\n+++ b/own_part\n")
    assert '-EDITION = "first edition"\n+EDITION = "second edition"\n' in text
    assert cli("diff", "run", "0", "1", "--code").out == ""
    assert "module own_part: " in cli("diff", "run", "1", "2").out
    assert json.loads(cli("diff", "run", "0", "1", "--json").out)["code"]["same"] is True
    (session,) = json.loads(cli("show", "run", "2", "--json").out)["sessions"]
    assert list(session["code_changed"]["modules"]) == ["own_part"]
    assert session["distributions"]["torch"]
    assert "own_part" in cli("show", "run", "2").out
    refused = cli("show", "run", "2", "--source", "own_prat")
    assert refused.code == 2
    assert "Did you mean own_part?" in refused.err


def test_a_generation_made_by_two_codes_is_not_the_same_as_one_made_by_the_last(cli, folder, part):
    """Its batch was graded by the old one; a resumed session trained it."""
    cli(*RUN, "generations=0")
    (folder / "stopper.py").write_text(
        "import os, signal\nfrom flywheel.trackers import NoTracker\n\n\nclass Stop(NoTracker):\n"
        "    synchronous = True\n\n"
        "    def event(self, event, state):\n        if getattr(event, 'stage', '') == 'grade':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
    )
    stopped = cli(*RUN, "generations=2", "+tracker._target_=stopper.Stop")
    assert stopped.code == 3, stopped.out + stopped.err
    assert cli(*RUN, "generations=2").code == 0
    report = json.loads(cli("diff", "run", "1", "2", "--json").out)
    assert "own_part" in report["code"]["modules"]
    assert ", " in report["code"]["modules"]["own_part"]["a"]


def test_reproduce_names_the_modules_that_are_others_by_now_and_imports_none(cli, folder, part):
    """A run may name any module; only those of classes that are built are imported."""
    cli(*RUN, "generations=1")
    part.write_text("import shared_part\nopen('imported', 'w')\n")
    (folder / "shared_part.py").unlink()
    done = cli("reproduce", "run", "1", "--config-dir", MOONS[1], "--json")
    report = json.loads(done.out)
    assert (done.code, report["equal"], report["same_conditions"]) == (0, True, False)
    assert sorted(report["differences"]) == ["module own_part", "module shared_part"]
    assert report["differences"]["module shared_part"][1] == "absent"
    assert not (folder / "imported").exists()


def test_no_source_leaves_with_a_bundle(cli, folder, part):
    cli(*RUN, "generations=1")
    cli(*RUN, "generations=2")
    assert cli("bundle", "run", "2", "--out", "handed").code == 0
    lines = [
        line.strip() for line in (PART + "SHARED = 'shared text'").splitlines() if len(line.strip()) > 12
    ]
    content = b"".join(path.read_bytes() for path in (folder / "handed").iterdir())
    assert [line for line in lines if line.encode() in content] == []
    assert b"code_changed" in content


def grep(folder, text):
    """Files below a folder in which a text stands."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if text.encode() in path.read_bytes()]


def test_a_credential_is_used_and_recorded_by_name(cli, folder, part):
    """Not even what a service answers is recorded with it."""
    words = (*RUN, "generations=1", "++grader.api_key='${oc.env:GRADER_API_KEY}'", "on_failure=go_on")
    secrets = {"GRADER_API_KEY": SECRET, "WANDB_API_KEY": "w" + SECRET}
    done = cli(*words, env=secrets)
    assert "401" in done.out
    run = only_run(folder)
    failed = next(event for event in events(run) if event.get("status") == "failed")
    assert "401: ${GRADER_API_KEY} may not" in failed["reason"]
    created = next(event for event in events(run) if event["event"] == "run_created")
    assert created["config"]["grader"]["api_key"] == "${oc.env:GRADER_API_KEY}"
    assert grep(folder / "runs", SECRET) == []
    assert cli("bundle", "run", "0", "--out", "handed").code == 0
    assert grep(folder / "handed", SECRET) == []
    other = cli(*words, "name=run", env={"GRADER_API_KEY": "another-secret"})
    assert other.code != 2, "a new key is no other identity"


def test_a_credential_in_the_source_is_not_recorded_either(cli, folder, part):
    """The hash is that of the file; the text has the variable's name."""
    written = f"SHARED = '{SECRET}'\n"
    (folder / "shared_part.py").write_text(written)
    assert cli(*RUN, "generations=0", env={"SHARED_TOKEN": SECRET}).code == 0
    assert cli("show", "run", "0", "--source", "shared_part").out == "SHARED = '${SHARED_TOKEN}'\n"
    (session,) = json.loads(cli("show", "run", "0", "--json").out)["sessions"]
    assert session["modules"]["shared_part"] == hashlib.sha256(written.encode()).hexdigest()
    assert grep(folder / "runs", SECRET) == []


@pytest.mark.parametrize(
    "word",
    [
        f"++grader.api_key={SECRET}",
        f"++tracker.hf_token={SECRET}",
        f"++task={{password:{SECRET}}}",
        f"++settings.token={SECRET}",
        f"++grader.api_key='${{oc.env:NOWHERE_API_KEY,{SECRET}}}'",
    ],
)
def test_a_literal_credential_is_refused_and_not_repeated(cli, folder, part, word):
    for sweep in ((), ("-m",)):
        done = cli(*sweep, *RUN, word)
        assert done.code == 2, done.out
        assert "Credentials are never recorded" in done.err
        assert "${oc.env:NAME}" in done.err
        assert SECRET not in done.err + done.out
    assert grep(folder, SECRET) == []


def test_a_fork_and_a_reproduction_find_the_credential_by_its_name(cli, folder, part):
    part.write_text(part.read_text().replace("if self.api_key is not None", f"if self.api_key != {SECRET!r}"))
    secret = {"GRADER_API_KEY": SECRET}
    made = cli(*RUN, "generations=1", "++grader.api_key='${oc.env:GRADER_API_KEY}'", env=secret)
    assert made.code == 0, made.out + made.err
    fork = ("fork", "run@1", "name=fork", "generations=1", "grader._target_=own_part.Grader", *MOONS[:2])
    forked = cli(*fork, env=secret)
    assert forked.code == 0, forked.out + forked.err
    created = events(folder / "runs" / "moons" / "fork")[0]
    assert created["config"]["grader"]["api_key"] == "${oc.env:GRADER_API_KEY}"
    assert cli("reproduce", "run", "1", *MOONS[:2]).code == 0, "it needs no grader, and so no credential"
    assert grep(folder / "runs", SECRET) == []
