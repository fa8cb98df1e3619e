"""One torch thread: tests run several at a time, and figures must not depend on how many cores are free."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
