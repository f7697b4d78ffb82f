"""Parser of YADE's raw simulations (.npy): one HDF5 file that everything else reads."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.config import did_you_mean
from glrnn_hpc.data import hdf5
from glrnn_hpc.data.ranks import Ranks
from glrnn_hpc.data.raw_files import RawFile, RawFiles, list_raw_files
from glrnn_hpc.data.simulation import RawKeys, Simulation, read_simulation
from glrnn_hpc.errors import DataError
from glrnn_hpc.experiments.base import Experiment
from glrnn_hpc.experiments.triaxial import TRIAXIAL

Array = NDArray[Any]

#: In a flat folder, the group under which files are counted that cannot tell their own.
UNKNOWN_GROUP = "unknown"

#: Of each rank; bounds what it sends at once.
_FILES_PER_ROUND = 256


@dataclass
class GroupReport:
    """Counts of a group's raw files: all, used, used after trimming, too short, broken."""

    files: int = 0
    good: int = 0
    trimmed: int = 0
    short: int = 0
    corrupt: int = 0


@dataclass(frozen=True)
class ParseReport:
    """Result of a parse.

    Attributes
    ----------
    output : Path
        The HDF5 file.
    sequence_length : int
        Steps of each sequence.
    groups : dict of str to GroupReport
        Counts of each group.
    problems : tuple of str
        A line per file that was left out as corrupt.
    left_out : dict of str to list of Path
        By the reason, the files that were not looked at: they lie deeper or higher than the groups do, or their names
        end in .NPY.
    """

    output: Path
    sequence_length: int
    groups: dict[str, GroupReport]
    problems: tuple[str, ...]
    left_out: dict[str, list[Path]] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether every raw file was looked at and could be read."""
        return not self.problems and not self.left_out

    def left_out_lines(self) -> list[str]:
        """Return a line per reason for which files were not looked at, with their number and the first one."""
        return RawFiles([], self.left_out).left_out_lines()

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-able content."""
        return {
            "output": str(self.output),
            "sequence_length": self.sequence_length,
            "groups": {name: asdict(group) for name, group in self.groups.items()},
            "problems": list(self.problems),
            "left_out": {reason: [str(path) for path in paths] for reason, paths in self.left_out.items()},
        }


@dataclass(frozen=True)
class _ParsedFile:
    """One raw file after reading: its simulation, or what is wrong with it."""

    group: str | None
    simulation: Simulation | None
    problem: str = ""


@dataclass(frozen=True)
class _Selection:
    """Groups that the caller wants; None means all."""

    pressures: Sequence[str] | None
    experiment_types: Sequence[str] | None

    def includes(self, group: str) -> bool:
        pressure, _, experiment_type = group.partition("/")
        return (self.pressures is None or pressure in self.pressures) and (
            self.experiment_types is None or experiment_type in self.experiment_types
        )

    def check(self, folder: Path, present: set[str]) -> None:
        """Refuse a choice that no raw file belongs to."""
        pairs = [name.partition("/")[::2] for name in present]
        for what, choices, names in (
            ("pressure", self.pressures, {pressure for pressure, _ in pairs}),
            ("experiment type", self.experiment_types, {experiment_type for _, experiment_type in pairs}),
        ):
            for choice in choices or ():
                if choice not in names:
                    raise DataError(
                        f"{folder}: there is no {what} {choice!r};{did_you_mean(choice, names)} there are "
                        f"{', '.join(sorted(names))}."
                    )
        if not any(self.includes(name) for name in present):
            raise DataError(
                f"{folder}: no group has pressure {self.pressures} and experiment type {self.experiment_types}; "
                f"there are {', '.join(sorted(present))}."
            )


@dataclass
class _GroupContent:
    """Readable simulations of a group, in the order of their files' names."""

    report: GroupReport = field(default_factory=GroupReport)
    simulations: list[Simulation] = field(default_factory=list)


def get_pressures(data_dir: str | Path) -> list[str]:
    """Return the names of the pressure folders, sorted.

    Raises
    ------
    DataError
        If there is no such folder.
    """
    return [path.name for path in sorted(_folder(data_dir).iterdir()) if path.is_dir()]


