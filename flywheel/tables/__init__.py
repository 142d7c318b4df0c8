"""Arrow tables at the seams: their columns and types, sample ids, digests, items."""

from __future__ import annotations

from flywheel.tables.columns import (
    AUDITED,
    AUDITS,
    DECISIONS,
    OUTCOMES,
    PROVENANCE,
    RESERVED,
    as_table,
    as_text,
    best_of_groups,
    constant,
    counts_of,
    require,
    require_finite,
    require_own_columns,
    require_same_rows,
    sample_ids,
    with_provenance,
)

__all__ = [
    "AUDITED",
    "AUDITS",
    "DECISIONS",
    "OUTCOMES",
    "PROVENANCE",
    "RESERVED",
    "as_table",
    "as_text",
    "best_of_groups",
    "constant",
    "counts_of",
    "require",
    "require_finite",
    "require_own_columns",
    "require_same_rows",
    "sample_ids",
    "with_provenance",
]
