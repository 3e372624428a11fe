# make without a target lists all targets.

GO ?= go
VULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.9.0
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
ACTIONLINT = github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

# The API key in the documentation's examples, so that they work verbatim.
export POSTHASTE_TEST_KEY ?= sk_test_1234567890abcdef

.PHONY: help
help:
	@grep -hE '^[a-z/-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

## Use

.PHONY: build
build: ## build bin/posthaste
	$(GO) build -trimpath -o bin/posthaste ./cmd/posthaste

.PHONY: run
run: build ## start a server for trying out, with a test key, on 127.0.0.1:8080
	./bin/posthaste serve --dev --data data

.PHONY: release
release: ## build archives, Debian packages and the Helm chart into dist/, with checksums and a bill of materials
	$(GO) run ./deploy/release $(if $(VERSION),-version $(VERSION)) $(if $(MAINTAINER),-maintainer "$(MAINTAINER)") $(if $(SIGN_KEY),-sign-key "$(SIGN_KEY)")

## Check

.PHONY: package-check
package-check: ## build a release twice and compare, look into its packages and units, and install and remove the Debian package
	$(GO) test -count=1 -v -timeout 40m ./deploy/release -release.build

.PHONY: deploy-check
deploy-check: ## hold the image, the compose files and the chart to what the program does, run the image's program as a container does, and check the workflows
	$(GO) run $(ACTIONLINT) .github/workflows/*.yml
	cd deploy/check && $(GO) vet ./... && $(GO) run $(STATICCHECK) ./... && $(GO) mod tidy -diff && $(GO) test -count=1 -timeout 20m ./...

.PHONY: helm-check
helm-check: ## of these, the chart alone: lint, render, decode strictly, and start what it makes
	cd deploy/check && $(GO) test -count=1 -v -timeout 20m -run Chart .

.PHONY: test
test: tools ## install what the tests need, then run all of them; SUITE='-busy 2' runs them beside two busy loops
	$(GO) run ./e2e/suite $(SUITE)

.PHONY: test-fast
test-fast: ## the inner loop: tests that need no other program, without the race detector
	$(GO) run ./e2e/suite -fast

.PHONY: test-times
test-times: ## print where the time of the last make test or test-fast went
	@$(GO) run ./e2e/suite -times

.PHONY: test-clients
test-clients: tools ## test the receivers' libraries in other languages
	$(GO) run ./e2e/suite -only clients

.PHONY: tools
tools: ## install the programs that the tests need and this machine lacks
	@e2e/install-tools.sh

.PHONY: lint
lint: ## vet, staticcheck and formatting
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "gofmt needed:"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) mod verify >/dev/null
	$(GO) mod tidy -diff

.PHONY: vulncheck
vulncheck: ## look for known vulnerabilities in what the program calls; needs https://vuln.go.dev
	$(GO) run $(VULNCHECK) ./cmd/posthaste

.PHONY: simulate
simulate: ## play SEEDS (20000) worlds of the delivery engine against an adversary, from SEED (1) on
	$(GO) test -count=1 -timeout 0 -run '^TestSimulation$$' ./internal/dispatch -sim.seeds=$${SEEDS:-20000} -sim.seed=$${SEED:-1}

.PHONY: replay
replay: ## play one SEED and print all that happens; with EXACT=1, where nothing is left to chance
	$(GO) test -count=1 -v -timeout 0 -run "^TestSimulation$${EXACT:+_exact}\$$" ./internal/dispatch -sim.seeds=1 -exact.seeds=1 -sim.seed=$${SEED:?} -sim.sums -sim.trace

.PHONY: mutants
mutants: tools ## break one guarantee after the other, and print which test notices
	$(GO) run ./e2e/mutants

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME (default 10s)
	@for pkg in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
	  for target in $$(grep -ho --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' $$pkg/*_test.go | cut -d' ' -f2); do \
	    echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $${FUZZTIME:-10s} -fuzzminimizetime 50x $$pkg || exit 1; \
	  done; done

.PHONY: corpus
corpus: ## keep what fuzzing has found beside the tests: of each target the 50 smallest inputs that reach code no other does
	@cache=$$($(GO) env GOCACHE)/fuzz/$$($(GO) list -m); cd "$$cache" && for dir in $$(find . -type d -name 'Fuzz*'); do \
	  to=$(CURDIR)/$$(dirname $$dir)/testdata/fuzz/$$(basename $$dir); mkdir -p $$to; \
	  ls -Sr $$dir | head -50 | while read -r f; do cp -n $$dir/$$f $$to/; done; \
	done

.PHONY: ci
ci: lint test deploy-check ## what continuous integration runs

## Measure

.PHONY: bench
bench: tools ## measure the server beside a relay that stores nothing, in one run (ARGS='-scenarios one,latency')
	$(GO) run ./bench/compare $(ARGS)

.PHONY: bench/charts
bench/charts: tools ## measure everything and draw docs/charts
	$(GO) run ./bench/compare -charts docs/charts

.PHONY: bench/go
bench/go: ## run the Go benchmarks, with allocations
	$(GO) test -run '^$$' -bench . -benchmem -benchtime 0.5s $$(grep -rl --include='*_test.go' '^func Benchmark' . | xargs -n1 dirname | sort -u)

.PHONY: bench/diff
bench/diff: ## compare the Go benchmarks of two commits (BASE=main HEAD=; HEAD is the working tree unless named)
	bench/diff.sh $${BASE:-HEAD} $${HEAD}

.PHONY: first-run
first-run: ## follow the README and the tutorial on a fresh clone, and time each step (COLD=1 without caches)
	$(GO) test -count=1 -v -run TestFirstRun -timeout 30m ./e2e -first.run=$(if $(COLD),cold,warm)

.PHONY: crash
crash: ## kill -9 the server under load, again and again, and reconcile
	$(GO) test -count=1 -v -run TestCrash -timeout 20m ./e2e -crash.kills=$${KILLS:-50}

.PHONY: neighbours
neighbours: tools ## let one account do each dear thing for FOR (default 5s) beside another account, on both stores, and print what the other one noticed
	$(GO) test -count=1 -v -run TestNeighbours -timeout 60m ./e2e -neighbours.for=$${FOR:-5s} -neighbours.only="$(ONLY)"

.PHONY: faults
faults: tools ## bring about each fault of the machine ROUNDS times (default 5) under load, and reconcile
	$(GO) test -count=1 -v -run 'TestFault|TestPowerLoss' -timeout 30m ./e2e -fault.rounds=$${ROUNDS:-5} -power.cuts=$$((20 * $${ROUNDS:-5}))

.PHONY: soak
soak: ## a load of everything for FOR (default 10m), then look for what the server holds on to
	$(GO) test -count=1 -v -run TestSoak -timeout 0 ./e2e -soak.for=$${FOR:-10m}

.PHONY: cluster
cluster: tools ## kill one of three nodes on PostgreSQL every three seconds, for a minute under load, and reconcile
	$(GO) test -count=1 -v -run 'TestCluster_killed' -timeout 20m ./e2e -cluster.for=$${FOR:-60s}

.PHONY: cluster-faults
cluster-faults: tools ## bring about each fault of a cluster of three nodes under load, and print what it does to the others (FAULT= some, LEASE=5s)
	$(GO) test -count=1 -v -run 'TestCluster_faults' -timeout 60m ./e2e -cluster.faults -cluster.fault='$(FAULT)' -cluster.lease=$${LEASE:-5s}

.PHONY: cluster-cost
cluster-cost: tools ## count what a delivery costs the database with 1, 2, 4 and 6 nodes, with many partitions, and with ids of senders' own (ARGS='-nodes 1,6 -plain')
	$(GO) run ./bench/compare -scenarios cost $(ARGS)

.PHONY: cluster-settings
cluster-settings: tools ## edit on one of two nodes and send to the other at once, ROUNDS (1000) times
	$(GO) test -count=1 -v -run 'TestCluster_readYourWrites' -timeout 60m ./e2e -settings.rounds=$${ROUNDS:-1000}

.PHONY: cluster-edits
cluster-edits: tools ## edit one object on two nodes at once, PAIRS (1000) times, rotate secrets beside edits, and look for what was lost
	$(GO) test -count=1 -v -run 'TestCluster_edits|TestCluster_password' -timeout 60m ./e2e -edits.pairs=$${PAIRS:-1000} -edits.passwords=50

.PHONY: bench/pages
bench/pages: ## time the pages of the Admin UI with 1,000,000 events in the store
	$(GO) run ./bench/pages

.PHONY: docs
docs: ## rewrite docs/reference from the commands, the settings and the errors; describe new fields in api/openapi.yaml
	$(GO) test -count=1 -run 'TestReference|TestErrors_reference|TestFields_described' ./internal/cli ./internal/httpapi -update

.PHONY: screenshots
screenshots: tools ## take docs/images: every screen of the Admin UI, light and dark
	@rm -rf bin/images && mkdir -p bin/images
	$(GO) test -count=1 -run TestAdminUI_everyScreen ./e2e -screenshots ../bin/images
	@rm -rf docs/images && mv bin/images docs/images # the program that makes them embeds the old ones