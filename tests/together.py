"""Threads that start at the same moment."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["outcomes"]


def outcomes(work: Callable[[int], Any], threads: int) -> tuple[list[Any], list[BaseException]]:
    """Run *work* in so many threads at once: what each returned, and the errors some ended in."""
    barrier = threading.Barrier(threads)
    results: list[Any] = [None] * threads
    errors: list[BaseException] = []

    def body(index: int) -> None:
        try:
            barrier.wait()
            results[index] = work(index)
        except BaseException as error:
            errors.append(error)

    started = [threading.Thread(target=body, args=(index,)) for index in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return results, errors
