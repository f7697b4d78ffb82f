from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from glrnn_hpc.errors import ConfigError
from glrnn_hpc.models import gru
from glrnn_hpc.references import import_reference
from glrnn_hpc.search.sweep import load_sweep


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return `sys.path`, which the test may change."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    return sys.path


def test_a_class_is_imported_from_the_folder_and_a_second_time_is_the_same(tmp_path: Path, path: list[str]):
    (tmp_path / "of_a_folder.py").write_text("class Own:\n    pass\n")
    own = import_reference("of_a_folder:Own", "preprocessor", directory=tmp_path)
    assert isinstance(own, type)
    assert own is import_reference("of_a_folder:Own", "preprocessor", directory=tmp_path)


def test_a_module_may_lie_in_a_package(tmp_path: Path, path: list[str]):
    (tmp_path / "package_of_a_folder").mkdir()
    (tmp_path / "package_of_a_folder/inside.py").write_text("def build():\n    return 7\n")
    build = import_reference("package_of_a_folder.inside:build", "network", directory=tmp_path)
    assert callable(build)
    assert build() == 7


def test_a_neighbour_is_found_during_the_import_and_when_it_is_imported_later(tmp_path: Path, path: list[str]):
    (tmp_path / "neighbour_at_once.py").write_text("VALUE = 1\n")
    (tmp_path / "neighbour_later.py").write_text("VALUE = 2\n")
    (tmp_path / "with_neighbours.py").write_text(
        "import neighbour_at_once\n\n"
        "def total():\n    import neighbour_later\n    return neighbour_at_once.VALUE + neighbour_later.VALUE\n"
    )
    total = import_reference("with_neighbours:total", "network", directory=tmp_path)
    assert callable(total)
    assert total() == 3


@pytest.mark.parametrize("name", ["queue", "of_both_folders", "sys"])
def test_a_library_stays_itself_and_a_file_of_its_name_is_refused(name: str, tmp_path: Path, path: list[str]):
    installed, own = tmp_path / "installed", tmp_path / "own"
    for folder in (installed, own):
        folder.mkdir()
        (folder / "of_both_folders.py").write_text("def own():\n    return 1\n")
    if name != "of_both_folders":
        (own / f"{name}.py").write_text("raise SystemExit('run in place of the library')\n")
    path.insert(0, str(installed))
    with pytest.raises(
        ConfigError, match=rf"^network: {name} is .*, and {own / name}\.py is never taken .* my_{name}\.py"
    ):
        import_reference(f"{name}:own", "network", directory=own)


def test_what_the_users_module_imports_are_libraries_and_not_files_of_their_names(tmp_path: Path, path: list[str]):
    installed, own = tmp_path / "installed", tmp_path / "own"
    for folder in (installed, own):
        folder.mkdir()
        (folder / "a_library.py").write_text(f"FOLDER = {folder.name!r}\n")
    (own / "with_a_library.py").write_text("import a_library\n\ndef folder():\n    return a_library.FOLDER\n")
    path.insert(0, str(installed))
    chosen = import_reference("with_a_library:folder", "network", directory=own)
    assert callable(chosen)
    assert chosen() == "installed"


def test_a_module_of_another_folder_that_was_imported_before_is_not_taken_for_it(tmp_path: Path, path: list[str]):
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        (folder / "of_two_sweeps.py").write_text(f"def folder():\n    return {folder.name!r}\n")
    import_reference("of_two_sweeps:folder", "network", directory=tmp_path / "first")
    with pytest.raises(ConfigError, match=r"of_two_sweeps is .*first/of_two_sweeps\.py here, .* another process"):
        import_reference("of_two_sweeps:folder", "network", directory=tmp_path / "second")


def test_the_parts_of_this_package_are_its_own_in_a_clone_of_the_repository_too(tmp_path: Path, path: list[str]):
    (tmp_path / "glrnn_hpc/models").mkdir(parents=True)
    for module in ("glrnn_hpc/__init__.py", "glrnn_hpc/models/__init__.py", "glrnn_hpc/models/gru.py"):
        (tmp_path / module).write_text("raise ImportError('the clone is run')")
    network = import_reference("glrnn_hpc.models.gru:gru", "network", directory=tmp_path)
    assert network is gru.gru


def test_a_failed_import_leaves_the_path_as_it_was(tmp_path: Path, path: list[str]):
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    before = list(path)
    with pytest.raises(ConfigError, match=f"broken_module cannot be imported from {tmp_path}: ZeroDivisionError"):
        import_reference("broken_module:Own", "preprocessor", directory=tmp_path)
    assert path == before


@pytest.mark.parametrize("reference", ["plain", "module:", ":Name", "", None, 3, ["a:b"]])
def test_another_form_is_refused_with_an_example(reference: object):
    with pytest.raises(ConfigError, match="^network: module:function is needed, such as nets:deep; .* was given"):
        import_reference(reference, "network", form="module:function", example="nets:deep")


def test_a_missing_module_and_a_missing_name_are_said(tmp_path: Path, path: list[str]):
    with pytest.raises(ConfigError, match=f"^experiment: nowhere_at_all cannot be imported from {tmp_path}: Module"):
        import_reference("nowhere_at_all:Own", "experiment", directory=tmp_path)
    with pytest.raises(ConfigError, match="^experiment: json has no Own"):
        import_reference("json:Own", "experiment", directory=tmp_path)


def test_reading_a_sweep_without_code_of_the_users_own_leaves_the_path_alone(tmp_path: Path, path: list[str]):
    before = list(path)
    keys = {"raw_data": "a.hdf5", "window_size": {"values": [3, 5]}}
    load_sweep({"method": "grid", "parameters": keys}, directory=str(tmp_path))
    assert path == before


def test_a_process_that_the_users_code_starts_finds_its_modules(tmp_path: Path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own/in_processes.py").write_text(
        "import multiprocessing\n\n"
        "def square(n):\n    return n * n\n\n"
        "def squares():\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        return pool.map(square, [2, 3])\n"
    )
    script = tmp_path / "script.py"
    script.write_text(
        "from glrnn_hpc.references import import_reference\n"
        "if __name__ == '__main__':\n"
        f"    print(import_reference('in_processes:squares', 'network', directory={str(tmp_path / 'own')!r})())\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "[4, 9]\n", done.stderr
