"""Whole models, each a module with a frozen configuration."""
