from flywheel.lineage.code_changes import CodeChange, differing, hashes
from tests.support.events import event_of


def test_what_differs_is_named_with_both_sides() -> None:
    then = {"same": "1", "other": "2", "gone": "3", "lost": None}
    now = {"same": "1", "other": "4", "new": "5", "lost": None}
    assert differing(then, now) == {
        "gone": ("3", "absent"),
        "lost": ("unknown", "unknown"),
        "new": ("absent", "5"),
        "other": ("2", "4"),
    }


def test_a_hash_that_is_not_known_is_not_one_that_is_not_there() -> None:
    assert differing(hashes({"a": {"sha256": None}}), {}) == {"a": ("unknown", "absent")}


def test_the_line_names_what_there_is_to_say() -> None:
    modules = {"a": ["1", "2"], "b": ["absent", "1"], "c": ["1", "absent"], "d": ["1", "unknown"]}
    event = event_of("code_changed", generation=3, modules=modules, distributions={"numpy": ["1.0", "2.0"]})
    assert str(CodeChange.of(event)) == (
        "code changed before generation 3: a, b (new), c (gone), d (its source is not known), "
        "numpy 1.0 -> 2.0"
    )
    event = event_of("code_changed", generation=3, modules={f"m{k}": ["1", "2"] for k in range(30)})
    assert str(CodeChange.of(event)).endswith("m7 and 22 more")
