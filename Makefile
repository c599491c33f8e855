# Every target does its own set-up; nothing has to be installed by hand. `make help` tells what there is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
COMFYUI := workspace/ComfyUI

.DEFAULT_GOAL := help
.PHONY: help setup comfyui check format test lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## Make the worker's own environment (.venv)

$(VENV)/.ready: requirements/dev.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements/dev.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# The install's own note is the stamp. COMFYUI_PATH names a ComfyUI that is there already.
ifdef COMFYUI_PATH
comfyui: setup
else
comfyui: $(COMFYUI)/.comfyworker-install.json ## Make a ComfyUI in workspace/, if there is none
endif

$(COMFYUI)/.comfyworker-install.json: | $(VENV)/.ready
	$(BIN)/comfyworker comfyui install --path $(COMFYUI)

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
