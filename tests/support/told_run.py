"""Events of a short run, as what is told of it."""

from __future__ import annotations

from tests.support.events import event_of

INTERVAL = {"value": 0.968, "low": 0.953, "high": 0.978}
COST = {"seconds": 1.5, "cpu_seconds": 1.4}


def stage(generation, name, outputs=None, **facts):
    content = {"outputs": outputs or {}, "facts": facts, "cost": COST}
    return event_of("stage", generation=generation, stage=name, **content)


def run_events():
    weights = {"weights": "ab" * 32 + ".safetensors"}
    metrics = {"gate": {"accuracy": INTERVAL}}
    return [
        event_of("run_created", recipe="digits", name="seed0"),
        event_of("session_started"),
        event_of("generation_started", generation=0, parent=None),
        stage(0, "curate", rows=100, by_origin={"human": 100}),
        stage(0, "train", weights, start={"kind": "fresh"}, steps=5, settings={}),
        stage(0, "evaluate", metrics=metrics),
        event_of("generation_ended", generation=0, status="promoted", reason="genesis"),
        event_of("generation_started", generation=1, parent=0, champion=0),
        stage(1, "train", weights, start={"kind": "parent"}, steps=5, settings={}),
        event_of(
            "generation_ended",
            generation=1,
            status="failed",
            reason="train: [red]boom[/]",
            traceback="Traceback: user.py, line 3\n",
        ),
        event_of("run_failed", reason="train: boom"),
    ]
