"""Storage of the data sets of an HDF5 file: where HDF5 has no values, it answers with fill values and no error.

So it is with a data set that was planned and never written, with a source of a virtual data set that is missing or
smaller than planned, and with an external raw file that ends early. All of them are checked before anything is read.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py

from glrnn_hpc.data.hdf5_access import open_file
from glrnn_hpc.errors import DataError

#: Problems that one message names.
_MOST_NAMED = 8

#: Filters by their registered numbers, https://github.com/HDFGroup/hdf5_plugins/blob/master/docs/RegisteredFilterPlugins.md
_FILTERS = {
    4: "szip",
    305: "LZO",
    307: "bzip2",
    32000: "LZF",
    32001: "Blosc",
    32004: "LZ4",
    32008: "Bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32017: "SZ",
    32024: "SZ3",
    32026: "Blosc2",
}


@dataclass
class _Findings:
    """Other files that values lie in, what is wrong with the storage, and the missing filters with what needs them.

    `seen` holds the data sets that were looked at, `parents` those whose sources are looked at now.
    """

    files: set[Path] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    filters: dict[str, list[str]] = field(default_factory=dict)
    seen: set[tuple[str, str]] = field(default_factory=set)
    parents: list[tuple[str, str]] = field(default_factory=list)


def check_storage(path: Path, datasets: Sequence[str]) -> frozenset[Path]:
    """Check that HDF5 has a value for every place of some data sets, and the filters to read it.

    Parameters
    ----------
    path : Path
        HDF5 file.
    datasets : sequence of str
        Paths of data sets in it.

    Returns
    -------
    frozenset of Path
        The other files that the values lie in: targets of links, sources of virtual data sets, external raw files.

    Raises
    ------
    DataError
        If a file or a filter is missing, or values were never written; one message names all that is wrong.
    """
    found = _Findings()
    with open_file(path) as file:
        for name in datasets:
            _look_at(file[name], file.filename, found)
    found.problems += [
        f"{names[0]}{f' (and {len(names) - 1} more data sets)' if len(names) > 1 else ''} is compressed by the filter "
        f"{name}, which this HDF5 lacks; {_filter_advice()}"
        for name, names in found.filters.items()
    ]
    if found.problems:
        more = len(found.problems) - _MOST_NAMED
        listed = "; ".join(found.problems[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")
        raise DataError(f"{path}: {listed}.")
    return frozenset(found.files)


def other_files(path: Path) -> frozenset[Path]:
    """Return the files besides `path` that values of its data sets lie in, as far as they are there.

    Raises
    ------
    DataError
        If `path` cannot be read.
    """
    found = _Findings()
    with open_file(path) as file:
        for pressure in file:
            group = file.get(pressure)
            for experiment_type in group if isinstance(group, h5py.Group) else ():
                entries = group.get(experiment_type)
                for name in entries if isinstance(entries, h5py.Group) else ():
                    if isinstance(entries.get(name), h5py.Dataset):
                        _look_at(entries[name], file.filename, found)
    return frozenset(found.files)


def missing_target(group: h5py.Group, name: str) -> str | None:
    """Return what a link in a group points to that is not there; None if it is there, or there is no link."""
    link = group.get(name, getlink=True)
    if link is None or group.get(name) is not None:
        return None
    if isinstance(link, h5py.ExternalLink):
        target = _resolved(link.filename, Path(group.file.filename), "HDF5_EXT_PREFIX")
        where = f"{link.path} in {target}" if target.exists() else f"the missing file {target}"
        return f"a link to {where}; bring the file back, or write the values into one file"
    return "a link to nothing"


def _look_at(dataset: h5py.Dataset, main_file: str, found: _Findings) -> None:
    file_name, name = dataset.file.filename, dataset.name.strip("/")
    is_other = file_name != main_file
    where = f"{file_name}: {name}" if is_other else name
    identity = (os.path.realpath(file_name), name)
    if identity in found.parents:  # HDF5 would follow its sources until the process dies
        found.problems.append(f"{where} is a source of its own values; write the values into one file")
    if identity in found.seen:
        return
    found.seen.add(identity)
    if is_other:
        found.files.add(Path(file_name).absolute())
    if not dataset.size:
        return
    for missing in _missing_filters(dataset):
        found.filters.setdefault(missing, []).append(where)
    problems = [*_missing_values(dataset), *_missing_raw_files(dataset, found)]
    found.problems += [f"{where} {problem}" for problem in problems]
    if dataset.is_virtual:
        found.parents.append(identity)
        _look_at_sources(dataset, where, main_file, found)
        found.parents.pop()


def _missing_filters(dataset: h5py.Dataset) -> Iterator[str]:
    """Name the filters that the values were written through and this HDF5 does not have."""
    if dataset.chunks is None or dataset.is_virtual:
        return
    properties = dataset.id.get_create_plist()
    for number in range(properties.get_nfilters()):
        code, _, _, stored = properties.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            name = _FILTERS.get(code) or stored.decode(errors="replace").split(";")[0] or "of no name"
            yield f"{name} (number {code})"


def _filter_advice() -> str:
    folder = os.environ.get("HDF5_PLUGIN_PATH")
    if folder == "disable":
        return "HDF5_PLUGIN_PATH=disable switches plugins off: import glrnn_hpc before TensorFlow, or unset it"
    advice = (
        "`pip install hdf5plugin` brings the usual ones; then set HDF5_PLUGIN_PATH to the folder that "
        "`python -c 'import hdf5plugin; print(hdf5plugin.PLUGIN_PATH)'` prints, here and in the jobs"
    )
    return f"{advice} (now it is {folder})" if folder else advice


def _missing_values(dataset: h5py.Dataset) -> Iterator[str]:
    """Tell of values of an ordinary data set that were never written, as far as HDF5 knows."""
    if dataset.is_virtual or dataset.external:
        return
    if dataset.chunks is not None:
        sizes = zip(dataset.shape, dataset.chunks, strict=True)
        n_chunks, n_written = math.prod(-(-size // chunk) for size, chunk in sizes), dataset.id.get_num_chunks()
        if n_written < n_chunks:
            part = "was never written" if n_written == 0 else f"was written in part, {n_written} of {n_chunks} chunks"
            yield f"{part}: HDF5 would give the fill value {dataset.fillvalue}; write the file again"
    elif dataset.id.get_space_status() == h5py.h5d.SPACE_STATUS_NOT_ALLOCATED:
        yield f"was never written: HDF5 would give the fill value {dataset.fillvalue}; write the file again"


def _missing_raw_files(dataset: h5py.Dataset, found: _Findings) -> Iterator[str]:
    """Tell of external raw files that are missing or end too early; HDF5 looks for them from the current folder."""
    # The last part of an external storage may be unlimited; what is needed is known all the same.
    needed = dataset.size * dataset.dtype.itemsize
    for name, offset, size in dataset.external or ():
        prefix = os.environ.get("HDF5_EXTFILE_PREFIX") or dataset.id.get_access_plist().get_efile_prefix().decode()
        origin = str(Path(dataset.file.filename).absolute().parent)
        path = Path(prefix.replace("${ORIGIN}", origin), name).absolute()
        n_bytes, needed = min(size, needed), needed - min(size, needed)
        if not _is_file(path):
            yield (
                f"has its values in {path}, which is missing; HDF5 looks for it from the current folder: give its "
                "folder as HDF5_EXTFILE_PREFIX, or write the values into the file"
            )
        elif path.stat().st_size < offset + n_bytes:
            yield f"has its values in {path}, which ends {offset + n_bytes - path.stat().st_size} bytes too early"
        found.files.add(path)


@dataclass(frozen=True)
class _Part:
    """Part of a virtual data set that one selection of a source serves.

    `last` is the last place of the selection, None of an unlimited one; `is_whole` says that the source is all of it.
    """

    dataset: str
    n_values: int
    last: tuple[int, ...] | None
    is_whole: bool


def _look_at_sources(dataset: h5py.Dataset, where: str, main_file: str, found: _Findings) -> None:
    own = Path(dataset.file.filename)
    sources = dataset.virtual_sources()
    for source in sources:
        if "%" in (source.file_name + source.dset_name).replace("%%", ""):
            found.problems.append(
                f"{where} names its sources by the pattern {source.file_name}, whose gaps cannot be checked; name each"
            )
            return
    n_covered = _n_covered(dataset, [source.vspace for source in sources])
    if n_covered < dataset.size:
        found.problems.append(
            f"{where} has sources for {n_covered} of its {dataset.size} values: HDF5 would give the fill value "
            f"{dataset.fillvalue}, or anything, for the others; write the file again"
        )
    parts: dict[str, list[_Part]] = {}
    for source in sources:
        parts.setdefault(_unescaped(source.file_name), []).append(_part(source, dataset.size))
    # h5py looks at all selections that are alive whenever it closes a file.
    del sources, source
    for file_name, of_file in parts.items():
        path = own if file_name == "." else _resolved(file_name, own, "HDF5_VDS_PREFIX", dataset)
        if not _is_file(path):
            found.problems.append(
                f"{where} has a part of its values in {path}, which is missing: HDF5 would give the fill value "
                f"{dataset.fillvalue}; bring the file back, or write the values into one file"
            )
            continue
        with open_file(path) as file:
            for part in of_file:
                _look_at_part(file, part, f"{where} has a part of its values in {path}", main_file, found)


def _look_at_part(file: h5py.File, part: _Part, where: str, main_file: str, found: _Findings) -> None:
    entry = file.get(part.dataset)
    if not isinstance(entry, h5py.Dataset):
        found.problems.append(f"{where}, which has no {part.dataset}")
        return
    if not _is_inside(part, entry):
        found.problems.append(f"{where}, whose {part.dataset} has the shape {entry.shape}: this part needs another one")
    _look_at(entry, main_file, found)


def _part(source: Any, size: int) -> _Part:
    space = source.src_space
    is_whole = space.get_select_type() == h5py.h5s.SEL_ALL
    last = None if is_whole or _is_unlimited(space) else tuple(map(int, space.get_select_bounds()[1]))
    n_values = size if _is_unlimited(source.vspace) else int(source.vspace.get_select_npoints())
    return _Part(_unescaped(source.dset_name), n_values, last, is_whole)


def _is_inside(part: _Part, source: h5py.Dataset) -> bool:
    """Whether a source has all values that a part needs of it."""
    if part.is_whole:  # the shape that was meant is not noted
        return bool(source.size == part.n_values)
    if part.last is None:
        return True
    return len(part.last) == source.ndim and all(end < size for end, size in zip(part.last, source.shape, strict=True))


def _n_covered(dataset: h5py.Dataset, spaces: Sequence[h5py.h5s.SpaceID]) -> int:
    """Return how many values have a source; parts that overlap count once, unlimited ones follow their sources.

    HDF5 counts them twice: where the number is right by that, it does not even fill what nothing serves.
    """
    covered = h5py.h5s.create_simple(dataset.shape)
    covered.select_none()
    for space in spaces:
        if space.get_select_type() == h5py.h5s.SEL_ALL or _is_unlimited(space):
            return int(dataset.size)
        for start, stride, count, block in _hyperslabs(space):
            covered.select_hyperslab(start, count, stride, block, op=h5py.h5s.SELECT_OR)
    return int(covered.get_select_npoints())


def _hyperslabs(space: h5py.h5s.SpaceID) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Yield start, stride, count and block of the hyperslabs that a selection is made of."""
    ones = (1,) * space.get_simple_extent_ndims()
    if space.get_select_type() == h5py.h5s.SEL_POINTS:
        for point in space.get_select_elem_pointlist():
            yield tuple(map(int, point)), ones, ones, ones
    elif space.is_regular_hyperslab():
        yield space.get_regular_hyperslab()
    elif space.get_select_type() == h5py.h5s.SEL_HYPERSLABS:
        for first, last in space.get_select_hyper_blocklist():
            yield tuple(map(int, first)), ones, ones, tuple(map(int, last - first + 1))


