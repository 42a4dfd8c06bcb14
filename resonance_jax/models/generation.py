"""Text from a `LanguageModel`: read a prompt, choose ids one after the other, all of it compiled.

written = generate(model, variables, [prompt], 200, temperature=0.8, top_p=0.95, seed=1)
for ids in stream(model, variables, prompt, 200):
    print(tokenizer.decode(ids), end="")
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import Array, ClassScores, SequenceLengths, TokenIds, TokenSequence
from resonance_jax.models.language_model import LanguageModel
from resonance_jax.ops._checks import check_shape, is_concrete
from resonance_jax.ops._segments import check_lengths

PIECE = 2048
"""Steps of a long prompt that are read at once."""
STREAM_STEPS = 8
"""Ids that `stream` chooses between two looks at them."""
PADDING = -1
"""What follows a row's last id in `Generated.ids`: no id, so that it cannot be mistaken for text."""


class Generated(NamedTuple):
    """What `generate` wrote behind each prompt."""

    ids: Array
    """int [b, n]; `PADDING` from the row's length on."""
    lengths: Array
    """int [b]: ids written, the stop id included."""
    stopped: Array
    """bool [b]: whether the last one is a stop id."""


class _Options(NamedTuple):
    """How to choose, known at compile time; the names are those of `generate`."""

    temperature: float | int
    top_k: int | None
    top_p: float | int | None
    min_p: float | int | None
    stop: tuple[int, ...] = ()


class _Carry(NamedTuple):
    """What the loop hands from one id to the next."""

    logits: Array
    state: Any
    stopped: Array


def prefill(
    model: LanguageModel, variables: Any, ids: TokenSequence, lengths: SequenceLengths | None = None
) -> tuple[ClassScores, Any]:
    """Reads prompts and returns the logits [b, V] of the id after each one, and the state to go on from.

    More than `PIECE` steps are read in pieces: the memory does not grow with the prompt.

    Args:
        model: its config and param_dtype.
        variables: of `model.init`.
        ids: int [b, t]; prompts of different lengths are padded on the right, with whatever.
        lengths: int [b], 1 … t; None is t.
    Raises:
        ValueError: if a shape does not fit, a prompt is empty or beyond max_length, or an id is none of the model's.
    """
    ids = jnp.asarray(ids)
    if ids.ndim != 2 or 0 in ids.shape or not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(f"ids must be integers [b, t], not empty, got {ids.dtype} {ids.shape}.")
    batch, length = ids.shape
    if lengths is None and length > PIECE:
        lengths = np.full(batch, length, np.int32)
    if lengths is not None:
        lengths = _checked_lengths(lengths, ids)
        ids = jnp.where(jnp.arange(length) < lengths[:, None], ids, 0)
    _check_room(model, length if lengths is None else lengths)
    _check_ids(model, ids)
    state = model.initial_state(batch)
    if lengths is None or length <= PIECE:
        return _read(model, variables, ids, state, lengths)
    ids = jnp.pad(ids, [(0, 0), (0, -length % PIECE)])
    logits = jnp.zeros((batch, model.config.vocab_size))
    for start in range(0, length, PIECE):
        inside = jnp.clip(lengths - start, 0, PIECE)
        found, state = _read(model, variables, ids[:, start : start + PIECE], state, inside)
        # A row that ended in an earlier piece keeps its logits; its state does not change.
        logits = jnp.where((inside > 0)[:, None], found, logits)
    return logits, state


def decode_step(
    model: LanguageModel, variables: Any, ids: TokenIds, state: Any
) -> tuple[ClassScores, Any]:
    """Reads one id of each row, int [b], and returns the logits [b, V] of the next one and the state after it.

    Raises:
        ValueError: if a shape or an id that is known does not fit, or the state is of another model or batch.
    """
    ids = jnp.asarray(ids)
    if ids.ndim != 1:
        raise ValueError(f"ids must be [b], one of each row, got shape {ids.shape}.")
    apply: Any = model.apply
    return apply(variables, ids[:, None], state, method="extend_last")


