# SPDX-License-Identifier: Apache-2.0
#
# Everything that is done with this repository. `make help` lists it.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO         ?= go
# The one compiler that the committed BPF objects are built with. Debian 12 has
# clang-19 in its standard repository.
CLANG      ?= clang-19
LLVM       := $(subst clang,llvm,$(CLANG))
LLVM_STRIP := $(subst clang,llvm-strip,$(CLANG))

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BUILDVCS := $(if $(shell git rev-parse -q --verify HEAD 2>/dev/null),true,false)

# Debian packages by what needs them.
DEPS_VERIFY := $(CLANG) $(LLVM) libbpf-dev linux-libc-dev shellcheck
DEPS_DEMO   := iproute2 nftables
DEPS_KUBE   := nftables runc containernetworking-plugins
# gcc and libc6-dev are for Go's race detector.
DEPS_TEST   := $(DEPS_VERIFY) $(DEPS_DEMO) $(DEPS_KUBE) gcc libc6-dev iperf3 ethtool tcpdump iputils-ping frr

# The name that the image gets; push it where the nodes can pull it.
IMAGE      ?= registry.example/fairlead:dev
IMAGE_TIME := $(shell git log -1 --format=%ct 2>/dev/null || echo 0)

DEMO_FLAGS ?=
SCALE_FLAGS ?=
SOAK       ?= 60
FUZZTIME   ?= 30s
# Packages without root, kernel or network tests: those the race detector runs on.
RACE       := ./lb/... ./controller/... ./announce/bgp/guard ./cmd/...
# Modules beside the main one, for what would not go together with it.
MODULES    := perf/lab/kube/proxycheck perf/lab/kube/binaries/kubernetes perf/lab/kube/binaries/containerd

##@ Build and try

.PHONY: build
build: ## Build bin/fairlead
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=$(BUILDVCS) -ldflags '-s -w -X main.version=$(VERSION)' -o bin/fairlead ./cmd/fairlead

.PHONY: image
image: ## Build bin/fairlead-image.tar for amd64 and arm64, without a container engine (IMAGE=registry/name:tag)
	@mkdir -p bin
	SOURCE_DATE_EPOCH=$(IMAGE_TIME) $(GO) run ./deploy/image -o bin/fairlead-image.tar -ref '$(IMAGE)' -version '$(VERSION)' -vcs=$(BUILDVCS)

.PHONY: demo
demo: deps-demo build ## As root: a cluster of namespaces with real connections (DEMO_FLAGS="--xdp-mode=off --keep")
	bin/fairlead demo $(DEMO_FLAGS)

.PHONY: demo-kubernetes
demo-kubernetes: deps-kube build kube ## As root: a Kubernetes cluster of namespaces, with real kubelets, that Fairlead is installed in (DEMO_FLAGS="--keep")
	$(GO) run ./perf/lab/kube/demo -fairlead bin/fairlead $(DEMO_FLAGS)

##@ Check

.PHONY: test
test: deps verify kube ## All that CI runs: verify, race detector, and as root the tests in namespaces
	CGO_ENABLED=1 $(GO) test -race $(RACE)
	cd perf/lab/kube/proxycheck && $(GO) test -count=1 ./...
ifeq ($(shell id -u),0)
	REQUIRE_ROOT=1 $(GO) test -count=1 -p 2 -timeout 30m ./...
else
	$(GO) test ./...
	@echo 'not root: the tests in namespaces were skipped'
endif

.PHONY: verify
verify: deps-verify verify-generated verify-manifests lint ## Generated code and manifests are fresh, lint, shellcheck
	for module in . $(MODULES); do $(GO) -C $$module mod tidy -diff; done
	shellcheck .ci/run deploy/kind/up

.PHONY: lint
lint: ## gofmt, go vet and staticcheck
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "not formatted, run make fmt: $$unformatted" >&2; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

# Generated files are compared with what lies here, committed or not; what was
# stale is fresh afterwards.
.PHONY: verify-generated
verify-generated:
	@old=$$(mktemp -d); trap 'rm -rf "$$old"' EXIT; \
	list() { find . -path ./.git -prune -o \( -name '*_bpfel.go' -o -name '*_bpfel.o' -o -name 'zz_generated.*.go' -o -path './controller/api/*/crd/*.yaml' \) ! -path '*/testdata/*' -print | sort; }; \
	list | tar -cf - -T - | tar -xf - -C "$$old"; \
	$(MAKE) --no-print-directory generate; \
	stale=; for file in $$(list); do cmp -s "$$file" "$$old/$$file" || stale="$$stale $$file"; done; \
	test -z "$$stale" || { echo "generated code was stale, commit what make generate wrote:$$stale" >&2; exit 1; }

.PHONY: verify-manifests
verify-manifests:
	$(GO) run ./deploy/helm/render -check

