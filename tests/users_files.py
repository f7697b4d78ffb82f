"""Files of a user's own that have the names of libraries, as a folder of scripts may hold them."""

from __future__ import annotations

from pathlib import Path

LIBRARIES = (
    *("h5py", "keras", "logging", "mpi4py", "numpy", "optuna", "queue", "random", "submitit", "tensorflow"),
    *("socket", "statistics", "uuid", "wandb", "yaml"),
)

_RUN = "name was run in place of a library"


def write_files_named_like_libraries(folder: Path) -> None:
    """Write files that say in `folder` that they were run, which no command and no worker there may do."""
    for name in LIBRARIES:
        run = f"open({str(folder / f'{_RUN}: {name}')!r}, 'w').close()"
        (folder / f"{name}.py").write_text(f"{run}\nraise SystemExit('{name}.py of the user was run')\n")


def names_that_were_run(folder: Path) -> list[str]:
    """Return the files that were run; the others are removed."""
    for name in LIBRARIES:
        (folder / f"{name}.py").unlink()
    return sorted(path.name for path in folder.glob(f"{_RUN}*"))
