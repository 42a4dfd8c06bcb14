"""A signal is noticed once; the same wish twice is one, and a later one ends the process as ever."""

import signal

import pytest

from resonance_jax.training import signals
from resonance_jax.training.signals import noticed_signals


def test_a_signal_that_comes_twice_within_a_second_is_one():
    with noticed_signals() as flag:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert flag.received == signal.SIGTERM


def test_a_later_one_ends_the_process_as_ever(monkeypatch):
    monkeypatch.setattr(signals, "ONE_WISH", -1.0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which nohup ignores
    with pytest.raises(KeyboardInterrupt), noticed_signals() as flag:
        signal.raise_signal(signal.SIGINT)
        assert flag.received == signal.SIGINT
        signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)
