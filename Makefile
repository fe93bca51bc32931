# Everything a person runs. `make help` lists it.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
PY := $(VENV)/bin/python

# A line `##@ Heading` begins a group of what `make help` lists.
help:
	@awk -F':.*## ' '/^##@ / {printf "\n%s\n", substr($$0, 5)} \
	    /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.complete: requirements-dev.txt demo/prepare.sh
	@demo/prepare.sh venv $(VENV)

##@ Try it

demo: ## Sluice on this machine: hosts, Slurm, vLLM, a first answer (needs root)
	@demo/prepare.sh preflight
	@$(MAKE) --no-print-directory --silent venv
	@$(PY) -m demo up

chat: venv ## Chat with the demo's model in the terminal
	@$(PY) -m demo chat

demo-status: venv ## The demo's hosts, models and jobs
	@$(PY) -m demo status

demo-down: venv ## End the demo; caches stay
	@$(PY) -m demo down

demo-clean: venv ## End the demo and remove what it left in the checkout
	@$(PY) -m demo clean

##@ Check it

check: venv ## Lint, types, unit tests (about three minutes)
	@$(PY) -m tests.run check

test: ## Everything once: check, integration, system, browser (needs root)
	@demo/prepare.sh preflight --name test --subnet 10.78.0
	@$(MAKE) --no-print-directory --silent venv
	@$(PY) -m tests.run check integration
	@$(PY) -m tests.run system

test-beside: ## The same with the bed beside the others: shorter, for a machine that does nothing else
	@demo/prepare.sh preflight --name test --subnet 10.78.0
	@$(MAKE) --no-print-directory --silent venv
	@$(PY) -m tests.run check integration system

integration: venv ## Real sshd, fake Slurm, stub engine
	@$(PY) -m tests.run integration

system: venv ## The test bed: real hosts, real Slurm, real vLLM, the browser (needs root)
	@$(PY) -m tests.run system

soak: venv ## The long proofs: two million bad inputs, a hundred times the check's examples of each property, 50 kills of proxy, web, authority and database under load, five minutes without an authority, long trials on real Slurm (needs root; about an hour on 2 quiet cores)
	@PYTHONPATH=files/sluice/src $(PY) -m lab.soak
	@SLUICE_TRIALS=soak $(PY) -m pytest -q -n 2 --timeout 3600 -m hypothesis
	@SLUICE_TRIALS=soak $(PY) -m pytest -q --timeout 3600 tests/unit/relay/test_fuzz.py
	@SLUICE_TRIALS=soak $(PY) -m pytest -q tests/integration/test_kills.py tests/integration/test_simulate.py
	@SLUICE_SOAK_KILLS=50 $(PY) -m pytest -q -s tests/integration/test_accounting.py
	@SLUICE_SOAK_AWAY=300 $(PY) -m pytest -q -s tests/integration/test_limits.py -k away
	@SLUICE_SOAK_CONTRACT=300 $(PY) -m pytest -q -s tests/integration/test_contract.py
	@$(PY) -m tests.run soak

##@ Measure it

bench: venv ## Measure the data plane beside other designs; build/bench/ holds table, plots, results.json (needs root)
	@$(PY) -m lab.bench

bench-peers: venv ## The same load against other gateways, from their packages (needs root)
	@$(PY) -m lab.bench --peers

simulate: venv ## Our policy beside others over a simulated week; build/simulate/ holds table, plot, results.json
	@PYTHONPATH=files/sluice/src $(PY) -m lab.simulate

bench-page: venv ## Measure the chat page: bytes, time, processor, memory; build/bench-page/ holds table, results.json (needs root)
	@$(PY) -m lab.bench_page

##@ Write it

venv: $(VENV)/.complete ## The Python environment of controller, checks and tests

hooks: venv ## Have git check each commit by what .pre-commit-config.yaml names
	@$(VENV)/bin/pre-commit install

screenshots: venv ## Pictures of all main pages: light, dark, three languages, desk and phone; build/screenshots/index.html (needs root)
	@PYTHONPATH=files/sluice/src $(PY) -m lab.screenshots

docs: venv ## The documentation as a site that works offline: build/docs/site/index.html
	@$(PY) -m docs.site.build

format: venv ## Format the Python code
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

.PHONY: help demo chat demo-status demo-down demo-clean check test test-beside integration system soak bench bench-peers simulate bench-page venv hooks screenshots docs format
