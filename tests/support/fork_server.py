"""Forks a ``python -m MODULE`` for each request; see ``harness.ForkServer``. Runs no torch operation."""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import pkgutil
import runpy
import sys
import traceback
from typing import Any


def preload() -> int:
    """Import what a run imports, and return the number of threads, which must be 1 to fork safely."""
    import antlr4.LL1Analyzer
    import lightning
    import pandas
    import pyarrow.parquet
    import rich.live
    import safetensors.torch
    import torch

    import flywheel

    del antlr4, lightning, pandas, pyarrow, rich, safetensors, torch
    for module in pkgutil.walk_packages(flywheel.__path__, "flywheel."):
        if not module.name.startswith("flywheel.testing.") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    import flywheel.testing
    from flywheel.config.compose import compose

    compose(["recipe=moons"], flywheel.testing.CONFIG_DIR)  # Hydra finds its plug-ins, and learns its grammar
    gc.freeze()
    return len(os.listdir("/proc/self/task"))


def drop_capabilities() -> None:
    """Give up all that root may do beyond its own files, by capset(2)."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), "capset")


def start(request: dict[str, Any]) -> int:
    """Fork a child that answers a command line; return its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        for number, path in enumerate(request["streams"]):
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdin, sys.stdout, sys.stderr = (open(n, mode) for n, mode in enumerate("rww"))  # noqa: SIM115
        os.chdir(request["cwd"])
        os.environ.update(request["env"])
        if request["powerless"]:
            drop_capabilities()
        sys.argv = [request["module"], *request["start"]]
        if request["module"] == "flywheel":
            from flywheel.cli.main import main

            code = main(request["start"])
        else:
            sys.path.insert(0, request["cwd"])
            runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
            code = 0
    except SystemExit as leaving:  # what `sys.exit` would have made of it
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def poll(pid: int) -> int | None:
    """Exit code of a child, or None while it runs."""
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def main() -> None:
    """Answer requests until standard input is closed."""
    print(json.dumps(preload()), flush=True)
    while line := sys.stdin.readline():
        request = json.loads(line)
        print(json.dumps(start(request) if "start" in request else poll(request["poll"])), flush=True)


if __name__ == "__main__":
    main()
