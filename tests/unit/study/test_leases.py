"""Checkpoints that the holder of a lease may go on from."""

from __future__ import annotations

from pathlib import Path

from glrnn_hpc import layout
from glrnn_hpc.study.leases import Lease


def complete(folder: layout.TrialFolder, *generations: int) -> None:
    """Write the checkpoints of some generations."""
    for generation in generations:
        with layout.replacing(folder.checkpoint_file(generation)) as partial:
            partial.write_text("")


def test_a_trial_goes_on_from_the_complete_checkpoints_of_earlier_generations_the_newest_first(tmp_path: Path):
    folder = layout.TrialFolder(tmp_path)
    for generation in range(1, 13):
        folder.checkpoint(generation).mkdir()
    complete(folder, 1, 3, 9, 10, 12)
    # Generation 4 was killed while it wrote.
    (folder.checkpoint(4) / ".node-1-00000000.state.npz").touch()
    # Neither its own nor that of an adopter, and 10 is newer than 9.
    assert Lease(folder, 12).earlier_checkpoints() == [folder.checkpoint_file(number) for number in (10, 9, 3, 1)]
    assert Lease(folder, 9).earlier_checkpoints() == [folder.checkpoint_file(number) for number in (3, 1)]


def test_the_first_generation_begins_anew(tmp_path: Path):
    folder = layout.TrialFolder(tmp_path)
    folder.checkpoint(1).mkdir()
    complete(folder, 1)
    assert Lease(folder, 1).earlier_checkpoints() == []
