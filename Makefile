# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= demo-report
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo study test gpu faults fuzz check format figures docs clean

demo: $(VENV)/.demo
	$(BIN)/specialize demo -o $(DEMO)
	@echo "The report is $(abspath $(DEMO))/report.html"

# Every figure of figures/, with its data and provenance: from the studies' tables, and from the demo's runs.
figures: $(VENV)/.demo $(DEMO)/report.html
	$(BIN)/python -m analyses.figures -o figures --demo $(DEMO)

$(DEMO)/report.html: | $(VENV)/.demo
	$(MAKE) demo

# The study of design choices, on the corpora in the folder DATA; its tables, and the figures drawn from them.
DATA ?= data
study: $(VENV)/.demo
	$(BIN)/python -m analyses.design_choices --preset cpu --data $(DATA) -o study-cpu \
		--results analyses/design_choices/results/cpu
	$(BIN)/python -m analyses.figures -o figures

# Each worker takes whole files, so that what a file's tests share is made once. A worker holds up to 2 GB.
WORKERS ?= logical
test: $(VENV)/.test check
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder

# What a GPU must show: tests, the cost of capture, training steps. Uses PYTHON as it is, which has torch, and no network.
OUT ?= gpu-results
gpu:
	PYTHONPATH=src $(PYTHON) -m analyses.gpu -o $(OUT)

# Fuzzing of every reader of foreign bytes, each target for MINUTES; what it made so far is kept in fuzz-work.
MINUTES ?= 10
TARGETS ?=
fuzz: $(VENV)/.fuzz
	$(BIN)/python -m analyses.fuzzing --minutes $(MINUTES) --targets "$(TARGETS)" --work fuzz-work

# Faults in every command, and what came of each; an interrupted matrix is resumed from the folder faults.
faults: $(VENV)/.test
	$(BIN)/python -m analyses.reliability -o faults --results analyses/reliability/results

# The documentation, into site/; needs no network. The tests build it, too.
docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "The documentation is $(abspath site)/index.html"

check: $(VENV)/.test
	$(BIN)/ruff check src tests analyses docs
	$(BIN)/ruff format --check src tests analyses docs
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test
	$(BIN)/ruff check --fix src tests analyses docs
	$(BIN)/ruff format src tests analyses docs

# The asset wheels come from third parties: they are fetched by hash before anything can ask for them by name.
# The tested torch is a CPU build; it is asked for first, so that nothing brings another one.
$(VENV)/.base: constraints/assets.txt constraints/tested.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "specialize needs Python 3.11 or newer, $(PYTHON) is older: make PYTHON=/path/to/python3.11"; exit 2; }
	@echo "Setting up $(VENV) (a few minutes, once)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints/tested.txt torch
	$(PIP) --no-deps --require-hashes --requirement constraints/assets.txt
	@touch $@

$(VENV)/.demo: $(VENV)/.base pyproject.toml
	$(PIP) --constraint constraints/tested.txt --editable '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/.base pyproject.toml constraints/test-assets.txt
	$(PIP) --constraint constraints/tested.txt --editable '.[test]'
	$(PIP) --no-deps --require-hashes --requirement constraints/test-assets.txt
	@touch $@ $(VENV)/.demo

$(VENV)/.fuzz: $(VENV)/.test
	$(PIP) --constraint constraints/tested.txt --only-binary atheris --editable '.[fuzz]' || \
		{ echo "fuzzing needs a wheel of atheris, which there is for CPython on Linux: use such a machine"; exit 2; }
	@touch $@

clean:
	rm -rf $(VENV) $(DEMO) site fuzz-work .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
