# Each target creates its virtual environment first. It needs only Python 3.11 or newer.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
READY   = $(VENV)/.ready

FUZZ_SECONDS ?= 600
FUZZ_TARGETS ?= lines segment canonical index pack cursor events
LOCK_EXTRAS   = dev bench docs extract formats arrow postgres dev-server objects openlineage fuzz

# The exact versions of all development dependencies. Without a lock (`make LOCK=`), pip installs the newest ones.
LOCK    ?= requirements-dev.lock
INSTALL  = -m pip install --quiet --disable-pip-version-check $(LOCK:%=--constraint %)

.PHONY: demo demo-hosts picture test test-slow test-all lint docs dist lock bench bench-full fuzz clean

$(READY): pyproject.toml $(LOCK)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) --editable '.[dev,bench,extract,formats,arrow,objects,openlineage]'
	@touch $@

demo: $(READY)
	@BIN=$(BIN) sh docs/demo.sh

demo-hosts: $(READY)
	@BIN=$(BIN) sh docs/demo_hosts.sh

# Draw the terminal picture of the README from the output of the commands that it shows.
picture: $(READY)
	$(BIN)/python docs/picture.py

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# A worker gets all tests of a file, except those of the simulation, which fill the gaps (tests/conftest.py).
# Three workers for two cores: a quarter of the time is waiting for disks, servers and killed processes.
test: lint
	$(BIN)/python -m pytest -n 3 --dist loadfile

test-slow: lint
	$(BIN)/python -m pytest -m "slow or not slow" -n 3 --dist loadfile

$(VENV)-docs/.ready: pyproject.toml $(LOCK)
	$(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/bin/python $(INSTALL) --editable '.[docs]'
	@touch $@

# Build the documentation site in site/. A warning fails it: a broken link, or a page missing from the menu.
docs: $(VENV)-docs/.ready
	NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build --strict --site-dir site

# Build the sdist, and the wheel from it, in dist/.
dist: $(READY)
	rm -rf dist
	$(BIN)/python -m build --outdir dist

# Rewrite the lock file with the newest versions that pyproject.toml allows.
lock:
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8'
	$(VENV)-lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-emit-index-url \
	    --custom-compile-command 'make lock' $(LOCK_EXTRAS:%=--extra %) pyproject.toml --output-file requirements-dev.lock

# Run `make test` with every interpreter on the machine, each in its own environment.
test-all:
	@sh tests/all_pythons.sh

$(VENV)-fuzz/.ready: pyproject.toml $(LOCK)
	$(PYTHON) -m venv $(VENV)-fuzz
	$(VENV)-fuzz/bin/python $(INSTALL) --editable '.[fuzz]'
	@touch $@

# Fuzz each target for FUZZ_SECONDS, then minimise its corpus. A finding stops the run and stays in .fuzz/TARGET/.
fuzz: $(VENV)-fuzz/.ready
	@PYTHON=$(VENV)-fuzz/bin/python SECONDS_EACH=$(FUZZ_SECONDS) sh tests/fuzz/fuzz.sh $(FUZZ_TARGETS)

bench: $(READY)
	$(BIN)/python -m benchmarks

bench-full: $(READY)
	$(BIN)/python -m benchmarks --full --json benchmarks/results.json
	$(BIN)/python -m benchmarks.plots benchmarks/results.json

clean:
	rm -rf $(VENV) .venv-* .fuzz .demo dist build site .mypy_cache .ruff_cache .pytest_cache .hypothesis
