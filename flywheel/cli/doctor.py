"""What is installed and what is missing, with remedies. Asks package metadata and drivers, so it is quick."""

from __future__ import annotations

import netrc
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from flywheel.config.modules import version_of
from flywheel.ranks import cores
from flywheel.records import Answer

REQUIRED = ("torch", "lightning", "hydra-core", "pyarrow", "safetensors", "rich", "wandb")
_LOW_DISK_BYTES = 5 * 2**30


class Check(Answer, frozen=True):
    """One line of the doctor's report."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


def checks(runs_dir: str) -> Iterator[Check]:
    """All checks, in the order people read them."""
    python = sys.version.split()[0]
    yield Check("python", sys.version_info >= (3, 11), python)
    for package in REQUIRED:
        release = version_of(package)
        yield Check(
            package, release is not None, release or "missing", "" if release else f"pip install {package}"
        )
    for package, extra in _extras():
        release = version_of(package)
        remedy = "" if release else f'Only for the extra: pip install "flywheel[{extra}]"'
        yield Check(package, True, release or "not installed", remedy)
    yield Check("cpu", True, f"{cores()} cores")
    yield _gpu()
    yield _disk(runs_dir)
    yield _wandb()


def _extras() -> Iterator[tuple[str, str]]:
    """(package, extra) that our metadata names, but for development."""
    try:
        requirements = requires("flywheel") or []
    except PackageNotFoundError:  # a checkout that is not installed
        return
    for line in requirements:
        match = re.match(r"([\w.-]+).*extra == ['\"](\w+)['\"]", line)
        if match and match[2] != "dev":
            yield match[1], match[2]


def _gpu() -> Check:
    if shutil.which("nvidia-smi") is None:
        return Check("gpu", True, "none found; runs on the CPU")
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    names = "; ".join(done.stdout.strip().splitlines()) or done.stderr.strip()
    if "+cpu" in (version_of("torch") or ""):
        return Check("gpu", False, f"{names}, but torch is a CPU build", "Install a CUDA build of torch.")
    works = done.returncode == 0
    return Check("gpu", works, names, "" if works else "Check the driver: nvidia-smi fails.")


def _disk(runs_dir: str) -> Check:
    folder = Path(runs_dir).resolve()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    writable = os.access(folder, os.W_OK)
    space = f"{free / 2**30:.1f} GiB free in {folder}{'' if writable else ', not writable'}"
    enough = writable and free > _LOW_DISK_BYTES
    return Check("disk", enough, space, "" if enough else "Free some room, or set runs_dir= elsewhere.")


def _wandb() -> Check:
    mode = os.environ.get("WANDB_MODE", "online")
    if mode in ("offline", "disabled"):
        return Check("wandb login", True, f"not needed: WANDB_MODE={mode}")
    try:
        logged_in = netrc.netrc().authenticators("api.wandb.ai") is not None
    except (FileNotFoundError, netrc.NetrcParseError):
        logged_in = False
    logged_in = logged_in or "WANDB_API_KEY" in os.environ
    remedy = "" if logged_in else "Only for tracker=wandb, which is offline without: run `wandb login`."
    return Check("wandb login", True, "yes" if logged_in else "no", remedy)
