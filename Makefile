# Two commands matter: `make book` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# Given on the command line (make chapter NB=01): a DATA or SEED that a shell exports is for others.
# PYTHON makes the environments.
PYTHON := python3
NB :=
PROFILE := smoke
DEVICE := auto
SEED :=
DATA :=
SAMPLE := 3
JOBS := 1

# The environments hold all that runs here: nothing comes from elsewhere, nothing goes there.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONINSPECT MPLBACKEND MATPLOTLIBRC
unexport PIP_TARGET PIP_PREFIX PIP_ROOT PIP_NO_DEPS PIP_DRY_RUN PIP_PYTHON PIP_CONSTRAINT PIP_REQUIREMENT
unexport PIP_EDITABLE PIP_REQUIRE_HASHES PIP_PLATFORM PIP_PYTHON_VERSION PIP_IMPLEMENTATION PIP_ABI
unexport PIP_NO_BUILD_ISOLATION PIP_IGNORE_INSTALLED
export PYTHONNOUSERSITE := 1
export PIP_USER := 0

# one word for the shell, whatever is in it
quoted = '$(subst ','\'',$(1))'
chapters = $(foreach name,$(NB),$(call quoted,$(name)))
PIP := -m pip install --quiet --disable-pip-version-check
# some machines list thousands of local package folders; pip complains about each
NOISE := grep -v -E "^WARNING: Location '?file:|is ignored: it is neither a file nor a directory" >&2 || true
BOOK := .venv/bin/python -m helpers.book
# chapters are run side by side unless the command line says how many at a time
SIDE_BY_SIDE = $(if $(filter command,$(firstword $(origin JOBS))),$(if $(JOBS),--jobs $(call quoted,$(JOBS))))
DATA_OPTION = $(if $(DATA),--data-dir $(call quoted,$(DATA)))
PINS := requirements.txt book/requirements.txt constraints.txt pyproject.toml

# An environment knows where it lies: one that was copied or moved would run the code of its old place.
# One whose Python has gone from the machine is made anew.
define ENVIRONMENT
@test ! -e $@ || test "$$(cat $@)" = "$$(pwd -P)" || rm -rf $(@D)
@if test -x $(@D)/bin/python; then $(@D)/bin/python -c "$$SUPPORTED" $(@D); else \
  $(call quoted,$(PYTHON)) -c "$$SUPPORTED" $(@D) && rm -rf $(@D) && \
  echo "Making $(@D)$(1)" && $(call quoted,$(PYTHON)) -m venv $(@D); fi
@$(@D)/bin/python $(PIP) -r $(2) -c constraints.txt 2> >($(NOISE))
@$(@D)/bin/python $(PIP) -e . --no-deps 2> >($(NOISE))
@pwd -P > $@
endef
moved = $(shell test "$$(cat $(1) 2>/dev/null)" = "$$(pwd -P)" && test -x $(dir $(1))bin/python || echo moved)

# read by any Python, also one that is too old
define SUPPORTED
import platform, sys
if not (3, 11) <= sys.version_info[:2] < (3, 14):
    sys.exit("Python %d.%d is not supported: this needs 3.11, 3.12 or 3.13. "
             "Name one with make ... PYTHON=python3.12" % sys.version_info[:2])
if sys.argv[1] == ".venv" and (sys.platform, platform.machine()) == ("darwin", "x86_64"):
    sys.exit("Macs with Intel processors are not supported: the last PyTorch for them is 2.2. "
             "make html works there, it renders the committed book without PyTorch.")
endef
export SUPPORTED

.PHONY: moved help setup book html chapter publish baselines refresh stale lab audit power lint coverage mutants test clean distclean

help: ## list the targets
	@echo "Memorizing the Background: targets of this Makefile"
	@grep -h -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | \
	  while IFS=$$'\t' read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done
	@echo "Variables: NB=01-setting PROFILE=smoke|laptop|paper DEVICE=auto|cpu|cuda SEED= DATA=folder"
	@echo "           JOBS=2 (trials or chapters at a time) SAMPLE=3 (audited cells) PYTHON=python3"