def _is_unlimited(space: h5py.h5s.SpaceID) -> bool:
    is_hyperslab = space.get_select_type() == h5py.h5s.SEL_HYPERSLABS and space.is_regular_hyperslab()
    return is_hyperslab and h5py.h5s.UNLIMITED in (n for part in space.get_regular_hyperslab()[2:] for n in part)


def _unescaped(name: str) -> str:
    """Return a name of a source as it is meant: a percent sign stands twice, as one begins a pattern."""
    return name.replace("%%", "%")


def _resolved(name: str, own: Path, variable: str, dataset: h5py.Dataset | None = None) -> Path:
    """Return where HDF5 finds a file that another one names, or where it should lie: beside that one.

    References
    ----------
    H5Pset_virtual_prefix and H5Lcreate_external in HDF5's reference manual: the order of the places.
    """
    origin = str(own.absolute().parent)
    prefixes = [each for each in os.environ.get(variable, "").split(":") if each]
    if dataset is not None:
        prefixes += [each for each in [dataset.id.get_access_plist().get_virtual_prefix().decode()] if each]
    given = Path(name)
    # An absolute name that is not there is looked for by its last part.
    short = given.name if given.is_absolute() else name
    places = [given] if given.is_absolute() else []
    places += [Path(prefix.replace("${ORIGIN}", origin), short) for prefix in prefixes]
    places += [Path(origin, short), Path(short), own.resolve().parent / short]
    expected = given if given.is_absolute() else Path(origin, name)
    return next((place for place in places if _is_file(place)), expected)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # too long a name, a folder that may not be entered
        return False