def sample_logits(
    logits: ClassScores,
    key: Any,
    temperature: float | int = 1.0,
    top_k: int | None = None,
    top_p: float | int | None = None,
    min_p: float | int | None = None,
) -> TokenIds:
    """Draws ids [*b] from softmax(logits / temperature), after these filters in this order:

        top_k keeps the k most probable ids;
        top_p keeps, of those, the fewest most probable ones whose probabilities sum to top_p or more;
        min_p keeps, of those, the ids at least min_p times as probable as the most probable one.

    What is kept is drawn in proportion to its probability. Of equally probable ids, top_k and top_p take the smaller
    id first.

    Args:
        logits: real [*b, V].
        key: of `jax.random`.
        temperature: 0 (or less than the smallest normal float32) takes the most probable id, the smallest of equals.
        top_k: 1 or more; None, or V and more, keeps all.
        top_p, min_p: in (0, 1]; None keeps all.
    Raises:
        ValueError: if an option is out of its range or logits are not real [..., V].
    References:
        Holtzman et al., The Curious Case of Neural Text Degeneration, arXiv:1904.09751 (top_p).
        Nguyen et al., Turning Up the Heat: Min-p Sampling, arXiv:2407.01082.

    >>> import jax, jax.numpy as jnp
    >>> sample_logits(jnp.array([0.1, 0.7, 0.3]), jax.random.key(0), temperature=0)
    Array(1, dtype=int32)
    """
    _check_options(_Options(temperature, top_k, top_p, min_p))
    logits = jnp.asarray(logits)
    if logits.ndim < 1 or not logits.shape[-1] or not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(f"logits must be real [..., V], got {logits.dtype} {logits.shape}.")
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if temperature < np.finfo(np.float32).tiny:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    # The largest becomes 0: a low temperature cannot overflow.
    scores, order = (logits - jnp.max(logits, axis=-1, keepdims=True)) / temperature, None
    if top_k is not None or top_p is not None:
        count = scores.shape[-1]
        scores, order = jax.lax.top_k(scores, count if top_k is None else min(top_k, count))
    kept = jnp.ones(scores.shape, bool)
    if top_p is not None and top_p < 1:  # at 1 rounding of the sum would drop the last ones
        probabilities = jax.nn.softmax(scores, axis=-1)
        kept = jnp.cumsum(probabilities, axis=-1) - probabilities < top_p
    if min_p is not None:
        kept &= scores >= np.log(min_p)
    chosen = jax.random.categorical(key, jnp.where(kept, scores, -jnp.inf))
    if order is not None:
        chosen = jnp.take_along_axis(order, chosen[..., None], axis=-1)[..., 0]
    return chosen.astype(jnp.int32)


def generate(
    model: LanguageModel,
    variables: Any,
    prompts: Array | Sequence[Any],
    max_new_tokens: int,
    *,
    lengths: Any = None,
    temperature: float | int = 1.0,
    top_k: int | None = None,
    top_p: float | int | None = None,
    min_p: float | int | None = None,
    stop: Iterable[int] = (),
    seed: Any = 0,
) -> Generated:
    """Writes up to max_new_tokens ids behind each prompt, in one compiled loop that ends when all rows have stopped.

    Row r draws its i-th id with the key fold_in(fold_in(key, r), i): but for rounding, its text does not depend on the
    other rows. Compiles once for each batch size, max_new_tokens and set of options, and once more for each power of
    two of prompt lengths.

    Args:
        model, variables: as in `prefill`.
        prompts: a list of int [t_r], or int [b, t] padded on the right.
        max_new_tokens: n, 1 or more.
        lengths: int [b], of prompts [b, t]; None is t.
        temperature, top_k, top_p, min_p: as in `sample_logits`.
        stop: ids after which a row ends.
        seed: an integer, or a key of `jax.random`.
    Raises:
        ValueError: if a prompt is empty, has ids that are none of the model's, or with max_new_tokens exceeds
            max_length (attention; resonance has no limit), or an option is out of its range.
    """
    options = _Options(temperature, top_k, top_p, min_p, tuple(int(i) for i in stop))
    ids, lengths = _pack(model, prompts, lengths)
    _check_request(model, options, lengths, max_new_tokens)
    logits, state = prefill(model, variables, ids, lengths)
    carry = _Carry(logits, state, jnp.zeros(len(lengths), bool))
    keys = _row_keys(seed, len(lengths))
    written, carry = _write(model, options, max_new_tokens, variables, keys, carry)
    return Generated(written, jnp.sum(written != PADDING, axis=1), carry.stopped)


