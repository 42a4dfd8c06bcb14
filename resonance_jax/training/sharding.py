"""Training on several devices, of one process or more: each takes some rows of a batch; the state is copied or split.

    parallel = DataParallel("shard_map")
    state = parallel.place(init_state(...))
    for batch in batches:
        state, metrics = parallel.step(state, parallel.shard(batch))
    state = parallel.fetch(state)  # as on one device: to save, to evaluate, to go on elsewhere

The strategies give what `train_step` gives on one device, up to the rounding of sums, whatever the number of devices:

- "jit": one program for the whole batch, which XLA splits. Where the model takes FFTs, JAX before 0.12 gathers the
  batch: take "shard_map", or method="matrix". Dropout is that of one device if no row is missing.
- "shard_map": the program of one device, with its collectives written out: one exchange of the batch's weight, where it
  has one, and one of gradients, loss and metrics. Dropout differs from device to device.
- "pmap": the same by the older interface, for loops that are written for it: leaves have an axis of devices first.

With several processes, each calls the same methods in the same order, with the same state and with rows of its own.
"""

import dataclasses
import inspect
from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from resonance_jax.ops._checks import check_choice
from resonance_jax.training.fields import PARAMETERS, STRATEGIES, check_sharded
from resonance_jax.training.padding import pad_rows
from resonance_jax.training.step import Batch, TrainState, take_step

AXIS = "rows"


