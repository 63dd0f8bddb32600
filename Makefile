# make up     set up what kcluster needs, start three brokers
# make test   set up what the tests need, run all but what takes too long for every run
#
# Set-up goes into .venv and is done again when the lock file changes. PYTHON names the Python to
# make it with; PY uses an environment of your own instead, and sets nothing up.

VENV ?= .venv
ifdef PY
RUN_READY :=
TEST_READY :=
FUZZ_READY :=
else
PY := $(VENV)/bin/python
RUN_READY := setup
TEST_READY := setup-test
FUZZ_READY := setup-fuzz
endif
BIN = $(dir $(PY))

export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))

FUZZ_SECONDS ?= 60
MODEL_EXAMPLES ?= 1000

.PHONY: up setup setup-test setup-fuzz test check fix test-pure test-live test-long test-java test-node bench sim fuzz mutants screenshots lock

up: $(RUN_READY)
	@$(PY) -m kcluster.cli.main up --brokers 3

setup:
	@.ci/setup $(VENV) run

setup-test:
	@.ci/setup $(VENV) test

setup-fuzz:
	@.ci/setup $(VENV) fuzz

test: check test-pure test-live

# Never writes.
check: $(TEST_READY)
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(BIN)lint-imports --no-logo

fix: $(TEST_READY)
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

test-pure: $(TEST_READY)
	$(PY) -m pytest -n auto -m "not live and not java and not node"

# Of real processes, two files at a time: they wait more than they work. Those of a file share a
# cluster.
test-live: $(TEST_READY)
	$(PY) -m pytest -n 2 --dist loadfile -m "live and not long and not java and not node"

# What takes too long for every run, that is: all the ways in which disks fail.
test-long: $(TEST_READY)
	$(PY) -m pytest -n 0 -m "live and long"

test-java: $(TEST_READY)
	$(PY) -m pytest -n 0 -m "java"

# npm installs the clients into the user's cache, once for each list of versions.
test-node: $(TEST_READY)
	$(PY) -m pytest -n 0 -m "node"

bench: $(TEST_READY)
	$(PY) -m kcluster.cli.main bench produce

SEEDS ?= 1000
sim: $(RUN_READY)
	$(PY) -m kcluster.cli.main sim --seeds $(SEEDS)

# FUZZ_SECONDS of each target under atheris, then MODEL_EXAMPLES of each model. FUZZ_CORPUS, a
# directory, keeps what was learnt from run to run.
fuzz: $(FUZZ_READY)
	$(PY) -m tests.fuzz.run --seconds $(FUZZ_SECONDS) $(if $(FUZZ_CORPUS),--corpus $(FUZZ_CORPUS))
	MODEL_EXAMPLES=$(MODEL_EXAMPLES) $(PY) -m pytest -n 0 --timeout 0 $(wildcard tests/core/*/test_*_model.py)

# How many seeds it takes to notice each historical bug.
mutants: $(TEST_READY)
	$(PY) -m kcluster.sim.mutants

# Of the screen, of a real cluster: examples/screenshots/*.svg.
screenshots: $(RUN_READY)
	$(PY) examples/screenshots/make.py

# Writes requirements.lock from pyproject.toml.
lock:
	.ci/lock
