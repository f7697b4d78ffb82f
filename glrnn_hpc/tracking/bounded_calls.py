"""Calls of W&B's client on a thread of their own, each with a time limit.

The client waits without limit for its service, which may hang on a file system, be stopped or be killed. After a call
that takes too long the service is ended: other calls that wait for it then fail at once, also at the end of the
process, and a new service can be started.
"""

from __future__ import annotations

import concurrent.futures
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from glrnn_hpc.errors import TrackingError
from glrnn_hpc.tracking import service

#: Seconds between two calls of `while_waiting`.
_PAUSE = 0.5

#: Seconds in which the client forgets a service that was ended.
_CLEANING = 5.0

_T = TypeVar("_T")


class BoundedCalls:
    """Run calls one after the other on another thread.

    Parameters
    ----------
    while_waiting : callable
        Called about twice a second while a call is waited for.
    """

    def __init__(self, while_waiting: Callable[[], None] = lambda: None) -> None:
        self._while_waiting = while_waiting
        self._queue: queue.SimpleQueue[Callable[[], None]] | None = None

    def call(self, function: Callable[[], _T], seconds: float) -> _T:
        """Call a function and return what it returns, or raise what it raises.

        Raises
        ------
        TrackingError
            If it has not returned after `seconds`; W&B's service is ended then.
        """
        return self.wait(self.submit(function), seconds)

    def submit(self, function: Callable[[], _T]) -> concurrent.futures.Future[_T]:
        """Have a function called after those that were submitted before, and do not wait for it."""
        if self._queue is None:
            self._queue = queue.SimpleQueue()
            # A daemon: the end of the process does not wait for it.
            threading.Thread(target=_run_calls, args=(self._queue,), name="tracking", daemon=True).start()
        future: concurrent.futures.Future[_T] = concurrent.futures.Future()
        self._queue.put(lambda: _run_call(function, future))
        return future

    def wait(self, future: concurrent.futures.Future[_T], seconds: float) -> _T:
        """Wait for a function that was submitted, like `call`."""
        end = time.monotonic() + seconds
        while not future.done() and (left := end - time.monotonic()) > 0:
            concurrent.futures.wait([future], timeout=min(left, _PAUSE))
            self._while_waiting()
        if future.done():
            return future.result()
        self.end_service()
        raise TrackingError(f"no answer within {seconds:g} s")

    def recover(self) -> None:
        """After a failure: make sure that the next run gets a service that works."""
        import wandb

        # A service keeps the id of a run that was not finished. One that also serves a run of the user's own stays.
        if wandb.run is None:
            self.end_service()
        elif not service.service_pids():
            self._forget_service()

    def end_service(self) -> None:
        """End W&B's service; the next call that needs one starts another."""
        service.kill_service()
        # The thread may be stuck for ever, and what was submitted before must not be called later.
        self._queue = None
        self._forget_service()

    def _forget_service(self) -> None:
        future = self.submit(service.forget_service)
        concurrent.futures.wait([future], timeout=_CLEANING)
        if not future.done():
            self._queue = None


def _run_calls(calls: queue.SimpleQueue[Callable[[], None]]) -> None:
    while True:
        calls.get()()


def _run_call(function: Callable[[], Any], future: concurrent.futures.Future[Any]) -> None:
    try:
        future.set_result(function())
    except BaseException as error:
        future.set_exception(error)
