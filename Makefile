# Every target makes its own .venv, again whenever pyproject.toml changes.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo serve test tests types soak bench bundle lint docs clean

demo: .venv/demo.stamp
	$(BIN)/nexus-redis demo $(ARGS)

# The server with its page at http://127.0.0.1:8080, and a fleet to look at. Ctrl-C ends it.
serve: .venv/serve.stamp
	@$(BIN)/python -m tools.serve $(ARGS)

test: .venv/dev.stamp
	@$(BIN)/python -m tests.harness.matrix
	@$(MAKE) --no-print-directory -j 3 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target) lint types tests

# Beside one another: lint and types say at their end what they found, and the + lets the tests say it as they run.
# The tests start hundreds of processes, so what they import is compiled once, whatever the environment says of that.
tests: export PYTHONDONTWRITEBYTECODE =
tests: export PYTHONPYCACHEPREFIX = $(CURDIR)/.cache/compiled
tests: .venv/dev.stamp
	+$(BIN)/pytest -n 4 --dist loadgroup $(ARGS)

types: .venv/dev.stamp
	$(BIN)/mypy

soak: .venv/dev.stamp
	$(BIN)/pytest -m soak $(ARGS)

# With the peers in an environment of its own; rewrites docs/benchmarks.md unless it is told something else.
bench: .venv-bench/bench.stamp
	.venv-bench/bin/python -m benchmarks $(or $(ARGS),--page docs)

# What a server runs, made of the sources in lua/; a test makes it again and compares.
bundle: .venv/dev.stamp
	$(BIN)/python -m tools.bundle_lua

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Into site/, which a browser opens as it is; a warning is an error. `make test` builds it too.
docs: .venv/dev.stamp
	$(BIN)/zensical build --strict --clean

clean:
	rm -rf .venv .venv-bench .cache site .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cli,embedded]'
	@touch $@

.venv/serve.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cli,server,embedded]'
	@touch $@

.venv/dev.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

.venv-bench/bench.stamp: pyproject.toml benchmarks/requirements.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -e '.[cli,embedded]' -r benchmarks/requirements.txt
	@touch $@
