"""The typed configuration: what keys there are, their types, ranges and cross-field rules.

Checked at composition, before anything heavy is imported. Fields marked operational may change
when a run is resumed; all others make up its identity.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

from omegaconf import MISSING

from flywheel.config.credentials import is_credential


class Init(Enum):
    """The weights that a candidate starts from."""

    parent = "parent"
    base = "base"
    fresh = "fresh"


class Genesis(Enum):
    """How the first champion comes to be."""

    train = "train"
    load = "load"
    fresh = "fresh"


class OnFailure(Enum):
    """What the run does when a generation fails."""

    stop = "stop"
    go_on = "go_on"


class OnUnitFailure(Enum):
    """What a stage does when a unit of its work raises."""

    fail = "fail"
    skip = "skip"


class Seal(Enum):
    """Whether a run may go on whose sealed suites were opened."""

    keep = "keep"
    reopen = "reopen"


class AtLimit(Enum):
    """What a run does that reaches a limit of its budget."""

    stop = "stop"
    finish = "finish"


class ErrorRule(Enum):
    """Which wrong promotions the error budget limits."""

    familywise = "familywise"
    false_discovery = "false_discovery"


class PromotionRule(Enum):
    """How a run goes on from its candidates, and how one becomes champion."""

    each = "each"
    frontier = "frontier"
    greedy = "greedy"


class Log(Enum):
    """What the terminal shows."""

    auto = "auto"
    live = "live"
    plain = "plain"
    json = "json"
    quiet = "quiet"


class Report(Enum):
    """When a run draws its report."""

    auto = "auto"
    final = "final"
    none = "none"


def operational(default: Any) -> Any:
    """A field that may change on resume: it does not change what a generation becomes."""
    return field(default=default, metadata={"operational": True})


@dataclass(kw_only=True, slots=True)
class Price:
    """What ``budget.money`` is reckoned by, in any currency. Money is recorded at the prices of its time."""

    device_hour: float = 0.0
    """Of one rank's device, for an hour."""
    thousand_tokens: float = 0.0
    """Of 1,000 tokens that the task or the grader reports."""

    def __post_init__(self) -> None:
        check("budget.price.device_hour", self.device_hour, self.device_hour >= 0, "must be 0 or more")
        tokens = self.thousand_tokens
        check("budget.price.thousand_tokens", tokens, tokens >= 0, "must be 0 or more")


@dataclass(kw_only=True, slots=True)
class Budget:
    """What a run may cost. A limit that is reached stops the run, also within a stage; see ``at_limit``."""

    seconds: float | None = None
    """Wall time of all stages together, in seconds."""
    device_hours: float | None = None
    """The same times ranks, in hours."""
    samples: int | None = None
    """Rows that are generated; once they are reached no more are, and the turn is the last."""
    tokens: int | None = None
    """Those that the task and the grader report; held where more of them would be used."""
    flops: float | None = None
    """Of the steps of all fits, those of trials too, as counted by ``runtime.flops``."""
    money: float | None = None
    """Device hours and tokens, at ``price``."""
    price: Price = field(default_factory=Price)
    at_limit: AtLimit = AtLimit.stop
    """``stop``: at the next step or unit; a larger budget lets the run go on. ``finish``: with the turn that
    ends nearest to the limit, as by ``generations``: the run looks at its sealed suites, and is finished."""

    def __post_init__(self) -> None:
        for name in ("seconds", "device_hours", "samples", "tokens", "flops", "money"):
            limit = getattr(self, name)
            check(f"budget.{name}", limit, limit is None or limit > 0, "must be above 0")
        if self.money is not None and not (self.price.device_hour or self.price.thousand_tokens):
            raise ValueError(
                "budget.money needs a price: give budget.price.device_hour or budget.price.thousand_tokens."
            )


@dataclass(kw_only=True, slots=True)
class ErrorBudget:
    """How often a run may promote what is no better. No part can reach it: see ``storage.accountant``."""

    alpha: float = 0.05
    """Chance that the run ever promotes a candidate that is no better than its champion."""
    looks: int | None = None
    """Looks at the gate's items that share it; null: those of the ``generations`` it is created with."""
    reserve: float = 0.1
    """The share of alpha that is kept for looks beyond those."""
    rule: ErrorRule = ErrorRule.familywise
    """What alpha limits: the chance of any wrong promotion, or the expected share of wrong ones."""

    def __post_init__(self) -> None:
        check("error_budget.alpha", self.alpha, 0 < self.alpha < 1, "must be between 0 and 1")
        check("error_budget.reserve", self.reserve, 0 <= self.reserve < 1, "must be 0 or more, below 1")
        holds = self.looks is None or self.looks >= 1
        check("error_budget.looks", self.looks, holds, "must be 1 or more, or null")


