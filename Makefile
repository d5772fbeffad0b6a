# vmha: `make demo` shows it, `make test` proves it. Both install what they need (apt packages as root, a virtual environment).
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
ORACLE := .venv-oracle
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup apt proto proto-check lint types contract test test-fast test-slow requirements demo bench oracle format lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

apt: ## install the Debian packages (root only; quick when they are there)
	@deploy/install-packages

$(STAMP): requirements-dev.lock pyproject.toml
	@test -x $(PY) || python3 -m venv $(VENV)
	@$(VENV)/bin/python -m pip install -q --use-pep517 --require-hashes -r requirements-dev.lock
	@$(VENV)/bin/python -m pip install -q --no-deps -e .
	@touch $@

setup: apt ## everything that test and demo need
	@$(MAKE) --no-print-directory $(STAMP)

proto: $(STAMP) ## generate vmha/v1 from proto/
	@tools/generate-proto vmha/v1

proto-check: $(STAMP) ## fail when the generated code is stale
	@tools/generate-proto --check

lint: $(STAMP) ## ruff, and the house rules
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

format: $(STAMP) ## ruff format
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix -q .

types: $(STAMP) ## mypy --strict
	@$(VENV)/bin/mypy

contract: $(STAMP) proto-check ## buf lint, format, breaking
	@$(VENV)/bin/buf lint
	@$(VENV)/bin/buf format --diff --exit-code
	@$(VENV)/bin/buf breaking --against proto/baseline.binpb

test: setup ## every test but the slow ones; lab tests included when root
	@$(PY) -m pytest -m "not slow" --ignore=tests/e2e $(ARGS)
	@$(PY) -m pytest -m "not slow" tests/e2e -n 2 $(ARGS)

test-fast: $(STAMP) ## the tests that need no lab
	@$(PY) -m pytest -m "not slow and not lab" $(ARGS)

test-slow: setup ## the slow suite: hours; CHAOS_RUNS=2000 for less of its chaos, ARGS="-k seed_2" for one sitting of it
	@VMHA_CHAOS_RUNS=$(or $(CHAOS_RUNS),50000) $(PY) -m pytest -m slow --timeout=7200 $(ARGS)

requirements: setup ## each requirement, its tests, and how they end
	@$(PY) -m tests.requirements $(ARGS)

demo: setup ## lose a host, watch its VMs come up elsewhere; SCENARIO=isolation without a fence, SCENARIO=rules with rules of every kind; PROFILE=standard
	@$(PY) -m lab.demo --profile $(or $(PROFILE),fast) --scenario $(or $(SCENARIO),power)

bench: setup ## every benchmark, side by side with its reference
	@$(PY) -m bench.recovery
	@$(PY) -m bench.recovery --no-fence --guests 1
	@$(PY) -m bench.orchestration
	@$(PY) -m bench.manager
	@$(PY) -m bench.placement

oracle: ## OR-Tools in a virtual environment of its own, for bench.placement --oracle and the slow test of placement
	@test -x $(ORACLE)/bin/python || python3 -m venv $(ORACLE)
	@$(ORACLE)/bin/python -m pip install -q --require-hashes -r requirements-oracle.lock

lock: ## refresh the lock files
	@$(VENV)/bin/uv pip compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --python-version 3.11 pyproject.toml -o requirements.lock
	@$(VENV)/bin/uv pip compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --python-version 3.11 --extra dev pyproject.toml -o requirements-dev.lock
	@$(VENV)/bin/uv pip compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --python-version 3.11 requirements-oracle.in -o requirements-oracle.lock

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) $(ORACLE) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
