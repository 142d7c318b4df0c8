"""The code that ran is the code that is recorded, and credentials are recorded nowhere."""

import hashlib

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


def test_what_was_imported_is_recorded_though_the_file_is_edited(answer, json_answer, folder, part):
    answer(*RUN, "generations=2")
    assert "second edition" in part.read_text()
    run = only_run(folder)
    first, second = versions(run)
    assert first == second
    assert not any(event["event"] == "code_changed" for event in events(run))
    assert answer("show", "run", "1", "--source", "own_part") == PART
    assert answer("show", "run", "1", "--source", "shared_part") == "SHARED = 'shared text'\n"

    assert "code changed before generation 3: own_part\n" in answer(*RUN, "generations=3")
    assert versions(run)[:2] == [first, second]
    assert versions(run)[2] != first
    assert "code changed before generation 3: own_part\n" in answer("status", "run")
    (change,) = json_answer("status", "run")["code_changes"]
    assert (change["generation"], list(change["modules"]), change["distributions"]) == (3, ["own_part"], {})
    answer("verify", "run")


@pytest.fixture
def edited(cli, part):
    """A run whose generation 2 was made by another code than 1."""
    cli(*RUN, "generations=1")
    cli(*RUN, "generations=2")


def test_diff_and_show_say_which_modules_differ(answer, json_answer, refusal, edited):
    code = json_answer("diff", "run", "1", "2")["code"]
    assert (code["same"], list(code["modules"])) == (False, ["own_part"])
    text = answer("diff", "run", "1", "2", "--code")
    assert text.startswith("--- a/own_part\n+++ b/own_part\n")
    assert '-EDITION = "first edition"\n+EDITION = "second edition"\n' in text
    assert answer("diff", "run", "0", "1", "--code") == ""
    assert "module own_part: " in answer("diff", "run", "1", "2")
    assert json_answer("diff", "run", "0", "1")["code"]["same"] is True
    (session,) = json_answer("show", "run", "2")["sessions"]
    assert list(session["code_changed"]["modules"]) == ["own_part"]
    assert session["distributions"]["torch"]
    assert "own_part" in answer("show", "run", "2")
    assert "Did you mean own_part?" in refusal("show", "run", "2", "--source", "own_prat")


def test_a_generation_made_by_two_codes_is_not_the_same_as_one_made_by_the_last(
    cli, answer, json_answer, folder, part
):
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
    answer(*RUN, "generations=2")
    assert ", " in json_answer("diff", "run", "1", "2")["code"]["modules"]["own_part"]["a"]


def test_reproduce_names_the_modules_that_are_others_by_now_and_imports_none(cli, json_answer, folder, part):
    """A run may name any module; only those of classes that are built are imported."""
    cli(*RUN, "generations=1")
    part.write_text("import shared_part\nopen('imported', 'w')\n")
    (folder / "shared_part.py").unlink()
    report = json_answer("reproduce", "run", "1", "--config-dir", MOONS[1])
    assert (report["equal"], report["same_conditions"]) == (True, False)
    assert sorted(report["differences"]) == ["module own_part", "module shared_part"]
    assert report["differences"]["module shared_part"][1] == "absent"
    assert not (folder / "imported").exists()


def test_no_source_leaves_with_a_bundle(answer, folder, edited):
    answer("bundle", "run", "2", "--out", "handed")
    source = map(str.strip, [*PART.splitlines(), "SHARED = 'shared text'"])
    lines = [line for line in source if len(line) > 12]
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


def test_a_credential_in_the_source_is_not_recorded_either(answer, json_answer, folder, part):
    """The hash is that of the file; the text has the variable's name."""
    written = f"SHARED = '{SECRET}'\n"
    (folder / "shared_part.py").write_text(written)
    answer(*RUN, "generations=0", env={"SHARED_TOKEN": SECRET})
    assert answer("show", "run", "0", "--source", "shared_part") == "SHARED = '${SHARED_TOKEN}'\n"
    (session,) = json_answer("show", "run", "0")["sessions"]
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
def test_a_literal_credential_is_refused_and_not_repeated(refusal, folder, part, word):
    for sweep in ((), ("-m",)):
        reason = refusal(*sweep, *RUN, word)
        assert "Credentials are never recorded" in reason
        assert "${oc.env:NAME}" in reason
        assert SECRET not in reason
    assert grep(folder, SECRET) == []


def test_a_fork_and_a_reproduction_find_the_credential_by_its_name(answer, folder, part):
    part.write_text(part.read_text().replace("if self.api_key is not None", f"if self.api_key != {SECRET!r}"))
    secret = {"GRADER_API_KEY": SECRET}
    answer(*RUN, "generations=1", "++grader.api_key='${oc.env:GRADER_API_KEY}'", env=secret)
    fork = (
        "fork",
        "run@1",
        "name=fork",
        "generations=1",
        "seal=reopen",
        "grader._target_=own_part.Grader",
        *MOONS[:2],
    )
    answer(*fork, env=secret)
    created = events(folder / "runs" / "moons" / "fork")[0]
    assert created["config"]["grader"]["api_key"] == "${oc.env:GRADER_API_KEY}"
    answer("reproduce", "run", "1", *MOONS[:2])  # it needs no grader, and so no credential
    assert grep(folder / "runs", SECRET) == []