def stream(
    model: LanguageModel,
    variables: Any,
    prompt: Any,
    max_new_tokens: int,
    *,
    temperature: float | int = 1.0,
    top_k: int | None = None,
    top_p: float | int | None = None,
    min_p: float | int | None = None,
    stop: Iterable[int] = (),
    seed: Any = 0,
) -> Iterator[np.ndarray]:
    """Yields what `generate` writes behind one prompt, int [t], as int arrays of up to `STREAM_STEPS` ids.

    Arguments and errors as in `generate`; errors are raised at once, not at the first id.
    """
    options = _Options(temperature, top_k, top_p, min_p, tuple(int(i) for i in stop))
    ids, lengths = _pack(model, [prompt], None)
    _check_request(model, options, lengths, max_new_tokens)
    keys = _row_keys(seed, 1)

    def pieces():
        carry = _Carry(*prefill(model, variables, ids, lengths), jnp.zeros(1, bool))
        for start in range(0, max_new_tokens, STREAM_STEPS):
            written, carry = _write_some(model, options, variables, keys, start, carry)
            # The last piece may have more steps than were asked for.
            row = np.asarray(written)[: max_new_tokens - start, 0]
            yield row[row != PADDING]
            if carry.stopped[0]:
                return

    return pieces()


@functools.partial(jax.jit, static_argnums=0)
def _read(model, variables, ids, state, lengths):
    return model.apply(variables, ids, state, lengths, method="extend_last")


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=5)
def _write(model, options: _Options, count: int, variables, keys, carry: _Carry):
    """Ids [b, count]."""

    def unfinished(loop):
        step, _, carry = loop
        return (step < count) & ~jnp.all(carry.stopped)

    def choose(loop):
        step, written, carry = loop
        ids, carry = _choose(model, options, variables, keys, step, carry)
        return step + 1, written.at[:, step].set(ids), carry

    written = jnp.full((len(carry.stopped), count), PADDING, jnp.int32)
    _, written, carry = jax.lax.while_loop(unfinished, choose, (0, written, carry))
    return written, carry


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=5)
def _write_some(model, options: _Options, variables, keys, start, carry: _Carry):
    """Ids [STREAM_STEPS, b]."""

    def choose(carry, step):
        ids, carry = _choose(model, options, variables, keys, step, carry)
        return carry, ids

    carry, written = jax.lax.scan(choose, carry, start + jnp.arange(STREAM_STEPS))
    return written, carry


def _choose(model, options: _Options, variables, keys, step, carry: _Carry):
    """Draws one id of each row, and reads it."""
    temperature, top_k, top_p, min_p, stop = options

    def draw(logits, key):
        key = jax.random.fold_in(key, step)
        return sample_logits(logits, key, temperature, top_k, top_p, min_p)

    ids = jax.vmap(draw)(carry.logits, keys)
    written = jnp.where(carry.stopped, PADDING, ids)
    stopped = carry.stopped | jnp.isin(ids, jnp.array(stop, ids.dtype))
    logits, state = decode_step(model, variables, ids, carry.state)
    return written, _Carry(logits, state, stopped)


def _row_keys(seed, rows: int):
    is_key = jnp.issubdtype(jnp.result_type(seed), jax.dtypes.prng_key) or jnp.ndim(seed)
    key = seed if is_key else jax.random.key(seed)
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(rows))


