"""How many threads torch uses while weights are looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch work in one thread.

    Compiling reads and casts weights one after the other, which memory bounds; between two of them
    OpenMP's other threads spin, and cost more processor time than all the work.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
