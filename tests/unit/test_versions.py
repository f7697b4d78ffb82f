from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path

from glrnn_hpc.versions import git_commit, software


def test_versions_are_those_that_are_installed_and_the_commit_that_of_this_repository():
    found = software()
    assert found["versions"]["keras"] == metadata.version("keras")
    assert found["git"] == git_commit(Path(__file__).parents[2] / "glrnn_hpc")


def test_the_commit_is_that_of_the_working_copy_or_of_the_installation_or_unknown(tmp_path: Path, monkeypatch):
    package = tmp_path / "copy/tiny_package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    assert git_commit(package) is None
    identity = ["-c", "user.name=x", "-c", "user.email=x@y"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "one"]):
        subprocess.run(["git", "-C", package.parent, *command], check=True)
    head = subprocess.run(
        ["git", "-C", package.parent, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    commit = head.stdout.strip()
    assert git_commit(package) == {"commit": commit, "is_changed": False}
    (package / "__init__.py").write_text("# changed\n")
    assert git_commit(package) == {"commit": commit, "is_changed": True}
    monkeypatch.setenv("PATH", "")
    assert git_commit(package) is None
    installed = tmp_path / "site/tiny_package-1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny_package\nVersion: 1\n")
    monkeypatch.syspath_prepend(installed.parent)
    (installed / "direct_url.json").write_text('{"url": "https://x/y.git", "vcs_info": {"commit_id": "abc"}}')
    assert git_commit(installed.parent / "tiny_package") == {"commit": "abc", "is_changed": None}
    (installed / "direct_url.json").write_text('{"url": "file:///x", "dir_info": {}}')
    assert git_commit(installed.parent / "tiny_package") is None
