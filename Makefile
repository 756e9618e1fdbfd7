# Both targets make what they need and may be repeated. PYTHON is the interpreter the venv is made with.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# opencv-python needs libraries of a desktop (libGL); on a machine without them its headless twin steps in.
HEADLESS = $(BIN)/python -c 'import cv2' 2>/dev/null || { \
	$(BIN)/python -m pip uninstall --quiet --yes opencv-python && \
	$(BIN)/python -m pip install --quiet --force-reinstall --no-deps opencv-python-headless; }

.PHONY: demo test lint docs soak clean

# torch and torchvision come together, as users install them (the CUDA build also runs on a CPU).
$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch torchvision
	$(BIN)/python -m pip install --quiet --editable .
	@$(HEADLESS)
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@$(HEADLESS)
	touch $@

demo: $(VENV)/installed
	$(BIN)/python run_stream.py --config configs/demo.yaml
	@echo "overlay video: out/demo.mp4"
	@echo "results:       out/demo.ndjson"

# A third of a test's time is waiting, for servers and outages: one more at a time than a machine of CI has cores.
# Files begin in the order of tests/conftest.py.
test: $(VENV)/installed-test lint
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The documentation, as pages that need no server: open site/index.html.
docs: $(VENV)/installed-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "site/index.html"

# The long tests; then everything that a run depends on fails at random, for an hour: writes
# benchmarks/results/soak.json.
MINUTES ?= 60
soak: $(VENV)/installed-test
	$(BIN)/python -m pytest -m soak
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES)

clean:
	rm -rf $(VENV) out site build *.egg-info .pytest_cache .mypy_cache .ruff_cache
