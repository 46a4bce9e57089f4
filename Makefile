# Two commands do everything: `make serve` and `make test`. They need Python 3.11 to 3.13 and make.

PYTHON ?= python3
UV := .uv/bin/uv
BIN := .venv/bin

.PHONY: help serve test lint check compat soak rehearse bench bench-gpu overload sbom release protos locks clean

help:
	@echo "make serve    serve the bundled models on localhost:8500"
	@echo "make test     run the tests"
	@echo "make lint     lint, types and import contracts"
	@echo "make check    lint, types, import contracts, stubs, image, manifests and alerts (needs kubectl 1.27 or newer, and npm)"
	@echo "make compat   call the server by the clients of others, and open its page in a browser (needs chromium and node)"
	@echo "make soak     run the tests that take minutes: overload, departures, a rolling restart, random search"
	@echo "make rehearse play a deployment from its manifests, under load, and print a table (needs kubectl; ten minutes)"
	@echo "make bench    measure this machine; draws build/bench/results.png"
	@echo "make bench-gpu measure a GPU, and compare its images with golden ones; says so where TensorFlow sees none"
	@echo "make overload print how much is useful when too much is asked: simulated, and on a real server; takes 15 minutes"
	@echo "make sbom     list what is delivered, as CycloneDX, in build/sbom"
	@echo "make release  build wheels, lists and licences in build/release, and check each by installing it"
	@echo "make protos   generate the stubs from the .proto again"
	@echo "make locks    resolve the locked versions again"

serve: .venv/ready
	@$(BIN)/progan serve --lame-duck-s 0 --log-format text

# Two at a time, each a whole file: tests of a file share what takes long to make.
test: .venv/ready
	$(BIN)/pytest -n 2 --dist loadfile

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

check: lint .prometheus/ready
	$(BIN)/buf lint protos
	$(BIN)/hadolint Dockerfile
	$(call generate_stubs,build/stubs)
	diff -r -x '*.proto' -x '__init__.py' -x '__pycache__' -x py.typed build/stubs/progan_protos/v1 protos/progan_protos/v1
	$(call compile_protocol,open_inference,build/protocols)
	cmp build/protocols/open_inference.binpb $(PROTOCOLS)/open_inference/open_inference.binpb
	$(call compile_protocol,tensorflow_serving,build/protocols)
	cmp build/protocols/tensorflow_serving.binpb $(PROTOCOLS)/tensorflow_serving/tensorflow_serving.binpb
	$(BIN)/pytest -m check

compat: .venv/ready .venv-compat/ready
	$(BIN)/pytest -m compat

soak: .venv/ready
	$(BIN)/pytest -m 'soak or hypothesis' --hypothesis-profile random

rehearse: export TF_CPP_MIN_LOG_LEVEL = 2
rehearse: .venv/ready
	$(BIN)/python tests/rehearsal/rehearse.py

bench: export TF_CPP_MIN_LOG_LEVEL = 2
bench: .venv/ready
	-@$(MAKE) --keep-going .venv-peers/ready .venv-mosec/ready .venv-litserve/ready
	$(BIN)/python tests/bench/startup.py
	$(BIN)/python tests/bench/generator.py
	$(BIN)/python tests/bench/layers.py
	$(BIN)/python tests/bench/serving.py
	$(BIN)/python tests/bench/serving_small.py
	$(BIN)/python tests/bench/serving_peers.py
	$(BIN)/python tests/bench/serving_full_size.py
	$(BIN)/python tests/bench/lone_call.py
	$(BIN)/python tests/bench/swaps.py
	$(BIN)/python tests/bench/inversion.py
	$(BIN)/python tests/bench/training.py
	$(BIN)/python tests/bench/evaluation.py
	$(BIN)/python tests/bench/autoscaling.py
	$(BIN)/python tests/bench/picture.py

# Where there is no driver for GPUs, nothing is installed for them: .venv's TensorFlow sees none, either.
GPU_VENV := $(if $(wildcard /dev/nvidiactl /dev/dxg),.venv-gpu,.venv)
bench-gpu: export TF_CPP_MIN_LOG_LEVEL = 2
bench-gpu: $(GPU_VENV)/ready
	-@[ $(GPU_VENV) = .venv ] || $(MAKE) .venv-peers-gpu/ready
	@$(GPU_VENV)/bin/python tests/bench/gpu.py

overload: export TF_CPP_MIN_LOG_LEVEL = 2
overload: .venv/ready
	$(BIN)/python tests/overload/table.py

