# What people type. Each target is one command on a fresh Debian 12 with Swift; see README.md.

PREFIX ?= /usr/local
DESTDIR ?=
SWIFT ?= swift
BUILD = .build/release

.PHONY: all setup build library demo test test-network bench bench-translate verify-memory verify-install verify-vfio lab fuzz lint docs docc install clean

all: build

setup: ## Installs the Debian packages that are missing (as root)
	@sh tools/setup.sh

build: setup ## Builds the command and the nbdkit plugin, optimized
	$(SWIFT) build -c release --product causeway
	$(SWIFT) build -c release --product CausewayNBD

# With the Swift runtime inside and nothing shown but the header's functions: a C program needs no Swift.
LIBRARY = .build/translation/release/libcauseway-translation.so
library: setup ## Builds the translation library for tools that are not Swift
	$(SWIFT) build -c release --scratch-path .build/translation --product causeway-translation \
	    -Xswiftc -static-stdlib -Xswiftc -use-ld=lld -Xlinker --version-script=$(CURDIR)/Packaging/causeway-translation.map \
	    -Xlinker -soname=libcauseway-translation.so.1

demo: build ## Shows the main job on real devices (as root), with figures at the end
	@tools/demo/run.sh $(BUILD)/causeway

test: setup ## Runs all tests; as root none is skipped
	$(SWIFT) build --build-tests
	# One after another: tests here block threads, start processes and measure time, and two processors have none to spare.
	$(SWIFT) test --skip-build --no-parallel

test-network: build ## The network's checks to their whole extent, on real taps (as root); some minutes
	@tools/network/run.sh $(BUILD)/causeway

bench: build ## Prints ours beside the reference, and the ratio
	$(BUILD)/causeway bench block
	$(BUILD)/causeway bench network
	$(BUILD)/causeway bench grant

bench-translate: setup ## The translation library's figures beside their references, and the design's targets
	cd tools/bench && $(SWIFT) run -c release translate-bench

verify-memory: build ## fio's verify job under every memory model, IOMMU mode and device limit
	@tools/verify-memory.sh $(BUILD)/causeway

verify-install: setup ## Installs below a scratch directory and uses the library and the command from there
	@MAKE=$(MAKE) tools/install-check.sh

verify-vfio: setup ## The VFIO and iommufd back ends on real kernels, with a device that uses them (see tools/vfio/README.md)
	@tools/vfio/run
	@VFIO_TESTS=$$($(SWIFT) build --show-bin-path)/causewayPackageTests.xctest tools/vfio/run --iommufd

lab: ## A real Xen in emulation, our backend under Linux's own frontends; a few minutes (see tools/lab/README.md)
	@tools/lab/run

FUZZ_SECONDS ?= 60
fuzz: setup ## Runs each fuzz target for FUZZ_SECONDS
	@sh tools/fuzz/run.sh $(FUZZ_SECONDS)

docs: ## Checks that every link within README.md and Docs/ leads somewhere
	@sh tools/docs.sh

docc: setup ## The translation library's pages, as DocC archives below .build/docc
	@sh tools/docc.sh

lint: ## Style of the Swift sources, and of the scripts if shellcheck is there
	$(SWIFT) format lint --strict --parallel -r Package.swift Sources Tests
	@if command -v mandoc >/dev/null 2>&1; then mandoc -T lint -W warning Packaging/causeway.8; fi
	@if command -v shellcheck >/dev/null 2>&1; then shellcheck tools/*.sh tools/demo/*.sh tools/network/*.sh tools/lab/run tools/vfio/run .ci/run; \
	else echo "lint: shellcheck is not installed; the scripts were not checked"; fi

# The plugin is found beside the command in the build directory, and in ../lib/causeway once installed.
install: build library ## Installs under PREFIX (default /usr/local), below DESTDIR if that is set
	install -D -m 755 $(BUILD)/causeway $(DESTDIR)$(PREFIX)/bin/causeway
	install -D -m 644 $(BUILD)/libCausewayNBD.so $(DESTDIR)$(PREFIX)/lib/causeway/libCausewayNBD.so
	install -s -D -m 755 $(LIBRARY) $(DESTDIR)$(PREFIX)/lib/libcauseway-translation.so.1
	ln -sf libcauseway-translation.so.1 $(DESTDIR)$(PREFIX)/lib/libcauseway-translation.so
	install -D -m 644 Sources/CCausewayTranslation/causeway_translation.h $(DESTDIR)$(PREFIX)/include/causeway_translation.h
	mkdir -p $(DESTDIR)$(PREFIX)/lib/pkgconfig
	sed 's|@PREFIX@|$(PREFIX)|' Packaging/causeway-translation.pc.in > $(DESTDIR)$(PREFIX)/lib/pkgconfig/causeway-translation.pc
	install -D -m 755 Packaging/block-causeway $(DESTDIR)/etc/xen/scripts/block-causeway
	install -D -m 644 Packaging/causeway-backend.service $(DESTDIR)/lib/systemd/system/causeway-backend.service
	install -D -m 644 Packaging/causeway.8 $(DESTDIR)$(PREFIX)/share/man/man8/causeway.8
	mkdir -p $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	$(BUILD)/causeway --generate-completion-script bash \
	    > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/causeway

clean:
	$(SWIFT) package clean
