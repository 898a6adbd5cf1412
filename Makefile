# make repro: zeros to formula. make test: the tests. Both set up everything they need.
PYTHON ?= python3
VENV   := .venv
READY  := $(VENV)/.ready
# Or every stage and every test worker would compile the library's sources anew.
unexport PYTHONDONTWRITEBYTECODE
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help repro test lint setup clean

help:
	@echo 'make repro   zeros to formula: every stage that is not up to date, and a table of scores'
	@echo 'make test    the tests (make lint: style and types)'
	@echo 'make setup   the environment alone, in $(VENV); then: source $(VENV)/bin/activate'
	@echo 'make clean   remove the environment and caches; never data, metrics or plots'

repro: $(READY)
	python -m pipeline.check
	dvc repro
	@python -m pipeline.table

test: $(READY)
	pytest

lint: $(READY)
	ruff check .
	ruff format --check .
	mypy

setup: $(READY)

$(READY): pyproject.toml constraints.txt pipeline/plots_page.py Makefile
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(not (3, 11) <= v < (3, 14) and f"zetalib needs Python 3.11 to 3.13, this is {v.major}.{v.minor}: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(VENV)/bin/python -m pipeline.plots_page
	# dvc, with parameters checked before it removes anything: zetalib/guard.py says why.
	printf '#!%s\nimport sys\nsys.path.insert(0, "")\nfrom zetalib.guard import command\ncommand()\n' "$(CURDIR)/$(VENV)/bin/python" > $(VENV)/bin/dvc
	touch $@

clean:
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis dvc_plots
