"""The command ``resilience dashboard``: whose page, where it is served, and until when."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import inspect
import os
import secrets
import signal
import sys
import threading
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from .connect import remote
from .server import serve
from .site import Dashboard, app

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["main"]

TOKEN = "RESILIENCE_DASHBOARD_TOKEN"  # noqa: S105 - the name of the variable
PORT = 8765


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until interrupted; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    if sum((options.target is not None, options.demo, options.connect is not None)) != 1:
        parser.error("give one of MODULE[:FUNCTION], --demo and --connect URL")
    try:
        page, token = _page(options)
    except (ConfigError, _TargetError) as error:
        return _failed(str(error), 2)
    with page:
        try:
            server = serve(page.wsgi_app, options.host, options.port)
        except (OSError, OverflowError) as error:
            return _failed(f"cannot serve at {options.host}:{options.port}: {error}", 1)
        with server:
            for number in (signal.SIGINT, signal.SIGTERM):  # a shell may have had them ignored
                signal.signal(number, signal.default_int_handler)
            try:
                _announce(server.url, token, options.host)
                server.serve_forever(poll_interval=0.2)
            except KeyboardInterrupt:
                sys.stderr.write("\n")
    return 0


def _announce(url: str, token: str | None, host: str) -> None:
    sys.stdout.write(f"{url}\n")
    if token:
        sys.stdout.write(f"token to steer: {token}\n")
    sys.stdout.flush()
    if not _loopback(host):
        sys.stderr.write("resilience dashboard: whoever reaches this address can read the page\n")


class _TargetError(Exception):
    """What was named cannot be shown."""


def _page(options: argparse.Namespace) -> tuple[Dashboard, str | None]:
    """The page, and the token if one was made up for it."""
    hosts = frozenset(options.name) | ({options.host.lower()} if _named(options.host) else frozenset())
    if options.connect is not None:
        if options.steering:
            raise ConfigError("--steering does not go with --connect: steer at the process's own page")
        return remote(options.connect, title=options.title, hosts=hosts), None
    token = made_up = None
    if options.steering:
        token = os.environ.get(TOKEN)
        if token is None:
            if not _loopback(options.host):
                raise ConfigError(f"--steering at {options.host} needs a token of your own, in {TOKEN}")
            token = made_up = secrets.token_urlsafe(18)
    title = options.title or ("demo" if options.demo else options.target)
    page = app(steering=options.steering, token=token, title=title, hosts=hosts)
    try:
        _start(options)
    except BaseException:
        page.close()
        raise
    return page, made_up


def _start(options: argparse.Namespace) -> None:
    if options.demo:
        from .demo import run

        _in_thread(lambda: run(options.seed))
        return
    function = _load(options.target)
    if function is not None:
        _in_thread(function)


def _load(target: str) -> Callable[[], Any] | None:
    """Import the module; the function that is named after it, if any."""
    name, _, attribute = target.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # something that the module needs
        raise _TargetError(f"there is no module {name!r}") from error
    except ValueError as error:
        raise _TargetError(f"{target!r} names no module") from error
    if not attribute:
        return None
    function = getattr(module, attribute, None)
    if not callable(function):
        raise _TargetError(f"the module {name!r} has no function {attribute!r}")
    return function  # type: ignore[no-any-return]


def _in_thread(function: Callable[[], Any]) -> None:
    """Run it beside the server. When it ends or fails, the page stays, to be looked at."""

    def run() -> None:
        result = function()
        if inspect.iscoroutine(result):
            asyncio.run(result)

    threading.Thread(target=run, name="resilience dashboard: program", daemon=True).start()


def _named(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return True
    return False


def _loopback(host: str) -> bool:
    return host.lower() == "localhost" if _named(host) else ip_address(host).is_loopback


def _failed(message: str, status: int) -> int:
    sys.stderr.write(f"resilience dashboard: {message}\n")
    return status


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise ValueError
    return value


_port.__name__ = "port"  # argparse says: invalid port value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="resilience dashboard",
        description="A live page of every policy of a program: of one started here, of a demo, or of a process "
        "that has the page mounted. Stop with Ctrl-C.",
    )
    parser.add_argument(
        "target", nargs="?", metavar="MODULE[:FUNCTION]",
        help="import this module, run this function of it in a thread, and show its policies",
    )  # fmt: skip
    parser.add_argument("--demo", action="store_true", help="made-up traffic through real policies")
    parser.add_argument("--seed", type=int, default=1, help="of the demo (default: 1)")
    parser.add_argument("--connect", metavar="URL", help="the process that has its page at this address")
    parser.add_argument("--host", default="127.0.0.1", help="address to serve at (default: 127.0.0.1)")
    parser.add_argument("--port", type=_port, default=PORT, help=f"0 for any that is free (default: {PORT})")
    parser.add_argument(
        "--name", action="append", default=[], metavar="HOSTNAME",
        help="another name that the page is reached by; requests to unknown names are refused",
    )  # fmt: skip
    parser.add_argument(
        "--steering", action="store_true",
        help=f"let circuits be forced open, disabled and reset by whoever knows the token in {TOKEN}",
    )  # fmt: skip
    parser.add_argument("--title", help="of the page")
    return parser


if __name__ == "__main__":
    sys.exit(main())