@dataclass(kw_only=True, slots=True)
class Promotion:
    """How a run goes on from its candidates: a file of conf/promotion, with what it leaves open."""

    rule: PromotionRule = PromotionRule.each
    """``each``: what is certified is built on; ``frontier``: what does no shown harm on dev, too; ``greedy``:
    no test at all, the higher mean on dev, to compare with."""
    every: int | None = None
    """Of a frontier: turns between looks at the gate's items."""
    patience: int | None = None
    """Of a frontier: looks in a row that may fail before it falls back to the champion."""
    harm: float | None = None
    """Of a frontier: level, in (0, 0.5], at which harm is shown on dev.

    Half of it is for each of two comparisons, with the champion and with the best frontier. The longer the
    frontier, the more equal candidates are rejected, as the best of many is lucky on dev.
    """

    def __post_init__(self) -> None:
        given = {"every": self.every, "patience": self.patience, "harm": self.harm}
        if self.rule is PromotionRule.frontier:
            for key in ("every", "patience"):
                value = given[key]
                check(f"promotion.{key}", value, value is not None and value >= 1, "must be 1 or more")
            holds = self.harm is not None and 0 < self.harm <= 0.5
            check("promotion.harm", self.harm, holds, "must be above 0 and at most 0.5")
        elif strange := [key for key, value in given.items() if value is not None]:
            raise ValueError(
                f"promotion.{strange[0]} is of promotion=frontier only; the rule is {self.rule.value!r}."
            )


@dataclass(kw_only=True, slots=True)
class Tune:
    """What tuners may search, and what the trials of one generation may cost; see docs/tuning.md."""

    space: dict[str, Any] = field(default_factory=dict)
    """Setting -> what it may be: ``low``, ``high`` and ``step``, ``log``; or ``choices``; and ``when``,
    ``redo_from``, ``shape``."""
    constraints: list[str] = field(default_factory=list)
    """What must hold between settings, e.g. ``width * depth <= 512``."""
    lag: int = 1
    """A trial is proposed from the results of all but the last ``lag - 1`` before it: so many trials may be
    made at once, one a rank."""
    genesis: bool = True
    """Whether settings are tuned in generation 0, too."""
    seconds: float | None = None
    """Wall time of the trials of a generation together, after which no further one begins; null: any."""
    money: float | None = None
    """The same at ``budget.price.device_hour``."""

    def __post_init__(self) -> None:
        check("tune.lag", self.lag, self.lag >= 1, "must be 1 or more")
        for name in ("seconds", "money"):
            limit = getattr(self, name)
            check(f"tune.{name}", limit, limit is None or limit > 0, "must be above 0, or null")


@dataclass(kw_only=True, slots=True)
class Rival:
    """A model that answers prompts beside the one that a turn builds on; see docs/rivals.md."""

    generation: int | None = None
    """An earlier generation of the run, by its number; in turns that have none such, it does not answer."""
    weights: str | None = None
    """Weights from elsewhere: a .safetensors or Lightning .ckpt file, or a bundle's folder."""
    share: float = 1.0
    """Share of the prompts that it answers."""

    def __post_init__(self) -> None:
        given = {"generation": self.generation, "weights": self.weights}
        has_one = (self.generation is None) != (self.weights is None)
        check("rivals.NAME", given, has_one, "must have one of generation and weights")
        check("rivals.NAME.generation", self.generation, (self.generation or 0) >= 0, "must be 0 or more")
        check("rivals.NAME.share", self.share, 0 < self.share <= 1, "must be above 0 and at most 1")
        if self.weights is not None:
            is_file = os.path.isfile(file_of(self.weights))
            rule = "must be an existing .safetensors or .ckpt file, or a bundle's folder"
            check("rivals.NAME.weights", self.weights, is_file, rule)


@dataclass(kw_only=True, slots=True)
class Retention:
    """What stays on disk after each generation, besides what the run needs; by default everything."""

    promoted: bool = False
    """Keep every generation that became a champion."""
    last: int | None = None
    """Keep the N that ended last; 0: none of them; null: as many as there are, or none with ``promoted``."""

    def __post_init__(self) -> None:
        holds = self.last is None or self.last >= 0
        check("retention.last", self.last, holds, "must be 0 or more, or null")


