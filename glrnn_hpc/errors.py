"""Errors that a user can cause; anything else that is raised is a bug."""

from __future__ import annotations

#: Exit status of a command or a worker that met such an error: to do the same again would end the same way.
WRONG_INPUT = 2


class GlrnnError(Exception):
    """Base class: its message says what was given, what is allowed and what to do.

    Attributes
    ----------
    is_agreed : bool
        Whether every MPI rank of the job raises it, so that one of them prints it for all.
    """

    is_agreed = False


class ConfigError(GlrnnError, ValueError):
    """A key or value of a configuration or sweep file is wrong; the message starts with the key path."""


class DataError(GlrnnError, ValueError):
    """A data file is missing, broken, or does not fit the request."""


class MissingFile(DataError, FileNotFoundError):
    """A data file is missing."""


class WindowError(GlrnnError, ValueError):
    """Windows of the wanted size do not fit into the sequences."""


class ModelError(GlrnnError, ValueError):
    """A model folder is incomplete, or a model does not fit the data it was given."""


class MissingModelFile(ModelError, FileNotFoundError):
    """A file of a model is missing."""


class SweepError(GlrnnError):
    """A sweep folder is not in the state that a command needs."""


class MissingSweep(SweepError, FileNotFoundError):
    """There is no sweep in a folder."""


class FolderNotEmpty(ConfigError, SweepError):
    """A folder that is to be made exists and is not an empty folder."""


class StorageError(GlrnnError):
    """The storage of a study cannot be reached, read or written; what was written before is safe."""


class RecordError(GlrnnError, ValueError):
    """A record of a sweep is no longer what was written: the file server or somebody else has changed it."""


class LaunchError(GlrnnError):
    """Workers cannot be started, or run otherwise than requested."""


class TrackingError(GlrnnError):
    """W&B cannot be started, reached or written."""


class OutOfMemory(GlrnnError):
    """The network and a batch of its data do not fit into the memory of the CPU or GPU."""


class TrainingDiverged(GlrnnError):
    """The training loss is no longer a finite number."""


def one_line(error: BaseException) -> str:
    """Return the type and the first line of an error; some of third parties have no text."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
