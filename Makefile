# Everything a contributor runs. `make` alone lists it.

MODULES := .ci/modules
TIMEOUT ?= 30m
FUZZTIME ?= 20s

# The race detector needs cgo, hence a C compiler; without one the tests still run, and say what they leave out.
RACE := $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: test
test: servers ## every test of every module, with the race detector, against real servers
	@test -n "$(RACE)" || echo "No C compiler: the race detector is off."
	@.ci/test $(RACE) -shuffle=on -parallel 4 -timeout $(TIMEOUT) ./...

.PHONY: test-short
test-short: servers ## the quick ones, without the race detector
	@.ci/test -short -timeout $(TIMEOUT) ./...

.PHONY: test-long
test-long: servers ## a million entries migrated under live writers, five minutes of ticks while Redis dies; ten minutes
	MIGRATE_TEST_LONG=1 .ci/test --here -count=1 -timeout 30m ./middleware/migrate ./middleware/audit ./middleware/internal/rediswalk
	ASYNQJOBS_TEST_LONG=1 .ci/test --here -count=1 -timeout 30m -run 'TestEightSchedulers' ./middleware/jobs/asynqjobs

.PHONY: test-browser
test-browser: servers ## the admin page in headless Chromium (Debian: chromium nodejs npm)
	npm ci --ignore-scripts --no-audit --no-fund --prefix middleware/jobs/asynqjobs/monitor/browsertest
	.ci/test --here -count=1 -tags browser -timeout 10m ./middleware/jobs/asynqjobs/monitor/browsertest

.PHONY: servers
servers: ## install redis-server and memcached if they are missing (starts nothing)
	@.ci/servers

.PHONY: check
check: ## formatting, vet, builds, go.mod, documents, leftovers
	.ci/checks

.PHONY: lint
lint: ## golangci-lint, in the version that .golangci.yml is written for
	.ci/lint

.PHONY: fmt
fmt: ## gofmt everything
	gofmt -w $$(git ls-files -- '*.go')

.PHONY: tidy
tidy: ## go mod tidy in every module
	$(MODULES) go mod tidy

.PHONY: bench
bench: servers ## measure the budgets as ratios; tables and charts go to bench-results
	go run ./benchmarks -save bench-results
	cd benchmarks/compare && go run ./charts -o ../../bench-results ../../bench-results/results.json

.PHONY: bench-compare
bench-compare: servers ## measure other libraries on the same bytes
	cd benchmarks/compare && go run .

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (20s) each
	.ci/fuzz $(FUZZTIME) "$$(go env GOCACHE)/fuzz"

.PHONY: cover
cover: servers ## test coverage of the root module, all packages counted together
	go test -timeout $(TIMEOUT) -coverpkg=./... -coverprofile=coverage.out ./...
	go tool cover -func=coverage.out | tail -n 1

.PHONY: ci
ci: ## all that a change must pass
	.ci/run
