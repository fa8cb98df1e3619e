"""Shared where the sidecar sees the device, copied elsewhere, and never behind MPS."""

from __future__ import annotations

import pytest
from tests.fakes import cuda_driver as fake
from tests.support.device_memory import fake_device

from segue.errors import DeviceError
from segue.memory.device.choosing import GpuMode, Sight, choose_mode
from segue.memory.mode import MemoryMode

SEEN = Sight(uuid="u", shares_memory=True)
BLIND = Sight(trouble="no CUDA driver here")


@pytest.mark.parametrize(
    ("configured", "sight", "mode"),
    [
        (GpuMode.AUTO, SEEN, MemoryMode.GPU_SHARED),
        (GpuMode.AUTO, BLIND, MemoryMode.GPU_COPY),
        (GpuMode.AUTO, Sight(uuid="u"), MemoryMode.GPU_COPY),
        (GpuMode.SHARED, SEEN, MemoryMode.GPU_SHARED),
        (GpuMode.COPY, SEEN, MemoryMode.GPU_COPY),
        (GpuMode.COPY, BLIND, MemoryMode.GPU_COPY),
    ],
)
def test_what_is_configured_and_seen_decides(configured: GpuMode, sight: Sight, mode: MemoryMode) -> None:
    assert choose_mode(configured, sight).mode is mode


def test_the_reason_is_told() -> None:
    assert choose_mode(GpuMode.AUTO, BLIND).why == "the sidecar sees no device: no CUDA driver here"


@pytest.mark.parametrize("sight", [BLIND, Sight(uuid="u")])
def test_sharing_that_was_asked_for_and_cannot_be_had_is_an_error(sight: Sight) -> None:
    with pytest.raises(DeviceError, match=r"gpu\.mode is gpu-shared, but"):
        choose_mode(GpuMode.SHARED, sight)


@pytest.mark.parametrize("configured", [GpuMode.AUTO, GpuMode.SHARED])
def test_mps_is_refused(configured: GpuMode) -> None:
    fake.reset().mps = True
    with pytest.raises(DeviceError, match="behind MPS"):
        choose_mode(configured, Sight.of(fake_device()))
    fake.reset()


def test_sight_is_what_the_driver_says() -> None:
    fake.reset()
    assert Sight.of(fake_device()) == Sight(uuid=fake.UUID, shares_memory=True)
