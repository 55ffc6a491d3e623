# Every verb is safe to repeat. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help up down destroy recover preview shell status test test-all bench check format lock clean wipe
STACK ?= staging
RUN := tools/run
PYTHON := tools/run --python
# Four, because many tests wait: for engines, containers and servers. Groups are made in tests/conftest.py.
PARALLEL := -n 4 --dist loadscope --no-loadscope-reorder
VERBS := $(RUN) python -m tools.environment --stack $(STACK)
# Of verbs that only look or remove: nothing is installed beside the Python packages, and Docker is not started to be stopped.
LOOK := tools/run --installed python -m tools.environment --stack $(STACK)

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

up: ## bring the STACK (staging) up on this computer, once its preview holds to the policy; ends with the app's address
	@$(VERBS) up

preview: ## list what `up` would do to the STACK, with the monthly cost, and hold it against the policy
	@$(VERBS) preview

status: ## show what lives: the stack's resources and the sandbox's parts, with addresses
	@$(LOOK) status

shell: ## open a shell where `pulumi`, `ops`, curl and S3 clients talk to the sandbox
	@$(VERBS) shell

recover: ## after an interrupted `up`: clear the engine's lock and adopt what it had made but not recorded
	@$(VERBS) recover

destroy: ## destroy the STACK's resources, and check that nothing is left
	@$(VERBS) destroy

down: ## stop everything that `up` started; data stays, and `up` continues from it
	@$(LOOK) down

test: ## run the tests, or those of T=tests/host (sampled where trying everything takes long; the seed is printed)
	@$(RUN) python -m tests.prepare
	@$(RUN) pytest $(PARALLEL) --reruns 1 -m "not all" $(T)

test-all: ## run every test (or those of T), at every point
	@$(RUN) python -m tests.prepare
	@$(RUN) pytest $(PARALLEL) --timeout 1800 $(T)

bench: ## measure backups beside the usual tools, on an idle machine (40 minutes), into docs/benchmarks
	@$(RUN) python -m bench.backup $(BENCH)

check: ## lint, types, import rules, generated files
	@$(PYTHON) ruff check .
	@$(PYTHON) ruff format --check .
	@$(PYTHON) basedpyright
	@$(PYTHON) lint-imports --no-logo
	@$(PYTHON) pytest -q -m "not containers and not engine and not hosts and not all" tests/docs

format: ## rewrite the code as the linter wants it
	@$(PYTHON) ruff check --fix-only -q .
	@$(PYTHON) ruff format .

lock: ## write requirements.txt and requirements-dev.txt from the .in files
	@tools/lock

clean: ## delete caches of tests and linters in this checkout; no data
	@find . -name .sandbox -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
	@rm -rf .pytest_cache .ruff_cache .hypothesis .import_linter_cache

wipe: ## stop everything and delete this checkout's sandbox with all its data, after asking (YES=1: without)
	@$(LOOK) wipe $(if $(YES),--yes)
