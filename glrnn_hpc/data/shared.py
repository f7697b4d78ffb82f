"""Data in the shared memory of a node: raw arrays that its ranks share, each of which reads a part."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.data.column_checks import is_usable
from glrnn_hpc.data.hdf5 import GroupChoice, GroupShape, Schema, check_values, read_schema, select_groups
from glrnn_hpc.data.hdf5_access import find_dataset, open_collectively, read_slab
from glrnn_hpc.data.ranks import Ranks, slab
from glrnn_hpc.errors import DataError
from glrnn_hpc.experiments.base import Experiment
from glrnn_hpc.experiments.triaxial import TRIAXIAL

logger = logging.getLogger(__name__)

Array = NDArray[Any]

#: Bytes of one read: MPI-IO counts them in 32 bits.
_BYTES_PER_READ = 2**30

#: Bytes of the pieces whose moments are taken at once; they stay in the cache of a core.
_BYTES_IN_CACHE = 2**20

#: From 9216 values on OpenBLAS gives each of its threads a part: other bits for other numbers of them.
_VALUES_PER_SUM = 2**13


@dataclass(frozen=True)
class SequenceMoments:
    """Mean and squared deviations of each sequence over its steps; those of any selection follow from them.

    Attributes
    ----------
    mean : ndarray, shape (n_samples, n_columns), float64
        Means.
    m2 : ndarray, shape (n_samples, n_columns), float64
        Sums of squared deviations from the means.
    n_steps : int
        Steps of each sequence.
    """

    mean: Array
    m2: Array
    n_steps: int

    def merged(self, rows: Array) -> tuple[Array, Array]:
        """Return mean and std over all steps of some sequences, float64; the order of `rows` does not matter.

        References
        ----------
        Chan, Golub and LeVeque 1983, The American Statistician 37, doi:10.1080/00031305.1983.10483115
        """
        rows = np.sort(rows)
        # Deviations from one of the means: those of constant columns are then zero to the last bit.
        reference = self.mean[rows[0]]
        deviations = self.mean[rows] - reference
        shift = deviations.mean(axis=0)
        m2 = self.m2[rows].sum(axis=0) + self.n_steps * ((deviations - shift) ** 2).sum(axis=0)
        mean, std = reference + shift, np.sqrt(m2 / (len(rows) * self.n_steps))
        # Rounding leaves a constant column with a tiny std; dividing by it would blow up the noise.
        return mean, np.where(std <= 1e-7 * np.abs(mean), 0.0, std)


@dataclass(frozen=True)
class StackedGroups:
    """Raw read-only arrays of groups of the same shape, one group after the other; a trial picks rows of it.

    Attributes
    ----------
    inputs : ndarray, shape (n_samples, n_steps, n_inputs), float32
        Load sequences; strains are dimensionless.
    params : ndarray, shape (n_samples, n_params), float32
        Contact parameters.
    outputs : ndarray, shape (n_samples, n_steps, n_outputs), float32
        Macroscopic response, in the units of the experiment.
    input_moments, output_moments : SequenceMoments
        Of each sequence.
    """

    inputs: Array
    params: Array
    outputs: Array
    input_moments: SequenceMoments
    output_moments: SequenceMoments

    def is_empty(self, rows: slice) -> NDArray[np.bool_]:
        """Return which sequences are zero in all parameters, inputs and outputs."""
        parts = [self.params[rows]]
        for moments in (self.input_moments, self.output_moments):
            parts += [moments.mean[rows], moments.m2[rows]]
        found: NDArray[np.bool_] = np.all([(part == 0).all(axis=1) for part in parts], axis=0)
        return found


@dataclass(frozen=True)
class GroupArrays:
    """Arrays of one group: views of its stack, shapes and units as there."""

    shape: GroupShape
    inputs: Array
    params: Array
    outputs: Array


@dataclass(frozen=True)
class DemData:
    """Groups of a file that were read.

    Attributes
    ----------
    schema : Schema
        Of the file.
    locations : mapping of str to tuple
        Group name to its stack and its rows there.
    """

    schema: Schema
    locations: Mapping[str, tuple[StackedGroups, slice]]

    @property
    def groups(self) -> dict[str, GroupArrays]:
        """The data of each group by its name."""
        shapes = {shape.name: shape for shape in self.schema.groups}
        return {
            name: GroupArrays(shapes[name], stack.inputs[rows], stack.params[rows], stack.outputs[rows])
            for name, (stack, rows) in self.locations.items()
        }

    def rows(self, names: Sequence[str]) -> tuple[StackedGroups, Array]:
        """Return the stack of groups of the same shape, and their rows in the order of `names`."""
        locations = [self.locations[name] for name in names]
        return locations[0][0], np.concatenate([np.arange(rows.start, rows.stop) for _, rows in locations])


def read_data(
    path: str | Path,
    pressure: GroupChoice = "All",
    experiment_type: GroupChoice = "All",
    node: Ranks | None = None,
    *,
    copy: Path | None = None,
    experiment: Experiment = TRIAXIAL,
) -> DemData:
    """Read the chosen groups as float32, once for all ranks of a node; each reads a part. Collective on `node`.

    Parameters
    ----------
    path : path
        HDF5 file.
    pressure, experiment_type : str, float or list
        Which groups; see `hdf5.select_groups`.
    node : Ranks, optional
        Ranks that share memory; by default this process alone. The arrays live until its `free`.
    copy : Path, optional
        Where the values are read from in place of `path`, such as a copy that `staging.staged` made.
    experiment : Experiment
        Its columns are taken if the file does not name them.

    Returns
    -------
    DemData
        The same bits for any number of ranks and any layout of the file.

    Raises
    ------
    DataError
        If the file or one of the groups cannot be read, holds NaN, or changes meanwhile; on all ranks, if one of them
        fails.
    """
    node = Ranks() if node is None else node
    before = _versions([Path(path)])
    schema = node.agreed(lambda: read_schema(path, experiment))
    chosen = node.agreed(lambda: select_groups(schema, pressure, experiment_type))
    alike: dict[tuple[int, ...], list[GroupShape]] = {}
    for shape in chosen:
        alike.setdefault((shape.n_steps, shape.n_inputs, shape.n_params, shape.n_outputs), []).append(shape)
    # By one rank: the sources of virtual data sets may be many files.
    others = node.bcast(node.agreed(lambda: check_values(schema, chosen) if node.rank == 0 else frozenset()))
    files_before = {**before, **node.agreed(lambda: _versions(others))}
    file = node.agreed(lambda: open_collectively(copy or schema.path, node, by_mpio=not others))
    try:
        locations = {}
        for shapes in alike.values():
            locations.update(_read_stack(file, schema, shapes, node))
    finally:
        file.close()
    node.agreed(lambda: _check_unchanged(files_before))
    node.sync()
    if node.rank == 0:
        _warn_of_empty_sequences(schema, locations)
    return DemData(schema, {shape.name: locations[shape.name] for shape in chosen})


def stack_arrays(inputs: Array, params: Array, outputs: Array) -> StackedGroups:
    """Make a stack of arrays in memory, shapes (n, T, x), (n, c) and (n, T, y)."""
    arrays = [np.asarray(array, dtype="float32") for array in (inputs, params, outputs)]
    moments = []
    for sequences in (arrays[0], arrays[2]):
        n, n_steps, n_columns = sequences.shape
        mean, m2 = np.empty((n, n_columns)), np.empty((n, n_columns))
        take_moments(sequences, mean, m2)
        moments.append(SequenceMoments(mean, m2, n_steps))
    return StackedGroups(arrays[0], arrays[1], arrays[2], *moments)


def take_moments(sequences: Array, mean: Array, m2: Array) -> None:
    """Put the moments of (n, T, x) float32 sequences over their steps into `mean` and `m2`, (n, x) float64.

    Those of a sequence depend on it alone, not on the others beside it.
    """
    n, n_steps, n_columns = sequences.shape
    step = max(1, _BYTES_IN_CACHE // max(1, n_steps * n_columns * 8))
    room = np.empty((min(n, step), n_steps, n_columns))
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, n, step):
            part = slice(start, start + step)
            first = sequences[part, :1].astype("float64")
            deviations = room[: len(first)]
            _fill_steps(deviations, first)
            np.subtract(sequences[part], deviations, out=deviations)
            sums = _sum_over_steps(deviations)
            deviations *= deviations
            mean[part] = first[:, 0] + sums / n_steps
            m2[part] = np.maximum(_sum_over_steps(deviations) - sums**2 / n_steps, 0.0)


def _fill_steps(out: Array, first: Array) -> None:
    """Put (n, 1, x) into every step of (n, T, x), in long copies: NumPy goes through short rows one by one."""
    out[:, :1] = first
    done, n_steps = 1, out.shape[1]
    while done < n_steps:
        more = min(done, n_steps - done)
        out[:, done : done + more] = out[:, :more]
        done += more


def _sum_over_steps(values: Array) -> Array:
    """Sum (n, T, x) over T: a product with ones is some ten times as fast as `sum` over short rows."""
    step = max(1, _VALUES_PER_SUM // max(1, values.shape[2]))
    pieces = (values[:, start : start + step] for start in range(0, values.shape[1], step))
    total: Array = sum(np.ones(piece.shape[1]) @ piece for piece in pieces)
    return total


def _read_stack(
    file: h5py.File, schema: Schema, shapes: Sequence[GroupShape], node: Ranks
) -> dict[str, tuple[StackedGroups, slice]]:
    first = shapes[0]
    n = sum(shape.n_samples for shape in shapes)
    sizes = {
        "inputs": (first.n_steps, first.n_inputs),
        "contact_params": (first.n_params,),
        "outputs": (first.n_steps, first.n_outputs),
    }
    per_sample = sum(4 * math.prod(size) for size in sizes.values()) + 16 * (first.n_inputs + first.n_outputs)
    node.check_room(n * per_sample)
    arrays = {name: node.allocate((n, *size), "float32") for name, size in sizes.items()}
    moments = {name: node.allocate((2, n, sizes[name][1]), "float64") for name in ("inputs", "outputs")}
    locations, start = {}, 0
    for shape in shapes:
        locations[shape.name] = slice(start, start + shape.n_samples)
        for name, array in arrays.items():
            rows = locations[shape.name]
            mean_m2 = moments[name][:, rows] if name in moments else None
            dataset = node.agreed(partial(find_dataset, file, f"{shape.name}/{name}"))
            _read_part(dataset, schema, array[rows], mean_m2, node)
        start += shape.n_samples
    inputs, params, outputs = (_sealed(arrays[name]) for name in ("inputs", "contact_params", "outputs"))
    of_inputs, of_outputs = (SequenceMoments(mean, m2, first.n_steps) for mean, m2 in map(_sealed, moments.values()))
    stack = StackedGroups(inputs, params, outputs, of_inputs, of_outputs)
    return {name: (stack, rows) for name, rows in locations.items()}


def _read_part(dataset: h5py.Dataset, schema: Schema, rows: Array, moments: Array | None, node: Ranks) -> None:
    """Read this rank's samples of a data set into its rows of the shared array, and take their moments."""
    mine = slab(len(rows), node.rank, node.size)
    n_bytes = math.prod(dataset.shape) * max(dataset.dtype.itemsize, rows.itemsize) / node.size
    # No part of a collective read may be empty on any rank: it would not reach HDF5, and the other ranks would wait.
    n_parts = max(1, min(math.ceil(n_bytes / _BYTES_PER_READ), len(rows) // node.size))
    is_collective = dataset.file.driver == "mpio" and len(rows) >= node.size

    def read() -> None:
        read_slab(dataset, mine, rows[mine], n_parts=n_parts, is_collective=is_collective)
        if moments is not None:
            take_moments(rows[mine], *moments[:, mine])
        # A value that is not finite leaves no finite mean; looking at all values would cost as much as reading them.
        if moments is None or not np.isfinite(moments[0, mine]).all():
            _check_finite(schema, dataset.name, rows[mine], mine.start)

    node.agreed(read)


def _version(path: Path) -> tuple[int, int] | None:
    """Return size and time of the last change of a file; None if it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _versions(paths: Iterable[Path]) -> dict[Path, tuple[int, int] | None]:
    return {path: _version(path) for path in paths}


def _check_unchanged(before: Mapping[Path, tuple[int, int] | None]) -> None:
    """Refuse what was read of files that another process wrote: HDF5 gives zeros for what was cut off."""
    for path in [path for path in before if _version(path) != before[path]]:
        raise DataError(f"{path}: was changed or removed while it was read; start again when it is whole.")


def _check_finite(schema: Schema, name: str, values: Array, start: int) -> None:
    """Refuse NaN: a network learns from it without a word, and gives numbers that mean nothing."""
    positions = np.argwhere(~is_usable(values))
    if len(positions) == 0:
        return
    bad = positions[0]
    group, _, kind = name.strip("/").rpartition("/")
    raise DataError(
        f"{schema.path}: {group}/{kind} holds NaN or infinite values, or such beyond the limits of float32, the first "
        f"one in {getattr(schema, kind)[bad[-1]]} of sample {start + bad[0]}; `glrnn inspect` lists them all."
    )


def _warn_of_empty_sequences(schema: Schema, locations: Mapping[str, tuple[StackedGroups, slice]]) -> None:
    """Tell of sequences that are zero throughout: a parallel writer that was killed leaves them, with their storage."""
    for name, (stack, rows) in locations.items():
        n_empty = int(stack.is_empty(rows).sum())
        if n_empty:
            logger.warning(
                "%s: %s: %d of %d sequences are zero in all parameters, inputs and outputs: were they never written?",
                schema.path,
                name,
                n_empty,
                rows.stop - rows.start,
            )


def _sealed(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view
