# Evergrant needs Go and make. Everything else is fetched by a reference-* target, for tests only.

SHELL := /bin/bash
.DEFAULT_GOAL := help

FUNCTIONS := authorize callback refresh api
LAMBDA_ARCH ?= arm64
REFERENCE := build/reference
LINTER := go tool -modfile=tools/lint/go.mod

.PHONY: help
help: ## List these targets
	@awk -F ':.*## ' '/^[a-z][a-zA-Z-]*:.*## /{printf "  make %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- Run ---

.PHONY: dev
dev: build ## Run a broker with simulated providers and a page to try it on (ARGS="--listen ...")
	@exec build/evergrant dev $(ARGS)

.PHONY: demo
demo: ## Take every dialect through its whole life and print a table (ARGS=--json)
	@go run ./cmd/evergrant demo $(ARGS)

# --- Build ---

.PHONY: build
build: ## Build the command line, build/evergrant
	go build -trimpath -o build/evergrant ./cmd/evergrant

# Neither paths nor version control nor a build id are in a function's binary, so that the same
# source and the same Go give the same bytes. lambda.norpc leaves the old Go runtime's RPC out.
BOOTSTRAPS ?= build
BUILD_FUNCTION = GOOS=linux GOARCH=$(LAMBDA_ARCH) CGO_ENABLED=0 go build -tags lambda.norpc -trimpath -buildvcs=false \
	-ldflags '-s -w -buildid=' -o $(BOOTSTRAPS)/$*/bootstrap
.PHONY: build-functions $(FUNCTIONS:%=function-%)
build-functions: $(FUNCTIONS:%=function-%) ## Build the four functions for Lambda (LAMBDA_ARCH=arm64)
$(FUNCTIONS:%=function-%): function-%:
	$(BUILD_FUNCTION) ./functions/$*

# The same binaries for this machine, which tests run as processes, and a function that does
# nothing, for comparison.
.PHONY: functions-here function-empty
functions-here:
	@$(MAKE) --no-print-directory BOOTSTRAPS=build/here LAMBDA_ARCH=$$(go env GOARCH) build-functions function-empty
function-empty: function-%:
	$(BUILD_FUNCTION) ./tools/initbench/$*

.PHONY: zip
zip: build-functions ## Pack them as build/<function>.zip, byte for byte the same each time, and print sizes
	@go run ./tools/lambdazip $(FUNCTIONS:%=build/%)

# What `sam build` calls, one for each function of template.yaml (BuildMethod: makefile). Beside
# each binary goes the compiled configuration, without a secret in it.
CONFIG ?= evergrant.yaml
.PHONY: build-AuthorizeFunction build-CallbackFunction build-RefreshFunction build-ApiFunction
build-AuthorizeFunction: function-authorize
build-CallbackFunction: function-callback
build-RefreshFunction: function-refresh
build-ApiFunction: function-api
build-AuthorizeFunction build-CallbackFunction build-RefreshFunction build-ApiFunction: build-%Function:
	cp build/$(shell echo $* | tr A-Z a-z)/bootstrap "$(ARTIFACTS_DIR)/"
	go run ./cmd/evergrant config build $(CONFIG) --out "$(ARTIFACTS_DIR)/evergrant.json"

.PHONY: clean
clean: ## Remove what was built; what was fetched for tests stays (make clean-reference)
	@if [ -d build ]; then find build -mindepth 1 -maxdepth 1 ! -name reference -exec rm -rf {} +; fi

.PHONY: clean-reference
clean-reference: ## Remove what was fetched for tests
	rm -rf $(REFERENCE)

# --- Check ---

.PHONY: test
test: ## Run every suite whose reference is here; says what was skipped and how to enable it (SUITES="unit lint")
	@go run ./tools/suites $(SUITES)

.PHONY: lint
lint: ## Check format (gofumpt), go vet, staticcheck
	@unformatted=$$($(LINTER) gofumpt -l .); \
	if [ -n "$$unformatted" ]; then echo "not formatted; run make fmt:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	$(LINTER) staticcheck ./...

.PHONY: fmt
fmt: ## Format the source
	$(LINTER) gofumpt -w .

.PHONY: providers-docs
providers-docs: ## Write docs/providers from the catalogue
	@go run ./tools/providersdocs

# One target at a time: go test fuzzes one, and takes every core for it. The seeds, and
# whatever a run has found, are ordinary tests at any other time.
FUZZTIME ?= 60s
.PHONY: fuzz
fuzz: ## Fuzz each parser of foreign input for a minute (FUZZTIME=60s FUZZ=FuzzToken)
	@grep -ro --include='*_test.go' --exclude-dir=build '^func Fuzz[A-Za-z0-9]*' . | sort | while IFS=: read -r file target; do \
		target=$${target#func }; \
		case "$$target" in $(or $(FUZZ),*)) ;; *) continue ;; esac; \
		echo "$$target in $$(dirname $$file)"; \
		go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "./$$(dirname $$file)" || exit 1; \
	done

