"""A person is asked: the run waits until somebody has answered with ``python -m flywheel review``."""

from __future__ import annotations

from flywheel.protocols import ReviewRequest


class Person:
    """Every promotion waits for a person's answer, which is recorded with a name and a reason."""

    def review(self, request: ReviewRequest) -> bool | None:
        """The answer to this request, if there is one."""
        return request.answer.consent if request.answer else None
