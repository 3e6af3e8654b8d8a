# Two commands matter: `make book` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# the interpreter that makes the environments (3.11 or newer)
PYTHON ?= python3
NB ?=
PROFILE ?= smoke
DEVICE ?= auto
SEED ?=
DATA ?=
SAMPLE ?= 3
JOBS ?= 1

PIP := -m pip install --quiet --disable-pip-version-check
# some machines list thousands of local package folders; pip complains about each
NOISE := grep -v -E "^WARNING: Location '?file:|is ignored: it is neither a file nor a directory" >&2 || true
BOOK := .venv/bin/python -m helpers.book
DATA_OPTION := $(if $(DATA),--data-dir '$(DATA)')
PINS := requirements.txt book/requirements.txt constraints.txt pyproject.toml

.PHONY: help setup book html chapter publish baselines refresh stale audit lint test clean distclean

help: ## list the targets
	@echo "Memorizing the Background: targets of this Makefile"
	@grep -h -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | \
	  while IFS=$$'\t' read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done
	@echo "Variables: NB=01-setting PROFILE=smoke|laptop|paper DEVICE=auto|cpu|cuda SEED= DATA=folder"
	@echo "           JOBS=1 (sweeps in parallel) SAMPLE=3 (audited cells) PYTHON=python3"

.venv/.stamp: $(PINS)
	@test -x .venv/bin/python || { echo "Making .venv (the first time takes minutes: torch is large)"; $(PYTHON) -m venv .venv; }
	@.venv/bin/python $(PIP) -r requirements.txt -c constraints.txt 2> >($(NOISE))
	@.venv/bin/python $(PIP) -e . --no-deps 2> >($(NOISE))
	@touch $@

.venv-html/.stamp: $(PINS)
	@test -x .venv-html/bin/python || $(PYTHON) -m venv .venv-html
	@.venv-html/bin/python $(PIP) -r book/requirements.txt -c constraints.txt 2> >($(NOISE))
	@.venv-html/bin/python $(PIP) -e . --no-deps 2> >($(NOISE))
	@touch $@

setup: .venv/.stamp ## create or update the environment .venv

book: setup ## execute every chapter as published, render it, print the path
	@$(BOOK) stage --device $(DEVICE) $(DATA_OPTION)
	@$(BOOK) build --staged

html: .venv-html/.stamp ## render what is committed, without torch and without running anything
	@.venv-html/bin/python -m helpers.book build

chapter: setup ## run one chapter: NB=01-setting PROFILE=smoke DEVICE=auto SEED= DATA=
	@test -n "$(NB)" || { echo "Which chapter? make chapter NB=01-setting"; exit 2; }
	@$(BOOK) run '$(NB)' --profile '$(PROFILE)' --device '$(DEVICE)' $(if $(SEED),--seed '$(SEED)') \
	  $(DATA_OPTION) --out _build/chapters

publish: setup ## compute missing results, run every published chapter and every baseline
	@.venv/bin/python -m helpers.sweep run --all --profile laptop --device $(DEVICE) --jobs $(JOBS) $(DATA_OPTION)
	@$(BOOK) run --profile laptop --device $(DEVICE) $(DATA_OPTION)
	@$(BOOK) run --profile smoke

baselines: setup ## run the tested baselines again (NB= for one of them)
	@$(BOOK) run $(NB) --profile smoke

refresh: setup ## prose was edited, code was not: renew the text of the executed copies
	@$(BOOK) refresh $(NB)

stale: setup ## list executed copies that do not match their source
	@$(BOOK) stale

audit: setup ## recompute SAMPLE stored results of each experiment and compare
	@.venv/bin/python -m helpers.sweep audit --sample $(SAMPLE) $(DATA_OPTION)

lint: setup ## ruff, and the contract of imports
	@.venv/bin/ruff check . && .venv/bin/ruff format --check --quiet src tests book/_ext
	@.venv/bin/lint-imports --no-cache --no-logo

test: lint ## everything that guards the book
	@.venv/bin/python -m pytest -n logical --maxprocesses 4 --dist loadscope

clean: ## remove what was built
	@rm -rf _build
	@find . -path './.venv*' -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean ## clean, and remove the environments
	@rm -rf .venv .venv-html src/*.egg-info
