"""Names of all files of a sweep or a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MODEL_WHOLE = "model-best.keras"
MODEL_WEIGHTS = "model-best.weights.h5"

#: Names of GrainLearning's files of a trained model, in the order in which they are looked for.
GRAINLEARNING_CONFIGS = ("config.yaml", "config.yml", "config.npy")
GRAINLEARNING_STATS = "train_stats.npy"
GRAINLEARNING_MODELS = ("model-best.h5", "model.weights.h5", "weights.h5", "saved_model.pb")


@dataclass(frozen=True)
class RunFolder:
    """The files of one training: a trial, a single run or the export."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def train_stats(self) -> Path:
        return self.root / "train_stats.json"

    @property
    def arrays(self) -> Path:
        """Arrays in memory that a single training was given."""
        return self.root / "arrays.npz"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.csv"

    @property
    def provenance(self) -> Path:
        return self.root / "provenance.json"

    @property
    def ensemble(self) -> Path:
        """Record of an export that consists of several models."""
        return self.root / "ensemble.json"

    @property
    def error_covariance(self) -> Path:
        """Covariance of the errors that an exported model makes on its validation split."""
        return self.root / "error_covariance.json"

    def member(self, number: int) -> RunFolder:
        """Return the files of one model of an ensemble."""
        return RunFolder(self.root / "members" / str(number))

    def model(self, *, weights_only: bool) -> Path:
        return self.root / (MODEL_WEIGHTS if weights_only else MODEL_WHOLE)


@dataclass(frozen=True)
class TrialFolder(RunFolder):
    """The files of one trial; `lease`, `checkpoint` are per generation, the rest is shared by all of them."""

    @property
    def result(self) -> Path:
        return self.root / "result.json"

    def lease(self, generation: int) -> Path:
        return self.root / f"lease-{generation}.json"

    def checkpoint(self, generation: int) -> Path:
        return self.root / f"checkpoint-{generation}"

    def checkpoint_file(self, generation: int) -> Path:
        """Return the file from which a training of that generation goes on."""
        return self.checkpoint(generation) / "state.npz"

    def generation(self, generation: int) -> RunFolder:
        """Return the files of one generation alone, until its result is published: model, metrics, checkpoint."""
        return RunFolder(self.checkpoint(generation))

    @property
    def wandb(self) -> Path:
        """Folder of W&B's client: an offline run of each owner of the trial, all with one id."""
        return self.root / "wandb"

    def newest_generation(self) -> int:
        """Return the newest generation that holds the trial; 0 if nobody ever did."""
        numbers = [int(path.stem.removeprefix("lease-")) for path in self.root.glob("lease-*.json")]
        return max(numbers, default=0)


@dataclass(frozen=True)
class WandbRunFolder:
    """The files that W&B's client writes for one run, and the records of this package beside them."""

    root: Path

    @property
    def record(self) -> Path:
        """Owner, state and number of epochs of an offline run of a trial."""
        return self.root / "fragment.json"

    @property
    def log(self) -> Path:
        """The client's own log, from which it syncs."""
        return next(self.root.glob("*.wandb"), self.root / "run.wandb")

    @property
    def files(self) -> Path:
        return self.root / "files"

    @property
    def client_mark(self) -> Path:
        """Mark of W&B's client that it has sent the log, even if the server refused a part of it."""
        return self.log.with_suffix(".wandb.synced")

    @property
    def synced(self) -> Path:
        """Marks of `glrnn sync`: the servers that have the run."""
        return self.root / "synced.json"

    def is_offline(self) -> bool:
        """Whether the run was written without a server; the client names its folders so."""
        return self.root.name.startswith("offline-")


@dataclass(frozen=True)
class WorkerFolder:
    """The files of one worker."""

    root: Path

    @property
    def started(self) -> Path:
        return self.root / "started.json"

    @property
    def record(self) -> Path:
        return self.root / "worker.json"

    @property
    def heartbeat(self) -> Path:
        return self.root / "heartbeat"

    @property
    def ended(self) -> Path:
        return self.root / "ended.json"

    @property
    def ready(self) -> Path:
        """Whether its ranks were ever ready to train: those that find no data, or no MPI, are not."""
        return self.root / "ready"

    @property
    def leaving(self) -> Path:
        return self.root / "leaving"

    @property
    def full(self) -> Path:
        """Whether its ranks have come near their memory: they end after their trials, and it is started again."""
        return self.root / "full"

    @property
    def memory_ends(self) -> Path:
        """A line for each end because of its memory, the number of that start: restarts after these do not count."""
        return self.root / "memory_ends"

    @property
    def utilisation(self) -> Path:
        return self.root / "utilisation.jsonl"

    @property
    def stdout(self) -> Path:
        return self.root / "stdout"

    @property
    def stderr(self) -> Path:
        return self.root / "stderr"


@dataclass(frozen=True)
class SweepFolder:
    """The files of one execution of a sweep."""

    root: Path

    @property
    def sweep(self) -> Path:
        return self.root / "sweep.yaml"

    @property
    def journal(self) -> Path:
        return self.root / "study.journal"

    @property
    def url(self) -> Path:
        return self.root / "study.url"

    @property
    def state(self) -> Path:
        return self.root / "state.json"

    @property
    def tracking(self) -> Path:
        """Settings of the tracking by W&B; a sweep without them is not tracked."""
        return self.root / "tracking.json"

    @property
    def sync_lock(self) -> Path:
        """Locked by the process that syncs the runs below the folder."""
        return self.root / "sync.lock"

    @property
    def workers(self) -> Path:
        return self.root / "workers"

    @property
    def trials(self) -> Path:
        return self.root / "trials"

    @property
    def slurm(self) -> Path:
        """Folder of submitit: batch scripts, its pickles, and the output of the ranks."""
        return self.root / "slurm"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    def figure(self, name: str) -> Path:
        """Return where a figure of the report lies as a file of its own."""
        return self.root / "figures" / f"{name}.png"

    @property
    def baseline(self) -> Path:
        """Errors of the Gaussian-process baseline, so that it is fitted once."""
        return self.root / "baseline.json"

    @property
    def best(self) -> RunFolder:
        return RunFolder(self.root / "best")

    def trial(self, number: int) -> TrialFolder:
        return TrialFolder(self.trials / str(number))

    def worker(self, job: str) -> WorkerFolder:
        return WorkerFolder(self.workers / job)

    def all_workers(self) -> list[WorkerFolder]:
        """Return the folders of all workers that were ever started, in the order of their names."""
        return [WorkerFolder(path) for path in sorted(self.workers.glob("*")) if path.is_dir()]
