# `make run` and `make test` do their own set-up: a virtual environment in .venv, made once and refreshed
# whenever the package's metadata changes. PYTHON picks the interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# `make bench` took about 20 minutes on two cores before the newest benchmarks joined, install not counted. It has an environment of its own and
# writes to BENCH_OUT; ROUNDS sets the calls of each variant.
# PyTorch is there only to be compared with: TORCH says which one pip installs, and TORCH= leaves it and its
# table out. On Linux pip takes a build for CUDA of several GB unless it finds one for CPUs.
TORCH ?= torch
ROUNDS ?=
BENCH_OUT ?= build/bench
BENCH_VENV := .venv-bench
DOCS_VENV := .venv-docs

.PHONY: run test test-all lint bench docs clean

run: $(VENV)/.installed
	$(BIN)/diet-jax run

test: $(VENV)/.installed-test
	$(BIN)/pytest -n auto --dist worksteal --durations=20

# Also the further cases that are marked slow, and all of it with XLA as it comes.
test-all: $(VENV)/.installed-test
	XLA_FLAGS= $(BIN)/pytest -n auto --dist worksteal --durations=20 -m ''

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(BENCH_VENV)/.installed
	$(BENCH_VENV)/bin/python benchmarks/run_all.py --out '$(BENCH_OUT)' $(if $(ROUNDS),--rounds $(ROUNDS))

# The site, in build/site: open index.html there, no server is needed. Warnings, such as broken links, are errors.
docs: $(DOCS_VENV)/.installed-docs
	PATH="$(CURDIR)/$(DOCS_VENV)/bin:$$PATH" NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict

$(DOCS_VENV)/.installed-docs: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/pip install --quiet --upgrade pip
	$(DOCS_VENV)/bin/pip install --quiet --editable '.[docs]'
	touch $@

$(BENCH_VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/pip install --quiet --upgrade pip
	$(BENCH_VENV)/bin/pip install --quiet --editable $(if $(TORCH),'.[bench]' '$(TORCH)',.)
	touch $@

$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) $(BENCH_VENV) $(DOCS_VENV) build dist *.egg-info
