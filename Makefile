# Two commands: `make demo` and `make test`. Each builds what it needs in .venv, from package registries alone.
PYTHON ?= python3.11
VENV ?= .venv
BIN = $(VENV)/bin
SOURCES = $(wildcard cpp/bindings/* cpp/src/* cpp/include/omnistream/* cpp/tests/* tests/fuzz/*.cpp kernels/* kernels/host/* omnistream/* omnistream/*/*) CMakeLists.txt pyproject.toml
CPP = $(wildcard cpp/bindings/* cpp/src/*.cpp cpp/src/*.hpp cpp/include/omnistream/*.hpp cpp/tests/* tests/fuzz/*.cpp bench/*/*.cpp bench/*/*.hpp kernels/*.cu kernels/*.cuh kernels/host/*.hpp)
# Peers of the benchmarks that the package does not name.
PYSIMDJSON = pysimdjson==7.0.2
CHDB = 'chdb>=3,<5'
DATAFUSION = 'datafusion>=43,<60'
# The extension and the native tests are built at once, and share what both need.
NATIVE = build/native
WITH_TESTS = -C build-dir=$(NATIVE) -C cmake.define.OMNISTREAM_TESTS=ON -C cmake.define.OMNISTREAM_WERROR=ON
SANITIZE = -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) -DOMNISTREAM_PYTHON=OFF -DOMNISTREAM_TESTS=ON -DOMNISTREAM_WERROR=ON
SANITIZE += -DOMNISTREAM_SANITIZE=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo

.PHONY: demo test test-python test-native test-sanitize fuzz crash-matrix state-machine crash-test soak bench-kafka lint format bench bench-decode bench-pipeline bench-window gpu-check clean

demo: $(VENV)/.demo
	$(BIN)/python examples/completejourney.py data/completejourney.ndjson
	$(BIN)/omnistream demo examples/completejourney.toml --out out/completejourney

test: test-native test-python

test-python: $(VENV)/.test
	$(BIN)/python -m pytest

test-native: $(VENV)/.test
	$(BIN)/ctest --test-dir $(NATIVE) --output-on-failure

# The same tests under AddressSanitizer and UndefinedBehaviorSanitizer, and what the CUDA sources do on the host launcher.
test-sanitize: $(VENV)/.test
	$(BIN)/cmake -S . -B build/sanitize $(SANITIZE)
	$(BIN)/cmake --build build/sanitize
	$(BIN)/ctest --test-dir build/sanitize --output-on-failure
	OMNISTREAM_HOST_SANITIZE=1 ASAN_OPTIONS=detect_leaks=0 \
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" \
	$(BIN)/python -m pytest -q tests/conformance -k cuda-host

# Decode against itself on arbitrary bytes; needs clang with libFuzzer.
SECONDS = 60
fuzz: $(VENV)/.test
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python tests/fuzz/run.py --seconds $(SECONDS)

# Exactly-once jobs on a real broker, killed at every step; their output is checked. Last line: JSON.
SEEDS = 20
crash-matrix: $(VENV)/.test
	$(BIN)/python -m tests.kafka.crash.matrix --seeds $(SEEDS)

# A job under any sequence of pushes, snapshots, crashes and replays, against a plain model; other choices every time.
EXAMPLES = 1000
state-machine: $(VENV)/.test
	OMNISTREAM_STATE_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -q tests/state/test_machine.py --timeout=0

# A file job that is killed at random moments and started again: its output is that of an undisturbed run. Last line: JSON.
RUNS = 100
crash-test: $(VENV)/.test
	$(BIN)/python -m tests.state.crash --runs $(RUNS)

# The command under a steady stream: memory must stay flat, and no window be left open. Last line: JSON.
MINUTES = 30
soak: $(VENV)/.test
	$(BIN)/python -m tests.state.soak --minutes $(MINUTES)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CPP)

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

# How fast each stage is, and the whole path (pytest-benchmark). Outside the working tree's sources: `pytest`, not `python -m`.
bench: $(VENV)/.bench
	$(BIN)/pytest bench -c bench/pytest.ini

# One core, the whole job: events per second, and memory at one and at four times the length. Last line: JSON.
bench-pipeline: $(VENV)/.bench
	$(BIN)/python bench/pipeline.py $(ARGUMENTS)

# On a machine with a GPU: builds, conformance, memory checks and every figure, in under 8 minutes and offline. Uses the
# packages of $(GPU_PYTHON), not a new environment. REHEARSE=1 takes the same steps without a GPU and claims no figure.
GPU_PYTHON = python3
gpu-check:
	$(GPU_PYTHON) bench/gpu_check.py $(if $(REHEARSE),--rehearse)

# Many JSON decoders on the same work. Last line: JSON. ARGUMENTS="--workloads flat --peers omnistream simdjson" narrows
# it; without, the figures go to bench/results, too.
bench-decode: $(VENV)/.bench build/bench-decode/simdjson_peer
	$(BIN)/python bench/decode/run.py $(or $(ARGUMENTS),--save)

# simdjson's single-header pair comes in the source package of pysimdjson.
build/bench-decode/simdjson.cpp: $(VENV)/.venv
	$(BIN)/python -m pip download --quiet --no-binary :all: --no-deps --dest build/bench-decode $(PYSIMDJSON)
	tar -xzf build/bench-decode/pysimdjson-*.tar.gz -C build/bench-decode --strip-components=2 --wildcards '*/simdjson/simdjson.h' '*/simdjson/simdjson.cpp'
	touch $@

build/bench-decode/simdjson_peer: bench/decode/simdjson_peer.cpp build/bench-decode/simdjson.cpp $(wildcard bench/decode/*.hpp)
	$(CXX) -O3 -march=native -std=c++20 -Ibuild/bench-decode $(filter %.cpp,$^) -o $@

# Arrow and JSON to closed windows, against engines and hand-written tables. Last line: JSON.
bench-window: $(VENV)/.bench build/bench-window/simdjson_peer build/bench-window/table_peer
	$(BIN)/python bench/window/run.py $(or $(ARGUMENTS),--save)

build/bench-window/simdjson_peer: bench/window/simdjson_peer.cpp build/bench-decode/simdjson.cpp
	mkdir -p $(@D)
	$(CXX) -O3 -march=native -std=c++20 -Ibuild/bench-decode $^ -o $@

build/bench-window/table_peer: bench/window/table_peer.cpp
	mkdir -p $(@D)
	$(CXX) -O3 -march=native -std=c++20 $< -o $@

# A real broker on loopback and the same topic for all. Last line: JSON. Without ARGUMENTS the figures are saved, too.
KAFKA_PEERS = 'quixstreams>=3,<4' 'bytewax[kafka]>=0.21,<1' orjson
bench-kafka: $(VENV)/.bench build/bench-kafka/bare_loop build/bench-kafka/peers/.made
	$(BIN)/python bench/kafka/run.py $(or $(ARGUMENTS),--save)

build/bench-kafka/bare_loop: bench/kafka/bare_loop.cpp
	mkdir -p $(@D)
	$(CXX) -O3 -std=c++20 $< -o $@ -ldl

# Apart from the rest: they pin a client of their own.
build/bench-kafka/peers/.made:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet $(KAFKA_PEERS)
	touch $@

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
	$(BIN)/python -m pip install --quiet $(WITH_TESTS) --editable '.[dev]'
	touch $(VENV)/.demo $@

$(VENV)/.bench: $(VENV)/.venv $(SOURCES)
	$(BIN)/python -m pip install --quiet '.[test,bench]' $(CHDB) $(DATAFUSION)
	rm -f $(VENV)/.test  # which wants the sources in place
	touch $@