def convert_all_to_hdf5(
    pressures: Sequence[str] | None,
    experiment_types: Sequence[str] | None,
    data_dir: str | Path,
    target_file: str | Path,
    sequence_length: int | None = None,
    stored_in_subfolders: bool = True,
    *,
    contact_keys: Sequence[str] | None = None,
    input_keys: Sequence[str] | None = None,
    output_keys: Sequence[str] | None = None,
    experiment: Experiment = TRIAXIAL,
    dtype: str = "float32",
    ranks: Ranks | None = None,
) -> ParseReport:
    """Parse all raw files of a folder; the content depends on the files alone, not on the order of the directory.

    Parameters
    ----------
    pressures, experiment_types : sequence of str or None
        Which groups, such as ``['0.2e6']`` and ``['drained']``; None means all.
    data_dir : path
        Folder of the raw files.
    target_file : path
        HDF5 file to write; an older one is replaced when the new one is whole.
    sequence_length : int, optional
        Steps of a sequence; longer ones are trimmed, shorter ones left out. By default the commonest length.
    stored_in_subfolders : bool
        True: ``data_dir/<pressure>/<experiment_type>/*.npy``. False: the group is read from each file, wherever below
        `data_dir` it lies, in linked folders too; of triaxial tests from `conf`, log10 of the pressure in Pa, and
        `mode`, the type.
    contact_keys, input_keys, output_keys : sequence of str, optional
        Names in the raw files, stored as attributes of the HDF5 file; by default the columns of the experiment.
    experiment : Experiment
        Tells columns, units and groups of the raw files.
    dtype : str
        float32 or float64.
    ranks : Ranks, optional
        MPI ranks that share the work; the call is collective on them, and rank 0 writes.

    Returns
    -------
    ParseReport
        Counts per group, and the files that are broken or were left out.

    Raises
    ------
    DataError
        If the folder or a wanted group is missing, a list of keys is empty or names one twice, or no file can be used;
        an older `target_file` stays as it is.
    """
    ranks = Ranks() if ranks is None else ranks
    selection = _Selection(_as_list(pressures), _as_list(experiment_types))
    keys = RawKeys(
        _names(contact_keys, experiment, "contact_params"),
        _names(input_keys, experiment, "inputs"),
        _names(output_keys, experiment, "outputs"),
    )
    folder = Path(data_dir)

    def list_files() -> RawFiles:
        if sequence_length is not None and sequence_length < 1:
            raise DataError(f"sequence_length={sequence_length}; choose 1 or more, or None for the commonest length.")
        keys.check()
        found = list_raw_files(folder, in_subfolders=stored_in_subfolders, includes=selection.includes)
        _check_target(found, Path(target_file))
        return found

    # By one rank: many that list a large folder at once are a burden for a parallel file system.
    found: RawFiles = ranks.bcast(ranks.agreed(lambda: list_files() if ranks.rank == 0 else None))
    files = found.files
    present = {file.group for file in files if file.group is not None}
    wanted = [file for file in files if file.group is None or selection.includes(file.group)]
    parsed = _parse_files(wanted, keys, experiment, ranks)

    layout = "in <pressure>/<experiment_type>/; --flat reads another layout" if stored_in_subfolders else "in it"

    def write() -> ParseReport | None:
        if ranks.rank != 0:
            return None
        groups, problems = _grouped(parsed, selection)
        in_files = {file.group for file in parsed if file.simulation is not None and file.group is not None}
        _check_groups(folder, groups, problems, present | in_files, selection, layout, found)
        length = sequence_length or _commonest_length(groups)
        report = _write(folder, Path(target_file), groups, problems, length, keys, experiment, dtype)
        return replace(report, left_out=found.left_out)

    report: ParseReport = ranks.bcast(ranks.agreed(write))
    return report


def _names(given: Sequence[str] | None, experiment: Experiment, kind: str) -> tuple[str, ...]:
    return experiment.column_names(kind) if given is None else tuple(given)


def _grouped(parsed: Iterable[_ParsedFile], selection: _Selection) -> tuple[dict[str, _GroupContent], list[str]]:
    """Return the simulations of the wanted groups, and a line for each file that is broken."""
    problems: list[str] = []
    groups: dict[str, _GroupContent] = {}
    for file in parsed:
        name = file.group or UNKNOWN_GROUP
        if file.simulation is None:
            problems.append(file.problem)
            report = groups.setdefault(name, _GroupContent()).report
            report.files += 1
            report.corrupt += 1
        elif selection.includes(name):
            group = groups.setdefault(name, _GroupContent())
            group.report.files += 1
            group.simulations.append(file.simulation)
    return groups, problems


def _check_groups(
    folder: Path,
    groups: dict[str, _GroupContent],
    problems: list[str],
    present: set[str],
    selection: _Selection,
    layout: str,
    found: RawFiles,
) -> None:
    if not present and not groups:
        raise DataError("; ".join([f"{folder}: there are no .npy files {layout}", *found.left_out_lines()]) + ".")
    if present:
        selection.check(folder, present)
    if not any(group.simulations for group in groups.values()):
        raise DataError(f"{folder}: none of {len(problems)} files can be used; the first: {problems[0]}")


