"""Trainer of ranks whose trials sleep: epochs are pauses, their files are those of a training without a model."""

from __future__ import annotations

import logging
import os
import time
from typing import Any

from glrnn_hpc import layout
from glrnn_hpc.data.ranks import Ranks
from glrnn_hpc.records.trial_result import TrialEnding, TrialOutcome
from glrnn_hpc.search.sweep import trial_config
from glrnn_hpc.study.leases import Lease
from glrnn_hpc.study.liveness import Watchdog
from glrnn_hpc.study.study import Claim, SweepStudy
from glrnn_hpc.worker.timeline import Timeline
from glrnn_hpc.worker.trial_loop import Guard

logger = logging.getLogger(__name__)

#: Seconds of an epoch.
EPOCH = float(os.environ.get("SLEEPERS_EPOCH", "0.2"))

#: Seconds of a step of an epoch.
STEP = 0.05

#: Memory that each trial of a rank leaves behind [MB], as networks do that TensorFlow has traced.
BALLAST = int(os.environ.get("SLEEPERS_BALLAST", "0"))

#: The file beside the sweep's folder that ends all pauses: a test has seen what the trials had to wait for.
HURRY = "hurry"


class Trainer:
    """Sleep through the epochs of claimed trials, from where an earlier owner left.

    Trials of one rank only. The value of a trial is its number.
    """

    def __init__(
        self,
        study: SweepStudy,
        data: object,
        group: Ranks,
        watchdog: Watchdog,
        timeline: Timeline,
        *_: Any,
    ) -> None:
        assert group.size == 1, "sleeping trials have one rank"
        self._study = study
        self._timeline = timeline
        self._ballast: list[bytes] = []

    def __call__(self, claim: Claim, guard: Guard) -> TrialOutcome:
        trial, generation = claim.lease.folder, claim.lease.generation
        epochs = trial_config(self._study.spec, claim.point).epochs
        done = self._go_on(claim.lease)
        if done:
            # The line of `train.run_training`: tests compare it with the epoch after which a trial was released.
            logger.info("%s: goes on after epoch %d", trial.root, done)
        self._timeline.begin("fit")
        for epoch in range(done + 1, epochs + 1):
            self._sleep(guard)
            guard.check()
            with trial.generation(generation).metrics.open("a", encoding="utf-8") as metrics:
                metrics.write(f"{epoch},{claim.number}\n")
            layout.write_json(trial.checkpoint_file(generation), {"epochs": epoch})
        self._ballast.append(b"x" * BALLAST * 2**20)
        self._timeline.begin("gap")
        self._timeline.write(claim.number)
        value = float(claim.number)
        return TrialOutcome(
            state="finished", value=value, metrics={self._study.spec.metric: value}, epochs=epochs, best_epoch=epochs
        )

    def log_end(self, claim: Claim, ending: TrialEnding) -> None:
        """Log nothing."""

    def dismiss(self) -> None:
        """Dismiss nobody."""

    def _go_on(self, lease: Lease) -> int:
        """Begin the metrics of a generation with the epochs of the newest checkpoint; return how many these are."""
        done = next((int(layout.read_json(file)["epochs"]) for file in lease.earlier_checkpoints()), 0)
        rows = ["epoch,val_loss", *(f"{epoch},0" for epoch in range(1, done + 1))]
        lease.folder.generation(lease.generation).metrics.write_text("\n".join(rows) + "\n", encoding="utf-8")
        return done

    def _sleep(self, guard: Guard) -> None:
        end = time.monotonic() + EPOCH
        hurry = self._study.folder.root.parent / HURRY
        guard.step()
        while time.monotonic() < end and not hurry.exists():
            time.sleep(min(STEP, EPOCH))
            guard.step()
