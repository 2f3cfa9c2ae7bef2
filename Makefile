# `make demo` and `make test` do all their set-up themselves; `make help` lists the rest.
# Needs Python 3.11 or newer; PYTHON=... chooses one.

SHELL := /bin/sh
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; break; fi; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --python
STAMPS := $(VENV)/stamps

# What depends on botocore's inside; the rest of tests/aws depends on its models, or on nothing of it.
OLDEST := $(addprefix tests/aws/test_,botocore.py wrap.py calls.py ways.py elsewhere.py standard.py services.py short_way.py \
	transport.py transport_bodies.py transport_faults.py transport_proxies.py transport_wire.py faults.py faults_bodies.py)

# What promises tenths of a second in fifty threads runs alone, and not under coverage, which doubles all times.
TIMED := $(addprefix tests/aws/test_,faults.py faults_bodies.py transport_bodies.py transport_faults.py) tests/dashboard/test_speed.py

# Much arithmetic, which coverage makes three times as long; an outage that is measured; a browser, Prometheus, and many
# clients of a store, which are other processes. Other tests cover the same lines.
BARE := $(addprefix tests/machines/test_,adaptive_rate.py circuit_figures.py circuit_model.py circuit_search.py \
	estimator_accuracy.py estimator_regimes.py lane_exact.py) $(addsuffix /test_agreement.py,tests/contracts tests/core) \
	tests/aws/test_outage.py tests/core/test_learned_by_others.py $(addprefix tests/dashboard/test_browser,.py _looks.py) \
	$(addprefix tests/telemetry/test_,alert_fires.py prometheus_server.py) \
	$(addprefix tests/stores/test_,circuit_processes.py faults.py processes.py)

# All others in as many processes as there are processors; a file stays in one, as its fixtures may be servers.
TOGETHER := -q -n auto --dist loadfile

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test lint types unit versions docs package bench accuracy format clean

help: ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

demo: $(STAMPS)/demo ## see an AWS client survive a brown-out, throttling and an outage
	@$(BIN)/resilience demo

test: lint types unit versions docs package ## every check

lint: $(STAMPS)/dev ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMPS)/dev ## mypy --strict
	$(BIN)/mypy

unit: $(STAMPS)/dev $(STAMPS)/dynalite $(STAMPS)/servers ## the tests, with branch coverage, and the goals of the happy path
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(TOGETHER) $(addprefix --ignore=,$(TIMED) $(BARE))
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report
	$(BIN)/python -m pytest $(TOGETHER) $(BARE)
	$(BIN)/python -m pytest -q $(TIMED)
	$(BIN)/python -m pytest -q --benchmark-disable benchmarks

versions: $(STAMPS)/versions $(STAMPS)/dynalite ## AWS clients on the oldest boto3, on aiobotocore and aioboto3
	$(VENV)/test-oldest/bin/python -m pytest $(TOGETHER) $(filter-out $(TIMED),$(OLDEST))
	$(VENV)/test-oldest/bin/python -m pytest -q $(filter $(TIMED),$(OLDEST))
	$(VENV)/test-aio/bin/python -m pytest -q tests/aio --ignore tests/aio/test_aioboto3.py
	$(VENV)/test-aioboto3/bin/python -m pytest -q tests/aio --ignore tests/aio/test_httpx.py

docs: $(STAMPS)/dev ## build the documentation into site/, warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

package: $(STAMPS)/dev ## build wheel and sdist, install each in an environment of its own, and use it there
	rm -rf dist
	$(BIN)/python -m build --outdir dist >/dev/null
	$(BIN)/python tests/package.py dist/*.whl dist/*.tar.gz

bench: $(STAMPS)/bench ## the benchmarks, and the same calls through other libraries
	$(BIN)/python -m pytest benchmarks --benchmark-only --benchmark-columns=min,median,ops --benchmark-sort=min
	$(BIN)/python -m pytest benchmarks/test_goals.py -s -q
	$(BIN)/python benchmarks/peers.py

accuracy: $(STAMPS)/dev ## how well learned timeouts keep the accepted share, beside other rules
	$(BIN)/python benchmarks/accuracy.py

format: $(STAMPS)/dev ## let ruff mend and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove all that was made
	rm -rf $(VENV) site dist build .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks

# A virtual environment; on Debian and Ubuntu the module that makes one is a package of its own.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo 'No Python 3.11 or newer found; install one, or name it: make PYTHON=...' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { rm -rf $(VENV); $(MAKE) --no-print-directory venv-package && $(PYTHON) -m venv $(VENV); }

.PHONY: venv-package
venv-package:
	@command -v apt-get >/dev/null || { echo '$(PYTHON) has no venv module; install it' >&2; exit 1; }
	@version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	sudo=; test "$$(id -u)" = 0 || sudo=sudo; \
	echo "installing python$$version-venv"; \
	$$sudo apt-get update -qq && $$sudo apt-get install -y -qq python$$version-venv >/dev/null

# Real programs that tests run: Prometheus with promtool, a browser and its driver, Redis.
SERVERS := prometheus chromium chromium-driver fonts-dejavu-core redis-server
$(STAMPS)/servers: $(BIN)/python
	@missing=''; for p in prometheus promtool chromium chromedriver redis-server; do command -v $$p >/dev/null || missing=yes; done; \
	if test -n "$$missing" && command -v apt-get >/dev/null; then \
		sudo=; test "$$(id -u)" = 0 || sudo=sudo; \
		echo 'installing $(SERVERS)'; \
		$$sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends $(SERVERS) >/dev/null; \
	elif test -n "$$missing"; then echo 'no apt-get here: the tests of what is missing of $(SERVERS) will be skipped' >&2; fi
	@mkdir -p $(STAMPS) && touch $@

# A second DynamoDB, for the tests; it is a package of Node.js.
$(STAMPS)/dynalite: $(BIN)/python
	@if command -v npm >/dev/null; then \
		echo "installing dynalite into $(VENV)/node"; \
		npm install --prefix $(VENV)/node --no-audit --no-fund --silent dynalite@4.0.0; \
	else echo 'no npm here: the tests against dynalite will be skipped' >&2; fi
	@mkdir -p $(STAMPS) && touch $@

# Sets of packages that exclude each other have environments of their own, which are made side by side.
$(STAMPS)/versions: pyproject.toml $(STAMPS)/pip
	@jobs=; for set in oldest aio aioboto3; do \
		echo "installing what is needed for test-$$set into $(VENV)/test-$$set"; \
		( test -x $(VENV)/test-$$set/bin/python || $(BIN)/python -m venv --without-pip $(VENV)/test-$$set; \
		$(PIP) $(VENV)/test-$$set/bin/python install --quiet --editable ".[test-$$set]" ) & jobs="$$jobs $$!"; \
	done; failed=0; for job in $$jobs; do wait $$job || failed=1; done; exit $$failed
	@touch $@

# One stamp for each set of packages; made again when the list of packages changes.
$(STAMPS)/%: pyproject.toml $(STAMPS)/pip
	@echo "installing what is needed for $* into $(VENV)"
	@$(PIP) $(BIN)/python install --quiet --editable '.[$*]'
	@touch $@

$(STAMPS)/pip: $(BIN)/python
	@$(PIP) $(BIN)/python install --quiet --upgrade pip
	@mkdir -p $(STAMPS) && touch $@