def _write(
    folder: Path,
    target_file: Path,
    groups: dict[str, _GroupContent],
    problems: list[str],
    length: int,
    keys: RawKeys,
    experiment: Experiment,
    dtype: str,
) -> ParseReport:
    stacked = {name: _stacked(group, length) for name, group in groups.items()}
    usable = {name: arrays for name, arrays in stacked.items() if arrays is not None}
    if not usable:
        raise DataError(f"{folder}: no sequence has {length} steps or more; choose a smaller sequence length.")
    constants = (*experiment.column_names("contact_params"), *experiment.unused_constants)
    sequences = (
        *experiment.column_names("inputs"),
        *experiment.column_names("outputs"),
        *experiment.unused_sequences,
    )
    hdf5.write_file(
        target_file,
        usable,
        contact_params=keys.contact_params,
        inputs=keys.inputs,
        outputs=keys.outputs,
        unused_constant=[key for key in constants if key not in keys.contact_params],
        unused_sequence=[key for key in sequences if key not in (*keys.inputs, *keys.outputs)],
        dtype=dtype,
    )
    reports = {name: groups[name].report for name in sorted(groups)}
    return ParseReport(target_file, length, reports, tuple(problems))


def _check_target(found: RawFiles, target: Path) -> None:
    if target.is_dir():
        raise DataError(f"{target}: is a folder; name the file to write, such as {target / 'data.hdf5'}.")
    paths = [file.path for file in found.files] + [path for paths in found.left_out.values() for path in paths]
    if any(path.resolve() == target.resolve() for path in paths):
        raise DataError(f"{target}: is one of the raw files; choose another name for the result.")


def _parse_files(files: Sequence[RawFile], keys: RawKeys, experiment: Experiment, ranks: Ranks) -> list[_ParsedFile]:
    """Read the files, shared by the ranks; return on rank 0 the result of each, in their order. Collective."""
    parsed: list[_ParsedFile] = []
    per_round = _FILES_PER_ROUND * ranks.size
    for start in range(0, len(files), per_round):
        part = files[start : start + per_round]
        own = part[ranks.rank :: ranks.size]
        mine = ranks.agreed(functools.partial(_parse_some, own, keys, experiment))
        gathered = ranks.gather(mine)
        if gathered is not None:
            parsed += [gathered[k % ranks.size][k // ranks.size] for k in range(len(part))]
    return parsed


def _parse_some(files: Sequence[RawFile], keys: RawKeys, experiment: Experiment) -> list[_ParsedFile]:
    return [_parse_file(file, keys, experiment) for file in files]


def _parse_file(file: RawFile, keys: RawKeys, experiment: Experiment) -> _ParsedFile:
    path, folder = file.path, file.group
    try:
        simulation = read_simulation(path, keys, experiment)
        stated = simulation.group
        if folder is None and stated is None:
            names = " or ".join(experiment.raw_group_keys) or "what tells their group"
            raise DataError(f"{path}: the parameters lack {names}, which a flat folder needs.")
        if folder is not None and stated is not None and not experiment.is_same_group(folder, stated):
            raise DataError(f"{path}: lies in {folder}, but its parameters say {stated}.")
    except DataError as error:
        return _ParsedFile(folder, None, str(error))
    return _ParsedFile(folder or stated, simulation)


def _folder(data_dir: str | Path) -> Path:
    folder = Path(data_dir)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder.")
    return folder


def _as_list(choice: Sequence[str] | None) -> Sequence[str] | None:
    # A lone name is a sequence of characters: without this, `in` would look for parts of it.
    return [choice] if isinstance(choice, str) else choice


def _commonest_length(groups: dict[str, _GroupContent]) -> int:
    counts = Counter(simulation.n_steps for group in groups.values() for simulation in group.simulations)
    # The longer one of two that are equally common keeps more of the data.
    return max(counts, key=lambda length: (counts[length], length))


def _stacked(group: _GroupContent, length: int) -> tuple[Array, Array, Array] | None:
    kept = [simulation for simulation in group.simulations if simulation.n_steps >= length]
    group.report.good = len(kept)
    group.report.trimmed = sum(simulation.n_steps > length for simulation in kept)
    group.report.short = len(group.simulations) - len(kept)
    if not kept:
        return None
    return (
        np.stack([simulation.params for simulation in kept]),
        np.stack([simulation.inputs[:length] for simulation in kept]),
        np.stack([simulation.outputs[:length] for simulation in kept]),
    )
