# Everything runs in .venv; the first target that needs it makes it, pinned by constraints.txt.
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= python3
PIP_FLAGS ?=
STAMP := $(VENV)/.installed

.PHONY: try test test-long check format docs install clean

try: install  ## install, then train a small model on this machine's own Python library
	$(BIN)/fromscratch try

test: install  ## the test suite, some ten minutes on two cores
	$(BIN)/python -m pytest -n auto -m "not long"

test-long: install  ## the few tests that take longest, some three minutes
	$(BIN)/python -m pytest -n auto -m long

check: install  ## formatting, lint, types, and the order of the rooms
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: install  ## the documentation as a site: site/index.html; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fromscratch needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Say: make PYTHON=python3.12 try")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(PIP_FLAGS) --editable '.[dev]'
	@touch $(STAMP)

clean:  ## remove the environment; runs and prepared data stay
	rm -rf $(VENV)
