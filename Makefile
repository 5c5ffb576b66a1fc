# Everything is set up in .venv by the first target that needs it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
FACTS := pyproject.toml setup.cfg $(shell find aqltelemetry -name "*.pyx" -o -name "*.pxd")
# The tier of a test is its marker, see CONTRIBUTING.md. Tests run in JOBS processes.
JOBS ?= 2
# Tests with servers and other processes wait for these most of the time.
SYSTEM_JOBS ?= 6
# Of a test that fails and then passes, both are printed.
AGAIN := $(if $(RERUNS),--reruns $(RERUNS) --rerun-show-tracebacks)
PYTEST := $(BIN)/python -m pytest -q -n $(JOBS) $(AGAIN)
QUICK := "not system and not packaging"
# The files that have tests with a marker: importing the others takes longer than some of the tests.
MARKED = $(sort $(shell grep --recursive --files-with-matches --include="test_*.py" "mark\.$(1)" tests))
# The quick tests that are run in pure Python too: those of modules that use the extensions.
PURE := $(addprefix tests/,journal recording sinks test_public_api.py system/test_extensions.py\
	hosts/test_request_record.py hosts/aiohttp/test_setup.py\
	hosts/asgi/test_middleware.py hosts/wsgi/test_middleware.py\
	$(patsubst %,runtime/test_%.py,delivery monitor recovery))
# The quick tests that are run on other Pythons too: those that need no framework.
CORE := $(addprefix tests/,journal samplers sinks recording\
	$(patsubst %,system/test_%.py,clock extensions free_threading threads)\
	$(patsubst %,test_%.py,errors observation settings)\
	$(patsubst %,runtime/test_%.py,background control_files delivery monitor profiler recovery\
	schedule sink_cursor stack_profiler))

.DEFAULT_GOAL := help
.PHONY: help demo test test-system test-packaging test-pure test-pythons test-all coverage lint format\
	hooks dist bench compare storm storm-archive storm-live storm-ship matrix stalls stalls-false stalls-kills stalls-peers\
	autopsies services docs pictures map way\
	everything pythons clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/'

demo: $(VENV)/demo ## record a real service under load and report on it; ARGS="--requests 5000"
	$(BIN)/aqltelemetry demo $(ARGS)

test: $(VENV)/test ## run the quick tests; ARGS="tests/runtime/test_monitor.py -k stop" for a part
	$(if $(ARGS),$(BIN)/python -m pytest $(ARGS),$(PYTEST) --dist worksteal --durations 10 -m $(QUICK))

test-system: $(VENV)/test ## run the tests with servers, several processes, kills and mounts
	$(PYTEST) -n $(SYSTEM_JOBS) --dist worksteal --durations 15 -m system $(call MARKED,system)

test-packaging: $(VENV)/test ## run the tests of the built package and of the README's installation
	$(PYTEST) --dist loadfile -m packaging $(call MARKED,packaging)

test-pure: $(VENV)/test ## run the quick tests of modules with extensions, in pure Python
	AQLTELEMETRY_NO_EXTENSIONS=1 $(PYTEST) --dist worksteal -m $(QUICK) $(PURE)

test-pythons: $(VENV)/pythons ## run the quick tests of the core on each other Python that is found
	$(BIN)/nox --no-install -- -n $(JOBS) $(AGAIN) --dist worksteal -m $(QUICK) $(or $(ARGS),$(CORE))

test-all: test test-pure test-system ## run all tests
	+$(MAKE) --jobs=2 --output-sync=target test-packaging test-pythons

# While coverage traces, tracebacks have more frames of compiled functions: tests of that are left out.
coverage: $(VENV)/test ## measure which lines and branches the tests reach
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q -m "not packaging" -k "not frame_of_the_host"
	AQLTELEMETRY_NO_EXTENSIONS=1 $(BIN)/coverage run -m pytest -q -m $(QUICK) $(PURE)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lint: $(VENV)/lint ## check style, types and words
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python .ci/words.py

format: $(VENV)/lint ## fix style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

hooks: $(VENV)/lint ## let pre-commit check each commit
	$(BIN)/pre-commit install

dist: $(VENV)/test ## build the files of a release, and check them
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*

bench: $(VENV)/bench ## measure costs and compare with alternatives; ARGS="loading http_hosts"
	$(BIN)/python benchmarks/_collect.py $(ARGS)

docs: $(VENV)/docs ## build the documentation into build/site; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "build/site/index.html"

compare: $(VENV)/bench ## compare costs with another revision; REVISION=v0.1.0
	$(BIN)/python benchmarks/compare.py $(REVISION) $(ARGS)

