# Needs Python 3.11+, git and make; everything else goes into .venv.
.DEFAULT_GOAL := help
.PHONY: help setup demo test faults soak hosts bench quality repair ui check clean

BIN := .venv/bin
STAMP := .venv/.installed
ACTIVATED := PATH="$$PWD/$(BIN):$$PATH"

help:
	@echo "make setup   install everything into .venv"
	@echo "make demo    set up and run the whole pipeline: data, latents, training, samples, scores"
	@echo "make test    set up and run the tests"
	@echo "make faults  try everything that can go wrong, and print a table of it; takes an hour"
	@echo "make soak    edit, kill and damage at random for two hours, and compare with a clean run"
	@echo "make hosts   encode and train on three hosts, made of networks on this machine; needs root"
	@echo "make bench   set up and measure speed and memory; close other programs first"
	@echo "make quality compare the network with others at equal seconds; takes many hours, goes on when killed"
	@echo "make repair  clear away files that a killed DVC left, if 'dvc repro' stops at them"
	@echo "make ui      browse the runs in MLflow"
	@echo "make check   lint, check the formatting, types and spelling"
	@echo "make clean   remove caches and build leftovers"

setup: $(STAMP)
	@echo "next: . $(BIN)/activate"

demo: $(STAMP)
	@test -e .git || { $(BIN)/dvc config --local core.no_scm true; \
		echo "no git repository here: the pipeline runs, 'dvc exp' needs git"; }
	@$(BIN)/liquidgen repair
	@$(ACTIVATED) dvc repro
	@echo
	@echo "open reports/index.html: images, curves and scores on one page; browse the runs: make ui"
	@echo "next: . $(BIN)/activate, edit params.yaml, dvc repro"

# threads that wait at full speed would take the cores from the other process
test: $(STAMP)
	@$(ACTIVATED) OMP_WAIT_POLICY=passive pytest --numprocesses 2 --dist worksteal

faults: $(STAMP)
	@$(ACTIVATED) OMP_WAIT_POLICY=passive pytest --numprocesses 2 --dist worksteal \
		-m fault --kills 50 --hypothesis-profile thorough

soak: $(STAMP)
	@$(ACTIVATED) OMP_WAIT_POLICY=passive pytest tests/faults/test_soak.py --soak 120 --capture no

hosts: $(STAMP)
	@$(ACTIVATED) pytest tests/cluster/test_hosts.py --hosts

bench: $(STAMP)
	@for name in speed resolution; do echo "== $$name"; \
		$(ACTIVATED) OMP_NUM_THREADS=1 python -m benchmarks.$$name || exit; done
	@for name in train busy sample encode hub memory model_memory; do echo "== $$name"; \
		$(ACTIVATED) python -m benchmarks.$$name || exit; done

quality: $(STAMP)
	@$(ACTIVATED) OMP_NUM_THREADS=1 python -m benchmarks.quality work/quality/demo

repair: $(STAMP)
	@$(BIN)/liquidgen repair

ui: $(STAMP)
	@$(BIN)/liquidgen ui

check: $(STAMP)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/codespell $$(git ls-files)

# Never touches data/, metrics/, reports/, mlflow.db, mlruns/, work/, .dvc/cache or .venv.
clean:
	@find . \( -name .venv -o -name .git -o -path ./data -o -path ./work \) -prune -o -type d \
		\( -name __pycache__ -o -name .pytest_cache -o -name .hypothesis -o -name .ruff_cache -o -name '*.egg-info' \) \
		-prune -exec rm -rf {} +
	@rm -rf build dist
	@echo "removed: __pycache__, .pytest_cache, .hypothesis, .ruff_cache, *.egg-info, build, dist"
	@echo "kept: data, metrics, reports, mlflow.db, mlruns, work, .dvc/cache, .venv"

$(STAMP): requirements.txt pyproject.toml
	@for python in $(or $(PYTHON),python3 python python3.13 python3.12 python3.11) none; do \
		"$$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' \
			2>/dev/null && break; \
	done; \
	if [ "$$python" = none ]; then \
		echo "error: no Python 3.11 or newer with venv found: install one (Debian, Ubuntu:" \
			"apt install python3-venv) or name it: make PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi; \
	echo "setting up .venv with $$("$$python" --version)"; \
	"$$python" -m venv .venv
	@echo "installing the packages, 2.5 GB, more with CUDA: takes minutes"
	@$(BIN)/pip install --quiet --requirement requirements.txt
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