def _pack(model, prompts, lengths) -> tuple[np.ndarray, np.ndarray]:
    """Ids [b, t], t a power of two or more than a piece, padded with 0, and lengths [b]; in host memory."""
    if getattr(prompts, "ndim", None) == 2:
        table = np.asarray(prompts)
        ends = np.full(len(table), table.shape[1]) if lengths is None else np.asarray(lengths)
        check_shape("lengths", ends, (len(table),))
        if not np.issubdtype(ends.dtype, np.integer) or np.any(
            (ends < 1) | (ends > table.shape[1])
        ):
            raise ValueError(f"lengths must be integers in 1 .. {table.shape[1]}, got {ends}.")
        rows = [row[:end] for row, end in zip(table, ends, strict=True)]
    elif lengths is not None:
        raise ValueError("lengths go with prompts [b, t]; prompts in a list have their own.")
    else:
        rows = [np.asarray(row) for row in prompts]
    if not rows:
        raise ValueError("prompts hold no row; give at least one.")
    for index, row in enumerate(rows):
        if row.ndim != 1 or not len(row):
            raise ValueError(
                f"prompt {index} must be integers [t] with t >= 1, got shape {row.shape}; an empty prompt says "
                "nothing to go on from: begin with a space or the id that separates documents."
            )
        if not np.issubdtype(row.dtype, np.integer):
            raise ValueError(f"prompt {index} must be integers, got {row.dtype}; tokenize it.")
        _check_ids(model, row)
    ends = np.array([len(row) for row in rows], np.int32)
    longest = int(ends.max())
    width = longest if longest > PIECE else max(16, 1 << (longest - 1).bit_length())
    ids = np.zeros((len(rows), width), np.int32)
    for row, prompt in zip(ids, rows, strict=True):
        row[: len(prompt)] = prompt
    return ids, ends


def _checked_lengths(lengths, ids):
    lengths = check_lengths(jnp.asarray(lengths), ids.shape[:1], ids.shape[1])
    if is_concrete(lengths) and int(jnp.min(lengths)) < 1:
        raise ValueError("lengths must be 1 or more: leave empty prompts out.")
    return lengths


def _check_ids(model, ids) -> None:
    if not is_concrete(ids):
        return
    low, high = int(np.min(np.asarray(ids))), int(np.max(np.asarray(ids)))
    if low < 0 or high >= model.config.vocab_size:
        raise ValueError(
            f"ids must lie in 0 .. {model.config.vocab_size - 1}, got {low} .. {high}: another tokenizer?"
        )


def _check_room(model, lengths, more: int = 0) -> None:
    config = model.config
    limited = config.mixer == "attention" and len(config.memory_layers) < config.num_layers
    if not limited or not is_concrete(lengths):
        return
    longest = int(np.max(np.asarray(lengths)))
    if longest + more > config.max_length:
        raise ValueError(
            f"attention holds max_length = {config.max_length} steps, got a prompt of {longest}"
            + (f" and max_new_tokens = {more}" if more else "")
            + "; shorten it, or give the config a larger max_length (no parameter depends on it)."
        )


def _check_request(model, options: _Options, lengths, max_new_tokens: int) -> None:
    _check_options(options)
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}.")
    if options.stop:
        _check_ids(model, np.array(options.stop))
    _check_room(model, lengths, max_new_tokens)


def _check_options(options: _Options) -> None:
    if not 0 <= options.temperature < np.inf:
        raise ValueError(
            f"temperature must be finite and not negative (0 takes the most probable id), got {options.temperature}."
        )
    if options.top_k is not None and options.top_k < 1:
        raise ValueError(f"top_k must be at least 1 or None, got {options.top_k}.")
    for name in ("top_p", "min_p"):
        share = getattr(options, name)
        if share is not None and not 0 < share <= 1:
            raise ValueError(f"{name} must lie in (0, 1] or be None, got {share}.")