# G304, a file whose name is not in the source, is what a command line does with its arguments:
# left out. So are the folders that only tests and tools link. A finding that is none says why in
# its own line, behind #nosec.
NOT_SHIPPED := internal/app/awssim internal/app/runtimeapi internal/broker/brokertest internal/refresh/modelcheck internal/simulate
.PHONY: gosec
gosec: ## Look for insecure code in what is shipped (gosec)
	$(LINTER) gosec -quiet -exclude=G304 $(NOT_SHIPPED:%=-exclude-dir=%) ./cmd/... ./client/... ./functions/... ./internal/...

# The database is asked over the internet, or is a copy of it: VULNDB=file:///path.
VULNDB ?= https://vuln.go.dev
.PHONY: vuln
vuln: ## Look for known vulnerabilities (asks vuln.go.dev, so CI without the internet cannot; VULNDB=file:///copy)
	$(LINTER) govulncheck -db $(VULNDB) ./...

.PHONY: licences
licences: ## Write docs/licences.md, and the texts of all licences to build/licences.txt
	@mkdir -p build
	go run ./tools/sbom -licences docs
	go run ./tools/sbom -texts >build/licences.txt

.PHONY: sbom
sbom: build build-functions ## Write the bills of materials (CycloneDX) of the functions and the command line, build/*.cdx.json
	go run ./tools/sbom $(FUNCTIONS:%=build/%/bootstrap) >build/functions.cdx.json
	go run ./tools/sbom build/evergrant >build/evergrant.cdx.json

.PHONY: reproducible
reproducible: ## Build the functions twice, elsewhere and without a cache: the bytes must be the same
	@tools/reproducible

.PHONY: cfn-lint
cfn-lint: reference-cfn-lint ## Check template.yaml
	$(REFERENCE)/cfn-lint/bin/cfn-lint --non-zero-exit-code informational template.yaml

.PHONY: sam
sam: reference-sam reference-dynamodb reference-moto ## Have SAM check, build and invoke the functions, and show what it says (Linux, root, podman)
	@go test -run '^$$' ./test/lambda
	@EVERGRANT_SAM=$(CURDIR)/$(REFERENCE)/sam EVERGRANT_MOTO=$(CURDIR)/$(REFERENCE)/moto \
		tools/podman-run tools/dynamodb-run go test -count=1 -v -run '^TestSAM$$' ./test/lambda

.PHONY: model
model: ## Explore every interleaving of the refresh protocol, and catch every planted mistake (5 minutes)
	@go run ./tools/model $(ARGS)

.PHONY: mutants
mutants: ## Take each defence of the fault table out in turn; its test must turn red (ARGS=F07)
	@go run ./tools/mutants $(ARGS)

.PHONY: simulate
simulate: ## Simulate a day of 1,000,000 connections and a year of 10,000; writes docs/figures (10 minutes)
	@go run ./tools/simulate -figures docs/figures $(ARGS)

# The oidc-provider takes part where it was fetched (make reference-oidc).
.PHONY: soak
soak: build ## Kill a server of 2,000 one-minute tokens with kill -9, again and again (10 minutes; ARGS="-for 1m")
	@$(if $(wildcard $(REFERENCE)/oidc/ready),EVERGRANT_OIDC_PROVIDER=$(CURDIR)/$(REFERENCE)/oidc) \
		go run ./tools/soak -evergrant build/evergrant $(ARGS)

FLOODTIME ?= 30s
.PHONY: flood
flood: build ## Flood a running server with wrong keys, wrong states, giant and slow bodies (FLOODTIME=30s; Linux)
	@go run ./tools/flood -evergrant build/evergrant -for $(FLOODTIME)

.PHONY: bench-init
bench-init: functions-here function-empty zip ## Cold init of each function against an empty one, and the sizes of their zip files (ARGS="-rounds 31")
	@go run ./tools/lambdazip build/empty >/dev/null
	@go run ./tools/initbench $(ARGS)

# DynamoDB Local runs beside it where it was fetched (make reference-dynamodb), in a network of
# its own; without it its lines are left out. Everything is built before.
.PHONY: bench bench-quick
bench: ## Measure everything beside its floor, and write docs/performance.md and docs/figures (15 minutes; ARGS="-only refresh")
	@$(BENCH) -doc docs/performance.md -figures docs/figures $(ARGS)
bench-quick: ## The same with fewer lines and less time for each (2 minutes)
	@$(BENCH) -quick -scale 0.1 $(ARGS)
bench bench-quick: build functions-here zip build-bench
BENCH = $(if $(wildcard $(REFERENCE)/dynamodb/ready),tools/dynamodb-run) build/bench
.PHONY: build-bench
build-bench: functions-here function-empty
	@go run ./tools/lambdazip build/empty >/dev/null
	@go build -o build/bench ./tools/bench
	@go build -o build/initbench ./tools/initbench

# --- References for tests: pinned, fetched once, never shipped ---

