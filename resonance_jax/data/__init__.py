"""Readers and iterators that yield NumPy batches; nothing here imports JAX."""
