"""The page and the pictures: well formed, self-contained, the same every time, and nothing drawn over each other."""

from __future__ import annotations

import re
import struct
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.tune import png
from resilience.tune.advice import Wishes
from resilience.tune.charts import Axis, Chart, Dots, charts
from resilience.tune.page import page
from resilience.tune.report import as_text
from resilience.tune.svg import draw
from resilience.tune.ticks import axis_label, ticks
from resilience.tune.tuning import Tuning, tune
from tune.records import MS, bimodal, lognormal, reading, tight, traced

SVG = "svg"


@pytest.fixture(scope="module", params=["lognormal", "bimodal", "tight", "one"])
def tuning(request: pytest.FixtureRequest) -> Tuning:
    """A few records."""
    latencies = {
        "lognormal": lognormal(3000), "bimodal": bimodal(3000), "tight": tight(400), "one": [5 * MS],
    }[request.param]  # fmt: skip
    with traced(latencies) as trace:
        return tune(trace, reading(rate=100.0), Wishes(0.01))


def parsed(tuning: Tuning) -> ET.Element:
    """The page as a tree; this raises if it is not well formed."""
    text = page(tuning)
    assert text.startswith("<!DOCTYPE html>\n")
    return ET.fromstring(text.removeprefix("<!DOCTYPE html>\n"))


def test_the_page_is_well_formed_and_the_same_every_time(tuning: Tuning) -> None:
    """To the last byte."""
    parsed(tuning)
    assert page(tuning) == page(tuning)


def test_the_page_refers_to_nothing_and_runs_nothing(tuning: Tuning) -> None:
    """No address, no script, no handler, no import in its style."""
    text = page(tuning)
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<script|<link|<img|<iframe|javascript:|\son\w+=", text)
    names = {element.tag for element in parsed(tuning).iter()}
    assert names.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "use", "image", "a"})


def test_every_picture_has_a_title_and_a_description(tuning: Tuning) -> None:
    """And every id is there once, and meant."""
    root = parsed(tuning)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids)) == 12
    pictures = [element for element in root.iter(SVG) if element.get("role") == "img"]
    assert len(pictures) == 6
    for picture in pictures:
        title, text = picture[0], picture[1]
        assert (title.tag, text.tag) == ("title", "desc")
        assert title.text
        assert text.text
        assert len(text.text) > 40
        assert picture.get("aria-labelledby") == f"{title.get('id')} {text.get('id')}"
    assert all(e.get("aria-hidden") == "true" for e in root.iter(SVG) if e.get("role") != "img")


def test_the_page_suits_light_dark_and_phones(tuning: Tuning) -> None:
    """By style alone: colors by preference, one of two pictures by width."""
    text = page(tuning)
    assert "prefers-color-scheme:dark" in text
    assert 'name="viewport"' in text
    assert text.count('<svg class="wide"') == text.count('<svg class="narrow"') == 3
    used = set(re.findall(r"var\((--[a-z]+)\)", text))
    light, dark = re.findall(r":root\{([^}]*)\}", text)
    defined = set(re.findall(r"(--[a-z]+):#", light))
    assert defined == set(re.findall(r"(--[a-z]+):#", dark))
    assert used <= defined | {"--c"}


def test_marks_and_words_do_not_overlap(tuning: Tuning) -> None:
    """The marks of an axis, and the words beside dots, in both sizes; nothing lies outside."""
    for chart in charts(tuning):
        for width, height in ((880, 400), (360, 330)):
            picture = ET.fromstring(draw(chart, width, height, "x"))
            boxes = []
            for text in picture.iter("text"):
                wide = 6.6 * len(text.text or "")
                kind = (text.get("class") or "").split()
                left = float(text.get("x") or 0) - (wide if "end" in kind else wide / 2 if "mid" in kind else 0)
                bottom = float(text.get("y") or 0) + (4 if text.get("dy") else 0)
                boxes.append((left, left + wide, bottom - 10, bottom))
                assert -8 <= left <= left + wide <= width + 8
                assert 0 <= bottom <= height
            for n, (left, right, top, bottom) in enumerate(boxes):
                for other in boxes[:n]:
                    apart = right <= other[0] or other[1] <= left or bottom <= other[2] or other[3] <= top
                    assert apart, (chart.name, width, n)


def test_names_with_markup_stay_names(tuning: Tuning) -> None:
    """What stands in a file's name or a column is text on the page."""
    from dataclasses import replace

    bad = replace(tuning, reading=replace(tuning.reading, path="a/<b>&\"'.csv", column="<i>&"))
    text = page(bad)
    root = ET.fromstring(text.removeprefix("<!DOCTYPE html>\n"))
    assert root.findtext(".//h1") == "A timeout for <b>&\"'.csv"
    assert page(replace(tuning, reading=replace(tuning.reading, path="-"))).count("standard input") == 2
    assert "<i>&" in as_text(bad)


@given(
    st.sampled_from(["duration", "count", "share", "elapsed"]),
    st.floats(1, 1e12),
    st.floats(1.05, 1e9),
    st.integers(3, 12),
)
def test_marks_lie_on_the_axis_in_order_and_are_not_too_many(scale: str, low: float, ratio: float, most: int) -> None:
    """Whatever the span; and no two say the same."""
    start = 0.0 if scale == "elapsed" else low
    axis = Axis("x", scale, start, max(low, 1.0) * ratio)  # type: ignore[arg-type]
    found = ticks(axis, most)
    values = [value for value, _ in found]
    assert values == sorted(set(values))
    assert len(found) <= most + 1
    assert all(axis.low * (1 - 1e-6) <= value <= axis.high * (1 + 1e-6) for value in values)
    if scale != "count":
        assert len({words for _, words in found}) == len(found)
    if scale == "duration" and ratio >= 10:
        assert found
    assert axis_label(axis).startswith("x")


def test_none_has_a_place_on_an_axis_of_shares() -> None:
    """A logarithmic axis has no zero, so its lower end is called so."""
    marks = ticks(Axis("cut", "share", 0.0001, 1.0, none=True), 9)
    assert marks[0][1] == "none"
    assert [words for _, words in marks][-1] == "100 %"


def test_dots_at_one_place_have_words_above_each_other() -> None:
    """Also at the right edge."""
    axis = Axis("x", "duration", 1.0, 1000.0)
    dots = Dots("d", "learned", ((990.0, 500.0),) * 4, ("first", "second", "third", "fourth"))
    picture = ET.fromstring(draw(Chart("c", "t", "d", axis, axis, (dots,)), 360, 330, "x"))
    heights = [float(text.get("y") or 0) for text in picture.iter("text") if "word" in (text.get("class") or "")]
    assert len(heights) == 4
    assert all(b - a <= -14 for a, b in pairwise(heights))


def test_pictures_are_written_as_png(tuning: Tuning, tmp_path: Path) -> None:
    """Three of one size, into a folder that need not be there; the same bytes every time."""
    assert not png.missing()
    written = png.draw(tuning, tmp_path / "a" / "b")
    again = png.draw(tuning, tmp_path / "c")
    assert [path.name for path in written] == ["distribution.png", "course.png", "tradeoff.png"]
    for path, other in zip(written, again, strict=True):
        data = path.read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">II", data[16:24]) == (1080, 576)
        assert data == other.read_bytes()
        assert len(data) < 150_000
