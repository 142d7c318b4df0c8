"""Ranks: their numbers, agreement between them, and errors raised on all. With one process it costs nothing.

Under torchrun every rank runs the loop; rank 0 decides and writes. Control traffic has a gloo group
of its own with no practical timeout, since a stage that only rank 0 runs may outlast the default
30 minutes. When a rank dies, the next collective raises RankDied on the others; torchrun then ends all
ranks and, with ``--max-restarts``, starts them again.
"""

from __future__ import annotations

import atexit
import os
import pickle
import re
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from flywheel.errors import Control, EndedEarlier, ExitCode, RankDied

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

T = TypeVar("T")
_NO_TIMEOUT = timedelta(days=365)
_POLL_SECONDS = 0.01
_ENDED = "flywheel/ended"
_FAILED = 2
_AGREED = "_flywheel_raised_on_all_ranks"
_control: Any = None
_is_alone = False
_all_attempts: Store | None = None
"""torchrun's store, the same in all its attempts."""


def rank() -> int:
    """This process's rank; 0 outside torchrun."""
    return 0 if _is_alone else rank_of_process()


def world_size() -> int:
    """Number of ranks; 1 outside torchrun."""
    return 1 if _is_alone else world_of_process()


def rank_of_process() -> int:
    """This process's rank, also while it works alone."""
    return int(os.environ.get("RANK", "0"))


def world_of_process() -> int:
    """Number of ranks, also while this one works alone."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def alone() -> Iterator[None]:
    """Within the block this rank works as if it were the only one: for units that span no ranks.

    So it is for whatever asks torch or Lightning, too, e.g. a metric of torchmetrics: it would gather from
    ranks that are at something else.
    """
    global _is_alone  # noqa: PLW0603 - a process is one rank
    before, _is_alone = _is_alone, True
    try:
        with _no_others() if world_of_process() > 1 else nullcontext():
            yield
    finally:
        _is_alone = before


@contextmanager
def _no_others() -> Iterator[None]:
    """Within the block torch has no process group, and this is Lightning's rank 0."""
    from lightning.pytorch.utilities import rank_zero_only
    from torch.distributed import GroupMember

    lightning: Any = rank_zero_only  # its attribute is the rank by which functions are silent elsewhere
    group, own = GroupMember.WORLD, lightning.rank
    GroupMember.WORLD, lightning.rank = None, 0
    try:
        yield
    finally:
        GroupMember.WORLD, lightning.rank = group, own


def local_world_size() -> int:
    """Number of ranks on this node."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def trainer_place(accelerator: str = "auto") -> dict[str, Any]:
    """Arguments by which a Lightning trainer spans the ranks of torchrun; none outside it.

    Of a rank that works alone: this rank's own device.
    """
    world, local = world_size(), local_world_size()
    if world > 1:
        return {"devices": local, "num_nodes": world // local}
    if not _is_alone or world_of_process() == 1:
        return {}
    import torch

    has_devices = accelerator != "cpu" and torch.cuda.is_available()
    own = [int(os.environ.get("LOCAL_RANK", "0"))] if has_devices else 1
    return {"devices": own, "num_nodes": 1, "strategy": "auto"}


def start() -> None:
    """Join the process group, once. Lightning's DDP strategy finds and uses it.

    Raises EndedEarlier if an earlier attempt of torchrun ended as ``end`` says.
    """
    global _control, _all_attempts  # noqa: PLW0603 - one group a process, like torch.distributed's own
    if _control is not None or _all_attempts is not None:
        return
    if world_size() == 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    import torch
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    if not dist.is_initialized():
        _all_attempts, own, world = next(rendezvous("env://"))
        if _all_attempts.check([_ENDED]):
            raise EndedEarlier.of(ExitCode(int(_all_attempts.get(_ENDED))))
        if world == 1:
            return
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        store = store_of_attempt(_all_attempts, own, world)
        dist.init_process_group(backend, store=store, rank=own, world_size=world)
        atexit.register(_leave)  # else a process that is refused may abort at its exit
    _control = dist.new_group(backend="gloo", timeout=_NO_TIMEOUT)


def end(code: int) -> None:
    """Leave together, once rank 0 has closed the run: torchrun ends those that still work.

    torchrun takes every code but 0 for a crash and starts all ranks again. An end that was decided, e.g.
    by ``flywheel stop``, is final: later attempts find the code and end with it.
    """
    if _all_attempts is not None and code != ExitCode.FINISHED:
        _all_attempts.set(_ENDED, str(int(code)))
    if _control is not None:
        from_rank_0(lambda: None)


def store_of_attempt(store: Store, own_rank: int, world: int) -> Store:
    """The rendezvous store, under a prefix that no earlier attempt of torchrun has used.

    torchrun keeps one store for all attempts, and gloo would connect to the addresses that dead ranks
    left there. ``TORCHELASTIC_RESTART_COUNT`` does not name an attempt, as each node counts its own
    failures; so rank 0 names it. The others ask for it under a name that is new, since an answer to a
    dead rank may still be there. All ranks must call it. Raises TimeoutError if one does not come.
    """
    from torch._C._distributed_c10d import PrefixStore

    name = uuid.uuid4().hex
    if own_rank == 0:
        _answer_all(store, name, set(range(1, world)))
    else:
        store.set(f"flywheel/ask/{own_rank}", name)
        name = store.get(f"flywheel/answer/{name}").decode()
        store.set(f"flywheel/joined/{name}/{own_rank}", "")
    return PrefixStore(f"flywheel/{name}", store)


def _answer_all(store: Store, attempt: str, missing: set[int]) -> None:
    """Tell each rank that asks the attempt's name, until all have it; some who ask are dead."""
    end = time.monotonic() + store.timeout.total_seconds()  # type: ignore[attr-defined] # not in its stub
    while missing:
        for other in missing:
            if store.check([f"flywheel/ask/{other}"]):
                asker = store.get(f"flywheel/ask/{other}").decode()
                store.set(f"flywheel/answer/{asker}", attempt)
        missing = {other for other in missing if not store.check([f"flywheel/joined/{attempt}/{other}"])}
        if missing and time.monotonic() > end:
            raise TimeoutError(f"All ranks must join the rendezvous; {sorted(missing)} did not.")
        time.sleep(_POLL_SECONDS if missing else 0)


