# Every verb is safe to repeat. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help up down destroy recover preview shell status test test-all bench check format lock clean
STACK ?= staging
RUN := tools/run
# Four, because many tests wait: for engines, containers and servers. Groups are made in tests/conftest.py.
PARALLEL := -n 4 --dist loadscope --no-loadscope-reorder
VERBS := $(RUN) python -m tools.environment --stack $(STACK)

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

up: ## bring the STACK (staging) up on this machine, ending with the address of the running app
	@$(VERBS) up

preview: ## list what `up` would do to the STACK, with the monthly cost, and hold it against the policy
	@$(VERBS) preview

status: ## show what lives: the stack's resources and the sandbox's parts, with addresses
	@$(VERBS) status

shell: ## open a shell where `pulumi`, `ops`, curl and S3 clients talk to the sandbox
	@$(VERBS) shell

recover: ## after an interrupted `up`: clear the engine's lock and adopt what it had made but not recorded
	@$(VERBS) recover

destroy: ## destroy the STACK's resources, and check that nothing is left
	@$(VERBS) destroy

down: ## stop everything that `up` started; data stays, and `up` continues from it
	@$(VERBS) down

test: ## run the tests (sampled where trying everything takes long; the seed is printed)
	@$(RUN) python -m tests.prepare
	@$(RUN) pytest $(PARALLEL) --reruns 1 -m "not all"

test-all: ## run every test, at every point
	@$(RUN) python -m tests.prepare
	@$(RUN) pytest $(PARALLEL) --timeout 1800

bench: ## measure backups beside the usual tools, on an idle machine (40 minutes), into docs/benchmarks
	@$(RUN) python -m bench.backup $(BENCH)

check: ## lint, types, import rules, generated files
	@$(RUN) --python ruff check .
	@$(RUN) --python ruff format --check .
	@$(RUN) --python basedpyright
	@$(RUN) --python lint-imports --no-logo
	@$(RUN) --python pytest -q -m "not containers and not engine and not hosts and not all" tests/docs

format: ## rewrite the code as the linter wants it
	@$(RUN) --python ruff check --fix-only -q .
	@$(RUN) --python ruff format .

lock: ## write requirements.txt and requirements-dev.txt from the .in files
	@tools/lock

clean: ## stop everything and delete this checkout's sandbox, its data included
	@$(RUN) python -m sandbox reset --yes
	@bash -c '. tools/setup.sh; stop_docker_daemon'
	@rm -rf .sandbox
