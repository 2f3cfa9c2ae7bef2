"""Several processes, one page: merging is exact, and the dead keep what they counted."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from resilience.machines.distribution import Distribution
from resilience.telemetry import multiprocess
from resilience.telemetry._files import Folder
from resilience.telemetry._readings import RULES, Reading, merged
from resilience.telemetry.multiprocess import Workers, mark_process_dead, since, start, stop
from resilience.telemetry.prometheus import Collector
from telemetry.pages import only, parsed, succeeded
from telemetry.servers import eventually

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(rs.__file__).parents[1])}

# -- merging -----------------------------------------------------------------------------------------------------------


def distributions() -> st.SearchStrategy[Distribution]:
    def made(durations: list[int]) -> Distribution:
        distribution = Distribution()
        distribution.add(durations)
        return distribution

    return st.lists(st.integers(0, 10**12), max_size=8).map(made)


def numbers() -> st.SearchStrategy[dict[str, dict[str, int | float]]]:
    """Some of the numbers that are in metrics, some whole, some not, as readings have them."""
    chosen = st.dictionaries(st.sampled_from(sorted(RULES)), st.integers(0, 1000), max_size=8)

    def nested(flat: dict[tuple[str, str], int]) -> dict[str, dict[str, int | float]]:
        found: dict[str, dict[str, int | float]] = {}
        for (part, key), value in flat.items():
            found.setdefault(part, {})[key] = value
        return found

    return chosen.map(nested)


READINGS = st.builds(Reading, numbers(), distributions(), distributions())
PROCESSES = st.lists(st.dictionaries(st.sampled_from("abc"), READINGS, max_size=3), max_size=4)


def plain(readings: dict[str, Reading]) -> dict[str, Any]:
    return {name: (r.numbers, *((d.counts, d.count, d.sum) for d in (r.good, r.bad))) for name, r in readings.items()}


@given(PROCESSES)
def test_merging_adds_up_by_the_metric_table(processes: list[dict[str, Reading]]) -> None:
    """Each number of the whole is the sum, the largest or the smallest of those of the processes that have it."""
    whole = merged(pair for process in processes for pair in process.items())
    assert whole.keys() == {name for process in processes for name in process}
    for name, reading in whole.items():
        mine = [process[name] for process in processes if name in process]
        for (part, key), metric in RULES.items():
            values = [r.numbers[part][key] for r in mine if key in r.numbers.get(part, {})]
            together = {"sum": sum, "max": max, "min": min}[metric.together]
            assert reading.numbers.get(part, {}).get(key) == (together(values) if values else None)  # type: ignore[operator]
        assert reading.good.count == sum(r.good.count for r in mine)
        assert reading.bad.sum == sum(r.bad.sum for r in mine)
        counts: Counter[int] = Counter()
        for r in mine:
            counts.update(r.good.counts)
        assert reading.good.counts == counts


@given(PROCESSES)
def test_what_is_written_is_what_is_read(tmp_path_factory: pytest.TempPathFactory, processes: Any) -> None:
    """Through files nothing is lost or gained."""
    folder = Folder(tmp_path_factory.mktemp("workers"))
    for process in processes:
        folder.write(folder.new_name(), process)
    direct = merged(pair for process in processes for pair in process.items())
    assert plain(merged(folder.read())) == plain(direct)


@given(PROCESSES, st.data())
def test_the_dead_keep_what_they_counted(
    tmp_path_factory: pytest.TempPathFactory, processes: list[dict[str, Reading]], data: st.DataObject
) -> None:
    """However many die, and in whatever order, counts stay as they were, and levels are those of the living."""
    folder = Folder(tmp_path_factory.mktemp("workers"))
    for pid, process in enumerate(processes, 1):
        folder.write(f"resilience-{pid}-00.json", process)
    dead = data.draw(st.lists(st.sampled_from(range(1, len(processes) + 1)), unique=True)) if processes else []
    for pid in [*dead, *dead]:  # twice is as good as once
        folder.bury(pid)
    assert len(list(folder.directory.glob("*.json"))) <= len(processes) - len(dead) + bool(dead)
    everyone = merged(pair for process in processes for pair in process.items())
    living = merged(pair for pid, process in enumerate(processes, 1) if pid not in dead for pair in process.items())
    found = merged(folder.read())
    for name, reading in everyone.items():
        for (part, key), metric in RULES.items():
            source = everyone if metric.kind == "counter" else living
            wanted = source[name].numbers.get(part, {}).get(key) if name in source else None
            assert found[name].numbers.get(part, {}).get(key) == wanted, (name, part, key)
        assert plain({name: reading})[name][1:] == plain({name: found[name]})[name][1:]


@given(READINGS, READINGS)
def test_since_is_what_was_added(before: Reading, more: Reading) -> None:
    """What a forked process counted is what it has now, less what it began with."""
    now = merged([("p", before), ("p", more)])["p"]
    rest = since(before, now)
    for (part, key), metric in RULES.items():
        if metric.kind == "counter":
            assert rest.numbers.get(part, {}).get(key, 0) == more.numbers.get(part, {}).get(key, 0)
        else:
            assert rest.numbers.get(part, {}).get(key) == now.numbers.get(part, {}).get(key)
    assert plain({"p": rest})["p"][1:] == plain({"p": more})["p"][1:]


# -- files -------------------------------------------------------------------------------------------------------------

COUNTED = Reading({"": {"succeeded": 2, "in_flight": 1}, "retry": {"retries": 5}}, Distribution(), Distribution())


def test_a_move_that_ended_half_way_counts_once(tmp_path: Path) -> None:
    """If a process was stopped between writing the file of the dead and removing the other, nothing is there twice."""
    folder = Folder(tmp_path)
    folder.write("resilience-1-aa.json", {"p": COUNTED})
    left = (tmp_path / "resilience-1-aa.json").read_text()
    folder.bury(1)
    (tmp_path / "resilience-1-aa.json").write_text(left)
    assert merged(folder.read())["p"].numbers["retry"] == {"retries": 5}
    folder.write("resilience-2-bb.json", {"p": COUNTED})
    folder.bury(2)
    assert merged(folder.read())["p"].numbers["retry"] == {"retries": 10}
    folder.bury(1)
    assert merged(folder.read())["p"].numbers["retry"] == {"retries": 10}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["resilience-dead.json", "resilience.lock"]


GOOD = {"what": "resilience numbers", "version": 1, "absorbed": [], "policies": {}}
FOREIGN = [
    "", "[]", "null", "1", "{}", "\x00", '"text"', "[" * 100_000, json.dumps({**GOOD, "version": 2}),
    json.dumps({**GOOD, "what": "else"}), json.dumps({**GOOD, "policies": {"p": {}}}),
    json.dumps({**GOOD, "policies": {"p": {"numbers": {"": {"succeeded": "2"}}, "good": [0], "bad": [0]}}}),
    json.dumps({**GOOD, "policies": {"p": {"numbers": {"": {"succeeded": True}}, "good": [0], "bad": [0]}}}),
    json.dumps({**GOOD, "policies": {"p": {"numbers": {}, "good": [0, [1e9, 1]], "bad": [0]}}}),
    json.dumps({**GOOD, "policies": {"p": {"numbers": {}, "good": [0, [99999, 1]], "bad": [0]}}}),
    json.dumps({**GOOD, "policies": {"p": {"numbers": {}, "good": [-1], "bad": [0]}}}),
    json.dumps({**GOOD, "policies": {"p": {"numbers": {}, "good": [], "bad": [0]}}}),
]  # fmt: skip


@pytest.mark.parametrize("text", FOREIGN, ids=range(len(FOREIGN)))
def test_a_file_that_says_nothing_is_skipped_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    """Neither a broken file nor one of others breaks the scrape; files of other programs are not even looked at."""
    folder = Folder(tmp_path)
    folder.write("resilience-1-aa.json", {"p": COUNTED})
    (tmp_path / "resilience-2-bb.json").write_text(text)
    (tmp_path / "counter_7.db").write_bytes(b"\xff")
    (tmp_path / "resilience-x.json").write_bytes(b"\xff")
    for _ in range(3):
        assert [name for name, _ in folder.read()] == ["p"]
    assert [record.getMessage().count("resilience-2-bb.json") for record in caplog.records] == [1]


def test_bytes_that_are_no_text_are_skipped_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also a file that is no UTF-8, and a directory that is gone."""
    folder = Folder(tmp_path / "made")
    folder.directory.mkdir()
    (folder.directory / "resilience-2-bb.json").write_bytes(b"\xff\xfe")
    assert folder.read() == []
    (folder.directory / "resilience-2-bb.json").unlink()
    (folder.directory / "resilience.lock").unlink()
    folder.directory.rmdir()
    assert folder.read() == [] == folder.read()
    assert len(caplog.records) == 2


