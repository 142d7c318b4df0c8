from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest
import torch

from flywheel.views import Html, Picture, View, html_of, view_of

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8)
RGB = np.stack([GREY, GREY + 1, GREY + 2], axis=2)


class Shows:
    """A task that shows each sample as one thing."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def show(self, sample: dict[str, Any]) -> Any:
        return self.thing(sample) if callable(self.thing) else self.thing


def decoded(picture: Picture) -> np.ndarray:
    image = pytest.importorskip("PIL.Image")
    return np.asarray(image.open(io.BytesIO(picture.data)))


@pytest.mark.parametrize(
    ("array", "pixels"),
    [
        (GREY, GREY),
        (RGB, RGB),
        (np.dstack([RGB, GREY]), np.dstack([RGB, GREY])),
        (GREY > 30, (GREY > 30) * np.uint8(255)),
        (GREY / 255, GREY),
        (torch.tensor(GREY)[None] / 255, GREY),
        (np.moveaxis(RGB, 2, 0), RGB),
        (np.zeros((600, 1100), np.uint8), np.zeros((200, 367), np.uint8)),
    ],
    ids=["grey", "rgb", "rgba", "bool", "float", "tensor", "channels first", "large"],
)
def test_an_array_is_shown_as_a_png_with_its_pixels(array: Any, pixels: np.ndarray) -> None:
    (picture,) = view_of({}, Shows(array)).pictures
    assert picture.media_type == "image/png"
    np.testing.assert_array_equal(decoded(picture), pixels)


def test_texts_pictures_and_html_are_shown_together() -> None:
    image = pytest.importorskip("PIL.Image")
    parts = (image.fromarray(GREY).convert("P"), "a < b", Html("<b>bold</b><script>1</script>"))
    view = view_of({"x": 1}, Shows(parts))
    assert view.text == "a < b\nbold"
    assert view.html == "<pre>a &lt; b</pre><b>bold</b><script>1</script>"
    np.testing.assert_array_equal(decoded(view.pictures[0])[:, :, 1], GREY)


def test_words_are_seen_after_the_end_of_what_never_began() -> None:
    assert view_of({"x": 1}, Shows(Html("</style>hello <b>you</b>"))).text == "hello you"


def test_plots_and_what_a_notebook_shows_are_pictures_or_html() -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure((1, 1))
    pandas = pytest.importorskip("pandas")
    assert view_of({}, Shows(figure)).pictures[0].media_type == "image/png"
    table = view_of({}, Shows(pandas.DataFrame({"name": ["<i>"]})))
    assert "&lt;i&gt;" in str(table.html)
    assert "<i>" in table.text


def test_an_altair_chart_is_a_picture() -> None:
    altair = pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    chart = altair.Chart(altair.Data(values=[{"x": 1}])).mark_point().encode(x="x:Q")
    assert view_of({}, Shows(chart)).pictures[0].media_type == "image/png"


def raises(sample: dict[str, Any]) -> None:
    raise KeyError(sample["x"])


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (raises, "KeyError: 1"),
        (lambda sample: 5, "Expected text, .* got builtins.int"),
        (np.zeros((2, 4, 5)), r"Expected an image .* got shape \[2, 4, 5\]"),
        (np.full((9, 9), 1.5), "Expected an image of uint8 or of floats .* got float64 from 1.5 to 1.5"),
        (np.full((9, 9), np.nan), "from nan to nan"),
        (b"<svg onload=alert(1)>", "Expected a PNG, JPEG, GIF or WebP image"),
        (Picture(b"<svg>"), "Expected a PNG, JPEG, GIF or WebP image"),
        (("a", View(pictures=(Picture(b"<svg>"),))), "Expected a PNG, JPEG, GIF or WebP image"),
        (Html("x" * 300_000), "Expected HTML of at most"),
    ],
)
def test_an_error_of_show_costs_that_one_view(thing: Any, message: str) -> None:
    view = view_of({"x": 1}, Shows(thing))
    assert view.is_failed
    assert re.search(rf"^show\(\) failed: \w+: .*{message}|^show\(\) failed: {message}", view.text)


def test_without_show_or_where_it_returns_none_columns_speak_for_themselves() -> None:
    square = [0.5] * 63 + [1.0]
    sample = {
        **{"id": "0", "origin": "human", "keep": True, "prompt": "12+7", "answer": None, "share": 0.123456},
        **{"pixels": square, "grid": [[-1.0, 3.0] * 5] * 10, "curve": [float(k) for k in range(10)]},
        **{"tokens": list(range(300, 364)), "point": [1.0, 2.0], "ragged": [[1], [1, 2]], "words": ["a"] * 9},
        **{"image": {"bytes": Picture.of(GREY).data, "path": None}, "blob": b"abc"},
    }
    for view in (view_of(sample), view_of(sample, Shows(lambda sample: None)), view_of(sample, object())):
        shown = {picture.alt: decoded(picture) for picture in view.pictures}
        assert list(shown) == ["pixels", "grid", "curve", "image"]
        assert shown["pixels"].shape == (8, 8)
        assert shown["pixels"][7].tolist() == [128] * 7 + [255]
        assert shown["grid"].tolist()[0][:2] == [0, 255]
        assert (shown["curve"] > 0).sum(0).tolist() == sorted((shown["curve"] > 0).sum(0).tolist())
        texts = dict(line.split(": ", 1) for line in view.text.splitlines())
        assert list(texts) == ["prompt", "share", "tokens", "point", "ragged", "words", "blob"]
        assert (texts["share"], texts["blob"], texts["point"]) == ("0.1235", "3 bytes", "[1, 2]")


def test_hostile_samples_and_html_are_shut_in() -> None:
    hostile = "</pre><script>alert(1)</script>"
    plain = html_of(view_of({"text": hostile, 'n"a<me': [1.0] * 9}), '"><script>')
    assert "<script" not in plain
    framed = html_of(View(html=f'"{hostile}<img src=http://x.test>'), '"><script>')
    assert framed.count("<") == 2  # the frame's own tags; all else is in an attribute
    assert 'sandbox loading="lazy" title="&quot;&gt;&lt;script&gt;" srcdoc="' in framed
    assert "default-src &#x27;none&#x27;" in framed
    assert framed.count('"') == 8


def test_a_view_shows_itself_in_a_notebook() -> None:
    assert "12+7" in view_of({"prompt": "12+7"})._repr_html_()
