"""The memory of a CUDA device, behind the same interface as host memory, in two ways.

- `driver`: the only place that calls the CUDA driver (`cuda.bindings.driver`), and turns its codes into errors.
- `device`: one device: allocations, mappings, copies, streams and events.
- `choosing`: which way is taken, and what is refused.
- `array`: what engines see: arrays on the device that `torch.from_dlpack` takes without a copy.
- `departure`: when a mapping may go: no view lives, the last batch is through, and not on the serving thread.

`gpu-shared`: the sidecar owns the memory, workers map it read-only.

- `token`: the sealed host file that travels with a device allocation: header, place, and who still holds it.
- `pool`: the budget of device memory; small parts share an allocation.
- `shared`, `mapping`: the sidecar's side and the workers'.

`gpu-copy`: the sidecar has host arenas, each worker copies them into slots of its own.

- `slots`: which slots there are, at addresses that never change, and who is in them.
- `copying`: from a host arena into a slot, beside live traffic.

No torch in here: engines make tensors of what they are given.
"""
