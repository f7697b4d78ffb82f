"""Local service of W&B's client, the process wandb-core: started, ended, and forgotten by the client."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any

from glrnn_hpc import processes

_COMMAND = "wandb-core"

#: Far more than a killed process needs to end, unless it hangs in the kernel.
_DYING_SECONDS = 5.0


def start_service() -> None:
    """Import W&B's client and start its service; a later run finds both there."""
    import wandb

    wandb.setup()


def stop_service() -> None:
    """End the service in good order, unless the user has a run of their own in this process."""
    import wandb

    if wandb.run is None:
        wandb.teardown()


def service_pids() -> list[int]:
    """Return the processes of the service that this process has started and that live."""
    return processes.children(_COMMAND)


def kill_service() -> None:
    """Kill the services that this process has started, and wait until they are gone."""
    for pid in service_pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    # On a busy machine a killed process lives on for a moment, and `forget_service` leaves out those that live.
    end = time.monotonic() + _DYING_SECONDS
    while service_pids() and time.monotonic() < end:
        time.sleep(0.01)


def forget_service() -> None:
    """Let the client forget a service that is gone: at the end of the process it would wait for it."""
    import wandb

    process: Any = None
    with contextlib.suppress(Exception):
        process = wandb.sdk.wandb_setup.singleton().assert_service()._proc
    with contextlib.suppress(Exception):
        wandb.teardown(exit_code=1)
    if process is not None and not service_pids():
        # A teardown that fails leaves this out, and the process would stay as a zombie.
        with contextlib.suppress(Exception):
            process.join()