storm: $(VENV)/bench ## kill processes and their recoverers at random; MINUTES=30 for docs/reliability.md
	$(BIN)/python benchmarks/storm.py $(if $(MINUTES),--minutes $(MINUTES) --write)

storm-live: $(VENV)/bench ## read live while processes are killed and recovered; REFRESHES=10000, WRITE=1 for docs/reliability.md
	$(BIN)/python benchmarks/live_storm.py --refreshes $(or $(REFRESHES),1000) $(if $(WRITE),--write)

storm-ship: $(VENV)/bench ## kill the shipper while its store and the network fail; KILLS=300 TO=postgresql for docs/reliability.md
	$(BIN)/python benchmarks/ship_storm.py $(if $(KILLS),--kills $(KILLS) --write) $(if $(TO),--to $(TO))

storm-archive: $(VENV)/bench ## kill recording, shipping, archiving and rotation before its calls (EVERY=1), or at random (RANDOM=200)
	$(BIN)/python benchmarks/together.py $(if $(RANDOM),--random $(RANDOM) --write,$(if $(EVERY),--every $(EVERY) --write,--every 10))

matrix: $(VENV)/test ## run the fault matrix; LONG=1 with all repetitions, for docs/reliability.md
	$(BIN)/python benchmarks/fault_matrix.py $(if $(LONG),--long)

stalls: $(VENV)/bench ## block event loops in known ways; REPETITIONS=20 for docs/reliability.md
	$(BIN)/python benchmarks/stalls.py $(if $(REPETITIONS),--repetitions $(REPETITIONS) --write) \
		$(addprefix --python ,$(PYTHONS))
	$(BIN)/python benchmarks/stall_cost.py $(if $(REPETITIONS),--write)

services: $(VENV)/test ## serve on many servers, bare and recorded; write the table of docs/reliability.md
	$(BIN)/python benchmarks/services_table.py

pictures: $(VENV)/test ## record the service of the README's story, and draw the documentation's pictures
	$(BIN)/python docs/pictures.py

map: ## show the rooms of the package, what each may import, and how deep it is
	@$(PYTHON) tests/house.py

way: $(VENV)/test ## show the functions that an observation passes, from the block to pandas
	@$(BIN)/python tests/way.py

stalls-false: $(VENV)/bench ## count stalls of services that have none; MINUTES=10 for docs/reliability.md
	$(BIN)/python benchmarks/false_stalls.py $(if $(MINUTES),--minutes $(MINUTES) --write)

stalls-kills: $(VENV)/bench ## kill processes in stalls; KILLS=1000 for docs/reliability.md
	$(BIN)/python benchmarks/stall_kills.py $(if $(KILLS),--kills $(KILLS) --write)

stalls-peers: $(VENV)/bench ## plant stalls under other tools too, for docs/reliability.md
	$(BIN)/python benchmarks/stall_peers.py --write

autopsies: $(VENV)/bench ## end each kind of worker in each way, and read the autopsies, for docs/reliability.md
	$(BIN)/python benchmarks/autopsies.py --write

everything: $(VENV)/everything ## install at once what the other targets need

pythons: $(VENV)/pythons ## install what test-pythons needs, on each other Python

clean: ## remove what the other targets made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .coverage _monitoring
	find aqltelemetry -name "*.c" -delete -o -name "*.so" -delete

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "aqltelemetry needs Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) can't make environments: install the package python3-venv"; exit 1; }
	@echo "making an environment for Python in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/demo: $(VENV)/made $(FACTS)
	@echo "installing aqltelemetry, aiohttp, uvloop, Gunicorn, pandas and rich into $(VENV): one to three minutes, the first time"
	$(PIP) install --editable '.[demo]'
	@touch $@

$(VENV)/test: $(VENV)/made $(FACTS)
	$(PIP) install --editable '.[test]'
	@touch $@

$(VENV)/lint: $(VENV)/made $(FACTS)
	$(PIP) install --editable '.[lint,bench]'
	@touch $@

$(VENV)/docs: $(VENV)/made $(FACTS)
	$(PIP) install --editable '.[docs]'
	@touch $@

$(VENV)/bench: $(VENV)/made $(FACTS)
	$(PIP) install --editable '.[all,bench]'
	@touch $@

$(VENV)/pythons: $(VENV)/test $(FACTS)
	$(BIN)/nox --install-only
	@touch $@

$(VENV)/everything: $(VENV)/made $(FACTS)
	$(PIP) install --editable '.[all,bench,docs,lint,test]'
	@touch $(addprefix $(VENV)/,bench demo docs everything lint test)
