"""The recipe's own tests: digits and text, decoding, the optimizer, batches, the tiny runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from flywheel.recipes.addition import sums
from flywheel.recipes.addition.adders import Adders
from flywheel.recipes.addition.lessons import batches
from flywheel.recipes.addition.model import Ensemble
from flywheel.recipes.addition.muon import MuonAdamW, orthogonalised
from flywheel.recipes.addition.task import Addition
from flywheel.recipes.addition.verifier import Verifier
from hypothesis import given, settings
from hypothesis import strategies as st

import flywheel
from flywheel.config.components import Components
from flywheel.config.compose import compose
from flywheel.errors import ConfigError, DataError
from flywheel.keys import Key
from flywheel.runtime.data import read_data
from flywheel.views import view_of

NUMBERS = st.lists(st.tuples(st.integers(0, 10**40), st.integers(0, 10**40)), min_size=1, max_size=8)


def texts(pairs):
    return pa.chunked_array([pa.array([f"{a}+{b}" for a, b in pairs])])


def rng(seed=0):
    return np.random.default_rng(seed)


@settings(deadline=None)
@given(NUMBERS)
def test_text_becomes_digits_and_text_again_and_the_sums_are_true(pairs):
    read = sums.read(texts(pairs))
    assert read.text().to_pylist() == [f"{a}+{b}" for a, b in pairs]
    assert sums.number_text(read.answers()).to_pylist() == [str(a + b) for a, b in pairs]
    assert read.length.tolist() == [max(len(str(a)), len(str(b))) for a, b in pairs]


def test_a_slice_of_a_column_is_read_right():
    column = texts([(i, 10 * i) for i in range(10)]).slice(3, 4)
    assert sums.number_text(sums.read(column).answers()).to_pylist() == ["33", "44", "55", "66"]


@pytest.mark.parametrize("bad", ["12", "12+", "a+1", "1+2+3", "-1+2", "1 + 2"])
def test_what_is_no_sum_is_refused(bad):
    with pytest.raises(DataError, match="must be digits, a plus and digits"):
        sums.read(pa.chunked_array([["1+2", bad]]))


@pytest.mark.parametrize("length", [1, 2, 7, 30])
def test_kinds_are_what_they_say(length):
    for kind in sums.KINDS:
        drawn = sums.draw(kind, 200, length, rng())
        assert (drawn.length == length).all()
        for operand in drawn.text().to_pylist():
            assert all(part == "0" or part[0] != "0" for part in operand.split("+"))
    pairs = [
        tuple(map(int, text.split("+"))) for text in sums.draw("carry", 200, length, rng()).text().to_pylist()
    ]
    assert all(len(str(a + b)) == length + 1 for a, b in pairs)
    assert all(a % 10 + b % 10 > 9 for a, b in pairs)
    uneven = sums.draw("uneven", 200, length, rng())
    shorter = np.minimum((uneven.a != sums.BLANK).sum(1), (uneven.b != sums.BLANK).sum(1))
    assert set(shorter) == set(range(1, length + 1))


def trained_like(position="rotary"):
    """Adders whose every weight matters."""
    torch.manual_seed(0)
    model = Adders(width=16, heads=2, position=position)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


@pytest.mark.parametrize("position", ["rotary", "relative"])
@pytest.mark.parametrize("kind", sums.KINDS)
def test_decoding_with_a_cache_says_what_the_whole_forward_pass_says(kind, position):
    model, drawn = trained_like(position), sums.draw(kind, 6, 9, rng())
    prompts = torch.from_numpy(np.stack([drawn.prompt(swapped=k == 1) for k in range(3)]))
    said = model.decode(prompts)
    logits = model(torch.cat([prompts, said[:, :, :-1]], -1))
    assert (logits.argmax(-1) == said).all()


@pytest.mark.parametrize("position", ["rotary", "relative"])
def test_room_for_more_digits_changes_nothing(position):
    model, drawn = trained_like(position), sums.draw("uneven", 8, 5, rng())
    blank = np.full((8, 3), sums.BLANK, np.uint8)
    wide = sums.Sums(np.hstack([drawn.a, blank]), np.hstack([drawn.b, blank]))
    narrow_said, wide_said = (
        model.decode(torch.from_numpy(np.stack([d.prompt(swapped=False)] * 3))) for d in (drawn, wide)
    )
    assert (wide_said[:, :, :6] == narrow_said).all()


def test_members_do_not_see_each_other():
    model = trained_like()
    prompts = torch.from_numpy(np.stack([sums.draw("uniform", 4, 4, rng()).prompt(swapped=False)] * 3))
    before = model.decode(prompts)
    with torch.no_grad():
        model.embedding[1] += torch.randn_like(model.embedding[1])
    after = model.decode(prompts)
    assert (before[[0, 2]] == after[[0, 2]]).all()
    assert (before[1] != after[1]).any()


def test_orthogonalised_matrices_are_nearly_orthogonal():
    made = orthogonalised(torch.randn(5, 16, 64, generator=torch.Generator().manual_seed(0)))
    values = torch.linalg.svdvals(made)
    assert values.min() > 0.4
    assert values.max() < 1.4


def test_a_stack_is_trained_as_its_matrices_would_be_one_by_one():
    torch.manual_seed(0)
    stack, rest = torch.randn(3, 8, 32), torch.randn(4)
    target = torch.randn(3, 8, 32)

    def stepped(parts):
        parameters = [torch.nn.Parameter(part.clone()) for part in parts]
        other = torch.nn.Parameter(rest.clone())
        optimizer = MuonAdamW(parameters, [other], lr=0.1, adam_lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            whole = torch.cat(parameters) if len(parameters) > 1 else parameters[0]
            ((whole - target).pow(2).sum() + other.pow(2).sum()).backward()
            optimizer.step()
        return torch.cat([p.detach() for p in parameters]), other.detach()

    together, apart = stepped([stack]), stepped(list(stack.split(1)))
    assert torch.allclose(together[0], apart[0], atol=1e-5)
    assert torch.equal(together[1], apart[1])
    assert (together[1].abs() < rest.abs()).all()


def corpus(counts):
    """Rows of lengths 1 to len(counts), 10 of each, each row ``counts[length - 1]`` times."""
    tables = []
    for length, count in enumerate(counts, 1):
        drawn = sums.draw("uniform", 10, length, rng(length))
        answers = sums.number_text(drawn.answers())
        columns = {"prompt": drawn.text(), "answer": answers, "length": [length] * 10, "count": [count] * 10}
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)


def test_batches_have_each_row_as_often_as_it_counts_and_one_length_a_group():
    torch.manual_seed(0)
    table = corpus([2, 1, 3])
    made = batches(table, members=3, groups=4, rows=5, digits=100, ramp=0.4)
    groups = [group for batch in made for group in batch]
    assert len(groups) == 12
    assert all(len(batch) == 4 for batch in made)
    assert sum(answers.shape[1] for _, answers in groups) == 60
    lengths = [tokens.shape[-1] // 3 for tokens, _ in groups]
    assert sorted(lengths) == [1] * 4 + [2] * 2 + [3] * 6
    for (tokens, answers), length in zip(groups, lengths, strict=True):
        plain, swapped = tokens
        assert (plain[..., :length] == swapped[..., length + 1 : 2 * length + 1]).all()
        assert (plain[..., 2 * length + 2 :] == answers[..., :-1]).all()
    assert not all((answers[0] == answers[1]).all() for _, answers in groups)


def test_longer_rows_join_later_where_there_is_a_ramp():
    torch.manual_seed(0)
    lengths = [tokens.shape[-1] // 3 for ((tokens, _),) in batches(corpus([20] * 8), 1, 1, 10, 100, ramp=0.9)]
    early, late = lengths[: len(lengths) // 4], lengths[-len(lengths) // 4 :]
    assert max(early) <= 5
    assert np.mean(late) > np.mean(early) + 2


@pytest.fixture(scope="module")
def task():
    return Addition(seed_digits=3, seed_problems=200, problems=20, longest=6, sealed_items=4)


def test_the_task_keeps_suites_apart_from_what_it_teaches(task):
    data = read_data(task, needs_seed=True)
    assert set(data.suites) == {"dev", "gate", *sums.KINDS}
    lengths = data.human["length"].to_numpy()
    assert np.bincount(lengths).tolist()[3] > 190
    assert lengths.max() == 3
    assert max(data.suites["uniform"].items["length"].to_pylist()) == 6


def as_pairs(table):
    """Problems of 2 digits or more, whichever operand comes first."""
    rows = table.filter(np.greater(table["length"].to_numpy(), 1))
    return {tuple(sorted(text.split("+"))) for text in rows["prompt"].to_pylist()}


@pytest.mark.parametrize("seed_value", [0, 1])
def test_nothing_is_taught_that_is_asked_and_nothing_sealed_is_in_the_gate(seed_value):
    task = Addition(seed_value=seed_value)
    suites = {suite.name: suite.items for suite in task.suites()}
    sealed = set().union(*(as_pairs(suites[kind]) for kind in sums.KINDS))
    assert not as_pairs(task.seed()) & (sealed | as_pairs(suites["gate"]) | as_pairs(suites["dev"]))
    assert not as_pairs(suites["gate"]) & sealed
    assert not as_pairs(suites["dev"]) & (sealed | as_pairs(suites["gate"]))
    assert [len(items) for items in suites.values()] == [4 * 31, 512, 8192, 4096, 4096]
    assert set(suites["dev"]["length"].to_pylist()) == set(range(4, 65, 2))
    counts = np.bincount(task.seed()["length"].to_numpy())
    assert counts[1] == 100
    assert counts[2:].min() > 1500


def test_a_gate_that_has_no_problem_of_its_own_is_refused():
    task = Addition(seed_digits=2, longest=2, gate_items=50, sealed_items=20_000, mix={"uniform": 1.0})
    with pytest.raises(DataError, match=r"none of 2 digits are left.*smaller task.sealed_items"):
        task.suites()


@pytest.mark.parametrize("changes", [{"dev_items": 0}, {"longest": 3, "seed_digits": 2}])
def test_a_task_may_have_no_dev_suite(changes):
    assert {suite.name for suite in Addition(**changes).suites()} == {"gate", *sums.KINDS}


@pytest.mark.parametrize("seed_value", [0, 1])
def test_the_dev_suite_takes_nothing_from_what_is_taught(seed_value):
    assert Addition(seed_value=seed_value).seed().equals(Addition(seed_value=seed_value, dev_items=0).seed())


def test_prompts_follow_the_frontier(task):
    first = task.prompts(1, {}, Key.root(0))
    later = task.prompts(5, {"curator": {"frontier": 9}}, Key.root(0))
    assert set(first["length"].to_pylist()) == {4, 5, 6, 7, 8, 9}
    assert set(later["length"].to_pylist()) == set(range(6, 16)), "the last four of those it knows, too"
    assert (
        later["prompt"].to_pylist()
        == task.prompts(6, {"curator": {"frontier": 9}}, Key.root(0))["prompt"].to_pylist()
    )
    assert len(set(first["prompt"].to_pylist())) == len(first)


def test_a_majority_decides_and_without_one_there_is_no_answer(task):
    items = pa.table({"prompt": ["12+7", "5+5", "999+1"]})

    class Said:
        """Members that solve these problems."""

        swapped = (False, True, False)

        def solves(self, problems):
            solved = {"12+7": [True, False, True], "5+5": [False, False, True], "999+1": [True] * 3}
            return np.array([solved[text] for text in problems.text().to_pylist()]).T

    assert task.evaluate(Said(), None, items, Key.root(0)).tolist() == [1, 0, 1]


def test_one_pass_tells_whether_decoding_would_give_the_sum():
    torch.manual_seed(0)
    model = Ensemble(width=16, heads=2).eval()
    model.net = trained_like()
    drawn = sums.draw_mix({"uniform": 0.4, "uneven": 0.3, "carry": 0.3}, 3000, 1, rng())
    blank = np.full((len(drawn), 1), sums.BLANK, np.uint8)
    drawn = sums.Sums(np.hstack([drawn.a, blank]), np.hstack([drawn.b, blank]))
    decoded = (model.answers(drawn) == drawn.answers()).all(-1)
    assert (model.solves(drawn) == decoded).all()
    assert decoded.any()


def test_groups_of_long_rows_are_small():
    torch.manual_seed(0)
    made = batches(corpus([0] * 9 + [8]), members=1, groups=1, rows=32, digits=200, ramp=0.0)
    assert [answers.shape[1] for ((_, answers),) in made] == [20] * 4


def test_the_verifier_knows():
    samples = pa.table({"prompt": ["12+7", "12+7", "999+1"], "answer": ["19", "18", "1000"]})
    assert Verifier().grade(samples, lambda: None, Key.root(0))["verified"].tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"task.mix.uniform": 0.5}, "mix must have shares"),
        ({"+task.mix.unifrom": 0.0}, "mix must have shares"),
        ({"task.seed_digits": 0}, "seed_digits must be"),
        ({"settings.rows": 0}, "rows must be 1 or more"),
        ({"settings.lr": 2.0}, "lr must be between 0 and 1"),
        ({"curator.newest": 0.9}, "shares of at most 1 together"),
    ],
)
def test_what_is_out_of_range_is_told(overrides, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        flywheel.run({"recipe": "addition", "runs_dir": str(tmp_path), **overrides})


@pytest.mark.parametrize("recipe", ["addition", "addition_paper"])
def test_the_tiny_run(recipe, tmp_path):
    config = {"recipe": recipe, "debug": "tiny", "runs_dir": str(tmp_path), "log": "quiet", "threads": 1}
    run = flywheel.run({**config, "generations": 1})
    assert run.exit_code == 0
    assert run.verify().first_bad is None
    made = run.samples(1)
    assert set(made["vote"].to_pylist()) <= {1 / 3, 2 / 3, 1.0}
    assert {"uniform", "gate"} <= run.champion().metrics.keys()
    assert run.champion().metrics["uniform"]["digits95"].unit == "level"
    corpus = run.generation(0).corpus()
    settings = run.generation(0).record.settings
    assert sum(corpus["count"].to_pylist()) == settings["batches"] * settings["rows"]
    assert run.reproduce(1).weights_equal
    items = Path(tmp_path, "items.csv")
    items.write_text("prompt\n1+2\n12+34\n")
    assert len(run.champion().evaluate(run.champion().read_items(items))) == 2


def test_members_start_apart():
    torch.manual_seed(0)
    model = Ensemble(width=16, heads=2)
    assert not torch.equal(model.net.embedding[0], model.net.embedding[1])


@pytest.mark.parametrize("recipe", ["addition", "addition_paper"])
def test_every_shape_of_the_space_is_a_model_that_adds(recipe):
    """The constraint on width and heads keeps out what cannot be built."""
    components = Components(compose([f"recipe={recipe}", "task.longest=4", "settings.layers=1"]))
    space, configured = components.space, components.settings()
    rng = np.random.default_rng(0)
    drawn = [space.draw(configured, rng) for _ in range(24)]
    shapes = {d.name for d in space.dimensions if d.shape}
    assert shapes == {"layers", "width", "heads", "position", "base"}
    for chosen in filter(space.is_feasible, drawn[:: 1 if recipe == "addition" else 6]):
        model = components.model({**chosen, "layers": 1}).eval()
        assert (model.net.width, model.net.heads) == (chosen["width"], chosen["heads"])
        assert model.answers(sums.read(texts([(12, 7)]))).shape[0] == len(model.swapped)


def test_a_sum_is_shown_as_people_write_it():
    task = Addition()
    right = view_of({"prompt": "12+9", "answer": "21"}, task).text
    assert right == "  12\n+  9\n----\n  21\nright"
    wrong = view_of({"prompt": "12+9", "answer": "11"}, task).text
    assert wrong == "  12\n+  9\n----\n  11\n  ^\nwrong: it is 21"
    assert "wrong: it is 21" in view_of({"prompt": "12+9", "answer": None}, task).text
    long = view_of({"prompt": f"{'1' * 60}+{'2' * 60}", "answer": "3" * 60}, task).text
    assert max(map(len, long.splitlines())) <= 28
    assert long.count("3") == 60
