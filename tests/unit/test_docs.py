"""The documents say what the program does: their tables are compared with it, their commands and code are run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import typer

from glrnn_hpc import cli
from glrnn_hpc.config import RunConfig, parse_yaml
from glrnn_hpc.data import hdf5
from glrnn_hpc.experiments.derived_features import load_array
from glrnn_hpc.experiments.registry import experiment_named
from glrnn_hpc.experiments.triaxial import TRIAXIAL
from glrnn_hpc.launch.slurm.profile import load_profile
from glrnn_hpc.search import distributions
from glrnn_hpc.search.sweep import load_sweep
from tests.conftest import CONTACT_KEYS, INPUT_KEYS, OUTPUT_KEYS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README, STUDY, CLUSTER, CONFIGURATION, FORMAT, SWEEPS, CALIBRATION = (
    (ROOT / name).read_text(encoding="utf-8")
    for name in (
        "README.md",
        "docs/study.md",
        "docs/cluster.md",
        "docs/configuration.md",
        "docs/format.md",
        "docs/sweeps.md",
        "docs/calibration.md",
    )
)

#: The README is one page that one reads.
MOST_LINES = 150

#: The sample has a broken file on purpose, which `glrnn parse` reports by this status.
LEFT_SOMETHING_OUT = 3


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[list[str]]:
    lines = "".join(blocks(page, "bash")).splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("glrnn ")]


def other_commands(program: str) -> list[list[str]]:
    """Return the words after `program` in every line of code or inline code of the documents that starts with it."""
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    found = [line for text in texts for line in re.findall(rf"(?:^|`){program} ([^`\n]+)", text, flags=re.MULTILINE)]
    return [shlex.split(line, comments=True) for line in found]


def section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def table(text: str) -> list[list[str]]:
    """Return the rows of the first table."""
    (first, *_) = re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in first.splitlines()[2:]]


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    scripts = Path(sysconfig.get_path("scripts"))
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "WANDB_MODE": "disabled"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of what the commands of the pages need, with the files that these tell the reader to write."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "sweeps", folder / "sweeps")
    shutil.copytree(ROOT / "tests" / "data", folder / "tests" / "data")
    for block in blocks(STUDY + CLUSTER, "yaml"):
        name = re.match(r"# (\S+\.yaml)\n", block)
        assert name, f"the first line of a YAML block must name its file: {block!r}"
        (folder / name[1]).write_text(block, encoding="utf-8")
    return folder


def test_the_commands_and_the_code_of_the_readme_and_of_the_study_run_in_their_order(project: Path) -> None:
    names = [command[1] for command in commands(STUDY)]
    assert names == [
        "init",
        "parse",
        "inspect",
        "train",
        "sweep",
        "status",
        "resume",
        "collect",
        "report",
        "predict",
        "calibrate",
    ]
    # The README's commands are some of these, in the same order: what runs here is what both show.
    assert [command for command in commands(STUDY) if command in commands(README)] == commands(README)
    assert len(commands(README)) == 6
    assert commands(CLUSTER) == [["glrnn", "doctor"]]
    for command in commands(STUDY) + commands(CLUSTER):
        done = run(project, sys.executable, "-m", "glrnn_hpc", *command[1:])
        allowed = (0, LEFT_SOMETHING_OUT) if command[1] == "parse" else (0,)
        assert done.returncode in allowed, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    assert (project / "runs" / "predictions.png").stat().st_size > 0
    assert (project / "runs" / "project" / "jobs" / "train.py").is_file()
    assert (project / "runs" / "calibration" / "posterior.png").stat().st_size > 0

    (code,) = blocks(STUDY, "python")
    done = run(project, sys.executable, "-c", code)
    assert done.returncode == 0, f"it needs `pip install '.[calibration]'`\n{done.stderr}"
    assert set(re.findall(r"'(\w+)':", done.stdout)) == set(CONTACT_KEYS)

    (code,) = blocks(README, "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    (project / "from_python.py").write_text(code, encoding="utf-8")
    done = run(project, sys.executable, "from_python.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("best trial:")
    assert set(re.findall(r"'(\w+)':", done.stdout)) == set(OUTPUT_KEYS)


def test_the_readme_is_a_page_that_one_reads() -> None:
    assert len(README.splitlines()) <= MOST_LINES


def test_the_index_of_the_documentation_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(([a-z]+\.md)\)", index))
    assert linked == {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}


def test_every_make_target_that_the_documents_name_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    named = {words[0] for words in other_commands("make")}
    assert named >= {"run", "test"}
    assert named <= targets


def test_every_extra_that_the_documents_install_exists() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[project.optional-dependencies]\n")[1]
    extras = set(re.findall(r"^([a-z-]+) = ", project.split("\n[")[0], flags=re.MULTILINE))
    lists = [extras for words in other_commands("pip") for extras in re.findall(r"\[(.+?)\]", words[-1])]
    installed = {extra for each in lists for extra in each.split(",")}
    assert installed >= {"embedded-mpi", "baseline", "calibration"}
    assert installed <= extras


def test_the_parser_in_the_format_page_writes_a_file_that_can_be_read(tmp_path: Path) -> None:
    code, *_ = blocks(FORMAT, "python")
    done = run(tmp_path, sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    schema = hdf5.read_schema(tmp_path / "mine.hdf5")
    assert schema.outputs == ("e", "q")
    assert [group.name for group in schema.groups] == ["0.2e6/drained"]


def test_the_experiment_in_the_format_page_is_complete(tmp_path: Path) -> None:
    _, code = blocks(FORMAT, "python")
    (tmp_path / "oedometric_of_the_page.py").write_text(code, encoding="utf-8")
    own = experiment_named("oedometric_of_the_page:Oedometric", directory=tmp_path)
    assert own.raw_group({"density": "dense", "path": "loading"}) == "dense/loading"
    assert [parameter.name for parameter in own.extra_parameters()] == ["density", "experiment_type"]
    assert [transform.kind for transform in own.label_transforms()] == ["log"]
    (relation,) = own.exact_relations()
    assert relation.value({"nu": 0.2}, np) == pytest.approx(0.25)
    strain = {"e_z": np.array([[0.0, 1, 3, 2]])}
    load = load_array(["e_z", "e_z_rate", "e_z_max"], strain, own.derived_features())
    assert load[0].T.tolist() == [[0, 1, 3, 2], [0, 1, 2, -1], [0, 1, 3, 3]]


def test_the_format_page_names_the_default_columns_in_their_order() -> None:
    documented = {
        row[0].strip("`"): tuple(row[1].split(", ")) for row in table(section(FORMAT, "Attributes of the file"))
    }
    expected = {
        "contact_params": CONTACT_KEYS,
        "inputs": INPUT_KEYS,
        "outputs": OUTPUT_KEYS,
        "unused_keys_sequence": TRIAXIAL.unused_sequences,
        "unused_keys_constant": TRIAXIAL.unused_constants,
    }
    assert {name: documented[name] for name in expected} == expected


def test_the_page_on_configurations_lists_the_derived_load_features_of_triaxial_tests() -> None:
    rows = table(section(CONFIGURATION, "Derived load features"))
    documented = [name for row in rows for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(documented) == sorted(name for each in TRIAXIAL.derived_features() for name in each.names())


def test_the_page_on_configurations_lists_every_key_with_its_default() -> None:
    documented = {row[0].strip("`"): row[1] for row in table(CONFIGURATION)}
    assert sorted(documented) == sorted(RunConfig.model_fields)
    for name, field in RunConfig.model_fields.items():
        if field.is_required():
            assert documented[name] == "required", name
        elif field.default is None:
            others = {"experiment": "triaxial", "network": "lstm"}
            others |= dict.fromkeys(("inputs", "inputs_drained", "inputs_undrained"), "all")
            assert documented[name] == others.get(name, "Keras"), name
        else:
            assert parse_yaml(documented[name], name) == field.default, name


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_sweep_file_is_valid(path: Path) -> None:
    assert load_sweep(path).n_trials() >= 2


def test_the_profile_in_the_page_on_clusters_is_valid(project: Path) -> None:
    site = load_profile(project / "site.yaml")
    assert (site.partition, site.sbatch) == ("rome", {"exclusive": True})


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").glob("*.yaml")), ids=lambda path: path.name)
def test_every_key_of_a_shipped_sweep_file_has_a_comment(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    # Not those that only hold others, nor what a parameter may be.
    keys = [line for line in lines if re.match(r"\w+:", line) and not re.match(r"(metric|parameters|early_term)", line)]
    keys += [line for line in lines if re.match(r"  \w+:", line)]
    assert len(keys) > 10
    assert [line for line in keys if not re.search(r" # \w", line)] == []


def test_the_example_searches_what_it_says_with_either_learning_rate() -> None:
    text = (ROOT / "sweeps" / "example_sweep.yaml").read_text(encoding="utf-8")
    spec = load_sweep(parse_yaml(text, "example_sweep.yaml"))
    assert (spec.method, spec.metric, spec.goal, spec.run_cap) == ("bayes", "val_loss", "minimize", 12)
    assert {parameter.name: parameter.values for parameter in spec.searched} == {
        "window_size": (5, 10, 20, 30),
        "learning_rate": (1e-4, 1e-3),
        "batch_size": (128, 256, 512),
    }
    other = text.replace("    values: [1e-4, 1e-3]\n", "")
    other, count = re.subn(r"^    # ((?:distribution|min|max): \S+)$", r"    \1", other, flags=re.MULTILINE)
    assert count == 3
    by_name = {parameter.name: parameter for parameter in load_sweep(parse_yaml(other, "other")).searched}
    learning_rate = by_name["learning_rate"]
    assert [learning_rate.ppf(u) for u in (0.0, 0.5, 1.0)] == pytest.approx([1e-4, 1e-3, 1e-2])


def test_the_page_on_scripts_names_every_script_and_its_command() -> None:
    page = (ROOT / "jobs" / "README.md").read_text(encoding="utf-8")
    named = {row[0].strip("`"): " ".join(re.findall(r"`glrnn (\w+)`", row[2])) for row in table(page)}
    assert set(named) == {path.name for path in (ROOT / "jobs").glob("*.py")}
    commands = {command.name for command in typer.main.get_command(cli.app).commands.values()}
    assert {command for command in named.values() if command} <= commands
    assert (named["train.py"], named["sweep_agent.py"]) == ("train", "")


def test_the_sweep_file_in_the_sweeps_page_is_valid() -> None:
    (text,) = blocks(SWEEPS, "yaml")
    spec = load_sweep(parse_yaml(text, "docs/sweeps.md"))
    assert (spec.method, spec.n_trials(), spec.target) == ("bayes", 60, 0.01)
    assert [parameter.name for parameter in spec.searched] == ["lstm_units", "learning_rate", "window_size"]


def test_the_sweeps_page_names_every_distribution_and_its_keys() -> None:
    documented = {}
    for names, keys, _ in table(section(SWEEPS, "Parameters")):
        for name in names.split(", "):
            documented[name] = set(re.findall(r"`([a-z]+)`", keys))
    assert set(documented) == set(distributions.KEYS)
    assert all("q" in documented[name] for name in distributions.QUANTISED)
    plain = {name: keys for name, keys in distributions.KEYS.items() if name not in distributions.QUANTISED}
    assert all(documented[name] == set(keys.names) for name, keys in plain.items())


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("sweep", ["--trials", "--sampler", "--dead-after", "--storage"]),
        ("resume", ["--trials", "--workers", "--ranks-per-worker", "--retry-failed"]),
        ("status", ["--watch"]),
    ],
)
def test_the_options_that_the_pages_on_sweeps_name_exist(command: str, options: list[str]) -> None:
    (found,) = [each for each in typer.main.get_command(cli.app).commands.values() if each.name == command]
    names = {name for parameter in found.params for name in parameter.opts}
    assert set(options) <= names
    assert all(option in SWEEPS + STUDY + (ROOT / "CHANGELOG.md").read_text() for option in options)


def test_the_calibration_page_names_every_option_of_the_command_and_what_it_writes() -> None:
    (found,) = [each for each in typer.main.get_command(cli.app).commands.values() if each.name == "calibrate"]
    options = {name for parameter in found.params for name in parameter.opts if name.startswith("--")}
    assert set(re.findall(r"--[a-z-]+", CALIBRATION)) == options - {"--json"}
    for name in ("calibration.json", "samples.csv", "posterior.png", "response.png"):
        assert f"`{name}`" in CALIBRATION


def test_the_slurm_page_names_every_script_with_its_usage_and_every_profile() -> None:
    page = (ROOT / "slurm" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\S+\.sbatch) ([^`]+)` \|", page, flags=re.MULTILINE)
    scripts = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "slurm").glob("*.sbatch")}
    assert {name for name, _ in rows} == set(scripts)
    assert all(f"#   sbatch slurm/{name} {usage}" in scripts[name] for name, usage in rows)
    profiles = set(re.findall(r"^\| `(\S+\.yaml)` \|", page, flags=re.MULTILINE))
    assert profiles == {path.name for path in (ROOT / "slurm" / "profiles").glob("*.yaml")}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files_and_sections_of_the_project(page: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    for link in (each for each in links if not each.startswith("https://")):
        name, _, title = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if title:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert title in {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}, link
