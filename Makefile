# Each target is one command on a fresh machine with Python >= 3.11: it makes .venv, installs
# what it needs from constraints.txt, and runs. pip's own settings (index, cache, proxy) hold.

.DEFAULT_GOAL := help
.PHONY: help demo test check bench docs

VENV ?= .venv
BIN := $(VENV)/bin
# Disk that an installation takes; PyTorch's CUDA build takes about 6 GB more.
FREE_GB ?= 3
# A versioned name may be a shim for an interpreter that is not there, and Debian ships Python
# without ensurepip: so each candidate is asked.
ASK := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c '$(ASK)' 2>/dev/null && echo $$p && break; done)
# What demo needs is a part of what dev installs.
DEMO := $(if $(wildcard $(VENV)/.dev),$(VENV)/.dev,$(VENV)/.demo)
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

help:
	@echo "make demo   run the three stories on a simulated bank"
	@echo "make test   run every test"
	@echo "make check  lint, types, layers and documents"
	@echo "make bench  measure"
	@echo "make docs   build the manual into site/"

demo: $(DEMO)
	$(BIN)/compliance demo

# ARGS reaches pytest: make test ARGS='tests/trail -x'
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	site=$$(mktemp -d) && $(BIN)/mkdocs build --strict --quiet --site-dir "$$site" && rm -r "$$site"
	$(BIN)/python -m pytest tests/house

bench: $(VENV)/.dev
	@for script in benchmarks/[!_]*.py; do \
		echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

docs: $(VENV)/.dev
	$(BIN)/mkdocs build --strict

# The stamps are written last: an installation that was cut off is done again.
$(VENV)/.demo: constraints.txt pyproject.toml | $(BIN)/python
	$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/.dev: constraints.txt pyproject.toml | $(BIN)/python
	$(PIP) -e '.[dev]'
	@touch $(VENV)/.demo $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python >= 3.11 with venv and ensurepip was found." \
		"Install one (Debian: python3 and python3-venv) or name it: make demo PYTHON=/path/to/python"; \
		exit 2; } >&2
	@$(PYTHON) -c '$(ASK)' || { echo "$(PYTHON) is not a Python >= 3.11 with venv and ensurepip;" \
		"name another with PYTHON=/path/to/python"; exit 2; } >&2
	@free=$$(df -Pk . | awk 'NR == 2 { print $$4 }'); \
	test "$$free" -ge $$(($(FREE_GB) * 1048576)) || { echo "About $(FREE_GB) GB of free disk are" \
		"needed here and $$((free / 1048576)) GB are left. Make room, or try all the same: FREE_GB=0"; \
		exit 2; } >&2
	$(PYTHON) -m venv $(VENV)
