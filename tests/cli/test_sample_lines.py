"""Views of samples on a terminal."""

from __future__ import annotations

import io

import numpy as np
import pytest

from flywheel.cli.views import lines_of
from flywheel.trackers.console import plain_console
from flywheel.views import Picture, View, view_of

GREY = np.repeat(np.linspace(0, 255, 8).astype(np.uint8)[None], 9, axis=0)


def printed(view: View, **options: object) -> str:
    console = plain_console(file=io.StringIO(), width=100, **options)
    console.print(lines_of(view, console))
    return console.file.getvalue()


def test_a_picture_without_colours_is_in_shades() -> None:
    lines = printed(View("below", (Picture.of(GREY),))).splitlines()
    assert lines[0] == " ░░▒▒▓▓█"
    assert len(lines) == 6  # nine rows, two a line, and the text
    assert lines[-1] == "below"


def test_a_picture_in_colour_has_two_pixels_a_character() -> None:
    pixels = np.zeros((2, 8, 3), np.uint8)
    pixels[0, 0], pixels[1, 0] = (255, 0, 0), (0, 0, 255)
    text = printed(View(pictures=(Picture.of(pixels),)), force_terminal=True, color_system="truecolor")
    assert "\x1b[38;2;255;0;0;48;2;0;0;255m▀" in text


def test_a_large_picture_takes_a_few_lines_and_one_that_comes_encoded_is_shown_too() -> None:
    pytest.importorskip("PIL")
    encoded = Picture(Picture.of(np.full((300, 400), 255, np.uint8)).data)
    for picture in (encoded, Picture.of(np.full((300, 400), 255, np.uint8))):
        lines = printed(View(pictures=(picture,))).splitlines()
        assert 10 < len(lines) < 16
        assert set(lines[1]) == {"█"}
    damaged = Picture(encoded.data[:40], "image")
    assert printed(View(pictures=(damaged,))).strip() == "[image: image/png, 40 bytes]"


def test_control_characters_of_samples_do_nothing() -> None:
    assert printed(view_of({"prompt": "\x1b[2Jclear"})) == "prompt: �[2Jclear\n"
