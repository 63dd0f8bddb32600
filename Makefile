PY ?= /work/venv/bin/python
check:
	$(PY) -m ruff format --check . && $(PY) -m ruff check . && PYTHONPATH=. $(PY) -m mypy && PYTHONPATH=. $(dir $(PY))lint-imports
fix:
	$(PY) -m ruff format . && $(PY) -m ruff check --fix .
