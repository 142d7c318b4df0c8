"""Ranks: who am I, agree with the others, share work in chunks. On one process all of it is free.

Under torchrun every rank runs the loop; rank 0 decides and writes. Control traffic has a gloo group
of its own with no practical timeout, since a stage that only rank 0 runs may outlast the default
30 minutes; torchrun ends all ranks when one dies.
"""

from __future__ import annotations

import atexit
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from flywheel.errors import Control

T = TypeVar("T")
_NO_TIMEOUT = timedelta(days=365)
_control: Any = None


def rank() -> int:
    """This process's rank; 0 outside torchrun."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Number of ranks; 1 outside torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_world_size() -> int:
    """Number of ranks on this node."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def trainer_place() -> dict[str, int]:
    """Arguments by which a Lightning trainer spans the ranks of torchrun; none outside it."""
    world, local = world_size(), local_world_size()
    return {"devices": local, "num_nodes": world // local} if world > 1 else {}


def start() -> None:
    """Join the process group, once. Lightning's DDP strategy finds and uses it."""
    global _control  # noqa: PLW0603 - one group a process, like torch.distributed's own
    if world_size() == 1 or _control is not None:
        return
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend)
        atexit.register(_leave)  # else a refusal may abort on its way out
    _control = dist.new_group(backend="gloo", timeout=_NO_TIMEOUT)


def _leave() -> None:
    """Let go of the groups while their threads can still be joined."""
    import torch.distributed as dist

    global _control  # noqa: PLW0603 - see above
    _control = None
    dist.destroy_process_group()


def from_rank_0(make: Callable[[], T]) -> T:
    """``make()`` on rank 0, its result everywhere. An exception there is raised everywhere."""
    if world_size() == 1:
        return make()
    import torch.distributed as dist

    box: list[Any] = [None, None]
    if rank() == 0:
        try:
            box[0] = make()
        except (Exception, Control) as error:
            box[1] = _portable(error)
    dist.broadcast_object_list(box, src=0, group=_control)
    if box[1] is not None:
        raise box[1]
    return box[0]  # type: ignore[no-any-return]


def any_rank(flag: bool) -> bool:
    """Whether the flag is up on any rank: a collective, to be called by all at the same point."""
    if world_size() == 1:
        return flag
    import torch
    import torch.distributed as dist

    tensor = torch.tensor(int(flag))
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=_control)
    return bool(tensor.item())


def in_chunks(count: int, work: Callable[[int], T], check: Callable[[], None]) -> Sequence[T] | None:
    """``[work(0), ..., work(count - 1)]`` on rank 0, None elsewhere; see ``stream_chunks``."""
    done = list(stream_chunks(count, work, check))
    return done if rank() == 0 else None


def stream_chunks(count: int, work: Callable[[int], T], check: Callable[[], None]) -> Iterator[T]:
    """``work(0), ..., work(count - 1)`` on rank 0, nothing elsewhere; chunk k is done by rank k mod world.

    All ranks must run it to its end. The result does not depend on the number of ranks. An exception on
    any rank is raised on all. ``check`` is called before each round of chunks, by all ranks together; it
    may raise to leave. No more than a round of chunks is in memory.
    """
    for first in range(0, count, world_size()):
        check()
        k = first + rank()
        failure: Exception | None = None
        mine: list[T] = []
        if k < count:
            try:
                mine.append(work(k))
            except Exception as error:
                failure = error
        raise_together(failure)
        yield from _gathered(mine)


def _gathered(mine: list[T]) -> list[T]:
    """What each rank has, in the order of ranks, on rank 0; an empty list elsewhere."""
    if world_size() == 1:
        return mine
    import torch.distributed as dist

    parts: list[Any] | None = [None] * world_size() if rank() == 0 else None
    dist.gather_object(mine, parts, dst=0, group=_control)
    return [result for part in parts or () for result in part]


def raise_together(failure: Exception | None) -> None:
    """Raise on all ranks if any failed: its own failure where there is one, else another rank's."""
    if world_size() == 1:
        if failure is not None:
            raise failure
        return
    import torch.distributed as dist

    failures: list[Exception | None] = [None] * world_size()
    dist.all_gather_object(failures, _portable(failure), group=_control)
    for error in (failure, *failures):
        if error is not None:
            raise error


def together(work: Callable[[], T]) -> T:
    """``work()`` on every rank; an exception on any of them is raised on all, once all are through."""
    failure: Exception | None = None
    result: T | None = None
    try:
        result = work()
    except Exception as error:
        failure = error
    raise_together(failure)
    return result  # type: ignore[return-value]


def _portable(error: Any) -> Any:
    """The error, or its text where it cannot be sent to another rank."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
