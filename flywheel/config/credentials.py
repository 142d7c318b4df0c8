"""Credentials come from the environment by name; their values are never recorded.

A key that is called as credentials are (``api_key``, ``hf_token``, ``password``) takes ``${oc.env:NAME}`` and
no literal text. What is built gets the value; what is recorded, compared and printed has ``${oc.env:NAME}``.
So has every other key that refers to a variable which is called so, directly or not: ``WANDB_API_KEY``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from flywheel.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig, Node

_KEY = re.compile(
    r"(.*_)?(api_?keys?|secrets?|(secret|access|private)_keys?|passwords?|passwd|passphrase|credentials?)"
    r"|(.*_)?(access|api|auth|bearer|github|hf|refresh|secret|session)_?tokens?|token|authorization"
)
"""Not ``max_tokens``, ``tokenizer``, ``pad_token``."""
_VARIABLE = re.compile(r"(.*_)?(API_?)?(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|PASS|CREDENTIALS?)")
_LOGIN = re.compile(r"://[^/\s:@]*:(?!\$\{oc\.env:)[^/\s@]+@")
"""``://user:word@`` of an address."""
_BY_NAME, _WITH_DEFAULT = re.compile(r"\$\{oc\.env:"), re.compile(r"\$\{oc\.env:[^,}]+,(?!null\})")
_REFERENCE = re.compile(r"\$\{oc\.env:[^,}]+(,\s*null)?\}")
_SHORTEST = 8
"""Characters of a variable's value that is looked for in texts: a shorter one may be an ordinary word."""
_REMEDY = (
    "Write '${oc.env:NAME}' and set NAME in the environment, or let your code read the environment itself."
)


def is_credential(key: str) -> bool:
    """Whether a key is called as credentials are."""
    return bool(_KEY.fullmatch(key.replace("-", "_").lower()))


def is_secret_variable(name: str) -> bool:
    """Whether an environment variable is called as those that hold credentials are."""
    return bool(_VARIABLE.fullmatch(name.upper()))


@contextmanager
def by_name() -> Iterator[None]:
    """In the block, references to credentials resolve to ``${oc.env:NAME}`` itself."""
    from omegaconf import OmegaConf
    from omegaconf.resolvers import oc

    def env(name: str, *default: Any, _node_: Node) -> Any:
        keys = re.split(r"[.\[\]]", str(_node_._get_full_key(None)))
        if not (is_secret_variable(name) or any(map(is_credential, keys))):
            return oc.env(name, *default)
        words = [name, *("null" if value is None else str(value) for value in default)]
        return f"${{oc.env:{','.join(words)}}}"

    OmegaConf.register_new_resolver("oc.env", env, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


def check(config: DictConfig) -> None:
    """Raise ConfigError, without the value, if a credential would be recorded."""
    from omegaconf import OmegaConf

    with by_name():
        resolved = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    for keys, value in _leaves(resolved, ()):
        rule = _why_not(keys, value)
        if rule:
            raise ConfigError(f"Credentials are never recorded; {'.'.join(keys)} {rule}. {_REMEDY}")


def _why_not(keys: tuple[str, ...], value: Any) -> str | None:
    text = str(value)
    named, refers = any(map(is_credential, keys)), bool(_BY_NAME.search(text))
    if named and not refers and _is_literal(keys[-1], value):
        return "is one by its name, and has a literal value"
    if refers and _WITH_DEFAULT.search(text):
        return "has a literal one as its default"
    if refers and keys[0] in ("settings", "genesis_settings", "refit_settings"):
        return "refers to one, and settings are recorded as parts are given them: put it where it is used"
    return "has a password in an address" if _LOGIN.search(text) else None


def _is_literal(key: str, value: Any) -> bool:
    """Whether a value may be a credential: text, or a number where it is none of a token's."""
    if value is None or isinstance(value, bool) or value == "":
        return False
    return isinstance(value, str) or "token" not in key.lower()


def _leaves(node: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, (*keys, str(key)))
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _leaves(value, keys)
    else:
        yield keys, node


def check_words(words: Sequence[str]) -> None:
    """As ``check``, of overrides that were not composed yet: Hydra writes those of a sweep to a file."""
    for word in words:
        literal = _REFERENCE.sub("", word)
        for key, value in re.findall(r"([\w.-]+)\s*[=:]\s*([^,{}\[\]\s]+)", literal):
            is_text = value.strip("'\"").lower() not in ("", "null", "true", "false")
            if is_text and is_credential(key.rpartition(".")[2]) and not value.isdigit():
                raise ConfigError(f"Credentials are never recorded; {key} has a literal value. {_REMEDY}")


def without_values(words: Sequence[str]) -> list[str]:
    """The words of a command line, ``***`` for the values of credentials."""
    hidden, is_value = [], False
    for word in words:
        key, sign, value = word.partition("=")
        named = is_credential(key.lstrip("+~-").rpartition(".")[2])
        if is_value:
            hidden.append("***")
        elif named and sign and not _BY_NAME.search(value):
            hidden.append(f"{key}=***")
        else:
            hidden.append(without_secrets(word))
        is_value = not is_value and named and not sign and key.startswith("-")
    return hidden


def without_secrets(text: str) -> str:
    """A text, ``${NAME}`` for the values of environment variables that are called as credentials are."""
    for value, name in secrets().items():
        text = text.replace(value, f"${{{name}}}")
    return text


def without_secrets_in_html(html: str, *written: Callable[[str], str]) -> str:
    """A page without them, as text or in a frame's source, by whomever they are escaped there.

    ``written``: how else a text may be written in it.
    """
    for value, name in secrets().items():
        escaped = escape(value)
        by_jinja = escaped.replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
        forms = {value, escape(value, quote=False), escaped, by_jinja}
        for form in (*forms, *map(escape, forms), *(write(value) for write in written)):
            html = html.replace(form, f"${{{name}}}")
    return html


def secrets() -> dict[str, str]:
    """The values of environment variables that are called as credentials are, and the names of these.

    The longest come first: of one that begins with another nothing is left where they are replaced in order.
    """
    named = ((value, name) for name, value in os.environ.items() if is_secret_variable(name))
    long_ones = [(value, name) for value, name in named if len(value) >= _SHORTEST]
    return dict(sorted(long_ones, key=lambda pair: -len(pair[0])))
