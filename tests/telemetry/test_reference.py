from __future__ import annotations

from pathlib import Path

from resilience.telemetry.reference import reference
from resilience.telemetry.table import METRICS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"


def test_the_page_of_metrics_is_up_to_date() -> None:
    """It is what the table says; if not: `resilience metrics --out docs/reference/metrics.md`."""
    assert PAGE.read_text(encoding="utf-8") == reference()


def test_every_metric_and_label_is_on_it() -> None:
    """With its values, so that nobody needs a running process to find out."""
    page = reference()
    for metric in METRICS:
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{metric.name}` |")]
        assert row.count("|") == 7
        for cell in metric.cells:
            assert (cell.part or "policy") in row
            assert all(f"`{value}`" in row for value in cell.labels)
