"""Flax modules: each declares its parameters and calls one op."""
