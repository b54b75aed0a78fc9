# All verbs of the house. `make book` and `make test` set up what they need, on a machine with Python 3.11 or 3.12, make and git.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

COHORT ?= simulated
PRESET ?= demo
PAGES ?=
MIRROR ?=
JOBS ?= 1
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-stamp
BENCH_STAMP := $(VENV)/.bench-stamp
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help setup book notebooks test lint format bench stress clean

help: ## show this
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10
	@echo
	@echo "make book COHORT=her2st MIRROR=../shared/data PAGES=01,03,07    PRESET=demo|gpu|paper    JOBS=pages at a time"

setup: $(STAMP) ## make the environment in .venv

$(STAMP): pyproject.toml constraints.txt
	@if ! test -x $(BIN)/python; then \
	  for candidate in python3.11 python3.12 python3 python; do \
	    if $$candidate -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then \
	      echo "environment: $$($$candidate --version) in $(VENV)"; $$candidate -m venv $(VENV); break; \
	    fi; \
	  done; \
	fi
	@test -x $(BIN)/python || { echo "needs Python 3.11 or 3.12 with venv; none was found" >&2; exit 2; }
	$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

$(BENCH_STAMP): $(STAMP)
	$(PIP) install --quiet -c constraints.txt -e '.[dev,bench]'
	@touch $@

book: $(STAMP) ## run the pages, render the book, print where it is
	$(BIN)/rnasynth book --cohort '$(COHORT)' --preset '$(PRESET)' --jobs $(JOBS) \
	  $(if $(PAGES),--pages '$(PAGES)') $(if $(MIRROR),--mirror '$(MIRROR)')

notebooks: $(STAMP) ## write the pages as .ipynb into build/notebooks, for papermill or Jupyter
	$(BIN)/rnasynth notebooks --out build/notebooks

test: $(STAMP) ## run the tests, but for the crash storms and the browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m 'not stress and not browser'

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## let ruff format and mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(BENCH_STAMP) ## speed and memory beside the named alternatives
	$(BIN)/python -m benchmarks

stress: $(STAMP) ## hundreds of injected crashes and kills
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -m stress

clean: ## remove what was built; fetched data and runs stay
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find rnasynth tests book benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
