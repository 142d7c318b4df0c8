"""How far adders get that were taught sums of 1 to 8 digits, with the loop and without.

    python benchmarks/addition.py                            # seeds 0, 1, 2, all arms: about 2 hours
    python benchmarks/addition.py --arms loop --seeds 0 11 12
    python benchmarks/addition.py --table runs/benchmark/addition.jsonl
    python benchmarks/addition.py --recorded runs/addition/* --picture docs/addition.svg

`digits95` is the longest L such that at every length up to L at least 95% of 128 fresh problems, none of them
taught, are solved by the vote of the members, looked at after the run, for each champion on its way:

    loop          `recipe=addition` as committed
    no grader     the same, keeping the first member's answers whatever the others say; no audit
    no audit      the same as the loop, but nobody looks whether lessons are right
    verifier      the same, keeping the answers that are true
    seed only     no loop: as many FLOPs as the loop's training and generating, on the seed data; the best
                  of three learning rates
    relative      as seed only, at the recipe's learning rate, with a T5-like relative bias on the coupled
                  positions instead of RoPE

Seconds are of all stages that a run records, its sealed evaluation left out. Runs are kept, and rows appended
to a file as they are done; the same command goes on where it was stopped.

Runs end far apart: read the worst and the median, not one seed. Seeds that were looked at while the settings
were chosen have rows of their own.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from flywheel.records import Interval

KINDS = ("uniform", "uneven", "carry")
ITEMS, SHARE, LONGEST = 128, 0.95, 128
RATES = (0.01, 0.02, 0.04)
LOOKED_AT = {0, 1, 2, 11, 12, *range(100, 107)}
"""Seeds that were looked at while the settings were chosen."""
ALONE: dict[str, Any] = {"generations": 0}
ARMS: dict[str, dict[str, Any]] = {
    "loop": {},
    # The length is the same for all of a group, so the first member's answer is taken, whatever it is.
    "no grader": {
        "audit.grader": None,
        "curator.score": "length",
        "settings.accept": 0.0,
        "curator.sure_pass_rate": 0.0,
    },
    "no audit": {"audit.grader": None},
    "verifier": {
        "grader._target_": "flywheel.recipes.addition.verifier.Verifier",
        "curator.score": "verified",
    },
    **{f"seed only, lr {rate}": {**ALONE, "genesis_settings.lr": rate} for rate in RATES},
    "relative": {**ALONE, "settings.position": "relative"},
}


def main() -> None:
    """Run what is missing, print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--every", type=int, default=1, help="look at each so many champions, and the last")
    parser.add_argument("--threads", type=int, help="default: one a core")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark"), help="where the runs are kept")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark/addition.jsonl"))
    parser.add_argument("--table", type=Path, help="only print the table of this file")
    parser.add_argument("--recorded", type=Path, nargs="+", metavar="RUN", help="only tell of these runs")
    parser.add_argument("--picture", type=Path, help="draw the recorded runs into this file")
    options = parser.parse_args()
    if options.recorded:
        found = [recorded(path) for path in options.recorded]
        print_recorded(found)
        if options.picture:
            draw(found, options.picture)
        return
    if not options.table:
        measure(options)
    rows = read(options.table or options.out)
    print_table(rows)


def measure(options: argparse.Namespace) -> None:
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for arm in options.arms:
            rows = read(options.out)
            if any(row["arm"] == arm and row["seed"] == seed for row in rows):
                continue
            row = {"arm": arm, "seed": seed, **run_arm(arm, seed, options, rows)}
            print(json.dumps({key: value for key, value in row.items() if key != "curve"}), flush=True)
            with options.out.open("a") as file:
                file.write(json.dumps(row) + "\n")


