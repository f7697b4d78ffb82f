from __future__ import annotations

import numpy as np
import pytest

from glrnn_hpc.data import ranks
from glrnn_hpc.errors import DataError, LaunchError


def test_every_rank_sees_what_the_others_wrote(node: ranks.Ranks):
    shared = node.allocate((node.size, 5), "float32")
    assert shared.ctypes.data % ranks.ALIGNMENT == 0
    shared[node.rank] = node.rank
    node.sync()
    np.testing.assert_array_equal(shared, np.arange(node.size, dtype="float32")[:, None].repeat(5, axis=1))
    node.barrier()


def test_arrays_of_more_than_2_to_the_31_elements_are_shared(node: ranks.Ranks):
    shared = node.allocate((2**31 + 7,), "float32")
    if node.rank == node.size - 1:
        shared[-1], shared[2**31] = 7.0, 8.0
    node.sync()
    assert (shared[-1], shared[2**31]) == (7.0, 8.0)
    node.barrier()


def test_arrays_are_freed_and_can_be_made_again(node: ranks.Ranks):
    for _ in range(20):
        node.allocate((1000, 1000), "float64")[node.rank] = 1.0
    node.free()


def test_the_error_of_one_rank_is_raised_by_all(world: ranks.Ranks):
    guilty = world.size - 1

    def call() -> int:
        if world.rank == guilty:
            raise DataError(f"rank {guilty} cannot read.")
        return 3

    with pytest.raises(DataError, match=f"rank {guilty} cannot read") as caught:
        world.agreed(call)
    assert caught.value.is_agreed
    assert world.agreed(lambda: 3) == 3


def test_an_error_that_is_no_users_is_named_by_all_ranks(world: ranks.Ranks):
    class Odd(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__("not to be pickled")

    with pytest.raises(Odd if world.rank == 0 else LaunchError, match="not to be pickled"):
        world.agree(Odd(1, 2) if world.rank == 0 else None)


def test_the_lowest_rank_with_an_error_is_heard(world: ranks.Ranks):
    with pytest.raises(DataError, match="rank 0"):
        world.agree(DataError(f"rank {world.rank}"))


def test_ranks_are_split_into_groups_of_neighbours(node: ranks.Ranks):
    for size in (1, 2, 4):
        if node.size % size:
            with pytest.raises(LaunchError, match=f"ranks_per_trial={size}: the {node.size} ranks of a node"):
                node.in_groups(size)
            continue
        group = node.in_groups(size)
        assert (group.size, group.rank) == (size, node.rank % size)
        assert group.allgather(node.rank) == [node.rank // size * size + k for k in range(size)]


def test_sums_and_broadcasts(world: ranks.Ranks):
    buffer = np.full(3, float(world.rank), "float32")
    world.sum(buffer)
    np.testing.assert_array_equal(buffer, sum(range(world.size)))
    assert world.bcast_idle("work" if world.rank == 0 else None) == "work"
    assert world.allgather(world.rank) == list(range(world.size))
