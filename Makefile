# Everything here makes its own virtual environment first; nothing else is needed but Python 3.11 or newer.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
READY   = $(VENV)/.ready

FUZZ_SECONDS ?= 600
FUZZ_TARGETS ?= lines segment canonical index

.PHONY: demo test test-slow test-all lint bench bench-full wheel-test fuzz clean

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench,extract,formats]'
	@touch $@

demo: $(READY)
	@BIN=$(BIN) sh docs/demo.sh

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Files go to a worker as a whole, the simulation's tests one by one: they fill the gaps (tests/conftest.py).
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: lint
	$(BIN)/python -m pytest -m "slow or not slow" -n 2 --dist loadfile

# Every interpreter found on the machine, each with an environment of its own.
test-all:
	@sh tests/all_pythons.sh

$(VENV)-fuzz/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)-fuzz
	$(VENV)-fuzz/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	@touch $@

# Each target for FUZZ_SECONDS, then its corpus is made small again. A find stops it, and stays in .fuzz/TARGET/.
fuzz: $(VENV)-fuzz/.ready
	@PYTHON=$(VENV)-fuzz/bin/python SECONDS_EACH=$(FUZZ_SECONDS) sh tests/fuzz/fuzz.sh $(FUZZ_TARGETS)

bench: $(READY)
	$(BIN)/python -m benchmarks

bench-full: $(READY)
	$(BIN)/python -m benchmarks --full --json benchmarks/results.json
	$(BIN)/python -m benchmarks.plots benchmarks/results.json

clean:
	rm -rf $(VENV) .venv-* .fuzz .demo dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
