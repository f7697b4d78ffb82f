"""Parse YADE's raw simulations (.npy) into the HDF5 file that everything else reads."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.config import nearest
from glrnn_hpc.data import hdf5
from glrnn_hpc.data.ranks import Ranks
from glrnn_hpc.data.simulation import Simulation, read_simulation
from glrnn_hpc.errors import DataError

Array = NDArray[Any]

#: In a flat folder, the group under which files are counted that cannot tell their own.
UNKNOWN_GROUP = "unknown"

#: Of each rank; bounds what it sends at once.
_FILES_PER_ROUND = 256


@dataclass
class GroupReport:
    """What became of the files of a group."""

    files: int = 0
    good: int = 0
    trimmed: int = 0
    short: int = 0
    corrupt: int = 0


@dataclass(frozen=True)
class ParseReport:
    """What a parse did; `problems` holds a line per file that was left out as corrupt."""

    output: Path
    sequence_length: int
    groups: dict[str, GroupReport]
    problems: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-able content."""
        return {
            "output": str(self.output),
            "sequence_length": self.sequence_length,
            "groups": {name: asdict(group) for name, group in self.groups.items()},
            "problems": list(self.problems),
        }


@dataclass
class _Parsed:
    """The readable simulations of a group, in the order of their files' names."""

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
    contact_keys: Sequence[str] = hdf5.CONTACT_KEYS,
    input_keys: Sequence[str] = hdf5.INPUT_KEYS,
    output_keys: Sequence[str] = hdf5.OUTPUT_KEYS,
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
        True: ``data_dir/<pressure>/<experiment_type>/*.npy``. False: pressure (`conf`, log10 of Pa) and type (`mode`)
        are read from each file, wherever below `data_dir` it lies.
    contact_keys, input_keys, output_keys : sequence of str
        Names in the raw files, stored as attributes of the HDF5 file.
    dtype : str
        float32 or float64.
    ranks : Ranks, optional
        MPI ranks that share the work; the call is collective on them, and rank 0 writes.

    Returns
    -------
    ParseReport
        Counts per group; `problems` names the files that are broken.

    Raises
    ------
    DataError
        If the folder or a wanted group is missing, a list of keys is empty or names one twice, or no file can be used;
        an older `target_file` stays as it is.
    """
    ranks = Ranks() if ranks is None else ranks
    pressures, experiment_types = _listed(pressures), _listed(experiment_types)
    keys = tuple(tuple(names) for names in (contact_keys, input_keys, output_keys))
    folder = Path(data_dir)

    def look() -> list[tuple[Path, str | None]]:
        _folder(folder)
        if sequence_length is not None and sequence_length < 1:
            raise DataError(f"sequence_length={sequence_length}; choose 1 or more, or None for the commonest length.")
        _check_keys(keys)
        return _found(folder, Path(target_file), stored_in_subfolders=stored_in_subfolders)

    found = ranks.agreed(look)
    present = {place for _, place in found if place is not None}
    files = [(path, place) for path, place in found if place is None or _is_wanted(place, pressures, experiment_types)]
    parsed = _parse_files(files, keys, ranks)

    def finish() -> ParseReport | None:
        if ranks.rank != 0:
            return None
        wanted = pressures, experiment_types
        return _write(folder, Path(target_file), parsed, present, wanted, sequence_length, keys, dtype, where)

    where = "in <pressure>/<experiment_type>/; --flat reads another layout" if stored_in_subfolders else "in it"
    report: ParseReport = ranks.bcast(ranks.agreed(finish))
    return report


def _write(
    folder: Path,
    target_file: Path,
    parsed: Iterable[tuple[str | None, Simulation | str]],
    present: set[str],
    wanted: tuple[Sequence[str] | None, Sequence[str] | None],
    sequence_length: int | None,
    keys: tuple[tuple[str, ...], ...],
    dtype: str,
    where: str,
) -> ParseReport:
    """Sort what was parsed into groups and write them."""
    problems: list[str] = []
    groups: dict[str, _Parsed] = {}
    present = set(present)
    for place, simulation in parsed:
        if isinstance(simulation, str):
            problems.append(simulation)
            report = groups.setdefault(place or UNKNOWN_GROUP, _Parsed()).report
            report.files += 1
            report.corrupt += 1
            continue
        name = place or simulation.group
        present.add(name)
        if _is_wanted(name, *wanted):
            group = groups.setdefault(name, _Parsed())
            group.report.files += 1
            group.simulations.append(simulation)
    if not present and not groups:
        raise DataError(f"{folder}: there are no .npy files {where}.")
    if present:
        _check_wanted(folder, present, *wanted)
    if not any(group.simulations for group in groups.values()):
        raise DataError(f"{folder}: none of {len(problems)} files can be used; the first: {problems[0]}")
    length = sequence_length or _commonest_length(groups)
    arrays = {name: _stacked(group, length) for name, group in groups.items()}
    usable = {name: group for name, group in arrays.items() if group is not None}
    if not usable:
        raise DataError(f"{folder}: no sequence has {length} steps or more; choose a smaller sequence length.")
    hdf5.write_file(
        target_file,
        usable,
        contact_params=keys[0],
        inputs=keys[1],
        outputs=keys[2],
        unused_constant=_left_over((*hdf5.CONTACT_KEYS, *hdf5.UNUSED_CONSTANT_KEYS), keys[0]),
        unused_sequence=_left_over(
            (*hdf5.INPUT_KEYS, *hdf5.OUTPUT_KEYS, *hdf5.UNUSED_SEQUENCE_KEYS), (*keys[1], *keys[2])
        ),
        dtype=dtype,
    )
    reports = {name: groups[name].report for name in sorted(groups)}
    return ParseReport(target_file, length, reports, tuple(problems))


def _found(folder: Path, target: Path, *, stored_in_subfolders: bool) -> list[tuple[Path, str | None]]:
    """Return the raw files in order, and the group that the folders of each say, if they do."""
    found = list(_in_subfolders(folder) if stored_in_subfolders else _flat(folder))
    for path, _ in found:
        if path.resolve() == target.resolve():
            raise DataError(f"{target}: is one of the raw files; choose another name for the result.")
    return found


def _parse_files(
    files: Sequence[tuple[Path, str | None]], keys: tuple[tuple[str, ...], ...], ranks: Ranks
) -> list[tuple[str | None, Simulation | str]]:
    """Read the files, spread over the ranks; return on rank 0 what became of each, in their order. Collective."""
    parsed: list[tuple[str | None, Simulation | str]] = []
    per_round = _FILES_PER_ROUND * ranks.size
    for start in range(0, len(files), per_round):
        part = files[start : start + per_round]
        own = part[ranks.rank :: ranks.size]
        mine = ranks.agreed(functools.partial(_parse_some, own, keys))
        gathered = ranks.gather(mine)
        if gathered is not None:
            parsed += [gathered[k % ranks.size][k // ranks.size] for k in range(len(part))]
    return parsed


def _parse_some(
    files: Sequence[tuple[Path, str | None]], keys: tuple[tuple[str, ...], ...]
) -> list[tuple[str | None, Simulation | str]]:
    return [_parse_file(path, place, keys) for path, place in files]


def _parse_file(
    path: Path, place: str | None, keys: tuple[tuple[str, ...], ...]
) -> tuple[str | None, Simulation | str]:
    """Return the group that the folders say, and the simulation or what is wrong with the file."""
    try:
        simulation = read_simulation(path, *keys)
        if place is None and not simulation.group:
            raise DataError(f"{path}: the parameters lack conf or mode, which a flat folder needs.")
        if place is not None and simulation.group and not _is_same_group(place, simulation.group):
            raise DataError(f"{path}: lies in {place}, but its parameters say {simulation.group}.")
    except DataError as error:
        return place, str(error)
    return place, simulation


def _left_over(known: Sequence[str], taken: Sequence[str]) -> list[str]:
    return [key for key in known if key not in taken]


def _is_same_group(place: str, told: str) -> bool:
    """Compare the folders of a file with what it tells; names of pressures differ where their values do not."""
    (pressure, _, kind), (told_pressure, _, told_kind) = place.partition("/"), told.partition("/")
    try:
        return kind == told_kind and math.isclose(float(pressure), float(told_pressure), rel_tol=1e-3)
    except ValueError:
        return kind == told_kind


def _folder(data_dir: str | Path) -> Path:
    folder = Path(data_dir)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder.")
    return folder


def _in_subfolders(folder: Path) -> Iterator[tuple[Path, str | None]]:
    for path in sorted(folder.glob("*/*/*.npy")):
        yield path, f"{path.parent.parent.name}/{path.parent.name}"


def _flat(folder: Path) -> Iterator[tuple[Path, str | None]]:
    for path in sorted(folder.rglob("*.npy")):
        yield path, None


def _listed(choice: Sequence[str] | None) -> Sequence[str] | None:
    # A lone name is a sequence of characters: without this, `in` would look for parts of it.
    return [choice] if isinstance(choice, str) else choice


def _is_wanted(name: str, pressures: Sequence[str] | None, types: Sequence[str] | None) -> bool:
    pressure, _, experiment_type = name.partition("/")
    return (pressures is None or pressure in pressures) and (types is None or experiment_type in types)


def _check_wanted(
    folder: Path, present: set[str], pressures: Sequence[str] | None, types: Sequence[str] | None
) -> None:
    pairs = [name.partition("/")[::2] for name in present]
    for what, wanted, names in (
        ("pressure", pressures, {pressure for pressure, _ in pairs}),
        ("experiment type", types, {experiment_type for _, experiment_type in pairs}),
    ):
        for choice in wanted or ():
            if choice not in names:
                guess = nearest(choice, names)
                hint = f" did you mean {guess}?" if guess else ""
                raise DataError(f"{folder}: there is no {what} {choice!r};{hint} there are {', '.join(sorted(names))}.")
    if not any(_is_wanted(name, pressures, types) for name in present):
        raise DataError(
            f"{folder}: no group has pressure {pressures} and experiment type {types}; "
            f"there are {', '.join(sorted(present))}."
        )


def _check_keys(keys: tuple[tuple[str, ...], ...]) -> None:
    for what, names in zip(("contact_keys", "input_keys", "output_keys"), keys, strict=True):
        if not names or len(set(names)) < len(names):
            raise DataError(f"{what}={', '.join(names) or 'nothing'}; one or more names, each once, are needed.")


def _commonest_length(groups: dict[str, _Parsed]) -> int:
    counts = Counter(simulation.n_steps for parsed in groups.values() for simulation in parsed.simulations)
    # The longer one of two that are equally common keeps more of the data.
    return max(counts, key=lambda length: (counts[length], length))


def _stacked(parsed: _Parsed, length: int) -> tuple[Array, Array, Array] | None:
    kept = [simulation for simulation in parsed.simulations if simulation.n_steps >= length]
    parsed.report.good = len(kept)
    parsed.report.trimmed = sum(simulation.n_steps > length for simulation in kept)
    parsed.report.short = len(parsed.simulations) - len(kept)
    if not kept:
        return None
    return (
        np.stack([simulation.params for simulation in kept]),
        np.stack([simulation.inputs[:length] for simulation in kept]),
        np.stack([simulation.outputs[:length] for simulation in kept]),
    )
