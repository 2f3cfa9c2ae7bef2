"""The guide's pictures."""

from __future__ import annotations

from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_pictures_of_the_guide_are_small_and_used() -> None:
    """They are in the repository, each below 200 kB; ``screenshot.py`` makes them anew."""
    page = (DOCS / "how-to" / "dashboard.md").read_text(encoding="utf-8")
    pictures = list((DOCS / "img").glob("dashboard*.png"))
    assert len(pictures) == 4
    for picture in pictures:
        assert picture.stat().st_size < 200_000
        assert f"img/{picture.name}" in page
