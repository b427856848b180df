# Begin with `make demo` or `make test`. Both install what they need; see scripts/setup.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The folders of the installers of Rust and Go, for shells whose PATH lacks them.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/local/go/bin

# One folder for all parts, whatever the caller's environment contains.
export CARGO_TARGET_DIR := $(CURDIR)/target

HEADER := include/alluxio_membership.h
ETCD_3_6 := .tools/bin/etcd-3.6
TOXIPROXY := .tools/bin/toxiproxy
WRONG_ETCD := .tools/bin/wrong-etcd
GO_CLIENT := .tools/bin/go-client
BENCH_JAVA := tools/bench-java/target/dependencies.classpath
CARGO ?= cargo
# Without a line per download, and without colours, which would reach logs. Repeats failed
# downloads.
MVN ?= mvn --batch-mode --no-transfer-progress -Dstyle.color=never \
  -Dmaven.wagon.http.retryHandler.count=5 -Daether.connector.http.retryHandler.count=5 \
  --file java/pom.xml

# Also without the code that resets a terminal's colours at the end.
export MAVEN_OPTS := $(MAVEN_OPTS) -Djansi.noreset=true

.PHONY: help demo test build static native build-tests install uninstall tools \
  jar header-check abi-check abi-record fmt-check clippy test-rust simulate instructions \
  test-faults test-fuzz test-c test-tsan test-java test-long soak test-install test-k8s bench \
  bench-tool docs dist test-dist deny licenses clean

help: ## Lists the targets.
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

demo: ## Shows real Alluxio workers that register through the library, in a minute or two.
	@scripts/demo

test: ## Runs every check and every test of every language, and prints a summary.
	@scripts/test

# The commit that the tool shows with --version.
build: export AXM_COMMIT = $(shell git -c safe.directory='*' describe --always --dirty \
  --abbrev=12 --exclude='*' 2>/dev/null)
build: ## Builds the library, the tool (release) and the C header.
	$(CARGO) build --release --locked --all-features
	@ln -sf liballuxio_membership.so target/release/liballuxio_membership.so.0
	@touch $(BUILT)

static: ## Builds the static library, and records what must be linked with it.
	@mkdir -p target/release
	$(CARGO) rustc --release --locked --all-features --lib --crate-type staticlib -- \
		--print native-static-libs=$(CURDIR)/target/release/native-static-libs
	@scripts/hide-symbols target/release/liballuxio_membership.a $(STATIC)

# Builds only missing or outdated files: for `sudo make install`, where root may have no cargo, and
# for tests, because build and static replace each other's intermediate files.
BUILT := target/release/built
STATIC := target/release/static/liballuxio_membership.a
SOURCES := $(shell find src -type f) build.rs cbindgen.toml Cargo.toml Cargo.lock

$(BUILT): $(SOURCES)
	@$(MAKE) --no-print-directory build

$(STATIC): $(SOURCES) scripts/hide-symbols
	@$(MAKE) --no-print-directory static

# PREFIX (/usr/local), DESTDIR, BINDIR, LIBDIR, INCLUDEDIR, DATADIR and MANDIR are the target.
export PREFIX DESTDIR BINDIR LIBDIR INCLUDEDIR DATADIR MANDIR

install: $(BUILT) $(STATIC) ## Installs libraries, headers, tool, manual pages; PREFIX=, DESTDIR=.
	@scripts/install install

uninstall: ## Removes the installed files; needs the same PREFIX= and DESTDIR=.
	@scripts/install uninstall

# The programs that no variable names.
BUILT_ETCD := $(if $(AXM_ETCD_3_6),,$(ETCD_3_6))
TEST_TOOLS := $(BUILT_ETCD) $(if $(AXM_TOXIPROXY),,$(TOXIPROXY)) \
  $(if $(AXM_WRONG_ETCD),,$(WRONG_ETCD))

tools: $(TEST_TOOLS) ## Builds etcd 3.6, toxiproxy and wrong-etcd for the tests.