@dataclass(kw_only=True, slots=True)
class Audit:
    """What checks, in every turn, whether the samples that are kept are right; see docs/audits.md."""

    grader: dict[str, Any] | None = field(default_factory=dict)
    """The trusted grader, by ``_target_``: known answers, a dearer grader, labels of a person; null: none."""
    column: str | None = None
    """The trusted grader's column to go by: a row is right where it is .5 or more; null: its first."""
    size: int = 200
    """Kept rows that are drawn in a turn; all, where fewer are kept. Of dropped rows a quarter as many."""
    by: list[str] | None = None
    """Columns of samples by whose values precision is reported too, e.g. ``[length]``."""
    least_precision: float = 0.95
    """The share of right rows among those kept below which an audit says so."""

    def __post_init__(self) -> None:
        check("audit.size", self.size, self.size >= 1, "must be 1 or more")
        holds = 0 < self.least_precision <= 1
        check("audit.least_precision", self.least_precision, holds, "must be above 0 and at most 1")
        grader = self.grader
        if grader and "_target_" not in grader:
            raise ValueError(f"audit.grader must name a class by _target_; it has {sorted(grader)}.")


@dataclass(kw_only=True, slots=True)
class Config:
    """All keys of ``python -m flywheel``. The components are dicts with ``_target_``."""

    recipe: str = MISSING
    """Name of the recipe: a file in ``conf/recipe``, in ``--config-dir`` or of an installed package."""
    seed: int = 0
    """Root of all randomness of the run; also part of its default name."""
    name: str | None = operational(None)
    """Directory of the run under ``runs_dir/recipe``; default: the seed and a hash of the identity."""
    runs_dir: str = operational("runs")
    """Where runs are kept."""
    generations: int = operational(4)
    """Turns after genesis, whatever their verdicts."""
    patience: int | None = operational(None)
    """Finish after so many generations in a row without promotion, failed ones too; null: never."""
    budget: Budget = field(default_factory=Budget, metadata={"operational": True})
    error_budget: ErrorBudget = field(default_factory=ErrorBudget)
    """How sure a promotion must be."""
    promotion: Promotion = field(default_factory=Promotion)
    """Whether each candidate is looked at, or a frontier may run ahead of the champion; see docs/gates.md."""
    on_failure: OnFailure = operational(OnFailure.stop)
    """Whether a failed generation stops the run or the next one is tried."""
    refit: bool = operational(False)
    """Once the run is over: train as the champion was, with the labels of dev and gate; see docs/gates.md."""
    seal: Seal = operational(Seal.keep)
    """``reopen``: this session goes on though sealed suites were opened, and opens them again, counted."""
    retention: Retention = field(default_factory=Retention, metadata={"operational": True})
    """What to keep; the rest goes after each generation that is promoted or rejected."""
    log: Log = operational(Log.auto)
    """Terminal: live view, plain lines, JSON lines, nothing; auto is live on a terminal, else plain."""
    report: Report = operational(Report.auto)
    """When ``report.html`` in the run's directory is drawn: at the run's end, by ``auto`` also after
    generations, in at most 1% of the wall time; by ``none`` not by itself. It needs the extra ``report``."""
    threads: int | None = operational(None)
    """CPU threads of torch; null: one a core when the run is created, the same ever after."""
    debug: str = "none"
    """Overlay that shrinks a run: ``tiny`` (four short generations) or ``fast_dev_run`` (each stage once)."""
    chunk_size: int = 512
    """Rows in a unit of ``generate``, ``evaluate`` and ``grade``; floats depend on it, but not on ranks."""
    on_unit_failure: OnUnitFailure = OnUnitFailure.fail
    """Whether a unit that raises fails the stage, or is skipped: no samples, null scores, outcomes of 0."""
    max_failures: float = operational(0.5)
    """Share of the samples that may stay without a score, as a grader failed; above it the stage fails."""
    human_share: float | None = None
    """Least share, in (0, 1), of a corpus's draws that are human rows, which are drawn more often for it,
    whatever the curator; null: as the curator says."""
    init: Init = Init.parent
    """Weights that a candidate starts from: its parent's, the base checkpoint's, or fresh ones."""
    genesis: Genesis = Genesis.train
    """First champion: trained on the seed samples, the base checkpoint as it is, or an untrained model."""
    base: str | None = None
    """Your own weights to start from: a .safetensors or Lightning .ckpt file."""
    rivals: dict[str, Any] = field(default_factory=dict)
    """By a name each: what answers prompts beside the model that a turn builds on, see ``Rival``; null: none
    by this name."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What the tuner may change; other keys refer to them as ``${settings.lr}``."""
    genesis_settings: dict[str, Any] = field(default_factory=dict)
    """Settings that are different in generation 0."""
    refit_settings: dict[str, Any] = field(default_factory=dict, metadata={"operational": True})
    """Settings that are different in the refit: with more labels, say, more steps serve it best."""
    tune: Tune = field(default_factory=Tune)
    """What the tuner may search."""
    task: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    grader: dict[str, Any] = field(default_factory=dict)
    curator: dict[str, Any] = field(default_factory=dict)
    tuner: dict[str, Any] = field(default_factory=dict)
    gate: dict[str, Any] = field(default_factory=dict)
    guards: dict[str, Any] = field(default_factory=dict)
    """By a name each: what looks at every generation and may warn, ask for a person, reject the candidate, or
    halt the run; null: none by this name."""
    review: dict[str, Any] = field(default_factory=dict)
    audit: Audit = field(default_factory=Audit)
    """A trusted grader that checks some of what is kept in every turn."""
    tracker: dict[str, Any] = field(default_factory=dict, metadata={"operational": True})
    """What follows the run: one class by its ``_target_``, or several by a name each."""

    def __post_init__(self) -> None:
        check("generations", self.generations, self.generations >= 0, "must be 0 or more")
        check("chunk_size", self.chunk_size, self.chunk_size >= 1, "must be 1 or more")
        share = self.max_failures
        check("max_failures", share, 0 <= share <= 1, "must be a share, from 0 to 1")
        least = self.human_share
        check("human_share", least, least is None or 0 < least < 1, "must be between 0 and 1, or null")
        for key, value in (("patience", self.patience), ("threads", self.threads)):
            check(key, value, value is None or value >= 1, "must be 1 or more, or null")
        for name in self.rivals:
            holds = bool(re.fullmatch(r"\w+", name))
            check("rivals", name, holds, "must have names of letters, digits and _")
        rivals_in(self.rivals)
        several = {} if {"_target_", "_object_"} & set(self.tracker) else self.tracker
        for key, named in (("guards", self.guards), ("tracker", several)):
            for name, part in named.items():
                has_target = isinstance(part, dict) and "_target_" in part
                has_target |= part is None and key == "guards"
                if not has_target and not is_credential(name):  # those are refused later, as what they are
                    kind = type(part).__name__  # and no value is repeated: it may be one under another name
                    raise ValueError(f"{key}.{name} must name a class by _target_; it is a {kind} without.")
        if self.name is not None:
            rule = "must be letters, digits and . _ - and start with a letter or digit"
            check("name", self.name, bool(re.fullmatch(r"[^\W_][\w.-]*", self.name)), rule)
        if self.tune.money is not None and not self.budget.price.device_hour:
            raise ValueError("tune.money needs a price of trials: give budget.price.device_hour.")
        self._check_base()
        self._check_devices()

    def _check_base(self) -> None:
        needed = self.init is Init.base or self.genesis is Genesis.load
        if needed and self.base is None:
            why = "init=base" if self.init is Init.base else "genesis=load"
            raise ValueError(f"{why} needs weights to start from: give base=PATH.")
        if self.base is not None:
            is_file = os.path.isfile(self.base)
            check("base", self.base, is_file, "must be an existing .safetensors or .ckpt file")

    def _check_devices(self) -> None:
        devices = self.trainer.get("devices", 1)
        count = _device_count(devices)
        if count > int(os.environ.get("WORLD_SIZE", "1")):
            raise ValueError(
                f"More than one device needs one process each; trainer.devices is {devices!r}. Start it as\n"
                f"    torchrun --nproc-per-node={count} -m flywheel recipe={self.recipe} ..."
            )


