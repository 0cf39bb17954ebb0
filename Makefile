# Two commands do all set-up on a fresh Debian machine with Go, git and make:
# `make demo` runs the main job, `make test` passes the tests.

SHELL    := /bin/bash
GO       ?= go
BIN      := bin/tillbridge
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  := -s -w -X main.version=$(VERSION)
export GOFLAGS ?=

.DEFAULT_GOAL := help
.PHONY: help deps deps-gcc deps-usb usb lab build build-usb demo test vectors planted race foreign fuzz bench lint check crash noise cross release-check

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n",$$1,$$2}' $(MAKEFILE_LIST)

deps: ## what the plain build needs: the Go modules
	@.ci/deps go

deps-gcc: ## what -race needs: a C compiler
	@.ci/deps gcc

deps-usb: ## what the tag usb needs: C compiler, pkg-config, libusb
	@.ci/deps cgo

build: deps ## bin/tillbridge, without cgo
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/tillbridge

demo: build ## a shop's day with virtual pads, acquirer and CRM, in about half a minute
	$(BIN) demo

test: deps ## all tests, the vectors and one planted bug of each package; no C compiler needed
	CGO_ENABLED=0 .ci/gotest -timeout 30m ./...
	@$(MAKE) --no-print-directory vectors

vectors: deps ## standards' vectors and captures, with the number run of each set
	CGO_ENABLED=0 $(GO) test -count=1 -timeout 20m -v -run '^TestVectors' ./... | .ci/vectors

planted: deps ## every planted bug must be caught
	CGO_ENABLED=0 TILLBRIDGE_PLANTED=all $(GO) test -count=1 -timeout 60m -run TestPlantedBugs -v ./cmd/tillbridge | grep -vE '^=== '; exit $${PIPESTATUS[0]}

race: deps-gcc ## the concurrent packages under the race detector
	.ci/race

build-usb: deps-usb ## bin/tillbridge with USB (bulk and HID) besides serial and network; needs libusb where it runs
	CGO_ENABLED=1 $(GO) build -tags usb -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/tillbridge

usb: deps-usb ## build and test the USB transport (cgo, libusb)
	.ci/usb

lab: deps ## the drivers on a real USB stack, in a small guest (QEMU, a Debian kernel)
	@packaging/lab/run

foreign: deps ## programs written by others against the virtual devices (Linux, root: pcscd in namespaces of its own)
	@.ci/foreign deps
	.ci/foreign

fuzz: deps ## every fuzz target, FUZZTIME each (3s)
	.ci/fuzz

bench: deps ## benchmarks with allocations and ratios
	CGO_ENABLED=0 $(GO) test -run '^$$' -bench . -benchmem -timeout 30m ./... | grep -E '^(Benchmark|pkg:|cpu:|FAIL|panic)'; exit $${PIPESTATUS[0]}

lint: deps ## gofmt, go vet, staticcheck, go fix
	.ci/lint

cross: deps ## linux/amd64, linux/arm64 and windows/amd64 without cgo
	.ci/cross

check: lint test ## what to run before a commit

crash: deps ## thousands of power cuts, kills and crashed payments
	CGO_ENABLED=0 TILLBRIDGE_LARGE=1 $(GO) test -count=1 -timeout 60m -v -run 'PowerCut|Kill|Crash|Journal' ./queue/... ./agent/engine/... ./agent/keyring/... ./p2pe/seal/... | grep -vE '^=== '; exit $${PIPESTATUS[0]}

noise: deps ## 10,000 noisy exchanges per protocol
	CGO_ENABLED=0 TILLBRIDGE_LARGE=1 $(GO) test -count=1 -timeout 60m -v -run 'Noise' ./drivers/... | grep -vE '^=== '; exit $${PIPESTATUS[0]}

release-check: check planted race fuzz crash noise ## everything, with the large figures
