# Every target does its own set-up; nothing has to be installed by hand. `make help` tells what there is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup check format test lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## Make the worker's own environment (.venv)

$(VENV)/.ready: requirements/dev.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements/dev.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

check: setup ## Linters, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## Put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: setup ## Pin the newest versions that pyproject.toml allows
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --upgrade --no-emit-index-url \
		--python-version 3.11 --custom-compile-command 'make lock' pyproject.toml -o requirements/worker.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --upgrade --no-emit-index-url \
		--python-version 3.11 --custom-compile-command 'make lock' pyproject.toml --group dev -o requirements/dev.lock
