"""The driver without a device says what the real bindings say: same calls, same arguments, same codes.

The bindings import where there is no driver; only calling them needs one.
"""

from __future__ import annotations

import inspect
import re

import pytest
from tests.fakes import cuda_driver as fake

from segue.errors import DeviceError, DeviceFull, DeviceLost
from segue.memory.device import device, driver
from segue.memory.device.device import CudaDevice, ordinal_of
from segue.memory.device.driver import BINDINGS, Driver

bindings = pytest.importorskip(BINDINGS, reason="cuda-bindings is not installed on this platform")

CALLS = sorted(name for name, found in vars(fake).items() if re.match(r"cu[A-Z]", name) and inspect.isfunction(found))


def arguments_of(call: str) -> list[str]:
    """Names of the arguments of a real call, from the signature in its docstring."""
    line = getattr(bindings, call).__doc__.splitlines()[0]
    inside = line[line.index("(") + 1 : line.rindex(")")]
    without_types = re.sub(r":[^,]*(?:\[[^\]]*\])?[^,]*", "", inside)
    return [part.split()[-1] for part in without_types.split(",") if part.strip()]


@pytest.mark.parametrize("call", CALLS)
def test_a_call_takes_the_arguments_that_the_bindings_take(call: str) -> None:
    assert list(inspect.signature(getattr(fake, call)).parameters) == arguments_of(call)


def test_every_call_that_we_make_is_there_in_both() -> None:
    source = inspect.getsource(device) + inspect.getsource(driver)
    made = set(re.findall(r'"(cu[A-Z]\w+)"', source))
    assert made
    assert made <= set(CALLS)
    assert all(hasattr(bindings, call) for call in made)


def test_every_name_that_we_use_is_there_in_both() -> None:
    source = inspect.getsource(device)
    used = set(re.findall(r"self\._api\.(CU\w+)", source))
    assert {name: getattr(bindings, name) for name in used} == {name: getattr(fake, name) for name in used}


def test_the_uuid_is_read_from_the_bindings_own_structure() -> None:
    fake.reset()
    assert CudaDevice(Driver(fake)).uuid == fake.UUID


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("CUDA_ERROR_OUT_OF_MEMORY", DeviceFull),
        ("CUDA_ERROR_ILLEGAL_ADDRESS", DeviceLost),
        ("CUDA_ERROR_ECC_UNCORRECTABLE", DeviceLost),
        ("CUDA_ERROR_INVALID_VALUE", DeviceError),
    ],
)
def test_a_code_becomes_the_error_that_says_what_to_do(code: str, error: type[DeviceError]) -> None:
    fake.reset()
    made = Driver(fake)
    fake.fail_next("cuDeviceGetCount", getattr(fake.CUresult, code))
    with pytest.raises(DeviceError, match=f"cuDeviceGetCount.*{code}") as caught:
        made.call("cuDeviceGetCount")
    assert type(caught.value) is error


def test_a_machine_without_a_driver_is_told_so() -> None:
    try:
        bindings.cuInit(0)
    except RuntimeError:
        with pytest.raises(DeviceError, match="no CUDA driver here"):
            Driver.load()
    else:
        pytest.skip("this machine has a driver")


def test_bindings_that_are_not_installed_name_the_extra() -> None:
    with pytest.raises(DeviceError, match=r"pip install 'segue\[gpu\]'"):
        Driver.load("cuda.no_such_bindings")


def test_a_device_that_is_not_there_is_named() -> None:
    fake.reset()
    with pytest.raises(DeviceError, match="cuda:3 is not there: this process sees 1"):
        CudaDevice(Driver(fake), ordinal=3)


def test_names_of_devices() -> None:
    assert (ordinal_of("cuda"), ordinal_of("cuda:2")) == (0, 2)
    with pytest.raises(DeviceError, match="not 'gpu0'"):
        ordinal_of("gpu0")