@dataclasses.dataclass(frozen=True)
class DataParallel:
    """Devices that share the rows of each batch.

    Attributes:
        strategy: "jit", "pmap" or "shard_map".
        num_devices: how many, the first ones; None is all, and must be taken with several processes.
        parameters: "replicated", or "sharded": each device keeps a part of every array of the state that has an axis
            which the devices divide, and they are gathered where a step needs them; strategy "jit" only.
        row_collections: collections of the model whose arrays have an axis of rows first, and are split as the batch
            is. Others are replicated, with strategy "jit"; the other two refuse them: each device would change its own.

    Raises:
        ValueError: if an option is unknown or does not go with another one, or there are fewer devices, or others.
    """

    strategy: str = "jit"
    num_devices: int | None = None
    parameters: str = "replicated"
    row_collections: tuple[str, ...] = ("hologram",)

    def __post_init__(self) -> None:
        """Checks the options."""
        check_choice("strategy", self.strategy, STRATEGIES)
        check_choice("parameters", self.parameters, PARAMETERS)
        check_sharded(self)
        count, there = self.num_devices, jax.device_count()
        if jax.process_count() > 1 and count not in (None, there):
            raise ValueError(
                f"{jax.process_count()} processes train on all of their {there} devices together: expected all, got "
                f"{count}; in a configuration num_devices=0 is all."
            )
        if count is not None and not 1 <= count <= there:
            hint = (
                f"; in the environment XLA_FLAGS=--xla_force_host_platform_device_count={count} makes more of a CPU, "
                f"and PJRT_NPROC={2 * count} keeps them from waiting for each other"
            )
            raise ValueError(
                f"num_devices must be in 1 .. {there}, the devices that JAX has, got {count}"
                f"{hint if count > there else ''}."
            )

    @cached_property
    def mesh(self) -> Mesh:
        """The devices on one axis, `AXIS`."""
        return Mesh(np.array(jax.devices()[: self.num_devices]), (AXIS,))

    def place(self, state: TrainState) -> TrainState:
        """Copies a state to the devices; the given one stays usable.

        Raises:
            ValueError: if the strategy cannot keep the state's collections or call its loss, or the devices do not
                divide the rows of a collection.
        """
        self._check(state)
        if self.strategy != "pmap":
            # Copied first: the donation in `step` could delete the given state with an alias of it.
            put = jax.jit(_copies, out_shardings=self._shardings(state))
            return put(jax.tree.map(_to_host, state))
        devices = len(self.mesh.local_devices)
        return jax.device_put(_stack(state, devices), self._stacked)

    def shard(self, batch: Batch) -> dict[str, Any]:
        """Puts the rows of a batch on the devices, the same number on each.

        Of several processes each gives its own rows, the same number, for its own devices.

        Rows that are missing for this are repeated with weight 0, in `batch["weight"]` [b]: they count for nothing in
        the losses of this library, nor in one of your own that weighs rows by it. A model with a memory of rows needs
        batches that the devices divide: what is repeated would be written into it.

        Raises:
            ValueError: if the entries of the batch have different numbers of rows.
        """
        given = {name: value for name, value in batch.items() if value is not None}
        devices = len(self.mesh.local_devices)
        padded = pad_rows(jax.tree.map(np.asarray, given), devices)
        if self.strategy == "pmap":
            return jax.tree.map(partial(_split_rows, count=devices), padded)
        return jax.tree.map(partial(jax.make_array_from_process_local_data, self._rows), padded)

    def step(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        """Takes one step of placed state and sharded batch, and uses up the state, as `train_step` does.

        On CPUs it waits for the result: unawaited collectives of forced host devices can wait for each other for ever.
        """
        return self._take(self._step, state, batch)

    def compile(self, state: TrainState, batch: Batch) -> tuple[Any, Any]:
        """Compiles the step for placed state and sharded batch: (what to call as `step`, what was compiled)."""
        compiled = self._step.lower(state, batch).compile()
        # What pmap compiles takes the arrays of all processes, which pmap itself makes of those of one.
        several = self.strategy == "pmap" and jax.process_count() > 1
        return partial(self._take, self._step if several else compiled), compiled

    def _take(self, step: Any, state: TrainState, batch: Batch) -> Any:
        state, metrics = step(state, batch)
        if self.strategy == "pmap":
            metrics = jax.tree.map(lambda leaf: leaf[0], metrics)
        if self.mesh.local_devices[0].platform == "cpu":
            jax.block_until_ready((state, metrics))
        return state, metrics

    def fetch(self, state: TrainState) -> TrainState:
        """Copies a placed state to the (process's) first device, in the form that it had before `place`."""
        if self.strategy != "pmap" and jax.process_count() > 1:
            whole = jax.jit(_copies, out_shardings=self._everywhere)(state)
            return jax.tree.map(lambda leaf: leaf.addressable_data(0), whole)
        # Copied: the donation in a later step must leave it alone.
        found = jax.device_put(state, self.mesh.local_devices[0])
        return _unstack(found) if self.strategy == "pmap" else _copy(found)

    def spread(self, values: Mapping[str, float]) -> dict[str, Any]:
        """Puts numbers on all devices, as float32 scalars of a placed state."""
        scalars = {name: np.float32(value) for name, value in values.items()}
        if self.strategy == "pmap":
            stacked = {
                name: np.repeat(value, self._stacked.mesh.size) for name, value in scalars.items()
            }
            return jax.device_put(stacked, self._stacked)
        put = partial(jax.make_array_from_process_local_data, self._everywhere)
        return jax.tree.map(put, scalars)

    def read(self, values: Any) -> Any:
        """Copies scalars of a placed state to the host."""
        found = jax.device_get(values)
        return jax.tree.map(lambda leaf: leaf[0], found) if self.strategy == "pmap" else found

    @cached_property
    def _rows(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(AXIS))

    @cached_property
    def _everywhere(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    @cached_property
    def _stacked(self) -> NamedSharding:
        """How pmap wants its leaves: with an axis of this process's devices first."""
        return NamedSharding(Mesh(np.array(self.mesh.local_devices), (AXIS,)), PartitionSpec(AXIS))

    @cached_property
    def _step(self) -> Any:
        mapped = partial(take_step, axis=AXIS)
        if self.strategy == "pmap":
            devices = list(self.mesh.devices.flat)
            return jax.pmap(mapped, axis_name=AXIS, donate_argnums=0, devices=devices)

        def of_shards(state: TrainState, batch: Batch) -> Any:
            specs = self._specs(state)
            step = jax.shard_map(
                mapped,
                mesh=self.mesh,
                in_specs=(specs, PartitionSpec(AXIS)),
                out_specs=(specs, PartitionSpec()),
            )
            return step(state, batch)

        def of_all(state: TrainState, batch: Batch) -> Any:
            after, metrics = take_step(state, batch)
            return jax.lax.with_sharding_constraint(after, self._shardings(after)), metrics

        return jax.jit(of_all if self.strategy == "jit" else of_shards, donate_argnums=0)

    def _specs(self, state: TrainState) -> TrainState:
        """How each array of a state is split."""
        split = self._axis_of_parts if self.parameters == "sharded" else lambda _: PartitionSpec()
        specs = jax.tree.map(split, state)
        rows = {
            name: jax.tree.map(lambda _: PartitionSpec(AXIS), tree)
            for name, tree in state.collections.items()
            if name in self.row_collections
        }
        return specs.replace(collections={**specs.collections, **rows})

    def _shardings(self, state: TrainState) -> TrainState:
        return jax.tree.map(partial(NamedSharding, self.mesh), self._specs(state))

    def _axis_of_parts(self, leaf: Any) -> PartitionSpec:
        """Splits the longest axis that the devices divide."""
        lengths = [length if length % self.mesh.size == 0 else 0 for length in leaf.shape]
        if not any(lengths):
            return PartitionSpec()
        longest = lengths.index(max(lengths))
        return PartitionSpec(*(AXIS if axis == longest else None for axis in range(leaf.ndim)))

    def _check(self, state: TrainState) -> None:
        if state.collections and self.strategy == "pmap" and jax.process_count() > 1:
            raise ValueError(
                f"strategy='pmap' keeps no collections on several processes, got {list(state.collections)}: take 'jit'."
            )
        for name, tree in state.collections.items():
            if name not in self.row_collections and self.strategy != "jit":
                raise ValueError(
                    f"strategy={self.strategy!r} keeps collections of rows alone, got {name!r}: take 'jit', or name it "
                    "in row_collections if its arrays begin with an axis of rows."
                )
            for leaf in jax.tree.leaves(tree) if name in self.row_collections else ():
                if leaf.ndim == 0 or leaf.shape[0] % self.mesh.size:
                    raise ValueError(
                        f"the devices, {self.mesh.size}, must divide the rows of the collection {name!r}, got an array "
                        f"of shape {leaf.shape}: make a memory for another number of rows."
                    )
        if self.strategy != "jit" and "axis" not in inspect.signature(state.loss_fn).parameters:
            raise ValueError(
                f"strategy={self.strategy!r} calls the loss as loss_fn(outputs, batch, axis=…) for this device's share "
                "of it (see training.losses), and this one takes no axis: give it one, or take strategy='jit'."
            )


def _copies(state: TrainState) -> TrainState:
    return jax.tree.map(jnp.copy, state)


_copy = jax.jit(_copies)


def _to_host(leaf: Any) -> Any:
    """Copies an array to the host, from where all processes take it; keys of random numbers stay what they are."""
    if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(leaf)
    data = jnp.asarray(np.asarray(jax.random.key_data(leaf)))
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))


@partial(jax.jit, static_argnames="count")
def _stack(state: TrainState, count: int) -> TrainState:
    stacked = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), state)
    rows = jax.tree.map(partial(_split_rows, count=count), state.collections)
    return stacked.replace(collections=rows)


@jax.jit
def _unstack(state: TrainState) -> TrainState:
    rows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), state.collections)
    return jax.tree.map(lambda leaf: leaf[0], state).replace(collections=rows)


def _split_rows(leaf: Any, count: int) -> Any:
    return leaf.reshape(count, -1, *leaf.shape[1:])
