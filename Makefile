# Every target creates .venv if necessary, and installs again only if the requirements have changed:
# what it takes to train and serve, and the tools only for checks and the documentation.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TOOLS := $(VENV)/.installed-dev
# pip compiles nothing, since few modules are imported. What flows and servers import is compiled
# once, instead of by each of several processes that start at the same time.
COMPILE = @echo "Compiling the installed modules: about a minute, once"; $(BIN)/python -c \
	'import flows.train, mlflow.server, prefect.server.api.server, recsys.serving'
export PYTHONDONTWRITEBYTECODE :=
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
PORT ?= 5000
PREFECT_PORT ?= 4200
# The Prefect server, and the address of MLflow's UI for links in artifacts.
SERVER_ENV := DO_NOT_TRACK=true PREFECT_API_URL=$${PREFECT_API_URL:-http://127.0.0.1:$(PREFECT_PORT)/api} \
	RECSYS_MLFLOW_UI=$${RECSYS_MLFLOW_UI:-http://127.0.0.1:$(PORT)}

.PHONY: help run server deploy worker test quick lint compile types imports unit docs ui chaos sbom

help:
	@echo "make run [DATA=folder-or-file] [CONFIG=file.toml] [ARGS=options]   train, compare, register"
	@echo "make ui [PORT=5000]                                 the MLflow UI over the local store"
	@echo "make server [PREFECT_PORT=4200] [PORT=5000]         start Prefect and MLflow on 127.0.0.1"
	@echo "make deploy [DATA=folder-or-file] [CONFIG=file.toml]   create the deployments of prefect.yaml"
	@echo "make worker                                         run the deployments"
	@echo "make quick                                          lint and the fast tests, in under a minute"
	@echo "make test                                           every check"
	@echo "make sbom                                           write sbom.json: what is installed, with SHA-256"
	@echo "make chaos                                          the long tests of docs/reliability.md"
	@echo "make docs                                           build the documentation into build/site"

$(INSTALLED): pyproject.toml constraints.txt
	@echo "Installing into $(VENV): one to two minutes, depending on the network"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) -e '.[flows,serve]'
	$(COMPILE)
	@touch $@

$(TOOLS): pyproject.toml constraints.txt
	@echo "Installing into $(VENV), with the tools: one to two minutes, depending on the network"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) -e '.[dev]'
	@touch $(INSTALLED) $@

run: $(INSTALLED)
	$(BIN)/python -m flows.train $(if $(DATA),--source '$(DATA)') $(if $(CONFIG),--config '$(CONFIG)') $(ARGS)

ui: $(INSTALLED)
	@test -e mlflow/mlflow.db || { echo "no runs yet: make run"; exit 1; }
	set -a && . mlflow/server.env && exec $(BIN)/mlflow server --host 127.0.0.1 --port $(PORT)

server: $(INSTALLED)
	exec $(BIN)/python -m flows.dev_servers --prefect-port $(PREFECT_PORT) --mlflow-port $(PORT)

deploy: $(INSTALLED)
	$(SERVER_ENV) $(BIN)/python -m flows.deploy $(if $(DATA),--source '$(DATA)') $(if $(CONFIG),--config '$(CONFIG)')

# The worker starts flows as `python`: the virtual environment must come first in PATH.
worker: $(INSTALLED)
	$(SERVER_ENV) PATH="$(CURDIR)/$(BIN):$$PATH" exec $(BIN)/prefect worker start --pool recsys --limit 2

# mypy uses one core: the tests begin meanwhile.
test: $(TOOLS)
	$(MAKE) --no-print-directory -j 2 lint imports compile types unit

compile: $(TOOLS)
	$(COMPILE)

# The inner loop: no servers, no browser, no whole trainings.
quick: $(TOOLS)
	$(BIN)/ruff check -q .
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 -m "not slow"

lint: $(TOOLS)
	$(BIN)/python -m pip check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(TOOLS)
	$(BIN)/mypy

imports: $(TOOLS)
	$(BIN)/lint-imports

# One thread per process, since more would compete for the cores. Three processes keep two cores
# busy, because tests of flows wait for servers.
unit: $(TOOLS)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 --dist loadscope --no-loadscope-reorder

# A file for pip: it names what an installation fetches, from where and with which SHA-256.
sbom: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --dry-run --ignore-installed \
		--report sbom.json -c constraints.txt '.[ann,dask,flows,serve]'

# The long forms of the tests in tests/faults: see docs/reliability.md.
chaos: $(TOOLS)
	$(PIP_INSTALL) -e '.[chaos]'
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadscope --durations=20 --chaos tests/faults tests/flows/test_refresh.py

# Strict: a broken link, a page outside the navigation or an undocumented public name fails.
docs: $(TOOLS)
	@echo "Building the documentation and running its examples: one to four minutes"
	@NO_MKDOCS_2_WARNING=1 RUN_NOTEBOOKS=true $(BIN)/mkdocs build --strict
	@echo "build/site/index.html; with a search box: $(BIN)/python -m http.server -d build/site"
