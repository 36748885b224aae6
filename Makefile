# `make run` and `make test` are all that a fresh machine needs; the first of
# them makes .venv, the next ones find it ready.

SHELL := bash
.DEFAULT_GOAL := help

DATASET ?= movielens-100k
# Further words for `adaptower run` or pytest, as in make test ARGS=-x
ARGS ?=
# More than four test processes gain nothing and take a gigabyte each.
JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n : 4)))

VENV := $(or $(ADAPTOWER_VENV),.venv)
PYTHON := $(VENV)/bin/python
PYTEST = $(PYTHON) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

# TFRS needs Keras 2, and says so only after TensorFlow is loaded.
export TF_USE_LEGACY_KERAS := 1
export TF_CPP_MIN_LOG_LEVEL ?= 3
export PYTHONWARNINGS ?= ignore
# Bytecode makes imports three times faster.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help venv run test test-fault lint format types lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' \
		$(MAKEFILE_LIST)

venv: ## Make .venv from the lock file (done by the others when needed)
	@scripts/bootstrap.sh

run: venv ## Train, push, serve and replay; DATASET=movielens-1m for another
	@$(VENV)/bin/adaptower run $(DATASET) $(ARGS)

test: venv ## Run the tests (all but the long fault tests)
	@$(PYTEST) -m "not (fault and slow)" $(ARGS)

test-fault: venv ## Run the fault tests: kill, corrupt, overload
	@$(PYTHON) -m pytest -m fault $(ARGS)

lint: venv ## Check style with ruff
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .

format: venv ## Mend style with ruff
	@$(PYTHON) -m ruff check --fix .
	@$(PYTHON) -m ruff format .

types: venv ## Check types with mypy
	@$(PYTHON) -m mypy

lock: ## Resolve the lock files anew (needs uv; ARGS=--upgrade for newer ones)
	@scripts/lock.sh $(ARGS)

clean: ## Remove environment, caches and builds; runs/ stays
	rm -rf $(VENV) .venv-gateway .cache build dist *.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
