"""The command: real processes that are asked over HTTP, and what it refuses."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import resilience as rs
from dashboard.asking import ask, attempt, payments
from dashboard.browsing import served, soon
from resilience.dashboard import app
from resilience.dashboard.command import main
from resilience.dashboard.connect import remote
from resilience.dashboard.server import serve

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = [sys.executable, "-m", "resilience.dashboard.command"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(rs.__file__).parents[1]), "PYTHONUNBUFFERED": "1"}

SHOP = """\
import asyncio, threading
import resilience as rs
orders = rs.Policy("orders", breaker=rs.CircuitBreaker())
async def work():
    for _ in range(3):
        await orders.acall(asyncio.sleep, 0)
def plain():
    orders.call(lambda: 1)
number = 3
"""


@contextmanager
def running(*arguments: str, cwd: Path, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """A process of the command, its address, and what it said after that; interrupted in the end."""
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", *arguments], cwd=cwd, env={**ENVIRONMENT, **variables},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        url = process.stdout.readline().strip()
        assert url.startswith("http://"), process.stderr.read()
        said = [process.stdout.readline().strip()] if "--steering" in arguments and not variables else []
        yield process, url, said
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        assert process.returncode == 0, err
        assert "Traceback" not in out + err


def data(url: str) -> Any:
    with urllib.request.urlopen(f"{url}data", timeout=10) as answer:
        return json.load(answer)


def status(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.parametrize(("target", "succeeded"), [("shop", 0), ("shop:plain", 1), ("shop:work", 3)])
def test_a_module_s_policies_are_served(tmp_path: Path, target: str, succeeded: int) -> None:
    """Those it makes when imported, and what its function does with them, coroutine function or not."""
    (tmp_path / "shop.py").write_text(SHOP)
    with running(target, cwd=tmp_path) as (process, url, _):
        soon(lambda: _only(url)["numbers"][""]["succeeded"] == succeeded)
        assert _only(url)["name"] == "orders"
        assert data(url)["process"]["pid"] == process.pid
        assert f"<title>{target}</title>" in urllib.request.urlopen(url, timeout=10).read().decode()


def _only(url: str) -> Any:
    (policy,) = data(url)["policies"]
    return policy


def test_the_demo_shows_trouble_through_real_policies(tmp_path: Path) -> None:
    """Traffic begins at once; every policy is called, and one of eight circuits opens."""
    with running("--demo", cwd=tmp_path) as (_, url, _):
        names = {"catalogue", "inventory", "mail", "payments", "search", "shards"}
        soon(lambda: {one["name"] for one in data(url)["policies"] if one["numbers"][""]["succeeded"]} == names)
        shards = soon(lambda: [
            one for one in data(url)["policies"] if one["name"] == "shards" and one["circuit"]["state"] == "open"
        ])  # fmt: skip
        assert shards[0]["circuit"]["keys"][0]["key"] == "shard-3"
        assert any(one["kind"] == "circuit_changed" for one in data(url)["events"])


def test_another_process_is_shown(tmp_path: Path) -> None:
    """Its data, fetched when somebody looks; and when it is gone, that is said."""
    registry = rs.Registry()
    policy = payments(registry)
    attempt(policy, 3)
    with served(app(registry)) as far, running("--connect", far, cwd=tmp_path) as (process, url, _):
        found = data(url)
        assert found["process"]["pid"] == os.getpid() != process.pid
        assert found["policies"][0]["circuit"]["state"] == "open"
        assert status(f"{url}steer") == 405
    assert policy.name == "payments"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, b"hello"), "is not the data of a page"),
        ((200, b"[]"), "of this version"),
        ((200, b'{"version": 99}'), "of this version"),
        ((503, b""), "answers 503 Service Unavailable"),
        (None, "does not answer"),
    ],
)
def test_what_another_process_answers_may_be_anything(answer: tuple[int, bytes] | None, words: str) -> None:
    """The page is told why there is nothing to see."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if answer is not None:
                self.send_response(answer[0])
                self.end_headers()
                self.wfile.write(answer[1])

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            with remote(f"http://127.0.0.1:{server.server_port}/ops/") as page:
                found = ask(page, "/data")
        finally:
            server.shutdown()
            thread.join()
    assert found.status == 502
    assert words in found.data["error"]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/", "localhost:80", "http://", ""])
def test_only_web_addresses_are_fetched(url: str) -> None:
    """Others are refused when the page is made."""
    with pytest.raises(rs.ConfigError, match="url must be an http or https address"):
        remote(url)


