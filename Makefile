# One word per wish; CI says the same words. What did not change is not done again.
#
#   make build    .venv with everything in it, compiled modules up to date; edits to .py are live
#   make run      serve examples/tour on http://127.0.0.1:8000 (PORT=...)
#   make test     every test, Python and JavaScript (ARGS="-k link -x" goes to pytest), and the
#                 Python ones of the runtime on other Pythons that are here (VERSIONS="3.12 3.13")
#   make cuts     the guarantees' stories of cuts, with CUTS=10000 seeds instead of hundreds
#   make sanitize the core's tests in a build with the address and undefined-behaviour sanitizers
#   make counts   the tests for leaks in a build that counts the objects of every compiled class
#   make soak     100,000 visits that leave nothing behind, in that build; minutes (VISITS=...)
#   make lint     style, types, stubs, floors; changes nothing
#   make format   put the style right
#   make bench    every measurement, a few minutes; writes bench/results/ (ARGS goes to bench)
#   make bench-micro   single pieces, for comparing two commits (ARGS goes to pytest)
#   make docs     links, anchors and code of the Markdown pages, which is run
#   make clean    remove what make made, .venv included
#
# Switches of the compiled code (see setup.py): GREENROOM_TRACE=1, GREENROOM_SANITIZE=1,
# GREENROOM_DEBUG_COUNTS=1; changing one rebuilds.

PYTHON ?= python3
PORT   ?= 8000
ARGS   ?=
CUTS   ?= 10000
VISITS ?= 100000
VERSIONS ?= 3.12 3.13
DEPENDENCIES ?= build test lint

VENV   := .venv
BIN    := $(VENV)/bin
PY     := $(BIN)/python
STAMPS := build/stamps

# cython-lint looks for pycodestyle, and tsc for node: both are in the environment.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := build
.DELETE_ON_ERROR:
.PHONY: build run test pytest versions pytest-elsewhere jstest cuts sanitize counts soak lint format bench bench-micro docs clean FORCE \
        lint-style lint-types lint-stubs lint-floors lint-cython lint-js

# ------------------------------------------------------------------ build

CYTHON  := $(wildcard src/core/*.pyx src/core/*.pxd src/core/*.pxi)
FLAVOUR := trace=$(GREENROOM_TRACE) sanitize=$(GREENROOM_SANITIZE) counts=$(GREENROOM_DEBUG_COUNTS)

build: $(STAMPS)/native

$(PY):
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip

# Dependencies and the editable install: again only when the description of the project changes.
$(VENV)/installed: pyproject.toml | $(PY)
	$(PY) -m pip install --quiet $(DEPENDENCIES:%=--group %)
	$(PY) -m pip install --quiet --no-build-isolation --editable .
	@touch $@

# Rewritten only when the switches differ from those of the last build.
$(STAMPS)/flavour: FORCE
	@mkdir -p $(STAMPS)
	@echo '$(FLAVOUR)' | cmp -s - $@ || echo '$(FLAVOUR)' > $@

$(STAMPS)/native: $(VENV)/installed setup.py $(CYTHON) $(STAMPS)/flavour
	$(PY) setup.py --quiet build_ext --inplace $(if $(wildcard $@),$(if $(filter setup.py,$?),--force))
	@touch $@

# ------------------------------------------------------------------ run

run: build
	$(BIN)/greenroom run examples/tour --host 127.0.0.1 --port $(PORT)

# ------------------------------------------------------------------ test

JS_TESTS := $(wildcard tests/js/*.test.js)
BENCHES  := $(wildcard bench/micro/bench_*.py)

test: pytest jstest versions

pytest: build node_modules/.package-lock.json
	.ci/system-packages
	$(PY) -m pytest $(ARGS)

# Each has an environment of its own in build/; the compiled modules lie side by side in src/core.
versions: $(VERSIONS:%=version-%)

version-%: build
	@python="$$(.ci/find-python $*)" || { echo "Python $* is not here: not tested on it"; exit 0; }; \
	$(MAKE) --no-print-directory pytest-elsewhere PYTHON="$$python" \
	    VENV=build/python-$* STAMPS=build/python-$*/stamps DEPENDENCIES="build test"

# What a version of Python can change; the long stories of guarantees are told once.
ELSEWHERE := tests/core tests/leaks tests/client tests/adapters tests/testing

pytest-elsewhere: build
	$(PY) -m pytest -m "not soak and not browser" $(ELSEWHERE) $(ARGS)

jstest: build
	$(if $(JS_TESTS),node --test $(JS_TESTS))

# Minutes. A story that fails names its seed; GREENROOM_SEED=... tells only that one.
cuts: build
	GREENROOM_CUTS=$(CUTS) $(PY) -m pytest tests/guarantees -o faulthandler_timeout=0 $(ARGS)

# Builds with switches, in build/<name>: the ordinary one stays. For tests that start no browser.
SANITIZED := tests/core tests/leaks tests/adapters tests/client
PRELOAD    = $(shell $(CC) -print-file-name=libasan.so) $(shell $(CC) -print-file-name=libubsan.so)
beside     = $(PY) setup.py --quiet build --build-base build/$(1) --build-lib build/$(1)/lib

sanitize: build
	GREENROOM_SANITIZE=1 $(call beside,sanitize)
	LD_PRELOAD="$(PRELOAD)" PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 \
	    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 PYTHONPATH=build/sanitize/lib \
	    $(PY) -m pytest $(SANITIZED) $(ARGS)

counts: build
	GREENROOM_DEBUG_COUNTS=1 $(call beside,counts)
	PYTHONPATH=build/counts/lib $(PY) -m pytest tests/leaks tests/guarantees/test_g17_no_leak.py $(ARGS)

soak: build
	GREENROOM_DEBUG_COUNTS=1 $(call beside,counts)
	VISITS=$(VISITS) PYTHONPATH=build/counts/lib $(PY) -m pytest -m soak -s -o faulthandler_timeout=0 \
	    tests/guarantees/test_g17_no_leak.py $(ARGS)

bench: build
	$(PY) -m bench --save $(ARGS)
	$(PY) -m bench --readme

bench-micro: build
	$(PY) -m pytest $(BENCHES) $(ARGS)

docs: build
	$(PY) -m pytest --quiet tests/test_docs*.py

# ------------------------------------------------------------------ lint

STUBS   := $(wildcard src/core/*.pyi)
STUBBED := $(patsubst src/core/%.pyi,greenroom.core.%,$(STUBS))
CLIENT  := $(wildcard src/client/*.js src/client/greenroom/*.js src/client/*.d.ts)

lint: lint-style lint-cython lint-types lint-stubs lint-floors lint-js

lint-style: build
	ruff check .
	ruff format --check .

lint-cython: build
	$(if $(CYTHON),cython-lint $(CYTHON))

lint-types: build
	mypy
	pyright

# Through the name link: an editable install hides the stubs, and stubtest finds nothing to say.
lint-stubs: build
	$(if $(STUBBED),MYPYPATH=build/named $(PY) -m mypy.stubtest $(STUBBED))

lint-floors: build
	lint-imports

lint-js: $(if $(CLIENT),node_modules/.package-lock.json)
	$(if $(CLIENT),node_modules/.bin/tsc --project tsconfig.json)

node_modules/.package-lock.json: package.json package-lock.json .npmrc $(VENV)/installed
	npm ci --ignore-scripts --loglevel=error
	@touch $@

format: build
	ruff check --fix .
	ruff format .

# ------------------------------------------------------------------ clean

clean:
	rm -rf $(VENV) build dist node_modules *.egg-info
	rm -f src/core/*.so src/core/*.pyd src/core/*.c
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
