"""Curate: decide which samples are drawn for the candidate's corpus, how often and with what weight."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flywheel.errors import DataError, StageFailed
from flywheel.runtime.context import Context, StageOutput, carry_of
from flywheel.stages.decisions import checked, drawn_more, draws_needed, no_human_rows, without_leaks
from flywheel.stages.stream import curate_stream
from flywheel.storage.corpus import read, read_chosen
from flywheel.storage.events import CurateFacts
from flywheel.storage.sources import Source
from flywheel.storage.store import Store
from flywheel.tables import DECISIONS, counts_of
from flywheel.tables.digests import table_digest


def curate(
    ctx: Context,
    *,
    sources: Sequence[Source],
    recalled: str | None = None,
    like: str | None = None,
    after: str | None = None,
) -> StageOutput:
    """Decisions on every sample of the sources, and the corpus that follows from them.

    ``sources`` run from the human samples over earlier generations' to the newest. Those of which something
    was kept are the output ``sources``, with the number of rows drawn: see ``storage.sources``. It is an
    artifact, since they may grow with the number of generations.
    Human rows are drawn more often where they are less than ``human_share`` of the draws: models that are
    trained on what replaces people's data collapse, and what is added to them does not (Gerstgrasser et al.
    2024, arXiv 2404.01413; Kazdan et al. 2024, arXiv 2410.16713).
    The samples whose ids are in the artifact ``recalled`` are not shown to the curator. ``like``: an earlier
    corpus, whose share of human draws the new one is to have, though there are more human samples by now.

    A curator that decides batch by batch goes on from where it was ``after`` an earlier turn, see
    ``stages.stream``.
    """
    curator = ctx.components.build("curator", ctx.settings)
    if getattr(curator, "decide", None) is not None:
        return curate_stream(ctx, curator, sources, recalled=recalled, like=like, after=after)
    samples = read(ctx.store, sources)
    if recalled is not None:
        samples = samples.filter(pc.invert(_is_among(samples["id"], ctx.store.table(recalled)["id"])))
        if len(samples) == 0:
            raise StageFailed("curate", "the corpus is empty: all samples of its sources are recalled")
    answer = curator.curate(samples, ctx.carry.get("curator", {}), ctx.key("curator"))
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise DataError(f"curate() must return (decisions, carry); it returned a {type(answer).__name__}.")
    decisions, carry = checked(answer[0], samples), answer[1]
    decisions, leaked = without_leaks(decisions, samples, ctx.data.asked)
    if like is not None:
        decisions = _balanced(decisions, samples, read_chosen(ctx.store, like))
    least = ctx.components.resolved["human_share"]
    if least is not None:
        decisions = _with_human_share(decisions, samples, least)
    kept = decisions.filter(decisions["keep"])
    corpus = kept.filter(pc.greater(kept["count"], 0)).select(["id", "weight", "count"])
    if len(corpus) == 0:
        raise StageFailed("curate", "the corpus is empty: no sample was kept")
    carry, carry_kept = carry_of(curator, carry)
    facts = CurateFacts(
        corpus=table_digest(corpus),
        rows=len(corpus),
        by_origin=counts_of(samples["origin"].filter(pc.is_in(samples["id"], value_set=corpus["id"]))),
        by_reason=counts_of(decisions["reason"]),
        leaked=leaked,
        human_share=None if least is None else round(_human_share(decisions, samples), 9),
        carry_kept=carry_kept,
    )
    outputs = {"decisions": decisions, "corpus": corpus, "sources": _used(ctx.store, sources, kept)}
    return StageOutput({**outputs, **carry}, facts)


def _balanced(decisions: pa.Table, samples: pa.Table, like: pa.Table) -> pa.Table:
    """The decisions, but with what models made drawn more often: human rows have the share that they had.

    None is drawn less often. A recipe whose batches have a share of human rows by themselves is not changed.
    """
    human = np.equal(samples["origin"].to_numpy(), "human")
    was_human = np.isin(like["id"].to_numpy(), samples["id"].to_numpy()[human])
    counts, before = decisions["count"].to_numpy(), like["count"].to_numpy()
    now, then = counts[human].sum(), before[was_human].sum()
    others_now, others_then = counts[~human].sum(), before[~was_human].sum()
    if not (now and then and others_now and others_then):
        return decisions
    factor = max(1.0, float(now * others_then / (then * others_now)))
    return _drawn_more(decisions, ~human, factor)


def _with_human_share(decisions: pa.Table, samples: pa.Table, least: float) -> pa.Table:
    """The decisions, but with human rows drawn so often that they are this share of the draws."""
    human = np.equal(samples["origin"].to_numpy(), "human")
    counts = decisions["count"].to_numpy().astype(np.int64)
    own, others = int(counts[human].sum()), int(counts[~human].sum())
    if not others:
        return decisions
    if not own:
        raise no_human_rows(least)
    needed = draws_needed(others, least)
    return _drawn_more(decisions, human, needed / own) if needed > own else decisions


def _human_share(decisions: pa.Table, samples: pa.Table) -> float:
    """The share of the draws that are human rows."""
    counts = decisions["count"].to_numpy().astype(np.int64)
    return float(counts[np.equal(samples["origin"].to_numpy(), "human")].sum() / max(1, counts.sum()))


def _drawn_more(decisions: pa.Table, rows: np.ndarray, factor: float) -> pa.Table:
    """The decisions, but with some rows drawn more often; none is drawn less often."""
    counts = decisions["count"].to_numpy().copy()
    counts[rows] = drawn_more(counts[rows], factor)
    field = DECISIONS.field("count")
    return decisions.set_column(DECISIONS.get_field_index("count"), field, pa.array(counts, field.type))


def _used(store: Store, sources: Sequence[Source], kept: pa.Table) -> list[list[str | int | None]]:
    """The sources of which something was kept, each with how many different rows of it were drawn."""
    counts = [_kept_and_drawn(store.table(str(source[0]))["id"], kept) for source in sources]
    return [[*source, drawn] for source, (any_kept, drawn) in zip(sources, counts, strict=True) if any_kept]


def _kept_and_drawn(ids: pa.ChunkedArray, kept: pa.Table) -> tuple[bool, int]:
    counts = kept["count"].filter(_is_among(kept["id"], ids))
    return len(counts) > 0, int(pc.sum(pc.greater(counts, 0)).as_py() or 0)


def _is_among(ids: pa.ChunkedArray, others: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.is_in(ids, value_set=others.combine_chunks())
