"""A thread beside the one that learns, for work that is to be done by the time it is wanted.

own_thread("pictures").submit(…)

PyTorch computes in a team of threads for each thread that asks it to. With two teams there are more threads than cores,
and then those of OpenMP go to sleep after each of thousands of small steps instead of waiting for the next: the learner
took 1.5 times as long for one thread that had once prepared a picture. This one computes alone.
"""

from concurrent.futures import ThreadPoolExecutor

import torch


def own_thread(name: str) -> ThreadPoolExecutor:
    """One thread, which lives as long as the executor."""
    executor = ThreadPoolExecutor(1, thread_name_prefix=name)
    team = torch.get_num_threads()
    executor.submit(_compute_alone).result()
    # What one thread sets is what every later one begins with.
    torch.set_num_threads(team)
    return executor


def _compute_alone() -> None:
    # A thread that has not asked yet would take the number of all on its first step.
    torch.get_num_threads()
    torch.set_num_threads(1)