def _device_count(devices: Any) -> int:
    """How many devices Lightning would use, as far as it can be known without asking for them."""
    if isinstance(devices, str) and "," in devices:
        devices = [part for part in devices.split(",") if part.strip()]
    if isinstance(devices, (list, tuple)):
        return len(devices)
    return int(devices) if str(devices).isdigit() else 1


def rivals_in(section: Mapping[str, Any]) -> dict[str, Rival]:
    """The rivals that a section ``rivals`` names. Raises ValueError."""
    known = [f.name for f in fields(Rival)]
    for name, node in section.items():
        strange = [key for key in node or () if key not in known]
        check(f"rivals.{name}", strange, not strange, f"may have the keys {', '.join(known)}")
    return {name: Rival(**node) for name, node in section.items() if node is not None}


def file_of(weights: str) -> str:
    """The file with the weights that a path names: itself, or of a bundle's folder the one in it."""
    return os.path.join(weights, "model.safetensors") if os.path.isdir(weights) else weights


def check(key: str, value: object, holds: bool, rule: str) -> None:
    """Raise ValueError with the key, the rule and the value, unless the rule holds."""
    if not holds:
        raise ValueError(f"{key} {rule}; it is {value!r}.")


OPERATIONAL = frozenset(f.name for f in fields(Config) if f.metadata.get("operational"))
TEXT_KEYS = frozenset(f.name for f in fields(Config) if str(f.type).startswith("str")) - {"recipe", "debug"}
"""Keys whose values are texts, whatever they look like; those two name files of the configuration."""
