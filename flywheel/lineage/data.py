"""The corpus that a generation was given, counted by origin, and what each producer gave to it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flywheel.lineage.record import Record
from flywheel.lineage.samples import samples_of
from flywheel.lineage.status import bare
from flywheel.metrics.proportions import proportion
from flywheel.records import RIGHT, Answer, Interval
from flywheel.storage.corpus import read_chosen
from flywheel.storage.sources import drawn_of
from flywheel.storage.state import Generation

PARENT = "parent"
_FROM = ("origin", "made_in", "made_by", "source")


def corpus_of(record: Record, generation: Generation) -> pa.Table | None:
    """Columns ``id``, ``weight`` and ``count``; None if it has none."""
    corpus = generation.output("curate", "corpus")
    return None if corpus is None else read_chosen(record.store, corpus)


class DataShare(Answer, frozen=True):
    """Rows of a corpus that have one origin."""

    origin: str
    """``human`` or ``generated``."""
    made_in: int
    """The generation in whose turn they were made; 0 for human rows."""
    made_by: str | None
    """SHA-256 of the weights that made them; None: people did."""
    made_by_generation: int | None
    """The generation with these weights; None: people made them, or weights from elsewhere did."""
    source: str | None
    """Where human rows come from."""
    rows: int
    drawn: int
    """A row counts as often as it was drawn for the corpus. A fit of more or fewer steps than the corpus has
    batches saw it more or less often."""
    rival: str | None = None
    """Its name, if it was a rival that made them, and not the parent."""


def by_origin(record: Record, generation: Generation) -> tuple[DataShare, ...]:
    """Rows and draws of a corpus by origin; none if what they came from was pruned, or without a corpus."""
    corpus = corpus_of(record, generation)
    if corpus is None:
        return ()
    batches = [record.table(samples) for samples in drawn_of(record.store, generation)]
    known = [batch.select(["id", *_FROM]) for batch in batches if batch is not None]
    if not known:
        return ()
    origins = pa.concat_tables(known, promote_options="permissive")
    rows = corpus.join(origins, "id", join_type="left outer")
    counted = rows.group_by(list(_FROM)).aggregate([("count", "count"), ("count", "sum")])
    counted = counted.sort_by([(name, "ascending") for name in ("made_in", "origin", "source", "made_by")])
    return tuple(_share(record, **row) for row in counted.to_pylist())


def _share(
    record: Record,
    *,
    origin: str,
    made_in: int,
    made_by: str | None,
    source: str | None,
    count_count: int,
    count_sum: int,
) -> DataShare:
    turn = record.state.generations[made_in]
    maker = record.state.makers_of(turn).get(made_by) if made_by else None
    rival = next((name for name, one in turn.rivals.items() if one.weights == made_by), None)
    return DataShare(origin, made_in, bare(made_by), maker, source, count_count, count_sum, rival)


class Contribution(Answer, frozen=True):
    """What one of several producers gave to a turn, and how much of it a trusted grader found to be right."""

    name: str
    """``parent``, or the rival's name."""
    weights: str
    """SHA-256 of its weights."""
    generation: int | None
    """The generation with these weights; None: they are from elsewhere."""
    rows: int
    """Rows of the batch that it made."""
    kept: int
    """Those of them that the curator kept."""
    shared: int
    """Groups in which it answered and another producer, too."""
    kept_alone: int
    """Those of these groups of which rows of its own were kept and none of another's."""
    audited: int
    """Of its rows that were to be kept, those that the audit graded."""
    right: Interval | None
    """The share of right ones among these, exact; None: none was graded."""
    audited_alone: int
    """Of these rows, those that were to be kept in place of what others answered."""
    right_alone: Interval | None
    """The share of right ones among these, exact."""


def contributions(record: Record, generation: Generation) -> tuple[Contribution, ...]:
    """What each producer of a turn's batch gave to it, the parent first; none where it had one only."""
    if not generation.rivals or generation.parent is None or generation.curate is None:
        return ()
    rows = samples_of(record.store, record.state, generation)
    names = {str(record.state.generations[generation.parent].weights): PARENT}
    names |= {rival.weights: name for name, rival in generation.rivals.items()}
    makers = record.state.makers_of(generation)
    counts = _Counts.of(rows, list(names), record.table(generation.output("audit", "audits")))
    return tuple(
        Contribution(name, str(bare(weights)), makers[weights], *counts.of_maker(number))
        for number, (weights, name) in enumerate(names.items())
    )


class _Counts:
    """Who made, kept and was right in what; rows by the number of their maker and of their group."""

    def __init__(self, maker: np.ndarray, group: np.ndarray, keep: np.ndarray, trusted: np.ndarray) -> None:
        """Each of shape (rows,); ``trusted``: NaN where a row was not drawn as kept, or had no answer."""
        self._maker, self._group, self._keep, self._trusted = maker, group, keep, trusted
        places = (group.max(initial=-1) + 1, maker.max(initial=-1) + 1)
        answered, kept, taken = (np.zeros(places, bool) for _ in range(3))
        answered[group, maker] = True
        kept[group[keep], maker[keep]] = True
        was_taken = keep | ~np.isnan(trusted)  # a curator drops what the audit found to be wrong
        taken[group[was_taken], maker[was_taken]] = True
        self._shared = answered & (answered.sum(1) > 1)[:, None]
        self._kept_alone, self._taken_alone = (
            self._shared & mask & (mask.sum(1) == 1)[:, None] for mask in (kept, taken)
        )

    @classmethod
    def of(cls, rows: pa.Table, makers: list[str], audits: pa.Table | None) -> _Counts:
        """Of a turn's samples with the decisions on them, and of what its audit drew."""
        maker = pc.index_in(rows["made_by"], value_set=pa.array(makers)).to_numpy()
        group = rows["group"].combine_chunks().dictionary_encode().indices.to_numpy()
        trusted = np.full(len(rows), np.nan)
        if audits is not None:
            drawn = audits.filter(audits["kept"])
            where = pc.index_in(rows["id"], value_set=drawn["id"].combine_chunks())
            trusted = drawn["trusted"].take(where).to_numpy()
        return cls(maker, group, rows["keep"].fill_null(False).to_numpy(), trusted)

    def of_maker(self, number: int) -> tuple[int, int, int, int, int, Interval | None, int, Interval | None]:
        """The counts of ``Contribution``, in its order."""
        ours = self._maker == number
        audited = ours & ~np.isnan(self._trusted)
        alone = audited & self._taken_alone[self._group, self._maker]
        return (
            int(ours.sum()),
            int((ours & self._keep).sum()),
            int(self._shared[:, number].sum()),
            int(self._kept_alone[:, number].sum()),
            *self._right(audited),
            *self._right(alone),
        )

    def _right(self, audited: np.ndarray) -> tuple[int, Interval | None]:
        graded = int(audited.sum())
        right = int((self._trusted[audited] >= RIGHT).sum())
        return graded, proportion(right, graded) if graded else None
