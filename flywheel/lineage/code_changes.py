"""How the code of one session differs from that of another: its modules, and what was installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flywheel.records import Answer
from flywheel.storage.events import CodeChanged

UNKNOWN, ABSENT = "unknown", "absent"
_NAMED = 8
"""Modules and distributions that a line names; more are counted."""


def hashes(recorded: Mapping[str, Mapping[str, str | None]]) -> dict[str, str | None]:
    """{module: SHA-256} of what ``modules.Code.json`` gave."""
    return {name: module["sha256"] for name, module in recorded.items()}


def differing(then: Mapping[str, str | None], now: Mapping[str, str | None]) -> dict[str, tuple[str, str]]:
    """{name: (then, now)} of the hashes or versions that are not the same, or of which one is not known."""
    pairs = {name: (_text(then, name), _text(now, name)) for name in sorted({*then, *now})}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1] or UNKNOWN in pair}


def _text(values: Mapping[str, str | None], name: str) -> str:
    return values[name] or UNKNOWN if name in values else ABSENT


class CodeChange(Answer, frozen=True):
    """How the code of a session differs from that of the one before."""

    generation: int
    """From which generation on."""
    modules: Mapping[str, Sequence[str]]
    """{module: its SHA-256 [before, since]}; ``absent`` or ``unknown`` where there is none."""
    distributions: Mapping[str, Sequence[str]]
    """{distribution: its version [before, since]}, e.g. ``{"torch": ["2.9.0", "2.9.1"]}``."""

    @classmethod
    def of(cls, event: CodeChanged) -> CodeChange:
        """That of an event."""
        return cls(event.generation, event.modules, event.distributions)

    def __str__(self) -> str:
        names = [f"{name}{how(pair)}" for name, pair in self.modules.items()]
        names += [f"{name} {then} -> {now}" for name, (then, now) in self.distributions.items()]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return f"code changed before generation {self.generation}: {', '.join(names[:_NAMED])}{more}"


def how(pair: Sequence[str]) -> str:
    """What there is to say of a module beside its name."""
    if UNKNOWN in pair:
        return " (its source is not known)"
    return {pair[0]: " (new)", pair[1]: " (gone)"}.get(ABSENT, "")