def test_steering_on_loopback_makes_a_token_up(tmp_path: Path) -> None:
    """It is printed once, and it works; a token of your own comes from the environment, and is not printed."""
    (tmp_path / "shop.py").write_text(SHOP)
    with running("shop", "--steering", cwd=tmp_path) as (_, url, said):
        token = said[0].removeprefix("token to steer: ")
        assert len(token) >= 16
        _steer(url, token)
        assert _only(url)["circuit"]["state"] == "forced_open"
    own = "my-own-token-of-24-chars"
    with running("shop", "--steering", cwd=tmp_path, RESILIENCE_DASHBOARD_TOKEN=own) as (_, url, _):
        _steer(url, own)
        assert _only(url)["circuit"]["state"] == "forced_open"


def _steer(url: str, token: str) -> None:
    order = json.dumps({"policy": "orders", "act": "force_open"}).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}steer", order, headers), timeout=10) as answer:
        assert answer.status == 200


def test_names_that_point_here_are_refused_unless_they_were_given(tmp_path: Path) -> None:
    """By the command as by the app: a name that was made to point to loopback reads nothing."""
    (tmp_path / "shop.py").write_text(SHOP)
    with running("shop", "--name", "ops.example.org", cwd=tmp_path) as (_, url, _):
        assert status(f"{url}data", Host="evil.example") == 403
        assert status(f"{url}data", Host="ops.example.org") == 200


def test_the_server_survives_odd_clients(tmp_path: Path) -> None:
    """Those that send nonsense, hang up, or say nothing; others are served meanwhile."""
    (tmp_path / "shop.py").write_text(SHOP)
    with running("shop", cwd=tmp_path) as (_, url, _):
        port = int(url.split(":")[2].strip("/"))
        with socket.create_connection(("127.0.0.1", port)) as silent:
            for nonsense in (
                b"\x16\x03\x01\x00",
                b"GET / HTTP/9.9\r\n\r\n",
                b"GET /data HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            ):
                with socket.create_connection(("127.0.0.1", port)) as odd:
                    odd.sendall(nonsense)
            assert status(f"{url}data") == 200
            silent.sendall(b"GET /da")
        for _ in range(3):
            hasty = http.client.HTTPConnection("127.0.0.1", port)
            hasty.request("GET", "/")
            hasty.close()
        assert status(url) == 200


def test_ipv6_loopback_is_an_address_too() -> None:
    """Its address is written as browsers want it."""
    try:
        server = serve(lambda environ, start: [], "::1", 0)
    except OSError:
        pytest.skip("NO IPV6 HERE: the server is not tested on it")
    with server:
        assert re.fullmatch(r"http://\[::1\]:\d+/", server.url)


def test_a_port_that_is_taken_is_a_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And status 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--connect", "http://127.0.0.1:1/", "--port", str(port)]) == 1
    assert f"cannot serve at 127.0.0.1:{port}" in capsys.readouterr().err


def test_beyond_loopback_steering_needs_a_token_of_your_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was chosen, and not one that is printed; and short ones are refused everywhere."""
    monkeypatch.delenv("RESILIENCE_DASHBOARD_TOKEN", raising=False)
    assert main(["--demo", "--host", "0.0.0.0", "--port", "0", "--steering"]) == 2
    assert "needs a token of your own, in RESILIENCE_DASHBOARD_TOKEN" in capsys.readouterr().err
    monkeypatch.setenv("RESILIENCE_DASHBOARD_TOKEN", "short")
    assert main(["--demo", "--port", "0", "--steering"]) == 2
    assert "token must have at least 16 characters" in capsys.readouterr().err


def test_beyond_loopback_there_is_a_warning(tmp_path: Path) -> None:
    """On the error output; the page is served."""
    process = subprocess.Popen(
        [*COMMAND, "--demo", "--host", "0.0.0.0", "--port", "0"], cwd=tmp_path, env=ENVIRONMENT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        assert "whoever reaches this address can read the page" in process.stderr.readline()
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give one of MODULE"),
        (["shop", "--demo"], "give one of MODULE"),
        (["no_such_module_here"], "there is no module 'no_such_module_here'"),
        (["resilience.no_such_module"], "there is no module"),
        (["resilience:nothing"], "has no function 'nothing'"),
        (["resilience:__version__"], "has no function '__version__'"),
        ([":run"], "names no module"),
        (["--demo", "--port", "70000"], "invalid port value"),
        (["--demo", "--port", "x"], "invalid port value"),
        (["--connect", "file:///x"], "url must be an http or https address"),
        (["--connect", "http://x/", "--steering"], "--steering does not go with --connect"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With status 2, and words."""
    try:
        found = main(arguments)
    except SystemExit as done:
        found = int(str(done.code))
    assert found == 2
    assert words in capsys.readouterr().err


def test_a_module_that_fails_shows_its_own_error(tmp_path: Path) -> None:
    """Something that it needs is missing: that is no wrong name."""
    (tmp_path / "broken.py").write_text("import no_such_thing_at_all\n")
    done = subprocess.run(
        [*COMMAND, "broken"], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "No module named 'no_such_thing_at_all'" in done.stderr
