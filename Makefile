# Every target builds or installs its requirements. `make` alone lists the targets.
.DEFAULT_GOAL := help
.PHONY: help rust sysbench prometheus wasm native cli man tools tools-mysql tools-mariadb tools-istio tools-servers tools-cluster \
	demo test test-all test-drivers test-faults test-hazards test-istio test-cluster search fuzz soak compose-test bench profile instructions \
	footprint test-asan test-small record lint lint-workflows coverage image image-native chart docs reproduce deny release clean

# Programs that tests and the demo start. Another Envoy: `make test ENVOY_VERSION=1.38.2` or `make test ENVOY=/path/to/envoy`.
peers := FIRSTWORD_WASM=$(CURDIR)/target/firstword.wasm FIRSTWORD_NATIVE=$(CURDIR)/target/libfirstword.so \
	ENVOY=$(CURDIR)/target/tools/envoy$(addprefix -,$(ENVOY_VERSION)) MARIADBD=$(CURDIR)/target/tools/mariadbd \
	MYSQLD=$(CURDIR)/target/tools/mysqld

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 16

# The module and the command need the Rust of Cargo.toml. mysql_common, for tests and the demo, needs a newer one.
rust:
	@sh -euc '. scripts/common.sh; need_rust 1.88' make

sysbench:
	@sh -euc '. scripts/common.sh; command -v sysbench >/dev/null || apt_install sysbench' make

prometheus:
	@scripts/prometheus.sh
	@scripts/grafana.sh

wasm: ## build target/firstword.wasm, the module Envoy loads
	@scripts/wasm.sh

native: ## build target/libfirstword.so, for Envoy 1.39 and newer (PORTABLE=1: for glibc 2.28 and newer)
	@scripts/native.sh $(if $(PORTABLE),portable)

cli: ## build target/firstword, the command, as one static binary for Linux
	@scripts/cli.sh

man: rust ## write the manual pages of the command into target/man
	@mkdir -p target/man
	@cargo run --quiet --locked --package firstword-cli -- man target/man

tools: ## get a real Envoy and MariaDB into target/tools (ENVOY_VERSION=1.38.2: that Envoy too)
	@scripts/tools.sh

tools-mysql: ## get a real MySQL 9.7 into target/tools (as root: it makes a root file system)
	@scripts/mysql.sh

tools-mariadb: ## get a newer MariaDB than this system's into target/tools (as root: it unpacks a root file system)
	@scripts/mariadb.sh

tools-istio: ## get kustomize, Helm, krew and Istio's schemas into target/tools; as root also iproute2 and iptables
	@scripts/istio.sh
	@scripts/helm.sh
	@scripts/krew.sh

tools-servers: ## get what only tests run: HAProxy, nginx, SSH, SMTP and FTP servers and dumpcap (these as root), an Envoy without V8, curl
	@scripts/servers.sh
	@scripts/proxies.sh

demo: rust tools wasm ## run MySQL traffic through Envoy and print what the filter saw (KEEP=1: leave it running)
	@$(peers) cargo run --package firstword-tools --bin demo

tools-cluster: ## build Kubernetes' and Istio's programs into target/tools/cluster (the first time: an hour on two cores)
	@scripts/cluster.sh

# Without root or network namespaces the tests that need them are left out, and named.
test: rust sysbench prometheus tools tools-istio tools-servers wasm native lint ## everything that must pass
	@[ "$$(id -u)" != 0 ] || { scripts/mysql.sh && scripts/mariadb.sh; }
	@for version in 1.39.3 1.39.1; do ENVOY_VERSION=$$version scripts/tools.sh || exit 1; done
	@$(peers) scripts/test.sh

# Tests that only the wasm module can pass are named in scripts/test.sh.
test-all: test ## everything on wasm, and then everything that can run on the native module
	@$(peers) SHELL_UNDER_TEST=native scripts/test.sh

