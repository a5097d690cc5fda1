# Every command a contributor needs; `make` alone lists them.
#   BUILD=cpu|gpu and PYTHON=python3.12 choose how `make install` makes .venv (see requirements/install.sh).

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help install check test integration learning nightly ci demo study studies grid clean

BIN := .venv/bin
# How often everything is repeated: SEEDS=3 is seeds 0, 1 and 2 of the demo or a grid, and 10, 11 and 12 of a study,
# which no setting was found with.
SEEDS ?= 1
SEED ?= 10
# The task of a study or a grid, and all that have one.
TASK ?= gp_l
TASKS := $(basename $(notdir $(wildcard $(patsubst %,configs/nano/%.yaml,gp_l gp_vl virl_l virl_vl))))
INSTALLED := .venv/.installed

help: ## list the commands
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 22

install: ## make .venv with the exact versions this machine needs (CPU or GPU)
	@requirements/install.sh

$(INSTALLED): pyproject.toml requirements/install.sh $(wildcard requirements/*.txt)
	@requirements/install.sh

check: $(INSTALLED) ## lint, format, types, size limits, import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/pytest -q tests/unit/test_repository.py

test: $(INSTALLED) ## unit and contract tests: no GPU, no network
	$(BIN)/pytest -q $(wildcard tests/unit tests/contract)

integration: $(INSTALLED) ## the real Ray, vLLM and DeepSpeed on small models
	$(BIN)/pytest -q tests/integration -m "not nightly"

learning: $(INSTALLED) ## each algorithm, from a fixed seed, has to get somewhere
	$(BIN)/pytest -q tests/learning

nightly: $(INSTALLED) ## integration tests of minutes, and the study of TASK on one untouched SEED, held against its claims
	$(BIN)/pytest -q tests/integration -m nightly
	TASK=$(TASK) SEED=$(SEED) $(BIN)/pytest -q tests/nightly

ci: check test integration learning ## all four, as CI does

demo: $(INSTALLED) ## SFT and RL from one start at equal compute, the rule shifted: the study at nano scale, with its report
	@$(BIN)/ruleshift compare configs/nano/gp_l.yaml configs/nano/demo.yaml --out runs/demo compare.seeds=[$(shell seq -s, 0 $$(($(SEEDS) - 1)))]

study: $(INSTALLED) ## SFT and RL of TASK, each at the chosen learning rate and at the paper's; started again, it goes on
	@$(BIN)/ruleshift compare configs/nano/$(TASK).yaml --out runs/studies/$(TASK) compare.seeds=[$(shell seq -s, 10 $$(($(SEEDS) + 9)))]

studies: $(INSTALLED) ## the studies of all tasks, one after the other, and one report of them
	@status=0; for task in $(TASKS); do $(MAKE) study TASK=$$task || status=1; done; exit $$status
	@$(BIN)/ruleshift report runs/studies

grid: $(INSTALLED) ## what the learning rates of TASK are chosen from, by validation under the rule of training
	@$(BIN)/ruleshift compare configs/nano/$(TASK).yaml configs/nano/grid.yaml --out runs/grids/$(TASK) compare.seeds=[$(shell seq -s, 0 $$(($(SEEDS) - 1)))]

clean: ## remove .venv and what the tools left behind
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
