"""Every public op shows how it is called; pytest's --doctest-modules runs what the docstrings show."""

import importlib
import inspect
import pkgutil

import pytest

import resonance_jax.ops

NAMES = [m.name for m in pkgutil.iter_modules(resonance_jax.ops.__path__) if m.name[0] != "_"]


def public_functions(name: str):
    module = importlib.import_module(f"resonance_jax.ops.{name}")
    for function_name, value in inspect.getmembers(module, callable):
        if function_name[0] != "_" and getattr(value, "__module__", "") == module.__name__:
            yield function_name, value


@pytest.mark.parametrize("name", NAMES)
def test_every_public_op_has_a_doctest(name):
    functions = [(n, f) for n, f in public_functions(name) if not inspect.isclass(f)]
    assert functions
    assert [n for n, f in functions if ">>>" not in (inspect.getdoc(f) or "")] == []


def test_the_doctests_are_collected(pytestconfig):
    assert "--doctest-modules" in pytestconfig.getini("addopts")
    assert "resonance_jax" in pytestconfig.getini("testpaths")
