# make fly    install what is missing, then fly. Variables with their defaults:
#             SCENE=clutter|gate|pocket, OBSTACLES=static|moving|adversarial, RADIUS=0.15 (m), SEED=0,
#             POLICY=default (the shipped checkpoint), straight-line, expert or a checkpoint's path
# make test   install what is missing, then all checks and tests
# make setup  install what is missing: .venv/ with the pinned packages, the workspace in ros2_ws/install/
#             PYTHON=python3.12 names the interpreter to build .venv with (3.10 to 3.13)
# make clean  remove all that was installed; flights, bags and runs stay
#
# Each step of the set-up leaves a stamp when it is done, so a set-up that was interrupted goes on where it stopped.

.PHONY: help fly test setup clean
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
SHELL := /bin/bash

PYTHON ?= python3
SEED ?= 0
POLICY ?= default
SCENE ?= clutter
OBSTACLES ?= static
RADIUS ?= 0.15
export SEED POLICY SCENE OBSTACLES RADIUS

# A variable that nobody reads, such as seed=3, is a mistake.
KNOWN := PYTHON SEED POLICY SCENE OBSTACLES RADIUS
GIVEN := $(foreach variable,$(.VARIABLES),$(if $(filter command,$(origin $(variable))),$(variable)))
UNKNOWN := $(filter-out $(KNOWN) MAKEFLAGS SHELL PIP_%,$(GIVEN))
ifneq ($(UNKNOWN),)
$(error make reads no variable $(UNKNOWN); it reads $(KNOWN))
endif

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
PACKAGES := deq_mpc_core deq_mpc_controller deq_mpc_sim
BUILD_FILES := $(foreach package,$(PACKAGES),$(addprefix ros2_ws/src/$(package)/,setup.py setup.cfg package.xml))
COMPILED_FILES := $(shell grep -rl --include='*.py' njit ros2_ws/src)
SETUP := @scripts/setup.sh

help:
	@sed -n '/^#$$/q; s/^# //p' Makefile

setup: $(STAMPS)/warm

# The last line on stdout is the flight's verdict: whatever the set-up says goes to stderr.
fly: setup
	@$(BIN)/deq-mpc fly --seed "$$SEED" --policy "$$POLICY" --scene "$$SCENE" --obstacles "$$OBSTACLES" --radius "$$RADIUS"

test: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

$(STAMPS)/venv: scripts/setup.sh
	$(SETUP) venv "$(PYTHON)"
	@touch $@

$(STAMPS)/requirements: requirements/build.txt requirements/dev.txt requirements/ros.txt requirements/runtime.txt $(STAMPS)/venv
	$(SETUP) requirements
	@touch $@

$(STAMPS)/packages: $(BUILD_FILES) $(STAMPS)/requirements
	$(SETUP) packages
	@touch $@

$(STAMPS)/workspace: $(BUILD_FILES) $(STAMPS)/packages
	$(SETUP) workspace
	@touch $@

$(STAMPS)/warm: scripts/warm_cache.py $(COMPILED_FILES) $(STAMPS)/workspace
	$(SETUP) warm
	@touch $@

clean:
	rm -rf $(VENV) ros2_ws/build ros2_ws/install ros2_ws/log