def run_arm(arm: str, seed: int, options: argparse.Namespace, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One run, made or found, and how far each of its champions gets."""
    import flywheel

    name = f"{arm.replace(' ', '-').replace(',', '')}-seed{seed}"
    config = {"recipe": "addition", "seed": seed, "name": name, "runs_dir": str(options.runs), "log": "plain"}
    config |= {"threads": options.threads, **ARMS[arm]}
    if ARMS[arm].get("generations") == 0:
        config["genesis_settings.batches"] = equal_batches(seed, rows)
    run = flywheel.run(config)
    seconds, curve = 0.0, []
    promoted = [v.number for v in run.generations() if str(v.record.status) == "promoted"]
    looked_at = {*promoted[:: options.every], promoted[-1]}
    for view in run.generations():
        seconds += view.record.seconds
        if view.number in looked_at:
            at = {"generation": view.number, "seconds": round(seconds, 1), "flops": flops(run, view)}
            curve.append({**at, "batches": batches(view), **reach(view)})
            print(curve[-1], flush=True)
    statuses = [str(view.record.status) for view in run.generations()]
    return {
        "seconds": round(seconds, 1),
        "flops": sum(flops(run, view) for view in run.generations()),
        "steps": sum(g.cost.steps for g in run.status().generations),
        "promoted": statuses.count("promoted") - 1,
        "rejected": statuses.count("rejected"),
        "curve": curve,
        **{kind: curve[-1][kind] for kind in KINDS},
    }


def reach(view: Any) -> dict[str, int]:
    """digits95 of a generation, by kind of problem; with their 95% intervals."""
    from flywheel.recipes.addition.task import unordered

    from flywheel.metrics.intervals import reach as highest

    model, task = view.load(), view.task()
    taught = unordered(view.run.samples(0)).combine_chunks()
    found: dict[str, int] = {}
    for kind in KINDS:
        scores: list[np.ndarray] = []
        while len(scores) < LONGEST and (len(scores) < 3 or np.mean(scores[-3:]) >= SHARE - 0.1):
            length = len(scores) + 1
            rng = np.random.default_rng([20_000, length, KINDS.index(kind)])
            scores.append(task.evaluate(model, None, fresh(kind, length, taught, rng), None))
        levels = np.repeat(np.arange(1, len(scores) + 1), ITEMS)
        interval = highest(np.concatenate(scores), levels, SHARE)
        found |= {
            kind: int(interval.value),
            f"{kind}_low": int(interval.low),
            f"{kind}_high": int(interval.high),
        }
    return found


def fresh(kind: str, length: int, taught: Any, rng: np.random.Generator) -> Any:
    """Problems of a kind and length, those that were taught drawn anew; but for those too few for that."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from flywheel.recipes.addition.sums import draw as problems
    from flywheel.recipes.addition.task import clashes

    lengths = pa.repeat(pa.scalar(length, pa.int16()), ITEMS)
    drawn = pa.table({"prompt": problems(kind, ITEMS, length, rng).text(), "length": lengths})
    while pc.any(known := clashes(drawn, taught)).as_py():
        others = pa.chunked_array([problems(kind, ITEMS, length, rng).text()])
        drawn = drawn.set_column(0, "prompt", pc.if_else(known, others, drawn["prompt"]))
    return drawn


def recorded(path: Path) -> dict[str, Any]:
    """How far the champion of a run that has ended gets: today's intervals of what its ledger recorded."""
    import flywheel

    run = flywheel.open_run(path)
    status, events, champion = run.status(), run.query("SELECT time FROM events ORDER BY seq"), run.champion()
    if champion.number not in champion.state.sealed:
        raise SystemExit(f"{path} has not looked at its sealed suites: let it end first.")
    statuses = [generation.status for generation in status.generations]
    first, last = sealed(run, 0), sealed(run, champion.number)
    times = events["time"].to_pylist()
    return {
        "seed": run.show(0).config["seed"],
        **{kind: last[kind]["digits95"] for kind in KINDS},
        "genesis": first["uniform"]["digits95"],
        "promoted": f"{statuses.count('promoted') - 1} of {len(statuses) - 1}",
        "audits": [view.record.audit.facts for view in run.generations() if view.record.audit],
        "seconds": times[-1] - times[0],
        "curve": curve_of(status.generations),
    }


def curve_of(generations: Any) -> list[tuple[float, float]]:
    """Processor seconds up to each look at the gate's items, and the share of them that is solved."""
    spent, points = 0.0, []
    for generation in generations:
        spent += generation.cost.cpu_seconds
        if gate := generation.metrics.get("gate"):
            points.append((spent, float(gate["exact"].value)))
    return points


def sealed(run: Any, number: int) -> dict[str, dict[str, Interval]]:
    """Metrics of a champion on the sealed suites, computed from its recorded outcomes and items."""
    from msgspec.structs import replace

    from flywheel.runtime.scoring import metrics
    from flywheel.storage.store import Store

    view, store = run.generation(number), Store(run.path)
    items = run.generation(0).record.stages["seed"].outputs
    suites = {s.name: replace(s, items=store.table(items[f"suite_{s.name}"])) for s in view.task().suites()}
    return metrics(store.table(view.state.sealed[number].outputs["outcomes"]), suites)


def print_recorded(rows: list[dict[str, Any]]) -> None:
    """A line for each run, and how far apart they end."""
    print("| seed | uniform | uneven | carry | genesis, uniform | promoted | right by the audits | time |")
    print("|" + " --- |" * 8)
    for row in sorted(rows, key=lambda row: int(row["seed"])):
        cells = [level_text(row[kind]) for kind in (*KINDS, "genesis")]
        minutes, seconds = divmod(round(row["seconds"]), 60)
        cells += [row["promoted"], audits_text(row["audits"]), f"{minutes} min {seconds} s"]
        print(f"| {row['seed']} | {' | '.join(cells)} |")
    print()
    print_spread([{"seed": row["seed"], **{kind: row[kind].value for kind in KINDS}} for row in rows])


def audits_text(audits: list[Any]) -> str:
    """The lowest share of right lessons that audits found, the last one, and how many were flagged."""
    shares = [audit.precision.value for audit in audits if audit.precision]
    flagged = sum(audit.flagged is not None for audit in audits)
    least = f"{min(shares):.1%}, last {shares[-1]:.1%}" if shares else "no audit"
    return f"{least}, {flagged} flagged" if flagged else least


def level_text(number: Interval) -> str:
    return f"{number.value:g} [{number.low:g}, {number.high:g}]"


def print_spread(rows: list[dict[str, Any]]) -> None:
    """The worst, the median and the best seed, apart for those that were looked at."""
    print("| seeds | worst, median, best: uniform | uneven | carry |")
    print("| --- | --- | --- | --- |")
    looked_at = [row for row in rows if row["seed"] in LOOKED_AT]
    others = [row for row in rows if row["seed"] not in LOOKED_AT]
    for name, own in (("looked at", looked_at), ("not looked at", others)):
        if own:
            seeds = ", ".join(str(row["seed"]) for row in sorted(own, key=lambda row: int(row["seed"])))
            levels = [[row[kind] for row in own] for kind in KINDS]
            cells = [f"{min(some)}, {np.median(some):g}, {max(some)}" for some in levels]
            print(f"| {name}: {seeds} | {' | '.join(cells)} |")


def flops(run: Any, view: Any) -> float:
    """FLOPs of a generation's training (6 a parameter and token) and generating (2), attention included.

    Parameters of the layers' matrices of all members; attention is 4 x positions x width a token and layer
    forward (Kaplan et al. 2020, table 1), halved for causality, and three times that with the backward pass.
    """
    weights = view.load().net
    matrices = sum(p.numel() for p in weights.layers.parameters() if p.dim() == 3)
    members, layers, width = len(weights.embedding), len(weights.layers), weights.width

    def of(lengths: np.ndarray, times: np.ndarray, passes: int) -> float:
        tokens = 3 * lengths + 2
        each = tokens * (2 * matrices + members * layers * 2 * tokens * width)
        return float(passes * (each * times).sum())

    rows = run.samples(view.number)
    made = 0.0
    if "member" in rows.column_names:
        made = of(rows["length"].to_numpy().astype(float), np.full(len(rows), 1 / members), 1)
    trained = view.corpus()
    return made + of(trained["length"].to_numpy().astype(float), trained["count"].to_numpy(), 3)


def batches(view: Any) -> int:
    """Groups of rows that were drawn for a generation's corpus."""
    return int(view.record.settings["batches"])


def equal_batches(seed: int, rows: list[dict[str, Any]]) -> int:
    """Groups of seed rows that cost as many FLOPs as the loop of this seed."""
    loop = next((row for row in rows if row["arm"] == "loop" and row["seed"] == seed), None)
    if loop is None:
        raise SystemExit("Equal FLOPs need the loop's: run --arms loop first.")
    genesis: float = loop["curve"][0]["flops"] / loop["curve"][0]["batches"]
    return round(float(loop["flops"]) / genesis)


def read(path: Path) -> list[dict[str, Any]]:
    """Rows done so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def print_table(rows: list[dict[str, Any]]) -> None:
    """A line for each arm: every seed's digits95 by kind, seconds, promotions."""
    print("| arm | seeds | uniform | uneven | carry | seconds | steps | TFLOPs | promoted, rejected |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, own in by_arm(rows).items():
        cells = [", ".join(str(row[kind]) for row in own) for kind in KINDS]
        cells.append(", ".join(f"{row['curve'][-1]['seconds']:.0f}" for row in own))
        cells.append(", ".join(str(row["steps"]) for row in own))
        cells.append(", ".join(f"{row['flops'] / 1e12:.1f}" for row in own))
        cells.append("; ".join(f"{row['promoted']}, {row['rejected']}" for row in own))
        print(f"| {name} | {', '.join(str(row['seed']) for row in own)} | {' | '.join(cells)} |")
    for name, own in by_arm(rows).items():
        print(f"\n{name}")
        print_spread(own)


def by_arm(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows of each arm, seeds in order; of the learning rates of seed only, each seed's best."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: (list(ARMS).index(row["arm"]), row["seed"])):
        found.setdefault(row["arm"].partition(",")[0], []).append(row)
    alone = found.get("seed only", [])
    best: dict[int, dict[str, Any]] = {}
    for row in alone:
        best[row["seed"]] = max(best.get(row["seed"], row), row, key=lambda r: int(r["uniform"]))
    if best:
        found["seed only"] = list(best.values())
    return found


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """The share of the gate's sums that are solved against processor seconds, a line for each run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for row in rows:
        seconds, shares = zip(*row["curve"], strict=True)
        axes.plot(seconds, [100 * share for share in shares], "-o", color="C0", alpha=0.5, markersize=3)
    taught = 100 * sum(row["curve"][0][1] for row in rows) / len(rows)
    label = f"after genesis, on what people taught: {taught:.0f}% on average"
    axes.axhline(taught, color="grey", linewidth=0.8, linestyle="--", label=label)
    axes.set(xlabel="processor seconds, one thread", ylabel="% of 512 sums of 1 to 64 digits solved")
    axes.set(ylim=(0, 101), xlim=(0, None), title=f"addition, {len(rows)} seeds, a line each")
    axes.legend(fontsize=8, loc="lower right")
    figure.savefig(path)


if __name__ == "__main__":
    main()