.PHONY: reference reference-dynamodb reference-moto reference-oidc reference-chromium reference-cfn-lint reference-oauth-clients
reference: reference-dynamodb reference-moto reference-oidc reference-chromium reference-cfn-lint reference-oauth-clients ## Fetch all of the following
.PHONY: reference-typescript reference-python reference-schemathesis reference-sam reference-axe
reference: reference-typescript reference-python reference-schemathesis reference-sam reference-axe
reference-dynamodb: $(REFERENCE)/dynamodb/ready ## Fetch Amazon DynamoDB Local (needs Java 17 and Maven)
reference-moto: $(REFERENCE)/moto/ready ## Fetch moto, a server of other AWS services (needs Python 3)
reference-oidc: $(REFERENCE)/oidc/ready ## Fetch the oidc-provider authorization server (needs npm)
reference-chromium: $(REFERENCE)/chromium/ready ## Find Chromium; as root on Debian, install it
reference-axe: $(REFERENCE)/axe/ready ## Fetch axe-core, which checks pages for accessibility (needs npm)
reference-cfn-lint: $(REFERENCE)/cfn-lint/ready ## Fetch cfn-lint (needs Python 3)
reference-sam: $(REFERENCE)/sam/ready ## Fetch the AWS SAM CLI (needs Python 3)
reference-oauth-clients: $(REFERENCE)/oauth-clients/ready ## Fetch OAuth clients in JavaScript and Python (needs npm and Python 3)
reference-typescript: $(REFERENCE)/typescript/ready ## Fetch what the TypeScript client is built with (needs npm)
reference-python: $(REFERENCE)/python/ready ## Fetch what the Python client is tested with (needs Python 3.10)
reference-schemathesis: $(REFERENCE)/schemathesis/ready ## Fetch schemathesis (needs Python 3.11)

# A folder is complete when its file `ready` is there, which is written last.
$(REFERENCE)/dynamodb/ready: test/dynamodb/pom.xml test/dynamodb/SHA256SUMS
	rm -rf $(@D) && mkdir -p $(@D)
	mvn -B -q -f test/dynamodb/pom.xml dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/$(@D)
	cd $(@D) && sha256sum --check --quiet --strict $(CURDIR)/test/dynamodb/SHA256SUMS
	touch $@

$(REFERENCE)/oidc/ready: test/oidc/package.json test/oidc/package-lock.json test/oidc/.npmrc
	rm -rf $(@D) && mkdir -p $(@D)
	cp test/oidc/package.json test/oidc/package-lock.json test/oidc/.npmrc $(@D)/
	cd $(@D) && npm ci --no-progress
	@# The Node.js that came along, pinned, where there is one for this system; else the system's own.
	cd $(@D) && mkdir bin && \
		ln -s "$$(ls $$PWD/node_modules/node-*/bin/node 2>/dev/null || command -v node)" bin/node
	touch $@

$(REFERENCE)/chromium/ready: tools/find-chromium
	rm -rf $(@D) && mkdir -p $(@D)
	ln -s "$$(tools/find-chromium)" $(@D)/chromium
	touch $@

$(REFERENCE)/axe/ready: test/axe/package.json test/axe/package-lock.json test/axe/.npmrc
	rm -rf $(@D) && mkdir -p $(@D)
	cp test/axe/package.json test/axe/package-lock.json test/axe/.npmrc $(@D)/
	cd $(@D) && npm ci --no-progress
	touch $@

$(REFERENCE)/cfn-lint/ready: test/cfn-lint/requirements.txt
$(REFERENCE)/moto/ready: test/moto/requirements.txt
$(REFERENCE)/python/ready: clients/python/requirements-test.txt
$(REFERENCE)/schemathesis/ready: test/schemathesis/requirements.txt
$(REFERENCE)/sam/ready: test/sam/requirements.txt
$(REFERENCE)/cfn-lint/ready $(REFERENCE)/sam/ready $(REFERENCE)/moto/ready $(REFERENCE)/python/ready $(REFERENCE)/schemathesis/ready:
	rm -rf $(@D) && mkdir -p $(@D)
	python3 -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r $<
	touch $@

STANDIN := $(addprefix test/standin/,package.json package-lock.json .npmrc requirements.txt told.mjs simple-oauth2.mjs openid-client.mjs requests_oauthlib_refresh.py)
$(REFERENCE)/oauth-clients/ready: $(STANDIN)
	rm -rf $(@D) && mkdir -p $(@D)
	cp $(STANDIN) $(@D)/
	cd $(@D) && npm ci --no-progress
	python3 -m venv $(@D)/python
	$(@D)/python/bin/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r $(@D)/requirements.txt
	touch $@

$(REFERENCE)/typescript/ready: clients/typescript/package.json clients/typescript/package-lock.json clients/typescript/.npmrc
	rm -rf $(@D) && mkdir -p $(@D)
	cp clients/typescript/package.json clients/typescript/package-lock.json clients/typescript/.npmrc $(@D)/
	cd $(@D) && npm ci --no-progress
	touch $@
