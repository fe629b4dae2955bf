# Commands for developers. On a clean clone, `make test` needs only Python 3.11 or newer and git.

PYTHON ?= python3
CLIENT_VERSION := 2.1.332
# The oldest supported client: `OLDEST` in orchestrator/client/claude/probe.py.
CLIENT_OLDEST := 2.1.257
# Most tests wait for child processes, so there are more workers than cores.
WORKERS ?= 6
# Each worker gets a part of the list of tests, so that few workers make the same things for a module.
DIST := worksteal
# Seconds for which `make crash` plays random stories against the reference model.
MODEL_SECONDS ?= 600
# `make chaos`: no storm begins after these seconds; the seed replays the same storms.
SECONDS ?= 600
SEED ?=
# `make faults`: parts of names of files or tests; all faults without them.
NAMES ?=
# One or more files, as in `make test TESTS=tests/test_planner.py`.
TESTS ?=

BIN := .venv/bin
CLIENT := .client
CLIENT_READY = $(CLIENT)/installed-$(CLIENT_VERSION)

# The user's own settings must not affect the tests or the start-up figures.
unexport $(filter-out PYTHON,$(filter PYTHON%,$(.VARIABLES)))

.DEFAULT_GOAL := help
.PHONY: help test slow lint templates format pictures bench crash chaos faults client client-oldest client-latest clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

test: lint client .venv/.collected ## lint, types and all tests, with the real client if npm is installed
	@$(BIN)/python -m pytest -q -m "not crash and not slow" --numprocesses $(WORKERS) \
	  --dist $(DIST) $(TESTS) || { code=$$?; \
	test $$code -eq 1 || exit $$code; \
	echo "These tests failed in parallel. Running each again alone: a test that passes now is flaky; fix it." >&2; \
	$(BIN)/python -m pytest -q -m "not crash and not slow" --last-failed --last-failed-no-failures none $(TESTS); }

slow: .venv/.made client ## what `make test` leaves out, and property tests with more examples
	$(BIN)/python -m pytest -q -m "(slow or hypothesis) and not crash" --hypothesis-profile thorough \
	  --numprocesses $(WORKERS) --dist $(DIST)

lint: .venv/.made ## check with ruff, its formatter and mypy; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

templates: .venv/.made ## translate the shipped templates into Python, after a change of one
	cd tests && ../$(BIN)/python compile_templates.py

format: .venv/.made ## let ruff format and fix what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

pictures: .venv/.made ## the pictures of the documents, from a running demonstration; needs tmux, chromium
	$(BIN)/python tests/pictures.py

bench: .venv/.made ## measure, compared with the bare interpreter and SQLite
	$(BIN)/python -m benchmarks

crash: .venv/.made ## kill at every call that changes something, a storm, random stories; slow
	$(BIN)/python -m pytest -q --numprocesses $(WORKERS) -m crash tests/test_crash.py
	$(BIN)/python -m pytest -q --numprocesses $(WORKERS) -m "crash or slow" tests/test_hosts_that_fail.py \
	  tests/test_hosts_for_minutes.py
	$(BIN)/python -m pytest -q -s -m crash tests/test_storm.py
	MODEL_SECONDS=$(MODEL_SECONDS) $(BIN)/python -m pytest -q -m crash tests/test_model.py

chaos: .venv/.made ## storms of faults and people's deeds, with a checker (SECONDS=600 SEED=...)
	@cd tests && ../$(BIN)/python -m chaos --seconds '$(SECONDS)' --seed '$(SEED)'

faults: .venv/.made client ## play faults of the product, which the tests named beside them must find; slow
	@$(BIN)/python tests/play_faults.py $(NAMES)

client-oldest: .venv/.made ## the contract of a client, with the oldest supported client
	@$(MAKE) --no-print-directory client CLIENT=.client-oldest CLIENT_VERSION=$(CLIENT_OLDEST)
	@CLIENT_FOLDER=$(CURDIR)/.client-oldest $(BIN)/python -m pytest -q -m "client and not slow" \
	  --numprocesses $(WORKERS) tests/test_client_contract.py

client-latest: .venv/.made client ## what differs in npm's newest client, and all client tests with it
	@rm -f .client-latest/installed-latest
	@$(MAKE) --no-print-directory client CLIENT=.client-latest CLIENT_VERSION=latest
	@$(BIN)/python tests/client_differences.py .client .client-latest
	@CLIENT_FOLDER=$(CURDIR)/.client-latest $(BIN)/python -m pytest -q -m client --numprocesses $(WORKERS)

clean: ## remove everything that make and the tools created here
	rm -rf .venv .client .client-oldest .client-latest build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.made: pyproject.toml requirements.lock requirements-web.lock requirements-otel.lock requirements-postgresql.lock requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is missing or older than 3.11: choose another Python, as in 'make test PYTHON=python3.12'" >&2; \
		exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# The first collection compiles all tests (8 s of the processor): not in each worker at the same time.
.venv/.collected: .venv/.made
	@$(BIN)/python -m pytest --collect-only -qq >.venv/collected 2>&1 || true
	@touch $@

# A missing client is no failure on a developer's machine: the tests that need it are skipped by name.
client:
	@if [ -e $(CLIENT_READY) ]; then exit 0; fi; \
	if ! command -v npm >/dev/null 2>&1; then why="npm is not on PATH"; \
	elif npm install --silent --no-audit --no-fund --prefix $(CLIENT) @anthropic-ai/claude-code@$(CLIENT_VERSION) \
		&& HOME="$(CURDIR)/$(CLIENT)/home" DISABLE_AUTOUPDATER=1 $(CLIENT)/node_modules/.bin/claude --version >/dev/null; \
	then touch $(CLIENT_READY); exit 0; \
	else why="npm could not install it"; fi; \
	echo "The real Claude Code client is missing ($$why): the tests that need it will be skipped." >&2; \
	if [ "$$CI" = true ]; then echo "With CI=true that is an error." >&2; exit 1; fi
