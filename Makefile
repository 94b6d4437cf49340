# make repro: set up and run the main job. make test: set up and run the tests. Needs Python 3.11, git, make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: setup repro full test ui schedule lint clean

setup: $(VENV)/.done

$(VENV)/.done: constraints.txt requirements-base.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info[:2] >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11 setup")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "torch==2.13.0" -c constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[dev]" -c constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-base.txt
	touch $@

repro: setup
	$(BIN)/emis repro

full: setup
	$(BIN)/emis repro && { $(BIN)/emis study --all; code=$$?; $(BIN)/emis repro; exit $$code; }

test: setup
	$(BIN)/python -m pytest

ui: setup
	$(BIN)/emis ui

schedule: setup
	$(BIN)/python flows/schedule.py

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports

clean:                                          # not work/: half-done trainings and answers that were paid for lie there
	rm -rf $(VENV) .prefect