$(ETCD_3_6): $(wildcard tools/etcd/*)
	cd tools/etcd && go build -trimpath -ldflags='-s -w' -o $(CURDIR)/$@ .
	@touch $@

# The library as in releases. It runs with old C libraries.
PLATFORM := linux-$(shell uname -m)
NATIVE := target/native/$(PLATFORM)/liballuxio_membership.so
# A jar for this machine contains only this library.
MVN += -Dnative.platforms=$(PLATFORM) -Dnative.platform=$(PLATFORM)

$(NATIVE): $(SOURCES) scripts/dist-native scripts/dist.bash scripts/dist-requirements.txt
	@scripts/dist-native host

native: $(NATIVE)

jar: $(NATIVE) $(BUILT) ## Builds the jar, with the library for this machine's processor.
	@rm -rf java/target/classes/META-INF/native
	$(MVN) --quiet package -DskipTests

$(TOXIPROXY): $(wildcard tools/toxiproxy/*)
	cd tools/toxiproxy && go build -trimpath -ldflags='-s -w' -o $(CURDIR)/$@ \
		github.com/Shopify/toxiproxy/v2/cmd/server
	@touch $@

$(WRONG_ETCD): $(wildcard tools/wrong-etcd/*)
	cd tools/wrong-etcd && go build -trimpath -ldflags='-s -w' -o $(CURDIR)/$@ .
	@touch $@

header-check: ## Fails if the committed C header differs from what build.rs generates.
	@mkdir -p target
	@git -c safe.directory='*' show :$(HEADER) >target/header.committed 2>/dev/null || \
		cp $(HEADER) target/header.committed
	@$(MAKE) --no-print-directory build
	@diff -u target/header.committed $(HEADER) || \
		{ echo "commit $(HEADER) as the build wrote it"; exit 1; }
	@echo "$(HEADER) is up to date"

abi-check: ## Compares the interface of the C header with the recorded one.
	@scripts/abi check

abi-record: ## Records the interface after an addition.
	@scripts/abi record

fmt-check: ## Checks the formatting of the Rust code.
	$(CARGO) fmt --check && echo "formatting is right"

clippy: ## Runs clippy and rustdoc on everything; a warning is a failure.
	$(CARGO) clippy --all-targets --all-features --locked -- -D warnings
	$(CARGO) clippy --lib --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --lib

# What test-rust runs.
build-tests:
	$(CARGO) test --locked --no-run

# Most tests wait most of the time, so more of them run at once than there are processors.
test-rust: export RUST_TEST_THREADS ?= 4
test-rust: tools ## Runs the Rust and the C tests, on real etcd servers.
	$(CARGO) test --locked --no-fail-fast

# A failure prints the seed of its history.
simulate: export AXM_SIMULATIONS ?= 10
simulate: ## Simulates views and registrations in millions of steps; AXM_SIMULATIONS=.
	$(CARGO) test --locked --profile simulation --lib simulation -- --nocapture

instructions: ## Counts the instructions of hot paths, and compares them with the recorded counts.
	@scripts/instructions

test-faults: tools ## Runs every fault test, also the slow ones; prints a line per fault.
	@scripts/test-faults

# Findings are kept in target/fuzz/findings.
test-fuzz: export FUZZ_SECONDS ?= 60
test-fuzz: ## Runs each fuzz target for a minute, or for FUZZ_SECONDS=.
	@scripts/test-fuzz

test-c: tools ## Runs only the C tests.
	$(CARGO) test --locked --test c_api

test-tsan: tools ## Runs C programs under the thread sanitizer; the first build takes minutes.
	@scripts/test-tsan

bench-tool: jar ## Measures the tool beside a JVM with Alluxio's own class.
	@scripts/bench-tool

# JAR= names a jar to test instead of the classes, such as that of make dist.
test-java: $(NATIVE) $(BUILT) tools ## Runs the Java tests, on Alluxio's classes and etcd; JAR=.
	$(MVN) verify $(if $(JAR),-Dtested.classes=$(abspath $(JAR)))
	@scripts/check-jars java/target $(PLATFORM)

# A failure prints the CHURN_SECONDS and the SEED that repeat it.
CHURN_SECONDS ?= 300
test-long: $(NATIVE) $(BUILT) ## Runs the randomized Java tests; CHURN_SECONDS=, SEED=.
	$(MVN) verify -Dtest='MixedChurnTest,RandomRecordsTest,DifferentialTest#randomOperations*' \
		-Dchurn.seconds=$(CHURN_SECONDS) -Drecords=10000 -Dsequences=30 $(if $(SEED),-Dseed=$(SEED))

# A failure prints the seed that repeats its choices.
soak: export AXM_SOAK_MINUTES ?= 10
soak: tools ## Tests 50 workers on failing members and networks; AXM_SOAK_MINUTES=, AXM_SOAK_SEED=.
	$(CARGO) test --locked --test faults soak:: -- --include-ignored --nocapture --test-threads 1

test-install: $(BUILT) $(STATIC) ## Installs into a folder, builds the examples, uninstalls.
	@env -u PREFIX -u DESTDIR -u BINDIR -u LIBDIR -u INCLUDEDIR -u DATADIR -u MANDIR \
		scripts/test-install

# A real API server and its clients, which take minutes to compile. Only test-k8s needs them.
KUBERNETES := .tools/bin/helm .tools/bin/kubectl .tools/bin/kube-apiserver

$(KUBERNETES) &: $(wildcard tools/kubernetes/*)
	cd tools/kubernetes && go build -trimpath -o $(CURDIR)/.tools/bin/ \
		-ldflags="-s -w -X k8s.io/component-base/version.gitVersion=$$(go list -m \
			-f '{{.Version}}' k8s.io/kubernetes)" \
		helm.sh/helm/v3/cmd/helm k8s.io/kubernetes/cmd/kubectl k8s.io/kubernetes/cmd/kube-apiserver
	@touch $(KUBERNETES)

# The tool without shared libraries, for the image.
STATIC_TOOL := target/native/$(PLATFORM)-tool/alluxio-membership

$(STATIC_TOOL): $(SOURCES) scripts/dist-native scripts/dist.bash scripts/dist-requirements.txt
	@scripts/dist-native tool

test-k8s: $(KUBERNETES) $(BUILT_ETCD) $(STATIC_TOOL) jar ## Tests the Helm chart and the image.
	@scripts/test-k8s

# Needs a quiet machine for a quarter of an hour. BENCH_QUICK=1 tries everything with small numbers,
# into target/bench. BENCH_ONLY= measures only some parts of changes, listings, idle, after-change,
# processes, readers, frozen, scaling and storm.
bench: tools $(GO_CLIENT) $(BENCH_JAVA) jar ## Measures beside Alluxio's class and a Go client.
	$(CARGO) bench --locked --all-features --bench performance

$(BENCH_JAVA): $(shell find tools/bench-java/src -type f) tools/bench-java/pom.xml
	$(subst java/pom.xml,tools/bench-java/pom.xml,$(MVN)) --quiet process-classes
	@touch $@

$(GO_CLIENT): $(wildcard tools/go-client/*)
	cd tools/go-client && go build -trimpath -ldflags='-s -w' -o $(CURDIR)/$@ .
	@touch $@

dist: ## Builds the files of a release into dist/; takes half an hour.
	@scripts/dist

test-dist: ## Tries the files of dist/ on other systems and JVMs; needs root.
	@scripts/test-dist

deny: ## Checks the licences, sources and duplicates of all crates.
	@scripts/licenses check

licenses: ## Writes THIRD-PARTY-LICENSES, which releases contain; builds cargo-about first.
	@scripts/licenses write

docs: ## Builds docs/ and the references of the C and C++ headers as a book, and checks its links.
	@scripts/docs

clean: ## Removes all built files.
	rm -rf target java/target tools/bench-java/target .tools
