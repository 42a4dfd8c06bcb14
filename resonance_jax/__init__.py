"""Frequency-domain sequence models in JAX.

Import by path:
  resonance_jax.ops       pure functions of arrays: fourier, polar, resonance
  resonance_jax.layers    Flax modules: resonance, block, initializers
  resonance_jax.models    whole models and their baselines, each with a frozen config
  resonance_jax.data      readers and iterators that yield NumPy batches
  resonance_jax.training  configuration, optimiser groups, train step, checkpoints, reports
  resonance_jax.claims    the ledger of the literature's claims: measured, decided, published
  resonance_jax.cli       the command line
"""

__version__ = "0.1.0"
