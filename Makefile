# Everything is set up in .venv by the first target that needs it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
FACTS := pyproject.toml setup.cfg $(wildcard aqltelemetry/*.pyx aqltelemetry/*.pxd)
# What is tested with the pure twins too, once all was with the compiled ones.
TWINNED := $(addprefix tests/,journal sinks $(patsubst %,test_%.py,\
	aiohttp csv_format drain exchange forked keeper monitor public_api recorder recovery timed_results timing twins))
# What is tested on other Pythons too: that which needs no server, no framework and no
# processor of its own.
QUICK := $(addprefix tests/,journal samplers sinks $(patsubst %,test_%.py,\
	clock control csv_format drain errors feed filenames forked free_threading keeper monitor\
	observation profiler recorder recovery schedule settings stack_profiler sync\
	threads timed_results timing twins))

.DEFAULT_GOAL := help
.PHONY: help demo test test-pythons lint format bench storm matrix services clean

help: ## say what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/'

demo: $(VENV)/demo ## record a real service under load and report on it; ARGS="--requests 5000"
	$(BIN)/aqltelemetry demo $(ARGS)

test: $(VENV)/test ## run the tests; ARGS="tests/test_monitor.py -k stop"
	$(BIN)/python -m pytest $(ARGS)
ifndef ARGS
	AQLTELEMETRY_NO_EXTENSIONS=1 $(BIN)/python -m pytest $(TWINNED)
endif

test-pythons: ## run the quick part of the tests on each other Python, 3.12 or newer, that is found
	.ci/pythons $(if $(ARGS),$(ARGS),$(QUICK) --ignore=tests/journal/test_many_labels.py)

lint: $(VENV)/lint ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/lint ## put the code in its usual form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/bench ## measure what it costs, beside its peers; ARGS="loading http_hosts"
	$(BIN)/python benchmarks/_collect.py $(ARGS)

storm: $(VENV)/bench ## kill processes and their recoverers at random; MINUTES=30 for docs/reliability.md
	$(BIN)/python benchmarks/storm.py $(if $(MINUTES),--minutes $(MINUTES) --write)

matrix: $(VENV)/test ## run the fault matrix; LONG=1 with all repetitions, for docs/reliability.md
	$(BIN)/python benchmarks/fault_matrix.py $(if $(LONG),--long)

services: $(VENV)/test ## serve on many servers, bare and recorded; write the table of docs/reliability.md
	$(BIN)/python benchmarks/services_table.py

clean: ## remove what the other targets made
	rm -rf $(VENV) build dist *.egg-info aqltelemetry/*.c aqltelemetry/*.so .mypy_cache .ruff_cache .pytest_cache _monitoring

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "aqltelemetry needs Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) can't make environments: install the package python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/demo: $(VENV)/made $(FACTS)
	$(PIP) install --editable '.[demo]'
	@touch $@

$(VENV)/test: $(VENV)/made $(FACTS)
	$(PIP) install --editable '.[test]'
	@touch $@

$(VENV)/lint: $(VENV)/made $(FACTS)
	$(PIP) install --editable '.[lint,bench]'
	@touch $@

$(VENV)/bench: $(VENV)/made $(FACTS)
	$(PIP) install --editable '.[all,bench]'
	@touch $@
