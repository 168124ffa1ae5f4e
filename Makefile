# Two commands: `make demo` and `make test`. Each builds what it needs in .venv, from package registries alone.
PYTHON ?= python3.11
VENV ?= .venv
BIN = $(VENV)/bin
SOURCES = $(wildcard cpp/*.cpp cpp/src/* cpp/include/omnistream/* kernels/* omnistream/* omnistream/*/*) CMakeLists.txt pyproject.toml
CPP = $(wildcard cpp/*.cpp cpp/src/*.cpp cpp/src/*.hpp cpp/include/omnistream/*.hpp cpp/tests/* tests/fuzz/*.cpp)
CMAKE_FLAGS = -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) -DOMNISTREAM_PYTHON=OFF -DOMNISTREAM_TESTS=ON -DOMNISTREAM_WERROR=ON

.PHONY: demo test test-python test-native test-sanitize fuzz lint format bench clean

demo: $(VENV)/.demo
	$(BIN)/python examples/completejourney.py data/completejourney.ndjson
	$(BIN)/omnistream demo examples/completejourney.toml --out out/completejourney

test: test-native test-python

test-python: $(VENV)/.test
	$(BIN)/python -m pytest

test-native: $(VENV)/.test
	$(BIN)/cmake -S . -B build/native $(CMAKE_FLAGS)
	$(BIN)/cmake --build build/native
	$(BIN)/ctest --test-dir build/native --output-on-failure

# The same tests under AddressSanitizer and UndefinedBehaviorSanitizer.
test-sanitize: $(VENV)/.test
	$(BIN)/cmake -S . -B build/sanitize $(CMAKE_FLAGS) -DOMNISTREAM_SANITIZE=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo
	$(BIN)/cmake --build build/sanitize
	$(BIN)/ctest --test-dir build/sanitize --output-on-failure

# Decode against itself on arbitrary bytes; needs clang with libFuzzer.
SECONDS = 60
fuzz: $(VENV)/.test
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python tests/fuzz/run.py --seconds $(SECONDS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CPP)

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

clean:
	rm -rf build out $(VENV)

$(VENV)/.venv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

$(VENV)/.demo: $(VENV)/.venv $(SOURCES)
	$(BIN)/python -m pip install --quiet '.[demo]'
	touch $@

$(VENV)/.test: $(VENV)/.venv $(SOURCES)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(VENV)/.demo $@
