"""How numbers, sizes and names are written for people, in the terminal, a card and every subcommand."""

from __future__ import annotations

from collections.abc import Mapping

from flywheel.records import Interval

_SHORT = 12


def short(name: str | None) -> str:
    """The first characters of a hash or an id, e.g. ``34338db570fa``; ``-`` for None."""
    return name[:_SHORT] if name else "-"


def number_text(value: float) -> str:
    """A number with four digits, e.g. ``0.9731``, ``12.5``, ``3e-05``; whole from 10,000 on."""
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


def estimate_text(estimate: Interval, separator: str = " ") -> str:
    """An estimate with its interval: a share in percent, ``97.3% [96.5, 97.9]``, else ``64 [62, 64]``."""
    value, low, high = estimate.value, estimate.low, estimate.high
    if estimate.unit:
        return f"{number_text(value)}{separator}[{number_text(low)}, {number_text(high)}]"
    return f"{value:.1%}{separator}[{100 * low:.1f}, {100 * high:.1f}]"


def opened_text(times: int) -> str:
    """What stands beside sealed figures: they mean the less, the more often somebody could choose by them."""
    return f"sealed suites opened {'once' if times == 1 else f'{times} times'}"


def size_text(size: float) -> str:
    """Bytes by powers of 1,024, e.g. ``12 MiB``, ``1.5 GiB``."""
    units = iter(("B", "KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while abs(size) >= 1024 and (larger := next(units, None)):
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if unit == "B" or abs(size) >= 10 else f"{size:.1f} {unit}"


def ungraded_text(failed: int, rows: int, reasons: Mapping[str, int]) -> str:
    """What follows a grader that failed on samples, e.g. ``; 3 of 300 (1%) without a score: timed out``."""
    if not failed:
        return ""
    return f"; {failed} of {rows} ({failed / rows:.0%}) without a score: {next(iter(reasons), '')}"
