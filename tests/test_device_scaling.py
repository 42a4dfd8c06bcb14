"""What the experiment on numbers of devices counts; its training of one device, and its traced steps on two."""

import dataclasses

import numpy as np
import pytest

from experiments import device_scaling

TEXT = """
  %a = f32[10,2]{1,0} all-reduce(%x), channel_id=1
  %b = (f32[3]{0}, c64[4]{0}) all-reduce-start(%y, %z), channel_id=2
  %c = f32[8]{0} all-gather(%x), dimensions={0}
  %d = bf16[8]{0} collective-permute(%x)
  %e = f32[2]{0} reduce-scatter(%x)
  %f = f32[2]{0} add(%e, %e)
"""


def test_what_is_sent_is_that_of_rings():
    found = device_scaling.count_sent(TEXT, 4)
    assert found == {
        "all-reduce": {"count": 2, "bytes": round(1.5 * 80) + round(1.5 * 44)},
        "all-gather": {"count": 1, "bytes": 24},
        "collective-permute": {"count": 1, "bytes": 16},
        "reduce-scatter": {"count": 1, "bytes": 24},
    }
    assert device_scaling.count_sent("%f = f32[2]{0} add(%e, %e)", 4) == {}


@pytest.mark.parametrize("kind", ["jit", *device_scaling.SEQUENCES])
def test_one_device_sends_nothing_and_more_send_the_gradients_at_least(kind):
    assert device_scaling.least_sent(kind, 1000, 1) == 0
    assert device_scaling.least_sent(kind, 1000, 4) >= 6000
    assert (device_scaling.least_sent(kind, 1000, 4) == 6000) == (kind == "jit")


def test_a_training_in_small(quick_compile, monkeypatch):
    monkeypatch.setattr(device_scaling, "STEPS", 2)
    small = dataclasses.replace(device_scaling.ROWS, hidden_dim=4, num_layers=1, mlp_dim=0)
    monkeypatch.setattr(device_scaling, "ROWS", small)
    row, params = device_scaling.measure("shard_map", 1, device_scaling.one_device())
    assert row["apart"] < 1e-6 and row["sent"] == row["least"] == 0
    assert all(np.isfinite(leaf).all() for leaf in params)
    assert "shard_map" in device_scaling.describe(row)
