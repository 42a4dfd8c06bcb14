"""Several processes that train together: what one does for all, and what all agree on.

Each calls the same functions in the same order, and here they wait for each other. With one process nothing is waited
for. Only the first one writes: the others need not share its disk.
"""

import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from resonance_jax.training.signals import SignalFlag

T = TypeVar("T")

PIECE = 2**28  # bytes that are sent at once


def is_first() -> bool:
    """Says whether this process is the one that writes and shows."""
    return jax.process_index() == 0


def connect() -> None:
    """Exchanges something once in each of the ways that a training does, when all processes have just met.

    On CPUs the first exchange among a set of devices connects them, and fails if one comes 30 s after another, as it
    may when one has compiled for longer; later ones wait.
    """
    if jax.process_count() == 1:
        return
    multihost_utils.process_allgather(np.int32(0))
    _send(np.zeros(1, np.uint8))
    mesh = Mesh(np.array(jax.devices()), ("all",))
    rows = NamedSharding(mesh, PartitionSpec("all"))
    ones = jax.make_array_from_process_local_data(rows, np.ones(jax.local_device_count()))
    jax.block_until_ready(
        jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec()))(ones)
    )


def own_part() -> tuple[int, int]:
    """Returns (index of this process, number of processes), as the iterators of batches take it."""
    return jax.process_index(), jax.process_count()


def on_first(function: Callable[[], T]) -> T:
    """Calls a function on the first process, and returns its value or raises its error on all."""
    if jax.process_count() == 1:
        return function()
    outcome: Any = None
    if is_first():
        try:
            outcome = function(), None
        except Exception as error:  # The others must not wait for a value that does not come.
            outcome = None, error
    value, error = _broadcast(outcome)
    if error is not None:
        raise outcome[1] if is_first() else error
    return value


def of_first(number: float) -> float:
    """Returns the first process's number on all."""
    if jax.process_count() == 1:
        return number
    bits = np.frombuffer(np.float64(number).tobytes(), np.uint8)
    return float(np.frombuffer(_send(bits).tobytes(), np.float64)[0])


def common_signal(flag: SignalFlag, *, waits: bool) -> int | None:
    """Returns the signal that a process has received, the same on all, or None.

    Args:
        flag: of this process.
        waits: whether the host waits for the devices here, on all processes; several are asked only then.
    """
    if jax.process_count() == 1:
        return flag.received
    if not waits:
        return None
    received = multihost_utils.process_allgather(np.int32(flag.received or 0))
    return int(np.max(received)) or None


def _broadcast(value: Any) -> Any:
    data = np.frombuffer(pickle.dumps(value), np.uint8)
    size = int(of_first(len(data)))
    data = data if is_first() else np.zeros(size, np.uint8)
    pieces = [_send(data[start : start + PIECE]) for start in range(0, size, PIECE)]
    return pickle.loads(b"".join(piece.tobytes() for piece in pieces))


def _send(data: np.ndarray) -> np.ndarray:
    # Bytes: a sum over processes would turn −0 into 0, and float64 into float32.
    return np.asarray(multihost_utils.broadcast_one_to_all(data))
