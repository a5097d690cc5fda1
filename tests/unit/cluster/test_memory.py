"""Memory that was freed goes back to the system, also from between what is still held."""

import gc
import time

import psutil

from cluster.memory import give_back

BLOCK, COUNT = 3000, 40_000


def own() -> int:
    return psutil.Process().memory_info().rss


def test_what_lies_free_between_what_is_held_is_given_back() -> None:
    blocks = [bytes(BLOCK) for _ in range(COUNT)]
    held = own()
    kept = blocks[::50]
    del blocks
    gc.collect()
    started = time.perf_counter()
    give_back()
    assert own() < held - 0.7 * BLOCK * COUNT
    assert time.perf_counter() - started < 1
    assert all(len(block) == BLOCK for block in kept)
