# Two commands matter: `make demo` trains, evaluates and shows a small ALBEF; `make test` checks everything.
# On Windows, in Git's bash: make PYTHON=python BIN=.venv/Scripts demo
PYTHON ?= python3
BIN := .venv/bin

# threads that spin while they wait cost up to ten times on a shared machine
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo explorer test test-lint test-core test-chapters test-slow parity tasks notebooks course site lab clean

demo: .venv/stamp
	$(BIN)/minalbef demo

# a page to explore runs/demo, or else the shipped model, in a browser
explorer: .venv/stamp
	$(BIN)/minalbef explore

# in as many processes as `.ci/run` has cores
WORKERS ?= 2

test: .venv/stamp
	$(BIN)/python -m minalbef test --workers $(WORKERS)

# its three parts, each a job of CI: linter and types; tests of the code; chapters, course, site and pages
test-lint test-core test-chapters: .venv/stamp
	$(BIN)/python -m minalbef test --part $(@:test-%=%) --workers $(WORKERS)

test-slow: .venv/stamp
	$(BIN)/python -m minalbef test --slow --workers $(WORKERS)

# train and evaluate with the code of a commit and with the working tree: which number differs, and from which step on?
BASE ?= HEAD
parity: .venv/stamp
	$(BIN)/python tests/support/parity.py $(BASE)

# fine-tune the shipped model for all tasks, each with its baselines and on fresh tests, and put their table into docs/tasks.md
tasks: .venv/stamp
	for task in $$($(BIN)/python -m minalbef.scenes.tasks.table); do $(BIN)/minalbef finetune $$task --from data/tiny --baselines all \
		&& $(BIN)/minalbef evaluate $$task --from data/tiny --seed 1 --out runs/$$task/fresh || exit; done
	$(BIN)/python notebooks/experiments/tasks.py --out notebooks/experiments/tasks.json --page docs/tasks.md

# run the chapters again and save their outputs
notebooks: .venv/stamp
	$(BIN)/python notebooks/execute.py

# the course, into runs/course: the students' folder and zip, and the instructor's version, checked by a made-up class
course: .venv/stamp
	$(BIN)/python -c "import nbgrader" 2>/dev/null || $(BIN)/python -m pip install -q -e '.[course]'
	$(BIN)/python notebooks/assignments/course.py runs/course

# the site, into runs/site/html: chapters with their outputs, solutions, assignments, docs and docstrings
site: .venv/stamp
	$(BIN)/python -c "import furo" 2>/dev/null || $(BIN)/python -m pip install -q -e '.[site]'
	$(BIN)/python docs/site/make_site.py runs/site

lab: .venv/stamp
	$(BIN)/jupyter lab notebooks

.venv/stamp: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -e '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
