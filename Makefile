SHELL := /bin/bash
PY ?= /work/venv/bin/python
check:
	$(PY) -m ruff format --check . && $(PY) -m ruff check . && PYTHONPATH=. $(PY) -m mypy && PYTHONPATH=. $(dir $(PY))lint-imports --no-logo 2>&1 | tail -20; exit $${PIPESTATUS[0]}
fix:
	$(PY) -m ruff format . && $(PY) -m ruff check --fix .
