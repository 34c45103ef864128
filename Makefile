# Everything a user types. `make help` lists the targets from the comments behind them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
TOYVIT := $(VENV)/bin/toyvit
TOY := runs/train-toy
MNIST := runs/train-mnist
QUICK := performance,by_factor,attention,composition,probes,norms,lens,attribution,weights,heads
RUN ?= $(TOY)/induction
LOGDIR ?= runs
SEEDS ?= 1
MINUTES ?= 5
PAGE ?= runs
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup data train-toy train-mnist tensorboard measure report replicate notebook bench faults docs check test test-data test-page fuzz clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1|\2/' | column -t -s '|'

setup: $(VENV)/.ready ## make .venv with the tested versions (once)

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet -c constraints.txt torch
	$(VENV)/bin/pip install --quiet -c constraints.txt -e '.[dev,bench,cluster,hmm,docs]'
	@touch $@

data: setup ## download MNIST (or unpack it from TOYVIT_DATA) and check it
	$(TOYVIT) data mnist

train-toy: setup ## train 2 layers and 1 layer on visual induction, measure every checkpoint, draw the transition
	$(TOYVIT) train induction induction-control --runs $(TOY) --resume
	$(TOYVIT) measure $(TOY)/induction $(TOY)/induction-control --jobs 2
	$(TOYVIT) report $(TOY)/induction --beside $(TOY)/induction-control

train-mnist: data ## train attention-only and attention+MLP on MNIST, measure every checkpoint (knock-outs at nine), draw where CLS looks
	$(TOYVIT) train mnist-mlp mnist-attention --runs $(MNIST) --resume
	$(TOYVIT) measure $(MNIST)/mnist-mlp $(MNIST)/mnist-attention --jobs 2 --analyses $(QUICK)
	$(TOYVIT) measure $(MNIST)/mnist-mlp $(MNIST)/mnist-attention --jobs 2 --analyses head_ablation --steps 0,16,64,128,256,512,1000,1500,2000
	$(TOYVIT) measure $(MNIST)/mnist-mlp $(MNIST)/mnist-attention --jobs 2 --images 10000 --steps last --analyses performance
	$(TOYVIT) report $(MNIST)/mnist-mlp --beside $(MNIST)/mnist-attention

tensorboard: setup ## show training curves and measures of all runs (or of LOGDIR) in TensorBoard
	$(TOYVIT) tensorboard $(LOGDIR)

measure: setup ## measure every checkpoint of RUN (default: the toy run)
	$(TOYVIT) measure $(RUN) --jobs 2

report: setup ## draw the figures of RUN and print what it came to
	$(TOYVIT) report $(RUN)

replicate: setup ## run published results again, SEEDS seeds of each (default 1), and write PAGE/replications.md
	$(TOYVIT) replicate --seeds 0..$$(($(SEEDS) - 1)) --page $(PAGE)

notebook: setup ## open the notebooks in JupyterLab (installs it the first time)
	$(VENV)/bin/pip install --quiet -c constraints.txt -e '.[notebook]'
	$(VENV)/bin/jupyter lab notebooks

bench: setup ## time the lab against its peers and floors; table on the terminal, figures in runs/bench.json
	$(VENV)/bin/python -m bench

faults: setup ## try what docs/reliability.md promises: damage, kills, power cuts, ... (25 minutes)
	$(VENV)/bin/python -m bench.faults

docs: setup ## write the pages that list things and build the site into build/site
	$(VENV)/bin/python -m bench.pages
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict --quiet
	@echo 'built build/site/index.html; with its search: $(VENV)/bin/python -m http.server -d build/site'

check: setup ## format, lint and types
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

# The suite starts many small processes, which else would each compile the package anew.
test test-data test-page: export PYTHONDONTWRITEBYTECODE :=

test: setup ## run the whole test suite, which needs nothing beside this folder
	$(VENV)/bin/python -m pytest -n 2 --dist worksteal -m "not data and not page"
	@echo 'The page in a browser is tested apart (make test-page), and so is the collected data (make test-data).'

test-data: setup ## run the tests of the collected data itself, which TOYVIT_DATA must name
	$(VENV)/bin/python -m pytest -n 2 --dist worksteal -m data

test-page: setup ## run the tests of the page in a browser (Chromium); pictures of it go to build/page
	$(VENV)/bin/python -m pytest -m page

fuzz: setup ## search for MINUTES (default 5) for examples that break a property; they are kept in tests/cases
	$(VENV)/bin/python -m tests.fuzz --minutes $(MINUTES)

clean: ## remove caches and the virtual environment; runs and data stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