# One list for each lock: names, versions and hashes of all that is installed with it.
CYCLONEDX := $(UV) tool run -q --python $(PYTHON) --from cyclonedx-bom==7.3.0 cyclonedx-py requirements --output-reproducible --of JSON
sbom: $(UV)
	mkdir -p build/sbom
	$(CYCLONEDX) --pyproject client/pyproject.toml -o build/sbom/progan-client.cdx.json locks/client.txt
	$(CYCLONEDX) --pyproject service/pyproject.toml -o build/sbom/progan-service-cpu.cdx.json locks/service-cpu.txt
	$(CYCLONEDX) --pyproject service/pyproject.toml -o build/sbom/progan-service-gpu.cdx.json locks/service-gpu.txt

# Each wheel is installed into an environment with nothing but its lock, from which is taken what the image leaves out.
RELEASE := build/release
release: sbom
	rm -rf $(RELEASE) && mkdir -p $(RELEASE)
	for package in protos client service; do $(UV) build -q --wheel -o $(RELEASE) $$package; done
	cp build/sbom/*.cdx.json $(RELEASE)
	$(call bare_environment,client)
	$(UV) pip install -q --python $(RELEASE)/client --no-deps $(RELEASE)/progan_protos-*.whl $(RELEASE)/progan_client-*.whl
	$(RELEASE)/client/bin/progan-client --version
	$(RELEASE)/client/bin/python tests/release/licences.py > $(RELEASE)/licences-client.txt
	$(call bare_environment,service-cpu)
	$(UV) pip install -q --python $(RELEASE)/service-cpu --no-deps $(RELEASE)/progan_protos-*.whl $(RELEASE)/progan_service-*.whl
	$(RELEASE)/service-cpu/bin/python tests/release/licences.py > $(RELEASE)/licences-service-cpu.txt
	$(PYTHON) tests/release/left_out.py $(RELEASE)/service-cpu
	$(PYTHON) tests/release/commands.py $(RELEASE)/service-cpu/bin/progan
	rm -r $(RELEASE)/client $(RELEASE)/service-cpu
	cd $(RELEASE) && sha256sum *.whl *.json *.txt > SHA256SUMS
	@echo "$(RELEASE): wheels, lists of contents (CycloneDX), licences and checksums"

define bare_environment
	$(UV) venv -q --python $(PYTHON) $(RELEASE)/$(1)
	$(UV) pip sync -q --python $(RELEASE)/$(1) --require-hashes locks/$(1).txt
endef

protos: $(UV)
	$(call generate_stubs,protos)
	$(call compile_protocol,open_inference,$(PROTOCOLS)/open_inference)
	$(call compile_protocol,tensorflow_serving,$(PROTOCOLS)/tensorflow_serving)

# gencode of this release loads on every protobuf from 6.31 on; a newer one would force the newest on client users.
PROTOC := $(UV) tool run -q --python $(PYTHON) --from grpcio-tools==1.76.0 --with 'setuptools<82' python -m grpc_tools.protoc
define generate_stubs
	mkdir -p $(1)
	$(PROTOC) -I protos --python_out=$(1) --pyi_out=$(1) --grpc_python_out=$(1) progan_protos/v1/image_generator.proto
endef

# The protocols of other servers are read at run time, into descriptor pools of their own: generated code would clash with
# that of packages that bring the same messages.
PROTOCOLS := service/progan_service/serving/protocols
define compile_protocol
	mkdir -p $(2)
	$(PROTOC) -I $(PROTOCOLS)/$(1) --include_imports --descriptor_set_out=$(2)/$(1).binpb $(1).proto
endef

COMPILE := $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
  --no-emit-package progan-protos --no-emit-package progan-client --no-emit-package progan-service

locks: $(UV)
	$(COMPILE) --upgrade --group dev client/pyproject.toml service/pyproject.toml --extra cpu --extra hub --extra import --extra mp4 --extra otel -o locks/dev.txt
	$(COMPILE) --upgrade service/pyproject.toml --extra cpu --extra hub --extra otel -o locks/service-cpu.txt
	$(COMPILE) --upgrade service/pyproject.toml --extra gpu --extra hub --extra otel -o locks/service-gpu.txt
	$(COMPILE) --upgrade client/pyproject.toml -o locks/client.txt
	$(COMPILE) --upgrade tests/bench/peers.in -o locks/peers.txt
	$(COMPILE) --upgrade tests/compat/compat.in -o locks/compat.txt

# Bytecode is compiled once, by all cores, and not by the first start of whatever imports TensorFlow, nor by every start
# where Python may not keep it.
.venv/ready: export UV_COMPILE_BYTECODE = 1
.venv/ready: locks/dev.txt protos/pyproject.toml client/pyproject.toml service/pyproject.toml | $(UV)
	$(UV) venv -q --allow-existing --python $(PYTHON) .venv
	VIRTUAL_ENV=.venv $(UV) pip sync -q locks/dev.txt
	VIRTUAL_ENV=.venv $(UV) pip install -q --no-deps -e protos -e client -e service
	@touch $@

.venv-gpu/ready: export UV_COMPILE_BYTECODE = 1
.venv-gpu/ready: locks/service-gpu.txt locks/dev.txt protos/pyproject.toml client/pyproject.toml service/pyproject.toml | $(UV)
	$(UV) venv -q --allow-existing --python $(PYTHON) .venv-gpu
	VIRTUAL_ENV=.venv-gpu $(UV) pip sync -q locks/service-gpu.txt
	VIRTUAL_ENV=.venv-gpu $(UV) pip install -q -c locks/dev.txt pytest pytest-asyncio hypothesis
	VIRTUAL_ENV=.venv-gpu $(UV) pip install -q --no-deps -e protos -e client -e service
	@touch $@

# PyPI's PyTorch for Linux brings gigabytes of CUDA. The build for CPUs is taken from where pip has been told to look, or
# from PyTorch's own index, which uv knows.
TORCH := torch==2.13.0
.venv-peers/ready: locks/peers.txt | $(UV)
	$(UV) venv -q --allow-existing --python $(PYTHON) .venv-peers
	VIRTUAL_ENV=.venv-peers $(UV) pip sync -q locks/peers.txt
	@.uv/bin/pip --python .venv-peers install -q --no-deps $(TORCH)+cpu 2>/dev/null \
	  || VIRTUAL_ENV=.venv-peers $(UV) pip install -q --no-deps --torch-backend cpu $(TORCH) 2>/dev/null \
	  || echo "PyTorch is left out: no build of it for CPUs can be had here"
	@touch $@

# For GPUs, the build for this driver is taken from PyTorch's own index, or else PyPI's.
.venv-peers-gpu/ready: locks/peers.txt | $(UV)
	$(UV) venv -q --allow-existing --python $(PYTHON) .venv-peers-gpu
	VIRTUAL_ENV=.venv-peers-gpu $(UV) pip sync -q locks/peers.txt
	@VIRTUAL_ENV=.venv-peers-gpu $(UV) pip install -q --torch-backend auto $(TORCH) 2>/dev/null \
	  || VIRTUAL_ENV=.venv-peers-gpu $(UV) pip install -q $(TORCH) 2>/dev/null \
	  || echo "PyTorch is left out: no build of it for GPUs can be had here"
	@touch $@

# Servers of other libraries, each with the model of this one: their pins clash with each other.
.venv-mosec/ready .venv-litserve/ready: export UV_COMPILE_BYTECODE = 1
.venv-mosec/ready .venv-litserve/ready: .venv-%/ready: tests/bench/contenders/%.in locks/service-cpu.txt | $(UV)
	$(UV) venv -q --allow-existing --python $(PYTHON) .venv-$*
	VIRTUAL_ENV=.venv-$* $(UV) pip sync -q locks/service-cpu.txt
	VIRTUAL_ENV=.venv-$* $(UV) pip install -q -r tests/bench/contenders/$*.in
	VIRTUAL_ENV=.venv-$* $(UV) pip install -q --no-deps -e protos -e client -e service
	@touch $@

# What other clients need clashes with what the server needs. TensorFlow Serving's stubs are for the server's TensorFlow.
.venv-compat/ready: locks/compat.txt | $(UV)
	$(UV) venv -q --allow-existing --python $(PYTHON) .venv-compat
	VIRTUAL_ENV=.venv-compat $(UV) pip sync -q locks/compat.txt
	$(UV) pip install -q --python $(PYTHON) --no-deps --target .venv-compat/tensorflow-serving tensorflow-serving-api==2.21.0
	@touch $@

# Prometheus checks alerts, queries and dashboard. Where it is not installed, Debian's package is unpacked here, which
# takes no root. Where that cannot be fetched, what needs it is skipped, by name.
APT := apt-get -qq -o Acquire::Retries=3 -o APT::Sandbox::User=root -o Dir::State=$(CURDIR)/.prometheus/apt -o Dir::Cache=$(CURDIR)/.prometheus/apt
.prometheus/ready:
	@mkdir -p .prometheus/apt/lists/partial .prometheus/apt/archives/partial
	@if command -v promtool >/dev/null && command -v prometheus >/dev/null; then :; \
	elif command -v apt-get >/dev/null \
	  && $(APT) update && cd .prometheus && $(APT) download prometheus && dpkg -x prometheus_*.deb . && rm -r apt prometheus_*.deb; \
	then touch ready; \
	else echo "ALERTS AND DASHBOARD ARE NOT CHECKED: put prometheus and promtool on the PATH"; fi

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	  || { echo "Python 3.11, 3.12 or 3.13 is needed; name one: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv .uv
	.uv/bin/pip install -q --disable-pip-version-check uv==0.13.9

clean:
	rm -rf .venv .venv-gpu .venv-peers .venv-peers-gpu .venv-mosec .venv-litserve .venv-compat .uv .prometheus build
