from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from flywheel.config import credentials
from flywheel.config.components import plain
from flywheel.config.credentials import is_credential, is_secret_variable
from flywheel.errors import ConfigError

CALLED_SO = """api_key apikey apiKey openai_api_key API-KEY hf_token auth_token token access_token secret
client_secret secret_key private_key password db_password credentials Authorization"""
NOT_CALLED_SO = """max_tokens token_count tokens tokenizer pad_token eos_token mask_token sort_key keys monkey
secretary password_field lr"""


def test_names_of_credentials_and_names_that_only_look_like_them() -> None:
    assert [key for key in CALLED_SO.split() if not is_credential(key)] == []
    assert [key for key in NOT_CALLED_SO.split() if is_credential(key)] == []


def test_variables_that_hold_credentials() -> None:
    held = ["WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "GITHUB_TOKEN", "token"]
    assert all(map(is_secret_variable, held))
    others = ["HOME", "PWD", "PATH", "SSH_AUTH_SOCK", "TOKENIZERS_PARALLELISM", "COMPASS", "MONKEY"]
    assert not any(map(is_secret_variable, others))


def config(**task: object) -> object:
    return OmegaConf.create({"task": task, "settings": {}, "model": {"of": "${oc.env:PLACE,here}"}})


def test_references_are_recorded_by_name_however_indirect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "the-value")
    monkeypatch.setenv("PLACE", "there")
    composed = config(
        api_key="${oc.env:MY_API_KEY}",
        other="${task.api_key}",
        address="https://me:${oc.env:MY_API_KEY}@host",
        inner=[{"again": "${task.other}"}],
        token="${oc.env:PLACE}",
        password="${oc.env:NOT_SET,null}",
        place="${oc.env:PLACE}",
    )
    credentials.check(composed)
    name = "${oc.env:MY_API_KEY}"
    assert plain(composed)["task"] == {
        "api_key": name,
        "other": name,
        "address": f"https://me:{name}@host",
        "inner": [{"again": name}],
        "token": "${oc.env:PLACE}",
        "password": "${oc.env:NOT_SET,null}",
        "place": "there",
    }
    assert plain(composed)["model"] == {"of": "there"}, "what else comes from the environment changes results"
    assert OmegaConf.to_container(composed, resolve=True)["task"]["inner"] == [{"again": "the-value"}]


@pytest.mark.parametrize(
    "task",
    [
        {"api_key": "abc"},
        {"inner": [{"hf_token": "abc"}]},
        {"credentials": {"user": "me"}},
        {"password": 12345},
        {"part": "abc", "secret": "${task.part}"},
        {"api_key": "${oc.env:MY_API_KEY,abc}"},
        {"anything": "${oc.env:MY_API_KEY,abc}"},
        {"address": "https://me:abc@host/"},
    ],
    ids=str,
)
def test_what_would_be_recorded_is_refused_without_its_value(task: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="Credentials are never recorded") as refused:
        credentials.check(config(**task))
    assert "abc" not in str(refused.value)
    assert "${oc.env:NAME}" in str(refused.value)


@pytest.mark.parametrize("value", [None, "", True, False])
def test_what_is_no_value_is_not_refused(value: object) -> None:
    credentials.check(config(api_key=value, token=value, pad_token="<pad>", max_tokens=64, mask={"token": 3}))


def test_settings_hold_no_credential() -> None:
    composed = OmegaConf.create({"settings": {"key": "${oc.env:MY_API_KEY}"}})
    with pytest.raises(ConfigError, match=r"settings\.key refers to one"):
        credentials.check(composed)


def test_words_of_a_command_line_lose_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "the-value")
    words = ["train.py", "--api-key", "abc", "--token=abc", "+task.secret=abc", "task.n=1", "x=the-value"]
    hidden = ["--api-key", "***", "--token=***", "+task.secret=***", "task.n=1", "x=${MY_API_KEY}"]
    assert credentials.without_values(words) == ["train.py", *hidden]
    kept = ["++task.token=${oc.env:X}", "--max-tokens", "5", "recipe=moons"]
    assert credentials.without_values(kept) == kept


def test_words_of_a_sweep_are_checked_before_they_are_composed() -> None:
    credentials.check_words(
        ["task.api_key='${oc.env:A_KEY}','${oc.env:B_KEY,null}'", "seed=1,2", "x.token=null"]
    )
    for word in ("+task.api_key=a,b", "task={inner:{password:abc}}", "task.api_key='${oc.env:A_KEY,abc}'"):
        with pytest.raises(ConfigError, match="Credentials are never recorded"):
            credentials.check_words([word])


def test_short_values_are_not_looked_for_in_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable may be called a key and hold a word."""
    monkeypatch.setenv("SORT_KEY", "loss")
    assert credentials.without_secrets("the loss is not finite") == "the loss is not finite"


def test_of_a_value_that_begins_with_another_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "abcdefgh")
    monkeypatch.setenv("B_KEY", "abcdefghijkl")
    assert credentials.without_secrets("abcdefghijkl, abcdefgh") == "${B_KEY}, ${A_KEY}"
