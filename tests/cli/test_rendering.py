from rich.console import Console

from flywheel.cli.rendering import answer, cell_text, grid_of, pairs


def printed(part, width: int = 60) -> str:
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        console.print(part(console) if callable(part) else part)
    return capture.get()


def test_values() -> None:
    assert [cell_text(v) for v in (None, True, 0.123456, 1234567.0, [1.0, 0.25])] == [
        "-",
        "yes",
        "0.1235",
        "1234567",
        "[1, 0.25]",
    ]
    assert len(cell_text("x" * 999)) == 201


def test_what_a_model_wrote_does_not_steer_the_terminal() -> None:
    text = printed(lambda console: answer(console, ["text"], [["\x1b[2Jgone [bold]x[/]\x9b31m"]]))
    assert "\x1b" not in text
    assert "\x9b" not in text
    assert "[bold]x[/]" in text, "and is no markup"


def test_rows_that_fit_are_a_table_and_others_are_told_one_by_one() -> None:
    rows = [["a" * 20, "b" * 20, 3], ["c", "d", 4]]
    names = ["first", "second", "n"]
    assert printed(lambda console: answer(console, names, rows)).splitlines()[0].split() == names
    narrow = printed(lambda console: answer(console, names, rows), width=30)
    assert narrow.startswith("row 1\nfirst ")
    assert "a" * 20 in narrow.replace("\n", "")


def test_nothing_to_print() -> None:
    assert pairs({}) is None
    assert grid_of(("a",), []) is None
    assert "no rows; columns: a, b" in printed(lambda console: answer(console, ["a", "b"], []))