# The fuzz tests of Go get their part beside the differential fuzzer, which has all of FUZZTIME.
FUZZPART ?= 10s
.PHONY: fuzz
fuzz: deps-demo ## As root: programs against lb/forward for FUZZTIME (10m), then every Go fuzz test for FUZZPART
	FAIRLEAD_FUZZTIME=$(FUZZTIME) REQUIRE_ROOT=1 $(GO) test -count=1 -timeout 0 -v -run 'TestFuzz(Stories|Packets)' ./xdp
	cd perf/lab/kube/proxycheck && FAIRLEAD_FUZZTIME=$(FUZZTIME) $(GO) test -count=1 -timeout 0 -v -run TestChoice ./...
	@for file in $$(grep -rl '^func Fuzz' --include='*_test.go' .); do \
	  for name in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' "$$file"); do \
	    echo "$$(dirname "$$file") $$name"; \
	    $(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZPART) -fuzzminimizetime 10x "./$$(dirname "$$file")"; \
	  done; \
	done

.PHONY: mutations
mutations: deps-verify ## As root: breaks the programs on purpose, one way after the other; the fuzzer has to see each
	FAIRLEAD_MUTATIONS=1 REQUIRE_ROOT=1 $(GO) test -count=1 -timeout 60m -v -run TestMutations ./xdp

.PHONY: bench
bench: deps-demo ## As root: ns per packet of the programs, memory and time of the maps, into perf/results/bench.json
	$(GO) run ./perf/bench

.PHONY: scale
scale: deps-demo build kube ## As root: memory and time with up to 10,000 Services on a real API server, into perf/results/scale.json
	$(GO) run ./perf/scale $(SCALE_FLAGS)

.PHONY: kube
kube: ## Build Kubernetes and etcd for the lab from their modules into the user's cache (minutes the first time)
	$(GO) run ./perf/lab/kube/build

CHAOS ?= 2m
.PHONY: chaos-controller
chaos-controller: ## Kill and pause two controllers under churn for CHAOS (2m), into perf/results/chaos-controller.json
	REQUIRE_ROOT=1 FAIRLEAD_CHAOS=$(CHAOS) FAIRLEAD_CHAOS_REPORT=$(CURDIR)/perf/results/chaos-controller.json \
	  $(GO) test -count=1 -timeout 30m -v -run 'TestChaos|TestTwoLeaders' ./perf/lab/kube/controller

.PHONY: first-answer
first-answer: deps-kube build kube ## As root: from kubectl apply to the first answer, 200 times, into perf/results/first-answer.json
	$(GO) run ./perf/firstanswer -fairlead bin/fairlead

.PHONY: soak
soak: deps-demo build ## As root: the long tests, then the demo in every XDP mode, again and again for SOAK minutes
	FAIRLEAD_SOAK=1 REQUIRE_ROOT=1 $(GO) test -count=1 -p 1 -timeout 30m -run 'Flood|Fuzz' ./perf/flood ./xdp
	@end=$$((SECONDS + 60 * $(SOAK))); rounds=0; \
	while test $$SECONDS -lt $$end; do \
	  for mode in native generic off; do bin/fairlead demo --xdp-mode=$$mode $(DEMO_FLAGS); done; \
	  rounds=$$((rounds + 1)); echo "soak: $$rounds rounds held"; \
	done

##@ House

.PHONY: generate
generate: deps-verify ## Build the BPF objects and their Go bindings with the pinned clang, deep copies and CRDs from the API types
	BPF2GO_CC=$(CLANG) BPF2GO_STRIP=$(LLVM_STRIP) $(GO) generate ./...

.PHONY: manifests
manifests: ## Render deploy/manifests from the chart, and bring its CRDs and README up to date
	$(GO) run ./deploy/helm/render

.PHONY: fmt
fmt: ## Format Go
	gofmt -w .

.PHONY: deps deps-demo deps-kube deps-verify
deps: ## Install the Debian packages that tests need, as root, only what is missing
	@$(call install,$(DEPS_TEST))
deps-demo:
	@$(call install,$(DEPS_DEMO))
deps-kube:
	@$(call install,$(DEPS_KUBE))
deps-verify:
	@$(call install,$(DEPS_VERIFY))

define install
missing=; for package in $(1); do \
  test "$$(dpkg-query -W -f='$${db:Status-Status}' "$$package" 2>/dev/null)" = installed || missing="$$missing $$package"; \
done; \
if test -n "$$missing"; then \
  test "$$(id -u)" = 0 || { echo "missing, as root: apt-get install --no-install-recommends$$missing" >&2; exit 1; }; \
  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing; \
fi
endef

.PHONY: clean
clean: ## Remove what was built and measured
	rm -rf bin perf/results .cache

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
