"""Signatures over a bundle: OpenSSF model signing with a local elliptic-curve key, offline.

The signature is a Sigstore bundle over the hash of every file but itself, so that ``model_signing`` of
others checks it too: ``model_signing verify key DIR --signature DIR/model.sig --public_key PUB``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from flywheel.errors import RunError
from flywheel.export import manifest
from flywheel.export.signature import all_but_signature, bad_key, model_signing
from flywheel.export.verification import verify_bundle
from flywheel.storage import files


def sign(folder: Path, key: Path) -> Path:
    """Sign a bundle that is as it was written, and return the signature's file.

    Raises RunError if the bundle is not whole, ConfigError for a key that cannot be used, MissingExtra.
    """
    check = verify_bundle(folder)
    if check.problems:
        raise RunError(f"Expected a bundle as it was written; in {folder}, {check.first}")
    signing, _ = model_signing()
    try:
        signer = signing.Config().use_elliptic_key_signer(private_key=key)
    except Exception as error:
        raise bad_key("private", key, error) from error
    with tempfile.TemporaryDirectory() as aside:
        signature = Path(aside) / manifest.SIGNATURE
        signer.set_hashing_config(all_but_signature()).sign(folder, signature)
        files.write_atomic(folder / manifest.SIGNATURE, signature.read_bytes())
    return folder / manifest.SIGNATURE
