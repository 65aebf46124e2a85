# One command from a fresh clone: `make up` to chat, `make test` to check. `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.NOTPARALLEL:

VENV ?= .venv
PY := $(VENV)/bin/python
DATABASE ?= sqlite
CODE := feedback_store serving trainer bot thumbwise benchmarks scripts docker tests

# One copy of the bundled model for the server, the tests and the benchmarks of this checkout.
export THUMBWISE_MODELS_DIR ?= $(CURDIR)/.models
# Two processes share the tests, a file each, in the order of the files: much of a test is waiting.
TWO_AT_ONCE ?= -n 2 --dist loadfile --no-loadscope-reorder
# Nothing is fetched from a model hub at run time: set-up has brought what is needed.
export HF_HUB_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export DO_NOT_TRACK := 1

INSTALLED := $(VENV)/.installed
MODEL := $(THUMBWISE_MODELS_DIR)/smollm2-135m-instruct/config.json

.PHONY: help up test vllm lint format bench lock audit sbom docs messages screenshots clean setup

help: ## show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18
	@printf '  make bench-NAME  one benchmark: %s\n' "$$(cd benchmarks && ls *.py | sed 's/\.py$$//' | grep -vxE 'report|_.*' | xargs)"

$(INSTALLED): requirements.lock pyproject.toml scripts/set_up.sh
	@PYTHON="$(PYTHON)" scripts/set_up.sh $(VENV)

$(MODEL): | $(INSTALLED)
	@$(PY) scripts/fetch_model.py "$(THUMBWISE_MODELS_DIR)"

setup: $(INSTALLED) $(MODEL) ## virtual environment and bundled model, nothing started

up: setup ## chat, dashboard, API and scheduler on http://127.0.0.1:8080 (ARGS="--port N --data DIR …")
	@exec $(VENV)/bin/thumbwise up $(ARGS)

lint: $(INSTALLED) ## ruff, strict types, import rules
	@$(PY) -m ruff check $(CODE)
	@$(PY) -m ruff format --check $(CODE)
	@$(PY) -m mypy $(CODE)
	@$(VENV)/bin/lint-imports --no-cache

format: $(INSTALLED) ## let ruff lay out the code and sort its imports
	@$(PY) -m ruff check --select I --fix $(CODE)
	@$(PY) -m ruff format $(CODE)

test: setup lint ## everything that must hold (ARGS="tests/store -k word" for a part, DATABASE=postgres for all on it, TWO_AT_ONCE= for one process)
	@scripts/postgres.sh
	@scripts/telegram_test_api.sh $(VENV)
	@[[ -z "$${WITH_VLLM:-}" ]] || scripts/vllm.sh
	@THUMBWISE_CHROMIUM="$$(scripts/browser.sh $(VENV))" $(PY) -m scripts.run_tests --database $(DATABASE) $(TWO_AT_ONCE) $(ARGS)

vllm: setup ## a real vLLM in .vllm/ for its tests and `make bench-serving` (about 1 GB; CI does this)
	@scripts/vllm.sh

bench: setup ## every benchmark; results go to benchmarks/results
	@for file in benchmarks/*.py; do name=$$(basename $$file .py); \
	  [[ $$name == report || $$name == _* ]] || { echo "== $$name"; $(PY) -m benchmarks.$$name; }; done
	@$(PY) -m scripts.measured

bench-%: setup
	@$(PY) -m benchmarks.$* $(ARGS)

docs: $(INSTALLED) ## write the generated parts of the documents anew
	@$(PY) scripts/docs.py
	@$(PY) -m scripts.measured

messages: $(INSTALLED) ## collect the pages' texts into the translations; fails while one is missing
	@$(PY) -m scripts.messages

screenshots: setup ## a picture of every page, light, dark, on a phone, in Chinese: build/screenshots (ARGS="versions people")
	@THUMBWISE_CHROMIUM="$$(scripts/browser.sh $(VENV))" $(PY) -m scripts.page_pictures $(ARGS)

lock: $(INSTALLED) ## resolve requirements.lock anew (needs the network)
	@$(PY) -m uv --version >/dev/null 2>&1 || $(PY) -m pip install --quiet uv
	@$(PY) scripts/lock.py

audit: $(INSTALLED) ## known weaknesses of the pinned packages (ARGS="--must-reach": fail without a network)
	@$(PY) -m scripts.audit $(ARGS)

sbom: $(INSTALLED) ## the bill of materials, CycloneDX: build/sbom.cdx.json
	@$(PY) -m scripts.sbom $(ARGS)

clean: ## remove the environment and the caches; data/ and .models/ stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
