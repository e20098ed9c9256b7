# Every target is a line or two, so that what it does can be read here and typed by hand.
.POSIX:
.DEFAULT_GOAL := help
.PHONY: help run test check fuzz soak audit fix docs site bench storm overload mutants answers e2e image dist lock

PYTHON = python3
IMAGE = guardproxy:dev
SECONDS = 60
MINUTES = 5
UNIT = 1.0
BIN = .venv/bin
STAMP = .venv/.stamp

help: ## say what can be made
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' Makefile

run: $(STAMP) ## serve on 127.0.0.1:8000, with simulated model servers behind it
	$(BIN)/guardproxy run config/guardproxy.yaml --simulate

test: check ## check, then every test
	$(BIN)/python -m pytest

check: $(STAMP) ## lint, format, types, the laws of the house, known holes; changes nothing
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/bandit -q -ll -c pyproject.toml -r guardproxy && $(BIN)/python -m pytest -q tests/test_architecture.py
	$(BIN)/python -m tests.audit

fuzz: $(STAMP) ## look for what nobody thought of, for SECONDS (60)
	$(BIN)/python -m tests.faults.fuzz $(SECONDS)

soak: $(STAMP) ## hundreds of callers, faults, reloads and kills for MINUTES (5); writes docs/soak.svg and docs/soak.md (not in CI)
	$(BIN)/python -m tests.faults.soak $(MINUTES)

audit: $(STAMP) ## ask the advisory services about every dependency; fails where none can be asked
	$(BIN)/python -m tests.audit --strict

fix: $(STAMP) ## let ruff mend what it can
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

docs: $(STAMP) ## write the reference of the settings, and the schema for editors, anew
	$(BIN)/python -m guardproxy.config.publish > config/guardproxy.schema.json && $(BIN)/python -m guardproxy.config.reference > docs/configuration.md
	$(BIN)/python -m tests.faults.page > docs/faults.md

site: $(STAMP) ## the documentation as a site, into .site; broken links are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -q

bench: $(STAMP) ## what the hop costs on this machine
	$(BIN)/python -m bench

storm: $(STAMP) ## an outage of a model, beside no proxy and sglang-router; nine minutes, or UNIT (1.0) of them
	$(BIN)/python -m bench.storm --unit $(UNIT)

overload: $(STAMP) ## ten times more calls than a model bears; writes docs/load.md
	$(BIN)/python -m bench.overload

answers: $(STAMP) ## what a valid answer costs
	$(BIN)/python -m bench.valid

mutants: $(STAMP) ## plant mistakes in the machines and see which their tests find; an hour
	$(BIN)/pip install -q --disable-pip-version-check mutmut==3.8.1 && $(BIN)/mutmut run && $(BIN)/python -m bench.mutants

e2e: $(STAMP) ## real model servers, real clients: installs them into .e2e; writes docs/clients.md
	GUARDPROXY_E2E=1 $(BIN)/python -m pytest tests/e2e

image: ## build the container image
	docker build --build-arg REVISION=$$(git rev-parse HEAD) -t $(IMAGE) .

dist: $(STAMP) ## the wheel, the source archive and the bill of materials, into dist/
	rm -rf dist && $(BIN)/python -m build --no-isolation
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible -o dist/guardproxy.cdx.json requirements.lock

lock: ## resolve the dependencies of the program and of its build anew, with hashes
	rm -rf .lock && $(PYTHON) -m venv .lock && .lock/bin/pip install -q pip-tools
	CUSTOM_COMPILE_COMMAND='make lock' .lock/bin/pip-compile -q --upgrade --extra shared --generate-hashes --strip-extras --no-emit-options --no-emit-index-url --no-emit-find-links --no-emit-trusted-host -o requirements.lock pyproject.toml
	CUSTOM_COMPILE_COMMAND='make lock' .lock/bin/pip-compile -q --upgrade --all-build-deps --only-build-deps --generate-hashes --strip-extras --no-emit-options --no-emit-index-url --no-emit-find-links --no-emit-trusted-host -o requirements-build.lock pyproject.toml
	rm -rf .lock

$(STAMP): pyproject.toml
	@echo 'preparing .venv (once, about half a minute)'
	$(PYTHON) -m venv .venv && $(BIN)/pip install -q --disable-pip-version-check -e '.[dev,shared,otel]'
	@touch $@