.venv/.stamp: $(PINS) $(call moved,.venv/.stamp)
	$(call ENVIRONMENT, (the first time takes minutes: torch is large),requirements.txt)

.venv-html/.stamp: $(PINS) $(call moved,.venv-html/.stamp)
	$(call ENVIRONMENT,,book/requirements.txt)

setup: .venv/.stamp ## create or update the environment .venv

book: setup ## execute every chapter as published, render it, print the path
	@$(BOOK) stage --device $(call quoted,$(DEVICE)) $(DATA_OPTION) $(SIDE_BY_SIDE)
	@$(BOOK) build --staged

html: .venv-html/.stamp ## render what is committed, without torch and without running anything
	@.venv-html/bin/python -m helpers.book build

chapter: setup ## run one chapter: NB=01-setting PROFILE=smoke DEVICE=auto SEED= DATA=
	@test -n $(call quoted,$(NB)) || { echo "Which chapter? make chapter NB=01-setting"; exit 2; }
	@$(BOOK) run $(call quoted,$(NB)) --profile $(call quoted,$(PROFILE)) \
	  --device $(call quoted,$(DEVICE)) $(if $(SEED),--seed $(call quoted,$(SEED))) \
	  $(DATA_OPTION) --out _build/chapters

publish: setup ## compute missing results, run every published chapter and every baseline
	@.venv/bin/python -m helpers.sweep run --all --profile laptop --device $(call quoted,$(DEVICE)) \
	  --jobs $(call quoted,$(JOBS)) $(DATA_OPTION)
	@.venv/bin/python -m helpers.sweep plan --write book/plan.csv
	@$(BOOK) run --profile laptop --device $(call quoted,$(DEVICE)) $(DATA_OPTION)
	@$(BOOK) run --profile smoke

baselines: setup ## run the tested baselines again (NB= for one of them)
	@$(BOOK) run $(chapters) --profile smoke

refresh: setup ## prose was edited, code was not: renew the text of the executed copies
	@$(BOOK) refresh $(chapters)

stale: setup ## list executed copies that do not match their source
	@$(BOOK) stale

lab: setup ## work on the chapters in Jupyter Lab, which is installed on the first call
	@.venv/bin/python $(PIP) -e '.[lab]' -c constraints.txt 2> >($(NOISE))
	@.venv/bin/jupyter lab notebooks

audit: setup ## recompute SAMPLE stored results of each experiment and compare
	@.venv/bin/python -m helpers.sweep audit --sample $(call quoted,$(SAMPLE)) $(DATA_OPTION)

power: setup ## which errors in stored results the audit would notice
	@.venv/bin/python -m helpers.sweep audit --power

lint: setup ## ruff, and the contract of imports
	@.venv/bin/ruff check . && .venv/bin/ruff format --check --quiet src tests book/_ext
	@.venv/bin/lint-imports --no-cache --no-logo

coverage: setup ## the tests, and the lines that none of them reaches
	@.venv/bin/python -m pytest -n logical --maxprocesses 4 --dist loadscope --no-loadscope-reorder \
	  --cov=helpers --cov-report=term-missing:skip-covered --cov-fail-under=95

mutants: setup ## plant faults in the mathematics and the rules, and list what no test noticed (hours)
	@.venv/bin/mutmut run $(MUTANTS) && .venv/bin/mutmut results

test: lint ## everything that guards the book
	@.venv/bin/python -m pytest -n logical --maxprocesses 4 --dist loadscope --no-loadscope-reorder

clean: ## remove what was built
	@rm -rf _build
	@find . -path './.venv*' -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean ## clean, and remove the environments
	@rm -rf .venv .venv-html src/*.egg-info
