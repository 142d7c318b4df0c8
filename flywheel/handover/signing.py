"""Signatures over a bundle: OpenSSF model signing with a local elliptic-curve key, offline.

The signature is a Sigstore bundle over the hash of every file but itself, so that ``model_signing`` of
others checks it too: ``model_signing verify key DIR --signature DIR/model.sig --public_key PUB``.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from flywheel.errors import ConfigError, MissingExtra, RunError
from flywheel.handover import manifest
from flywheel.lineage import files

_CREATE = (
    "`openssl ecparam -name prime256v1 -genkey -noout -out key.pem` makes a private key, "
    "`openssl ec -in key.pem -pubout -out key.pub` its public half."
)


def sign(folder: Path, key: Path) -> Path:
    """Sign a bundle that is as it was written, and return the signature's file.

    Raises RunError if the bundle is not whole, ConfigError for a key that cannot be used, MissingExtra.
    """
    from flywheel.handover.verification import verify_bundle

    found = verify_bundle(folder)
    if found.problems:
        raise RunError(f"Only a whole bundle is signed; in {folder}, {found.first}")
    signing, _ = _model_signing()
    try:
        signer = signing.Config().use_elliptic_key_signer(private_key=key)
    except Exception as error:
        raise _bad_key("private", key, error) from error
    with tempfile.TemporaryDirectory() as aside:
        made = Path(aside) / manifest.SIGNATURE
        signer.set_hashing_config(_all_but_signature()).sign(folder, made)
        files.write_atomic(folder / manifest.SIGNATURE, made.read_bytes())
    return folder / manifest.SIGNATURE


def signature_problems(folder: Path, key: Path) -> list[tuple[str, str]]:
    """(file, what is wrong) unless the signature is this key's over these files. Raises as ``sign`` does."""
    _, verifying = _model_signing()
    try:
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=key)
    except Exception as error:
        raise _bad_key("public", key, error) from error
    try:
        verifier.set_hashing_config(_all_but_signature()).verify(folder, folder / manifest.SIGNATURE)
    except Exception as error:  # the library's and its parsers' errors have no common base
        differ = _names(str(error))
        other = [(manifest.SIGNATURE, f"it is not a signature of this key ({type(error).__name__})")]
        return [(name, "it is not what was signed") for name in differ] or other
    return []


def _names(mismatch: str) -> list[str]:
    """The files that the library's message on a mismatch names."""
    changed = re.findall(r"Hash mismatch for \\?'(.+?)\\?':", mismatch)
    lists = re.findall(r"(?:Extra|Missing) files (?:found )?in model .+?: ([^\"\]]+)", mismatch)
    return sorted({*changed, *(name.strip(" '") for found in lists for name in found.split(", "))})


def _all_but_signature() -> Any:
    from model_signing import hashing

    config: Any = hashing.Config
    return config().set_ignored_paths(paths=[manifest.SIGNATURE], ignore_git_paths=False)


def _model_signing() -> tuple[Any, Any]:
    try:
        from model_signing import signing, verifying
    except ModuleNotFoundError as error:  # pyOpenSSL too, which it needs and does not declare
        raise MissingExtra("OpenSSF model signing", "sign") from error
    return signing, verifying


def _bad_key(half: str, key: Path, error: Exception) -> ConfigError:
    why = error.strerror if isinstance(error, OSError) else error
    return ConfigError(
        f"--key must be the {half} half of an elliptic-curve key, as PEM without a password; {key} is not: "
        f"{why}.\n" + _CREATE
    )
