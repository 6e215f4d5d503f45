# promptprobe. `make demo` runs the main job on a fresh machine; `make test` is all that CI checks.
# Both need Python >= 3.11, make and a package registry, and nothing else.
#
#   make demo TORCH=cpu            the CPU build of torch (smaller; on Linux the default may be CUDA)
#   make demo TORCH_INDEX=URL      torch from the index that you name
#   make demo PYTHON=python3.12    the interpreter that you name
#   make matrix                    the tests that draw, with other threads and CPU instructions

ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
ifndef PYTHON
PYTHON := $(or $(firstword $(foreach name,python3 python3.13 python3.12 python3.11 python,\
  $(shell $(name) -c '$(ENOUGH)' 2>/dev/null && echo $(name)))),python3)
endif

ifneq ($(filter-out cpu,$(TORCH)),)
$(error TORCH=$(TORCH) is not known: TORCH=cpu takes the CPU build, TORCH_INDEX=URL any other)
endif
TORCH_INDEX ?= $(if $(TORCH),https://download.pytorch.org/whl/cpu)
export TORCH_INDEX

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -c constraints.txt
GOAL := test
BRIEF ?= a scarlet kitty above a navy automobile

.PHONY: help demo test check matrix clean
.DELETE_ON_ERROR:

help:
	@sed -n '1,7s/^# \{0,1\}//p' Makefile

demo: GOAL := demo
demo: .venv/installed
	$(BIN)/promptprobe optimize "$(BRIEF)"

test check: GOAL := test
test check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --max-worker-restart 0

matrix: GOAL := test
matrix: .venv/installed-dev
	PYTHON=$(BIN)/python .ci/matrix $(TESTS)

clean:
	rm -rf .venv .build build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

.venv/created:
	@command -v "$(PYTHON)" >/dev/null || { echo "promptprobe needs Python 3.11 or newer, and there is \
	no '$(PYTHON)' here. Install it, or name one: make $(GOAL) PYTHON=/path/to/python3.12" >&2; exit 1; }
	@"$(PYTHON)" .ci/machine.py $(GOAL) --torch-index "$(TORCH_INDEX)"
	"$(PYTHON)" -m venv --clear .venv
	@touch $@

.venv/torch: .venv/created constraints.txt
	$(if $(TORCH_INDEX),$(PIP) --no-deps --index-url "$(TORCH_INDEX)" torch)
	@touch $@

.venv/installed: .venv/torch pyproject.toml setup.py
	$(PIP) --editable .
	@touch $@

.venv/installed-dev: .venv/torch pyproject.toml setup.py
	$(PIP) --editable ".[dev]"
	@touch $@ .venv/installed
