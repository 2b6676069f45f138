# Everything a person types here. Needs make, Python >= 3.11 and a package index; nothing else.
#
#   make demo         install into .venv, then run the whole pipeline on synthetic images
#   make test         install with the development extra, then run the tests
#   make check        style, types, layers, spelling, house rules
#   make docs         build the documentation strictly, into site/
#   make bench        the measurements of speed, into docs/results.md
#   make soak         kill a training hundreds of times, into docs/reliability.md
#   make constraints  write constraints.txt from what .venv holds
#   make clean        remove everything that make made, .venv too
#
# PYTHON=/path/to/python chooses the interpreter for .venv.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PYTEST_FLAGS :=

# A pin must hold for the build back end too, so it is installed first and not in an environment
# of pip's own, where constraints.txt does not reach.
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

# Set by hand or found: the first of these that runs and is new enough.
PYTHON ?=
define find_python
	set -e; found=""; \
	for candidate in $(if $(PYTHON),"$(PYTHON)",python3.13 python3.12 python3.11 python3 python); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    found="$$candidate"; break; \
	  fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "medglean needs Python 3.11 or newer, and $(if $(PYTHON),$(PYTHON) is not,none of python3.13 python3.12 python3.11 python3 python is)." >&2; \
	  echo "Install one, or name one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; \
	  exit 2; \
	fi
endef

# .installing stands while pip works. Where it is found at the start, an install was cut short, and
# pip may take half of a package for the whole: the environment is made anew.
define make_environment
	@$(find_python); \
	if [ -e $(VENV)/.installing ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  echo "making $(VENV) with $$found"; \
	  "$$found" -m venv --clear $(VENV) || { \
	    rm -rf $(VENV); \
	    echo "$$found cannot make a virtual environment; on Debian and Ubuntu install python3-venv." >&2; \
	    exit 2; }; \
	fi; \
	touch $(VENV)/.installing
	$(INSTALL) --quiet hatchling editables
endef

.PHONY: help
help:
	@sed -n 's/^#   \(make .*\)/  \1/p' Makefile

$(VENV)/.ready: pyproject.toml constraints.txt
	$(make_environment)
	$(INSTALL) --no-build-isolation --editable .
	@rm $(VENV)/.installing && touch $@

$(VENV)/.ready-dev: pyproject.toml constraints.txt
	$(make_environment)
	$(INSTALL) --no-build-isolation --editable '.[dev]'
	@rm $(VENV)/.installing && touch $(VENV)/.ready $@

.PHONY: install install-dev
install: $(VENV)/.ready
install-dev: $(VENV)/.ready-dev

.PHONY: demo
demo: $(VENV)/.ready
	rm -rf medglean-demo
	$(BIN)/medglean demo --out medglean-demo

# Two processes; a file's tests stay together, because the blocks of a page build on one another.
.PHONY: test
test: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_FLAGS)

# Hundreds of kills of a real training process; every weight compared, bit for bit.
.PHONY: soak
soak: $(VENV)/.ready-dev
	mkdir -p runs
	$(BIN)/python bench/soak_kill.py --out runs/soak.json --docs docs/reliability.md

.PHONY: check
check: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python -m pytest -q --durations=1 -m house tests/test_house.py

.PHONY: format
format: $(VENV)/.ready-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: docs
docs: $(VENV)/.ready-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir site

# What needs no images but those it makes; the tables of docs/results.md are written anew.
.PHONY: bench
bench: $(VENV)/.ready-dev
	$(BIN)/python bench/results.py bench startup index loading epoch step_overhead curate embedding

# Run it after `make clean install-dev`: whatever else .venv holds would be pinned too.
.PHONY: constraints
constraints:
	@{ echo "# The exact versions that medglean is tested with, its tools among them."; \
	  echo "# Written by \`make constraints\`; used by every install of the Makefile. A pin installs nothing by itself."; \
	  $(BIN)/python -m pip list --disable-pip-version-check --format=freeze \
	    --exclude pip --exclude medglean; } > constraints.txt.new
	mv constraints.txt.new constraints.txt

.PHONY: clean
clean:
	rm -rf $(VENV) site runs medglean-demo build dist htmlcov .coverage .hypothesis \
	  .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find src tests bench docs -name __pycache__ -type d -prune -exec rm -rf {} +