# `make tools` links the newest.
envoy_versions := $(if $(filter all,$(ENVOY_VERSIONS)),1.36.3 1.37.0 1.38.2 1.39.3 1.40.0,$(ENVOY_VERSIONS))
test-istio: rust tools tools-istio wasm ## run istio/ in network namespaces, as root (ENVOY_VERSIONS=all: on five Envoys)
	@unshare --net true || { echo "make test-istio: needs root, and to make network namespaces" >&2; exit 1; }
	@set -e; for version in $(or $(envoy_versions),newest); do \
		[ $$version = newest ] && envoy=envoy || { envoy=envoy-$$version; ENVOY_VERSION=$$version scripts/tools.sh; }; \
		$(peers) ENVOY=$(CURDIR)/target/tools/$$envoy cargo test --test istio -- --include-ignored; \
	done

test-cluster: prometheus tools tools-istio tools-cluster image image-native ## run istio/ in a Kubernetes cluster with Istio, as root (STEPS="story table": those)
	@unshare --net true || { echo "make test-cluster: needs root, and to make network namespaces" >&2; exit 1; }
	@$(peers) STEPS="$(STEPS)" cargo test --quiet --test cluster -- --ignored --nocapture

test-drivers: rust tools tools-mysql wasm native ## run real drivers through the filter (DRIVER=go: those whose names begin so)
	@$(peers) cargo test --quiet --test drivers -- --ignored --nocapture

test-hazards: rust tools tools-mysql wasm ## show what breaks real drivers, and that the filter prevents it
	@$(peers) cargo test --quiet --test hazards needs_drivers -- --ignored --nocapture --test-threads=1

search: rust ## look for holes with random hostile peers, TIME seconds for each kind of attack (default 600)
	SEARCH_SECONDS=$(or $(TIME),600) cargo test --quiet --test search --test simulation -- --nocapture

# Results are in target/suites. A suite may have failures of its own, but no session may be lost.
test-suites: tools tools-mysql wasm ## run the own suites of servers and drivers through the filter, as root (SUITES="mariadb pymysql": those)
	@$(peers) scripts/suites.sh all $(SUITES)

fuzz: rust ## run arbitrary bytes through the core, coverage-guided by libFuzzer (TIME=600: 600 seconds for each target; RECORD=1: renew tests/fuzz/corpus)
	@RECORD=$(RECORD) scripts/fuzz.sh $(TIME)

# `make test` runs it for seconds. MODULE=plain is the control, tcp_proxy alone.
soak: rust tools wasm native ## load each module for MINUTES (default 30) with CONNECTIONS (default 10000) open (MODULE=wasm, native, plain or both; RECORD=1: into docs/soak.md)
	@$(peers) MINUTES=$(or $(MINUTES),30) CONNECTIONS=$(CONNECTIONS) RECORD=$(RECORD) \
		cargo test --quiet --test soak -- $(or $(filter-out both,$(MODULE)),wasm native) --exact --nocapture --test-threads=1

test-faults: rust tools wasm native ## run faults on connections with both modules: tests/faults, and the endings and reloads of tests/envoy
	@scripts/wasm.sh traps
	@scripts/native.sh panics
	@$(peers) cargo test --test faults
	@$(peers) FIRSTWORD_SHELL=native cargo test --test envoy -- closing reload

compose-test: rust wasm ## run the tests of envoy/docker-compose.yaml; as root it needs neither Docker nor a registry
	@scripts/compose.sh

# The proxies' CPU clocks measure, so the profile of the benchmark itself does not change the numbers. Results: target/bench
bench: rust sysbench tools wasm native ## measure what the filter costs, beside other proxies (QUICK=1: in under 5 minutes; ROUNDS=100; RECORD=1: into docs/cost.md)
	@scripts/wasm.sh benches/floor
	@scripts/proxies.sh
	@scripts/router.sh
	@ulimit -n $$(ulimit -Hn) && $(peers) QUICK=$(QUICK) ROUNDS=$(ROUNDS) RECORD=$(RECORD) \
		cargo bench --profile dev --bench cost

profile: rust sysbench tools wasm ## show where the CPU time of a query goes, by perf (QUERIES=100000)
	@command -v perf >/dev/null || { echo "make profile: needs perf; run: apt-get install linux-perf" >&2; exit 1; }
	@scripts/wasm.sh benches/floor
	@scripts/native.sh symbols
	@$(peers) QUERIES=$(QUERIES) cargo bench --profile dev --bench profile

instructions: rust ## count the instructions of the filter for a query, a connection and a hostile one, against the committed baseline (BLESS=1: write it)
	@scripts/instructions.sh

