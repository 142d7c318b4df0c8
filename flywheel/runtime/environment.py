"""What the rounding errors of a fit depend on besides its inputs: processor, torch build, device, threads."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flywheel import ranks
from flywheel.storage.state import RunState


def compute(trainer: Mapping[str, Any]) -> dict[str, str]:
    """CPU type, torch and its build, vector instructions in use, and the device of fits."""
    import torch

    where = device(trainer).partition(":")[0]
    return {
        "cpu": cpu(),
        "torch": torch.__version__,
        "build": hashlib.sha256(torch.__config__.show().encode()).hexdigest()[:16],
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name() if where == "cuda" else where,
    }


def threads(config: Mapping[str, Any], state: RunState | None) -> int:
    """Threads of torch: as configured, else as when the run was created, else one a core and rank."""
    if config["threads"]:
        return int(config["threads"])
    if state and state.created:
        return state.created.threads
    return max(1, ranks.cores() // ranks.local_world_size())


@contextlib.contextmanager
def use_threads(count: int) -> Iterator[None]:
    """That many threads of torch in the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def distributions() -> dict[str, str]:
    """Version of Python and of every installed distribution, by name.

    Read from the names of their folders, which is ten times as fast as to read their metadata.
    """
    versions = {"python": platform.python_version()}
    for place in sys.path:  # what comes first is what is imported
        with contextlib.suppress(OSError):  # a folder that is not there, or a zip file
            for path in sorted(Path(place).iterdir()):
                if path.suffix in (".dist-info", ".egg-info"):
                    name, version = _distribution(path)
                    versions.setdefault(re.sub(r"[-_.]+", "-", name).lower(), version)
    return versions


def _distribution(path: Path) -> tuple[str, str]:
    """Name and version of ``torch-2.13.0.dist-info``; of ``torch.egg-info``, as its metadata say."""
    name, _, version = path.stem.rpartition("-")
    if path.suffix == ".dist-info" and name:
        return name, version
    with contextlib.suppress(Exception):  # it may be damaged, and is only looked at
        metadata = importlib.metadata.Distribution.at(path).metadata
        return metadata["Name"], metadata["Version"]
    return path.stem, "unknown"


def device(trainer: Mapping[str, Any]) -> str:
    """Where this rank runs models outside of a fit, by the trainer's ``accelerator``."""
    import torch

    accelerator = str(trainer.get("accelerator", "auto"))
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def cpu() -> str:
    """The processor's name, e.g. ``AMD EPYC 7B13``."""
    try:
        match = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return match[1] if match else platform.processor() or platform.machine()
