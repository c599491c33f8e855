# Every target does its own set-up; nothing has to be installed by hand. `make help` tells what there is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
COMFYUI := workspace/ComfyUI
OBJECT_STORE := workspace/object-store
CLIENTS := workspace/clients
RUNPOD := workspace/runpod
VASTAI := workspace/vastai
NPM := PATH="$(CURDIR)/$(OBJECT_STORE)/.venv/bin:$$PATH" npm --loglevel=error --ignore-scripts --no-audit --no-fund

# What `make image` and `make deploy` build, and what it is called.
VARIANT ?= base
NAME ?= comfyworker
IMAGE_OPTIONS = $(if $(TAG),--tag '$(TAG)') $(if $(DRY_RUN),--dry-run)

# Some images set this; hundreds of the tests' processes would each compile every module again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup comfyui object-store clients runpod vastai demo test bench check docs docs-check format lock
.PHONY: image deploy clean-root image-check hooks

help: ## Show this list
	@awk -F ':.*## ' '/^##@ / {printf "\n%s:\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / && $$1 != "help" {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Run it

demo: comfyui ## Run two example workflows on a real ComfyUI; their pictures end up in out/
	$(BIN)/comfyworker run examples/mountains.json --output out
	$(BIN)/comfyworker run examples/poster.json --image input.png=examples/input.png --output out
	@printf '\nThe pictures are in %s/out\n' '$(CURDIR)'

image: setup ## Build the image (VARIANT=base, NAME=, TAG=, DRY_RUN=1); needs Docker
	$(BIN)/python -m tools.image build $(VARIANT) --name $(NAME) $(IMAGE_OPTIONS)

deploy: setup ## Build and push it (NAME=docker.io/me/comfyworker), and make a RunPod endpoint (ENDPOINT=)
	$(BIN)/python -m tools.image deploy $(VARIANT) --name $(NAME) --endpoint '$(ENDPOINT)' $(IMAGE_OPTIONS)

##@ Change it

setup: $(VENV)/.ready ## Make the worker's own environment (.venv)

$(VENV)/.ready: requirements/dev.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements/dev.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

hooks: setup ## Have git run the quick checks at each commit
	$(BIN)/pre-commit install

format: setup ## Put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## Write the docs that come from the code
	$(BIN)/python -m tools.make_docs

check: setup docs-check image-check ## Linters, types, import contracts and the generated docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml

test: setup comfyui object-store clients runpod vastai ## All tests, on a real ComfyUI and a real object store
	$(BIN)/pytest -n 4 --dist loadscope

clean-root: setup comfyui ## Run the image's steps in an empty Debian; as root, with debootstrap, some minutes
	COMFYWORKER_CLEAN_ROOT=1 $(BIN)/pytest tests/acceptance/container/test_clean_root.py

bench: comfyui object-store runpod ## Measure what the worker adds to ComfyUI, against its budgets (BENCH='--only added' for a part)
	$(BIN)/python -m benchmarks $(BENCH)

lock: setup object-store ## Pin the newest versions that pyproject.toml allows
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --upgrade --no-emit-index-url \
		--python-version 3.11 --custom-compile-command 'make lock' pyproject.toml -o requirements/worker.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --upgrade --no-emit-index-url \
		--python-version 3.11 --custom-compile-command 'make lock' pyproject.toml --group dev -o requirements/dev.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --upgrade --no-emit-index-url \
		--python-version 3.11 --custom-compile-command 'make lock' requirements/object-store.in \
		-o requirements/object-store.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --upgrade --no-emit-index-url \
		--python-version 3.11 --custom-compile-command 'make lock' requirements/clients.in \
		-o requirements/clients.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --upgrade --no-emit-index-url \
		--python-version 3.11 --custom-compile-command 'make lock' pyproject.toml --extra runpod \
		-o requirements/runpod.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --upgrade --no-emit-index-url \
		--python-version 3.11 --custom-compile-command 'make lock' requirements/vastai.in \
		-o requirements/vastai.lock
	$(BIN)/uv pip compile --quiet --generate-hashes --upgrade --no-emit-index-url \
		--python-version 3.12 --python-platform x86_64-manylinux_2_28 --custom-compile-command 'make lock' \
		requirements/comfyui.in -o requirements/comfyui.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --upgrade --no-emit-index-url \
		--python-version 3.11 --custom-compile-command 'make lock' requirements/jupyter.in \
		-o requirements/jupyter.lock
	cd requirements/azurite && $(NPM) update --package-lock-only --omit-lockfile-registry-resolved

##@ Parts of these, which they make themselves

# The install's own note is the stamp. COMFYUI_PATH names a ComfyUI that is there already.
ifdef COMFYUI_PATH
comfyui: setup
else
comfyui: $(COMFYUI)/.comfyworker-install.json ## Make a ComfyUI in workspace/, if there is none
endif

$(COMFYUI)/.comfyworker-install.json: | $(VENV)/.ready
	$(BIN)/comfyworker comfyui install --path $(COMFYUI)

object-store: $(OBJECT_STORE)/.ready ## Make the stores that the tests start: S3 (OpenStack Swift), Azure Blob (Azurite)

# Azurite is on npm only; Node.js and npm come from PyPI with the rest.
$(OBJECT_STORE)/.ready: requirements/object-store.lock requirements/azurite/package-lock.json
	$(PYTHON) -m venv --clear $(OBJECT_STORE)/.venv
	$(OBJECT_STORE)/.venv/bin/pip install --quiet --require-hashes -r requirements/object-store.lock
	cp requirements/azurite/package.json requirements/azurite/package-lock.json $(OBJECT_STORE)/
	cd $(OBJECT_STORE) && $(NPM) ci
	@touch $@

clients: $(CLIENTS)/.ready ## Make an environment with the client libraries that the tests call the worker with

$(CLIENTS)/.ready: requirements/clients.lock
	$(PYTHON) -m venv --clear $(CLIENTS)/.venv
	$(CLIENTS)/.venv/bin/pip install --quiet --require-hashes -r requirements/clients.lock
	@touch $@

runpod: $(RUNPOD)/.ready ## Make an environment with the worker and RunPod's SDK, as an image for RunPod has it

$(RUNPOD)/.ready: requirements/runpod.lock pyproject.toml
	$(PYTHON) -m venv --clear $(RUNPOD)/.venv
	$(RUNPOD)/.venv/bin/pip install --quiet --require-hashes -r requirements/runpod.lock
	$(RUNPOD)/.venv/bin/pip install --quiet --no-deps -e .
	@touch $@

vastai: $(VASTAI)/.ready ## Make an environment with Vast's SDK, which the tests compare the worker with

$(VASTAI)/.ready: requirements/vastai.lock
	$(PYTHON) -m venv --clear $(VASTAI)/.venv
	$(VASTAI)/.venv/bin/pip install --quiet --require-hashes -r requirements/vastai.lock
	@touch $@

docs-check: setup ## Tell whether those docs are as the code has them
	$(BIN)/python -m tools.make_docs --check

image-check: setup ## Linters of what the image is made of
	$(BIN)/hadolint Dockerfile
	$(BIN)/shellcheck docker/*.sh .ci/run
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml
