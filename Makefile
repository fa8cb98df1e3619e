# Everything a developer or CI types. Each target does its own set-up: Python 3.11+ is all that is assumed.
#
#   make demo           the whole story in four minutes: voices change under load, bad ones are refused or taken back
#   make test           all tests that need no cluster, two at a time   (JOBS=1: one after the other)
#   make console-test   the console in headless Chromium   (PICTURES=docs: write the documents' pictures too)
#   make integration    the operator against a real kube-apiserver, which it builds the first time
#   make cluster        such an API server for yourself, until Ctrl-C   (ARGS=--help)
#   make node           a shell on a real node of your own, as root, without Docker   (ARGS=--help)
#   make images         container images -> build/images   (ARGS=--help)
#   make images-check   what is in them, and how it runs; as root
#   make snapshots      write the snapshots of the chart's renderings anew; review them with git diff
#   make e2e            the chart on a real node, under traffic; as root, builds what it needs   (CLUSTER=kind)
#   make observability  the alerts and dashboards with a real Prometheus and Alertmanager -> build/observability
#   make check          format, lint, types, import layers, generated files
#   make bench          the measured promises -> build/bench/*.json   (ONLY=swap for one, SHORT=1 for CI's short form)

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test console-test integration cluster node images images-check e2e observability snapshots check format bench lock generate clean

VENV := $(shell scripts/venv --path)
BIN := $(VENV)/bin
JOBS ?= 2
SOURCES := core engines server sidecar operator cli tests bench training tools

help:
	@sed -n 's/^#   //p' Makefile

setup: $(VENV)/.ready

$(VENV)/.ready:
	@scripts/venv

demo: setup
	$(BIN)/segue demo --out build/demo

test: setup
	$(BIN)/pytest tests -m "not cluster and not node and not browser" -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

# With Debian's chromium: Playwright's own browsers are not downloaded.
console-test: setup
	$(if $(PICTURES),SEGUE_SCREENSHOTS=$(PICTURES)) $(BIN)/pytest tests/browser -m browser $(PYTEST_ARGS)

# Builds or downloads etcd, kube-apiserver and the others the first time; then they come from the cache.
integration: setup
	$(BIN)/pytest tests/integration -m cluster $(PYTEST_ARGS)

cluster: setup
	@$(BIN)/python -m tests.support.cluster $(ARGS)

node: setup
	@$(BIN)/python -m tests.support.node $(or $(ARGS),up)

images: setup
	@$(BIN)/python -m tools.images $(ARGS)

# As root: looks into the images, and runs what is in them.
images-check: setup
	$(BIN)/pytest tests/integration/images -m node $(PYTEST_ARGS)

e2e: setup
	$(BIN)/python -m tests.support.e2e $(if $(CLUSTER),--cluster $(CLUSTER)) -- $(PYTEST_ARGS)

# Two to four minutes; takes both from Debian's packages, unpacked into the cache, the first time.
observability: setup
	$(BIN)/python -m tests.support.observability --out build/observability

snapshots: setup
	$(BIN)/python -m tests.support.chart.snapshots

check: setup
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/segue crd --check
	$(BIN)/python -m segue.model.reference --check
	$(BIN)/python -m tools.chart --check
	$(BIN)/python -m tools.metrics --check

format: setup
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

generate: setup
	$(BIN)/segue crd
	$(BIN)/python -m segue.model.reference
	$(BIN)/python -m tools.chart
	$(BIN)/python -m tools.metrics

bench: setup
	$(BIN)/python -m bench $(ONLY) $(if $(SHORT),--short) --out build/bench

# Pinned with hashes, without registry addresses. Run after a change to pyproject.toml or requirements/*.in.
LOCK := uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock: setup
	$(BIN)/$(LOCK) pyproject.toml -o requirements/run.txt
	$(BIN)/$(LOCK) --extra dev -c requirements/run.txt pyproject.toml -o requirements/dev.txt
	$(BIN)/$(LOCK) -c requirements/dev.txt requirements/operator.in -o requirements/operator.txt
	$(BIN)/$(LOCK) -c requirements/run.txt requirements/sidecar.in -o requirements/sidecar.txt
	$(BIN)/$(LOCK) -c requirements/dev.txt requirements/server.in -o requirements/server.txt
	$(BIN)/$(LOCK) -c requirements/dev.txt requirements/server-gpt-sovits.in -o requirements/server-gpt-sovits.txt
	$(BIN)/$(LOCK) -c requirements/sidecar.txt -c requirements/server-gpt-sovits.txt \
		requirements/sidecar-gpt-sovits.in -o requirements/sidecar-gpt-sovits.txt
	$(BIN)/$(LOCK) -c requirements/dev.txt requirements/build.in -o requirements/build.txt

clean:
	rm -rf build dist
