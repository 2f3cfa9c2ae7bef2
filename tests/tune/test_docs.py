"""What the documentation shows is what the command prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from resilience.__main__ import main
from resilience.tune.advice import Wishes
from resilience.tune.tuning import tune
from tune.records import DATA, MS, load

DOCS = Path(__file__).parents[2] / "docs"


def test_the_example_is_real(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The block in the guide is the output for the recorded service, to the last letter."""
    page = (DOCS / "how-to" / "tune.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(DATA)
    assert main(["tune", "ec2-request-latency.csv", "--unit", "ms", "--rate", "10"]) == 0
    assert capsys.readouterr().out == shown


def test_the_figures_of_the_explanation_are_those_of_the_records() -> None:
    """The path over the internet, and the host that stalls."""
    page = (DOCS / "explanation" / "choosing-a-timeout.md").read_text(encoding="utf-8")
    trace, told = load(DATA / "seattle-rtt.csv", unit="s", column="path_3_5")
    with trace:
        path = tune(trace, told, Wishes(0.05))
    assert f"within {round(path.sight.first / MS)} ms" in page
    assert f"**{path.sight.missed:.1%}**".replace("%", " %") in page
    assert f"**{path.learned.false_rate:.1%}**".replace("%", " %") in page
    trace, told = load(DATA / "jhiccup.hlog")
    with trace:
        host = tune(trace, told, Wishes(0.01))
    (note,) = [note.text for note in host.notes if note.code == "floor_raised"]
    assert "would have cut 5 % of the good calls" in note
    assert "timeout would have cut 5 %" in " ".join(page.split())
    assert host.settings.floor == 1500 * MS


def test_pictures_of_the_documentation_are_small() -> None:
    """They are in the repository, each below 100 kB, and each is used."""
    pages = "".join(path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md"))
    pictures = list((DOCS / "img").glob("tune-*.png"))
    assert len(pictures) == 5
    for picture in pictures:
        assert picture.stat().st_size < 100_000
        assert f"img/{picture.name}" in pages
