# One word per wish. CI says the same words.
#
#   make build   .venv with everything, compiled modules up to date (nothing is redone needlessly)
#   make run     serve examples/tour on http://127.0.0.1:8000
#   make clean   remove what make made, the .venv too

PYTHON ?= python3
PORT   ?= 8000

VENV   := .venv
BIN    := $(VENV)/bin
PY     := $(BIN)/python
STAMPS := build/stamps
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := build
.DELETE_ON_ERROR:
.PHONY: build run clean FORCE

# ------------------------------------------------------------------ build

CYTHON  := $(wildcard src/core/*.pyx src/core/*.pxd)
FLAVOUR := trace=$(GREENROOM_TRACE) sanitize=$(GREENROOM_SANITIZE) counts=$(GREENROOM_DEBUG_COUNTS)

build: $(STAMPS)/native

$(PY):
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip

# The dependencies and the editable install: again only when the project's description changes.
$(VENV)/installed: pyproject.toml | $(PY)
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet --group build --group test --group lint
	$(PY) -m pip install --quiet --no-build-isolation --editable .
	@touch $@

# Written only when the switches of setup.py differ from those of the last build.
$(STAMPS)/flavour: FORCE
	@mkdir -p $(STAMPS)
	@echo '$(FLAVOUR)' | cmp -s - $@ || echo '$(FLAVOUR)' > $@

$(STAMPS)/native: $(VENV)/installed setup.py $(CYTHON) $(STAMPS)/flavour
	$(PY) setup.py --quiet build_ext --inplace
	@touch $@

# ------------------------------------------------------------------ run

run: build
	$(BIN)/greenroom run examples/tour --host 127.0.0.1 --port $(PORT)

clean:
	rm -rf $(VENV) build dist node_modules *.egg-info src/core/*.so src/core/*.pyd src/core/*.c
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
