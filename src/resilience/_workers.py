"""Daemon threads that run calls which may never come back.

A thread cannot be stopped, so a call that outlives its timeout is *abandoned*: it goes on in its thread, its result is
dropped, and the thread serves again once the call returns. ``concurrent.futures`` is not used because it joins its
threads at exit, so that one stuck call would keep the whole process from ending.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Job", "start"]

IDLE_SECONDS = 10.0


class Job:
    """One call on its way through a worker thread."""

    __slots__ = ("__weakref__", "_context", "_work", "done", "error", "failed", "on_done", "result")

    def __init__(self, work: Callable[[], Any], on_done: Callable[[], None] | None = None) -> None:
        self._work: Callable[[], Any] | None = work
        self._context = copy_context()
        self.done = threading.Event()
        self.on_done = on_done
        self.error: BaseException | None = None
        self.failed = False
        self.result: Any = None

    def run(self) -> None:
        """Do the work in the context it was submitted in; keep what came of it."""
        work = self._work
        self._work = None
        assert work is not None
        try:
            self.result = self._context.run(work)
        except BaseException as error:
            self.error = error
        self.failed = self.error is not None
        self.done.set()
        if self.on_done is not None:
            self.on_done()

    def when_done(self, tell: Callable[[], None]) -> None:
        """Call *tell* when the work is done, or now if it is. It may be called twice, and from either thread."""
        self.on_done = tell
        if self.done.is_set():
            tell()

    def outcome(self) -> Any:
        """The result, or the error raised again in the calling thread."""
        if self.error is not None:
            try:
                raise self.error
            finally:
                self.error = None  # or error, traceback and this frame keep each other alive
        return self.result


class _Pool:
    """Idle workers, newest first: a burst leaves the oldest to time out and end."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.idle: deque[SimpleQueue[Job]] = deque()
        self.started = 0

    def submit(self, job: Job) -> None:
        with self.lock:
            inbox = self.idle.pop() if self.idle else None
            if inbox is None:
                self.started += 1
                number = self.started
        if inbox is not None:
            inbox.put(job)
            return
        inbox = SimpleQueue()
        inbox.put(job)
        thread = threading.Thread(target=self._serve, args=(inbox,), name=f"resilience-worker-{number}", daemon=True)
        thread.start()

    def _serve(self, inbox: SimpleQueue[Job]) -> None:
        while True:
            try:
                job = inbox.get(timeout=IDLE_SECONDS)
            except Empty:
                with self.lock:
                    if inbox in self.idle:
                        self.idle.remove(inbox)
                        return
                continue  # a job is on its way: submit() took this inbox just now
            job.run()
            del job
            with self.lock:
                self.idle.append(inbox)


_pool = _Pool()


def _forget() -> None:
    """In a forked child the workers are gone, and the lock may be held by one of them."""
    global _pool  # noqa: PLW0603 - one pool a process
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def start(work: Callable[[], Any], on_done: Callable[[], None] | None = None) -> Job:
    """Run *work* in a worker thread, in a copy of the current context. Safe from any thread."""
    job = Job(work, on_done)
    _pool.submit(job)
    return job
