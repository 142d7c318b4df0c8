"""Parts that switch one part of a recipe off, around the recipe's own: see ``flywheel.experiments.arms``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from flywheel.graders.failures import FAILURE, is_failure, score_of, with_reasons
from flywheel.records import Carry, Exhaustible, GateResult, Role, Suite

if TYPE_CHECKING:
    import pyarrow as pa

    from flywheel.keys import Key, Keys
    from flywheel.protocols import Evidence

TRAINED_ON = "label_trained_on"
"""Column that marks items whose labels a control trains on."""


class _Around:
    """What the part inside has besides, such as ``tokens_column`` or ``calibrate``, it has, too."""

    def __init__(self, inside: Any) -> None:
        self._inside = inside

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # while it is unpickled, there is nothing inside yet
            raise AttributeError(name)
        return getattr(self._inside, name)


class HumanOnly(_Around):
    """A curator that is shown human rows only: what was generated is dropped."""

    decide: ClassVar[None] = None  # it is shown a table of all rows

    def __init__(self, curator: Any) -> None:
        super().__init__(curator)

    def curate(self, samples: pa.Table, carry: Carry, key: Key) -> tuple[Any, Carry]:
        """The curator's decisions on the human rows; of the others none is kept."""
        import pyarrow as pa

        from flywheel.tables import DECISIONS, as_table

        human = np.equal(samples["origin"].to_numpy(), "human")
        answer, carry = self._inside.curate(samples.filter(pa.array(human)), carry, key)
        own = as_table(answer).select(DECISIONS.names).cast(DECISIONS)
        places = pa.array(np.cumsum(human) - 1, mask=~human)
        dropped = {"keep": False, "reason": "generated: a control", "weight": 1.0, "count": 0}
        columns = {
            name: own[name].take(places).fill_null(pa.scalar(value, own[name].type))
            for name, value in dropped.items()
        }
        return pa.table({"id": samples["id"], **columns}), carry


class SameScore(_Around):
    """A grader that gives all rows the same top score, in each of its columns of floats.

    That is 1, or the highest score of the block where that is higher, so that no threshold drops a row. There
    are no failures: what the grader could not score has the top score, too.
    """

    checked_answer: ClassVar[None] = None  # it lets everything pass, on purpose
    graders: ClassVar[dict[str, Any]] = {}  # what parts of a composition say is not reported

    def __init__(self, grader: Any) -> None:
        super().__init__(grader)

    def grade(self, samples: pa.Table, load_parent: Callable[[], Any], keys: Keys) -> pa.Table:
        """The grader's columns, without what they say."""
        scores = _scores(self._inside.grade(samples, load_parent, keys), samples)
        for name in _numbers(scores):
            top = max([1.0, *scores[name].drop_null().to_pylist()])
            scores = _replaced(scores, name, np.full(len(samples), top))
        return scores


class TrustedScore(_Around):
    """A grader whose columns of floats all have the score of a trusted grader, and its failures."""

    checked_answer: ClassVar[None] = None  # of the trusted grader: what it says is taken for the truth
    graders: ClassVar[dict[str, Any]] = {}

    def __init__(self, grader: Any, trusted: Any, column: str | None = None) -> None:
        """``column``: of the trusted grader; default: its first."""
        super().__init__(grader)
        self._trusted, self._column = trusted, column

    def grade(self, samples: pa.Table, load_parent: Callable[[], Any], keys: Keys) -> pa.Table:
        """The grader's columns, with the trusted score; where that failed it is null."""
        scores = _scores(self._inside.grade(samples, load_parent, keys), samples)
        trusted = with_reasons(self._trusted.grade(samples, load_parent, keys), samples)
        for name in _numbers(scores):
            scores = _replaced(scores, name, trusted[self._column or score_of(trusted)])
        has_failed = FAILURE in trusted.column_names
        return scores.append_column(FAILURE, trusted[FAILURE]) if has_failed else scores

    def close(self) -> None:
        """Close both graders that can be."""
        for grader in (self._inside, self._trusted):
            if hasattr(grader, "close"):
                grader.close()


class LabelsUsed(_Around):
    """A task whose seed samples have the labels of dev and gate, too: nothing but sealed is held out.

    The items stay in their suites, marked as problems that recur, as there must be a gate; what they say of a
    candidate is worth nothing, and ``PromoteAll`` does not ask them.
    """

    def __init__(self, task: Any) -> None:
        super().__init__(task)

    @property
    def exhaustible(self) -> tuple[Exhaustible, ...]:
        """Those of the task, and the items that are trained on."""
        own = tuple(getattr(self._inside, "exhaustible", ()))
        return (*own, Exhaustible(TRAINED_ON, (1,), "this control trains on the labels of dev and gate"))

    def seed(self) -> pa.Table:
        """The task's, and the items of dev and gate with their labels."""
        import pyarrow as pa
        import pyarrow.compute as pc

        from flywheel.tables import as_table

        seed = as_table(self._inside.seed())
        for suite in self._inside.suites():
            if suite.role in (Role.DEV, Role.GATE):
                labels = as_table(self._inside.samples_of(as_table(suite.items)))
                is_known = pc.is_in(labels["prompt"], value_set=seed["prompt"].combine_chunks())
                common = [name for name in seed.column_names if name in labels.column_names]
                more = labels.filter(pc.invert(is_known)).select(common)
                kinds = {name: seed.schema.field(name).type for name in common}
                more = more.cast(pa.schema(kinds))
                seed = pa.concat_tables([seed, more], promote_options="default")
        return seed

    def suites(self) -> list[Suite]:
        """The task's, with a mark on all items but the sealed ones."""
        return [self._marked(suite) for suite in self._inside.suites()]

    def _marked(self, suite: Suite) -> Suite:
        import pyarrow as pa
        from msgspec.structs import replace

        from flywheel.tables import as_table, constant

        if suite.role == Role.SEALED:
            return suite
        items = as_table(suite.items)
        return replace(suite, items=items.append_column(TRAINED_ON, constant(1, pa.int8(), len(items))))


class PromoteAll:
    """A gate that promotes whatever it is shown: there is no evidence left to ask."""

    def test(self, evidence: Evidence, level: float, carry: Carry, key: Key) -> tuple[GateResult, Carry]:
        """A p-value of 0."""
        return GateResult("promoted without evidence, a control", p_value=0.0), carry


def _scores(answer: Any, samples: pa.Table) -> pa.Table:
    """What a grader answers, without ids and failures."""
    table = with_reasons(answer, samples)
    return table.select([name for name in table.column_names if not is_failure(name)])


def _numbers(scores: pa.Table) -> list[str]:
    """The score, which is the first column, and all columns of floats."""
    import pyarrow as pa

    floats = [field.name for field in scores.schema if pa.types.is_floating(field.type)]
    return list(dict.fromkeys([score_of(scores), *floats]))


def _replaced(table: pa.Table, name: str, values: Any) -> pa.Table:
    import pyarrow as pa

    column = values if isinstance(values, pa.ChunkedArray) else pa.array(values)
    return table.set_column(table.column_names.index(name), name, column.cast(pa.float64()))
