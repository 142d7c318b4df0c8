"""A process that calls a function on samples, see ``flywheel.graders.pool``.

It is run as a script and imports nothing of flywheel, so that it starts soon. On its standard input come
blocks of bytes, each after its length: the path of imports, the function, then rows; on its standard output
go lines of JSON, one when it is ready and one for each row. What the function itself prints is dropped.
"""

import ctypes
import json
import os
import pickle
import queue
import random
import signal
import struct
import sys
import threading
import traceback
from typing import Any, BinaryIO

import numpy as np

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve until the input ends."""
    _die_with(int(sys.argv[1]))
    requests, replies = os.fdopen(os.dup(0), "rb"), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    blocks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(requests, blocks), daemon=True).start()
    try:
        sys.path[:] = pickle.loads(blocks.get())
        function = pickle.loads(blocks.get())
    except BaseException:
        _reply(replies, {"error": traceback.format_exc()})
        return
    _reply(replies, {"ready": True})
    while True:
        for row, seed in pickle.loads(blocks.get()):
            _reply(replies, _scored(function, row, seed))


def _die_with(parent: int) -> None:
    """Have the kernel end this process with its parent, also while the function hangs; on Linux only."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (AttributeError, OSError):
        return
    if os.getppid() != parent:  # it has died already
        os._exit(1)


def _receive(requests: BinaryIO, blocks: "queue.SimpleQueue[bytes]") -> None:
    """Read blocks as they come, also while the function is at work; at the end of the input, leave."""
    while len(head := requests.read(8)) == 8:
        blocks.put(requests.read(struct.unpack(">Q", head)[0]))
    os._exit(0)


def _reply(replies: int, answer: dict[str, Any]) -> None:
    line = json.dumps(answer).encode() + b"\n"
    while line:
        line = line[os.write(replies, line) :]


def _scored(function: Any, row: dict[str, Any], seed: int) -> dict[str, Any]:
    """The score of a row, or why it has none."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        score = function(row)
        if score is None:
            return {"failure": "the function gave no score (None)"}
        if not isinstance(score, (str, bytes)) and 0 <= (number := float(score)) <= 1:
            return {"score": number}
        reason = f"a score must be true, false or a number in [0, 1]; it is {score!r}"
    except BaseException as error:  # also SystemExit: it costs the sample, and no worker
        reason = f"{type(error).__name__}: {error}"
    return {"failure": reason.encode(errors="backslashreplace").decode()}  # e.g. of half a character


if __name__ == "__main__":
    main()
