"""Calls of W&B's client on a thread of their own: none is waited for longer than said.

The client waits without limit for its service, a process named wandb-core, which may hang on a file system, be stopped
or be killed. Whoever waits in vain ends the service: what waits for it then fails at once, also at the end of the
process, and a new service can be started.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from glrnn_hpc import processes
from glrnn_hpc.errors import TrackingError

_SERVICE = "wandb-core"

#: Seconds between two words to the watchdog while W&B is waited for.
_PAUSE = 0.5

#: Seconds to clean up after a service that was ended.
_CLEANING = 5.0

_Errand = tuple[Callable[[], Any], "concurrent.futures.Future[Any]"]


class Errands:
    """Run actions one after the other on another thread.

    Parameters
    ----------
    while_waiting : callable
        Called about twice a second while an action is waited for.
    """

    def __init__(self, while_waiting: Callable[[], None] = lambda: None) -> None:
        self._while_waiting = while_waiting
        self._queue: queue.SimpleQueue[_Errand] | None = None

    def run(self, action: Callable[[], Any], seconds: float) -> Any:
        """Have an action done and return what it returns, or raise what it raises.

        Raises
        ------
        TrackingError
            If it is not done after `seconds`; W&B's service is ended then.
        """
        return self.wait(self.send(action), seconds)

    def wait(self, done: concurrent.futures.Future[Any], seconds: float) -> Any:
        """Wait for what was sent, like `run`."""
        end = time.monotonic() + seconds
        while not done.done() and (left := end - time.monotonic()) > 0:
            concurrent.futures.wait([done], timeout=min(left, _PAUSE))
            self._while_waiting()
        if done.done():
            return done.result()
        self.give_up()
        raise TrackingError(f"no answer within {seconds:g} s")

    def mend(self) -> None:
        """After a failure: see to it that the next run gets a service that works."""
        import wandb

        # A service keeps the id of a run that was not finished. One that also serves a run of the user's own stays.
        if wandb.run is None:
            self.give_up()
        elif not services():
            self._forget()

    def give_up(self) -> None:
        """End W&B's service; what comes next starts another one."""
        end_service()
        # The thread may be stuck for ever, and what was sent before must not be done later.
        self._queue = None
        self._forget()

    def _forget(self) -> None:
        done = self.send(_forget)
        concurrent.futures.wait([done], timeout=_CLEANING)
        if not done.done():
            self._queue = None

    def send(self, action: Callable[[], Any]) -> concurrent.futures.Future[Any]:
        """Have an action done, after those that were sent before, and do not wait for it."""
        if self._queue is None:
            self._queue = queue.SimpleQueue()
            # A daemon: the end of the process does not wait for it.
            threading.Thread(target=_work, args=(self._queue,), name="tracking", daemon=True).start()
        done: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._queue.put((action, done))
        return done


def _work(errands: queue.SimpleQueue[_Errand]) -> None:
    while True:
        action, done = errands.get()
        try:
            done.set_result(action())
        except BaseException as error:
            done.set_exception(error)


def _forget() -> None:
    """Let the client forget a service that is gone: at the end of the process it would wait for it."""
    import wandb

    process: Any = None
    with contextlib.suppress(Exception):
        process = wandb.sdk.wandb_setup.singleton().assert_service()._proc
    with contextlib.suppress(Exception):
        wandb.teardown(exit_code=1)
    if process is not None and not services():
        # A teardown that fails leaves this out, and the process would stay as a zombie.
        with contextlib.suppress(Exception):
            process.join()


def services() -> list[int]:
    """Return the processes of W&B's service that this process has started and that live."""
    return processes.children(_SERVICE)


def end_service() -> None:
    """Kill the services of W&B that this process has started."""
    for pid in services():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
