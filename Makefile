# What can be done here; `make help` lists it. Everything runs in .venv, made on first use.

PYTHON ?= python3
STORE ?= runs
BIN := .venv/bin
TORCH := $(shell grep '^torch==' requirements.lock)

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/installed  ## make .venv with the versions of requirements.lock

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet --constraint requirements.lock --editable '.[test]'
	$(BIN)/memorization-train --help >/dev/null  # the first asks the components, which takes seconds
	touch $@

run: install  ## the main experiment (faces) and its report: a few minutes
	$(BIN)/memorization-recover -m experiment=faces store=$(STORE)
	$(BIN)/memorization-report --store $(STORE)

smoke: install  ## the same path in seconds, in a store of its own that is made anew
	rm -rf $(STORE)-smoke
	$(BIN)/memorization-recover -m experiment=smoke tracking=none store=$(STORE)-smoke
	$(BIN)/memorization-report --store $(STORE)-smoke

SWEEP ?= experiment=faces

sweep: install  ## run a sweep, or what is missing of it: make sweep SWEEP='experiment=faces'
	$(BIN)/memorization-recover -m $(SWEEP) store=$(STORE)

plan: install  ## say what that sweep would do and what the store has, and do nothing
	$(BIN)/memorization-recover -m $(SWEEP) store=$(STORE) --plan

bench: install  ## what an iteration of each method costs, as a ratio to a pass through the autoencoder
	OMP_NUM_THREADS=1 $(BIN)/python experiments/benchmark/benchmark.py

report: install  ## the report on everything in the store
	$(BIN)/memorization-report --store $(STORE)

lint: style docs  ## style, spelling, rooms, types, and the documentation with its links
	$(BIN)/mypy

style: install
	$(BIN)/codespell
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

# Hundreds of processes import the same modules, which are compiled once, whatever the environment says of bytecode.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest -n 2 --dist worksteal

test: style chromium  ## lint, types and tests; the types beside the tests, and told after them
	types=$$(mktemp); $(BIN)/mypy >$$types 2>&1 & mypy=$$!; $(PYTEST); tests=$$?; \
	  wait $$mypy; wrong=$$?; cat $$types; rm $$types; exit $$((tests ? tests : wrong))

coverage: install  ## lines and branches that the unit tests reach
	$(PYTEST) -m unit --cov --cov-report=term:skip-covered

test-slurm: install  ## as root: start a SLURM of one node here, run sweeps on it (5 minutes), and take it down
	tests/slurm/cluster.sh up && $(BIN)/pytest tests/slurm -v; status=$$?; tests/slurm/cluster.sh down; exit $$status

test-models: .venv-models/installed  ## audit models of MONAI, diffusers and others in .venv-models, and write docs/models.md (3 minutes)
	.venv-models/bin/pytest tests/models -v --table docs/models.md

.venv-models/installed: requirements.lock pyproject.toml tests/models/packages.txt
	$(PYTHON) -m venv .venv-models
	.venv-models/bin/pip install --quiet $(TORCH)
	.venv-models/bin/pip install --quiet --constraint requirements.lock --editable . pytest
	.venv-models/bin/pip install --quiet --no-deps --requirement tests/models/packages.txt
	touch $@

docs: install  ## the documentation, into site/; a warning is an error
	OMP_NUM_THREADS=1 $(BIN)/python -m mkdocs build --strict

docs-serve: install  ## show the documentation, and what is changed in it
	OMP_NUM_THREADS=1 $(BIN)/python -m mkdocs serve

chromium:
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } \
	  || { echo "the browser tests need Chromium: install it as 'chromium'" >&2; exit 1; }

.PHONY: help install run smoke sweep plan bench report lint style test coverage test-slurm test-models docs docs-serve chromium