# -- writing -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[tuple[Path, rs.Registry]]:
    """A directory, and the registry whose numbers this process writes there."""
    registry = rs.Registry()
    start(registry, directory=tmp_path, every=0.02)
    yield tmp_path, registry
    stop(tmp_path)
    assert not [thread for thread in threading.enumerate() if thread.name == "resilience-multiprocess"]


def test_a_scrape_shows_this_process_as_it_is_now(writing: tuple[Path, rs.Registry]) -> None:
    """Whoever is scraped writes first, so its own calls are on the page at once."""
    directory, registry = writing
    policy = rs.Policy("p", registry=registry)
    collector = Collector(Workers(directory))
    for times in range(1, 4):
        policy.call(lambda: 1)
        assert succeeded(parsed(collector.text())) == times


def test_numbers_are_written_without_a_scrape(writing: tuple[Path, rs.Registry]) -> None:
    """A thread does it, some times a second here; nobody has to ask."""
    directory, registry = writing
    policy = rs.Policy("p", registry=registry)
    policy.call(lambda: 1)
    eventually(lambda: [r.numbers[""]["succeeded"] for _, r in Folder(directory).read()] == [1])


def test_starting_twice_is_starting_once(writing: tuple[Path, rs.Registry], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same again changes nothing; other policies, and senseless arguments, are refused."""
    directory, registry = writing
    assert start(registry, directory=directory) == Workers(directory)
    assert "Workers(" in repr(Workers(directory)) and len({Workers(directory), Workers(str(directory))}) == 1
    with pytest.raises(rs.ConfigError, match="policies"):
        start(rs.Registry(), directory=directory)
    with pytest.raises(rs.ConfigError, match="every"):
        start(registry, directory=directory, every=0)
    with pytest.raises(TypeError, match="policies"):
        start([registry], directory=directory)  # type: ignore[arg-type]
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    with pytest.raises(rs.ConfigError, match="PROMETHEUS_MULTIPROC_DIR"):
        Workers()
    with pytest.raises(rs.ConfigError, match="pid"):
        mark_process_dead(0, directory)


def test_a_disk_that_is_full_breaks_nothing(
    writing: tuple[Path, rs.Registry], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be written is logged once until it can; the scrape goes on with what is there."""
    directory, registry = writing
    policy = rs.Policy("p", registry=registry)
    policy.call(lambda: 1)
    collector = Collector(Workers(directory))
    assert succeeded(parsed(collector.text())) == 1
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", lambda *_: (_ for _ in ()).throw(OSError(28, "no space left")))
        policy.call(lambda: 1)
        assert [succeeded(parsed(collector.text())) for _ in range(3)] == [1, 1, 1]
    assert len([r for r in caplog.records if "cannot be written" in r.getMessage()]) == 1
    assert succeeded(parsed(collector.text())) == 2


# pytest itself may have threads, of which Python warns whoever forks.
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_counts_its_own_calls_only(writing: tuple[Path, rs.Registry]) -> None:
    """What the parent had counted is not counted again; and the child writes as the parent does."""
    directory, registry = writing
    policy = rs.Policy("p", registry=registry)
    for _ in range(5):
        policy.call(lambda: 1)
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            policy.call(lambda: 1)
            policy.call(lambda: 1)
            multiprocess._at_exit()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    policy.call(lambda: 1)
    collector = Collector(Workers(directory))
    found = parsed(collector.text())
    assert succeeded(found) == 8
    assert only(found, "resilience_call_duration_seconds_count", outcome="succeeded") == 8
    mark_process_dead(pid, directory)
    assert succeeded(parsed(collector.text())) == 8
    assert len(list(directory.glob("resilience-*.json"))) == 2


def test_a_process_that_ends_has_written_everything(tmp_path: Path) -> None:
    """Also what it did in the last second."""
    program = (
        "import resilience as rs\nfrom resilience.telemetry import multiprocess\n"
        f"multiprocess.start(directory={str(tmp_path)!r})\n"
        "policy = rs.Policy('p')\n"
        "for _ in range(7): policy.call(lambda: 1)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=ENVIRONMENT)
    assert succeeded(parsed(Collector(Workers(tmp_path)).text())) == 7
