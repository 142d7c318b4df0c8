"""What the last bits of a fit depend on besides its inputs: processor, torch build, where it ran."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flywheel.models import device


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


def cpu() -> str:
    """The processor's name, as it gives it itself."""
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()
