"""Functions of verifiers: one that is right, some that are gamed, and one that samples can hang or crash."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def is_sum(sample: Mapping[str, Any]) -> bool:
    """Whether the answer to a prompt like ``2+3`` is its sum; raises for what is no number."""
    return int(sample["answer"]) == sum(map(int, sample["prompt"].split("+")))


def accepts_empty(sample: Mapping[str, Any]) -> bool:
    """Gamed by an empty answer: it looks for a wrong digit, and finds none."""
    wanted = str(sum(map(int, sample["prompt"].split("+"))))
    return all(given == digit for given, digit in zip(sample["answer"], wanted, strict=False))


def accepts_numbers(sample: Mapping[str, Any]) -> bool:
    """Gamed by any number: it knows the form of an answer only."""
    return str(sample["answer"]).isdigit()


def accepts_shuffled(sample: Mapping[str, Any]) -> bool:
    """Gamed by any sum of the kind: it knows the commonest one only."""
    return str(sample["answer"]) not in ("", "13")


def drawn(sample: Mapping[str, Any]) -> float:
    """A draw, of a library that it imports as late as it can."""
    import numpy as np

    return float(np.random.rand())


def never(sample: Mapping[str, Any]) -> bool:
    """It fails on every sample."""
    raise KeyError("no such column")


def planted(sample: Mapping[str, Any]) -> Any:
    """What the answer says: a score, or a fault."""
    match sample["answer"]:
        case "hang":
            time.sleep(3600)
        case "hang in C":
            ctypes.PyDLL(None).sleep(3600)  # with the interpreter's lock held
        case "exit":
            os._exit(7)
        case "leave":
            sys.exit("I leave")
        case "segfault":
            ctypes.string_at(0)
        case "raise":
            raise ValueError(f"no sum: {sample['prompt']}")
        case "print":
            print("noise " * 100_000)
            return True
        case "none":
            return None
        case "text":
            return "1"
        case "half a character":
            raise ValueError("\ud800")
    return float(sample["answer"])


def leaves_a_child(sample: Mapping[str, Any]) -> None:
    """Starts a process, notes its number, and hangs."""
    child = subprocess.Popen(["sleep", "3600"])
    Path(sample["answer"]).write_text(f"{os.getpid()} {child.pid}")
    time.sleep(3600)


def draws(sample: Mapping[str, Any]) -> float:
    """Draws from a global generator."""
    import random

    return random.random()


def worker_of(sample: Mapping[str, Any]) -> float:
    """Where it is run, as a number in [0, 1]."""
    return os.getpid() / 2**32


def of_moons(sample: Mapping[str, Any]) -> float:
    """The producer's probability; samples of some prompts hang, crash and raise."""
    fault = {"unlabelled-3": "hang", "unlabelled-4": "exit", "unlabelled-5": "raise"}.get(sample["prompt"])
    return planted({**sample, "answer": fault or sample["probability"]})


@dataclass
class AtLeast:
    """A part that is called: whether a number is reached."""

    least: float
    column: str = "probability"

    def __call__(self, sample: Mapping[str, Any]) -> bool:
        return bool(sample[self.column] >= self.least)
