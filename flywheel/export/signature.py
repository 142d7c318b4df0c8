"""Signatures of bundles, checked: OpenSSF model signing with a key of the user's own, offline."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from flywheel.errors import ConfigError, MissingExtra
from flywheel.export import manifest

_CREATE = (
    "`openssl ecparam -name prime256v1 -genkey -noout -out key.pem` makes a private key, "
    "`openssl ec -in key.pem -pubout -out key.pub` its public half."
)


def signature_problems(folder: Path, key: Path) -> list[tuple[str, str]]:
    """(file, what is wrong) unless the signature is this key's over these files. Raises as ``sign`` does."""
    _, verifying = model_signing()
    try:
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=key)
    except Exception as error:
        raise bad_key("public", key, error) from error
    try:
        verifier.set_hashing_config(all_but_signature()).verify(folder, folder / manifest.SIGNATURE)
    except Exception as error:  # the library's and its parsers' errors have no common base
        differ = _names(str(error))
        other = [(manifest.SIGNATURE, f"it is not a signature of this key ({type(error).__name__})")]
        return [(name, "it is not what was signed") for name in differ] or other
    return []


def _names(mismatch: str) -> list[str]:
    """The files that the library's message on a mismatch names."""
    changed = re.findall(r"Hash mismatch for \\?'(.+?)\\?':", mismatch)
    lists = re.findall(r"(?:Extra|Missing) files (?:found )?in model .+?: ([^\"\]]+)", mismatch)
    return sorted({*changed, *(name.strip(" '") for names in lists for name in names.split(", "))})


def all_but_signature() -> object:
    """What is hashed: every file of a bundle but its signature."""
    from model_signing import hashing

    config: Any = hashing.Config
    return config().set_ignored_paths(paths=[manifest.SIGNATURE], ignore_git_paths=False)


def model_signing() -> tuple[Any, Any]:
    """The library's modules ``signing`` and ``verifying``. Raises MissingExtra."""
    try:
        from model_signing import signing, verifying
    except ModuleNotFoundError as error:  # pyOpenSSL too, which it needs and does not declare
        raise MissingExtra("OpenSSF model signing", "sign") from error
    return signing, verifying


def bad_key(half: str, key: Path, error: Exception) -> ConfigError:
    """What to raise for a key that the library does not take; ``half``: private or public."""
    why = error.strerror if isinstance(error, OSError) else error
    return ConfigError(
        f"--key must be the {half} half of an elliptic-curve key, as PEM without a password; {key} is not: "
        f"{why}.\n" + _CREATE
    )