def _leave() -> None:
    """Destroy the groups while their threads can still be joined."""
    import torch.distributed as dist

    global _control  # noqa: PLW0603 - see above
    _control = None
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def _collective() -> Iterator[None]:
    """Around a collective of the control group: it fails only if a rank is gone. Raises RankDied."""
    try:
        yield
    except RuntimeError as error:
        if not is_of_collective(error):
            raise  # e.g. of unpickling
        # "[/path/of/gloo/pair.cc:553] Connection closed by peer [127.0.0.1]:4831. This is typically ..."
        cause = re.sub(r"^\[\S*\] ", "", str(error)).partition(". ")[0]
        raise RankDied.of(rank(), cause) from None


def from_rank_0(make: Callable[[], T]) -> T:
    """``make()`` on rank 0, its result everywhere. An exception there is raised everywhere."""
    if world_size() == 1:
        return make()
    import torch.distributed as dist

    box: list[Any] = [None, None]
    failure: BaseException | None = None
    if rank() == 0:
        try:
            box[0] = make()
        except (Exception, Control) as error:
            failure = error
            box[1] = portable(error)
    with _collective():
        dist.broadcast_object_list(box, src=0, group=_control)
    if failure is not None or box[1] is not None:
        raise failure or box[1]
    return box[0]  # type: ignore[no-any-return]


def any_rank(flag: bool) -> bool:
    """Whether the flag is up on any rank: a collective, to be called by all at the same point.

    Raises what another rank failed with, if that one is at ``raise_on_all_ranks`` instead.
    """
    if world_size() == 1:
        return flag
    highest = _highest(int(flag))
    if highest == _FAILED:
        _raise_failures(None)
    return bool(highest)


def _highest(signal: int) -> int:
    """The highest of what the ranks signal: 0, 1 for a flag that is up, or ``_FAILED``."""
    import torch
    import torch.distributed as dist

    tensor = torch.tensor(signal)
    with _collective():
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=_control)
    return int(tensor.item())


def gather(mine: list[T]) -> list[T]:
    """What each rank has, in the order of ranks, on rank 0; an empty list elsewhere."""
    if world_size() == 1:
        return mine
    import torch.distributed as dist

    parts: list[Any] | None = [None] * world_size() if rank() == 0 else None
    with _collective():
        dist.gather_object(mine, parts, dst=0, group=_control)
    return [result for part in parts or () for result in part]


def raise_on_all_ranks(failure: Exception | None) -> None:
    """Raise on all ranks if any failed: its own failure where there is one, else another rank's.

    A collective that failed because another rank did not come to it is nobody's own failure. What all
    ranks raise already is raised on.
    """
    if failure is not None and (world_size() == 1 or hasattr(failure, _AGREED)):
        raise failure
    if world_size() == 1:
        return
    if _highest(_FAILED if failure is not None else 0) == _FAILED:
        _raise_failures(failure)


def _raise_failures(failure: Exception | None) -> None:
    import torch.distributed as dist

    failures: list[Exception | None] = [None] * world_size()
    with _collective():
        dist.all_gather_object(failures, portable(failure), group=_control)
    error = min((error for error in (failure, *failures) if error is not None), key=is_of_collective)
    setattr(error, _AGREED, True)
    raise error


def is_of_collective(error: BaseException) -> bool:
    """Whether a collective raised it: gloo's errors are known by their text alone."""
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def run_on_all_ranks(work: Callable[[], T]) -> T:
    """``work()`` on every rank; an exception on any of them is raised on all, once all are through."""
    failure: Exception | None = None
    result: T | None = None
    try:
        result = work()
    except Exception as error:
        failure = error
    raise_on_all_ranks(failure)
    return result  # type: ignore[return-value]


def portable(error: BaseException | None) -> Any:
    """What another rank raises for the error: a copy that says where it was, or its text if it has none."""
    if error is None:
        return None
    where = "".join(traceback.format_exception(error))
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:
        copy = RuntimeError(f"{type(error).__name__}: {error}")
    copy.add_note(f"On rank {rank()}:\n{where}")
    return copy