footprint: rust tools wasm native ## measure what the filter takes before the first query: memory, VMs, time to start
	@scripts/wasm.sh benches/floor
	@$(peers) cargo bench --profile dev --bench footprint

# Takes two minutes, so it is not a part of `make test`.
test-asan: rust ## run the native module in a fake Envoy under AddressSanitizer
	@scripts/asan.sh

test-small: rust tools wasm ## run Envoy with the filter in 128 MiB and a tenth of a CPU, as root: traffic, and the worst clients
	@[ "$$(id -u)" = 0 ] || { echo "make test-small: needs root, to make control groups" >&2; exit 1; }
	@$(peers) cargo bench --profile dev --bench small

record: rust tools tools-mysql ## record the captures that tests/replay.rs replays
	@$(peers) cargo run --quiet --package firstword-tools --bin record
	FIRSTWORD_BLESS=1 cargo test --quiet --test replay captures_emit

image: rust wasm ## pack the module as the images that Istio's agent can fetch, into target/oci
	@cargo run --quiet --locked --package firstword-tools --bin image

image-native: rust native ## pack the native module of this machine as the image of a volume, into target/oci/native
	@cargo run --quiet --locked --package firstword-tools --bin image -- native

chart: ## pack the Helm chart, into target/chart (IMAGE_REPOSITORY=... IMAGE_DIGEST=...: defaults of its image)
	@scripts/chart.sh

docs: rust ## build the book into target/book and check its links (SCREENSHOTS=1: also pictures of pages, by Chromium)
	@scripts/docs.sh
	@cargo test --quiet --test links -- --include-ignored
	@$(if $(SCREENSHOTS),scripts/screenshots.sh)

reproduce: rust ## build the module in two clean clones: both must be the same, byte for byte
	@scripts/reproduce.sh

not_handed_on := firstword-testing firstword-tools
# Only advisories need a network, because RustSec's database comes from GitHub.
deny: rust ## check licences, sources and advisories of all packages (OFFLINE=1: without the advisories)
	@scripts/cargo-tool.sh cargo-deny 0.20.2
	target/tools/cargo-deny --locked $(if $(OFFLINE),--offline) $(not_handed_on:%=--exclude %) check licenses
	target/tools/cargo-deny --locked $(if $(OFFLINE),--offline) check bans sources $(if $(OFFLINE),,advisories)

release: rust ## put what a release consists of into target/dist, from a tree without changes (DRY=1: run the whole workflow here)
	@$(if $(DRY),scripts/release-dry.sh,scripts/release-checks.sh && scripts/release.sh)

lint: rust ## formatting, clippy, documentation
	cargo fmt --all --check
	cargo fmt --check --manifest-path benches/floor/Cargo.toml
	cargo fmt --check --manifest-path tests/fuzz/Cargo.toml
	cargo clippy --all-targets -- -D warnings
	cargo clippy --locked --manifest-path benches/floor/Cargo.toml --target-dir target -- -D warnings
	cargo clippy --locked --manifest-path tests/fuzz/Cargo.toml --target-dir target --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

lint-workflows: ## check .github/workflows with actionlint
	@scripts/actionlint.sh

# rustup's component llvm-tools reads the output of the instrumented tests.
coverage: rust ## report which lines of the library its tests run, into target/coverage; fails below 95 %
	@scripts/cargo-tool.sh cargo-llvm-cov 0.6.21
	mkdir -p target/coverage
	target/tools/cargo-llvm-cov llvm-cov clean --workspace
	target/tools/cargo-llvm-cov llvm-cov --no-report --package firstword --lib --test replay --test filter --test config --test settings
	target/tools/cargo-llvm-cov llvm-cov --no-report --package firstword-proxy-wasm --test abi
	target/tools/cargo-llvm-cov llvm-cov report --ignore-filename-regex '/(crates|tests)/' --lcov --output-path target/coverage/lcov.info
	target/tools/cargo-llvm-cov llvm-cov report --ignore-filename-regex '/(crates|tests)/' --fail-under-lines 95 >target/coverage/summary.txt
	@tail -n 1 target/coverage/summary.txt

clean: ## remove everything built and fetched
	rm -rf target
