# What people type. Each target is one command on a fresh Debian 12 with Swift; see README.md.

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
DESTDIR ?=
SWIFT ?= swift
BUILD = .build/release
# Read from the one line that says it, wherever that file lies.
VERSION := $(shell sed -n 's/^let causewayVersion = "\(.*\)"$$/\1/p' $$(find Sources -name CausewayVersion.swift))
$(if $(VERSION),,$(error no version: is there no line `let causewayVersion = "…"` in CausewayVersion.swift?))

.PHONY: all help version setup build library wheel libxen plugin demo test mutants mutants-sample deb verify-deb install-more test-network bench bench-translate bench-vhost bench-nbd bench-rbd test-ceph verify-memory verify-install verify-vfio verify-nvme lab fuzz lint imports docs docc install clean

all: build ## The same as build: what `make` alone does

help: ## Prints this list
	@awk -F':[^#]*## ' '/^[a-z-]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

version: ## Prints the version
	@echo $(VERSION)

setup: ## Installs the Debian packages that are missing (as root)
	@sh tools/setup.sh

# With the Swift runtime inside: what is built runs where there is no Swift.
build: setup ## Builds the command and the nbdkit plugin, optimized
	$(SWIFT) build -c release --static-swift-stdlib --product causeway
	$(SWIFT) build -c release --static-swift-stdlib --product CausewayNBD
	$(SWIFT) build -c release --static-swift-stdlib --product causeway-libxen

# With the Swift runtime inside and nothing shown but the header's functions: a C program needs no Swift.
LIBRARY = .build/translation/release/libcauseway-translation.so
library: setup ## Builds the translation library for tools that are not Swift
	$(SWIFT) build -c release --scratch-path .build/translation --product causeway-translation \
	    -Xswiftc -static-stdlib -Xswiftc -use-ld=lld -Xlinker --version-script=$(CURDIR)/Packaging/causeway-translation.map \
	    -Xlinker -soname=libcauseway-translation.so.1

# Debian's Python, whose packages `make setup` has installed; another one in the PATH need not have them.
WHEEL = .build/wheel
wheel: library ## Builds the Python package with the library inside, .build/wheel/causeway_translation-*.whl
	rm -rf $(WHEEL)
	mkdir -p $(WHEEL)/source
	cp -r Python/. $(WHEEL)/source
	install -s -m 755 $(LIBRARY) $(WHEEL)/source/causeway_translation/libcauseway-translation.so.1
	cd $(WHEEL)/source && CAUSEWAY_VERSION=$(VERSION) /usr/bin/python3 setup.py --quiet bdist_wheel --dist-dir $(CURDIR)/$(WHEEL)

# The same for programs of Xen's own: one file in the place of four libraries, which are found under their names in a directory of links.
LIBXEN = .build/libxen/release/libcauseway-libxen.so
libxen: setup ## Builds the stand-in for Xen's libraries, for `causeway xen-run`
	$(SWIFT) build -c release --scratch-path .build/libxen --product causeway-libxen \
	    -Xswiftc -static-stdlib -Xswiftc -use-ld=lld -Xlinker -soname=libcauseway-libxen.so
	@sh tools/libxen-names.sh $(CURDIR)/$(LIBXEN) .build/libxen/names

# And for nbdkit's plugin. Made where those are, for what they share.
PLUGIN = .build/libxen/release/libCausewayNBD.so
plugin: setup ## Builds the nbdkit plugin, with the Swift runtime inside
	$(SWIFT) build -c release --scratch-path .build/libxen --product CausewayNBD \
	    -Xswiftc -static-stdlib -Xswiftc -use-ld=lld -Xlinker -soname=libCausewayNBD.so

demo: build ## Shows the main job on real devices (as root), with figures at the end
	@tools/demo/run.sh $(BUILD)/causeway

test: setup ## Runs all tests; as root none is skipped
	# An import that Package.swift does not declare is an error.
	$(SWIFT) build --build-tests --explicit-target-dependency-import-check error
	# In two lanes, and one after another in each: tests here block threads, start processes and measure time.
	@python3 tools/test.py $(TEST_OPTIONS)

MUTANTS ?=
mutants: setup ## Takes each defence out, by a line, and sees its tests fail (see tools/mutants/README.md); about half an hour
	tools/mutants/run $(MUTANTS)

# So many of the catalogue, from as few modules as have them, in so many minutes; the day decides which, or SEED.
SAMPLE = 60
MINUTES = 4
mutants-sample: setup ## Some of the mutants, in MINUTES: another choice every day, or that of SEED
	tools/mutants/run --sample $(SAMPLE) --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

test-ceph: build ## RBD disks on a real cluster of one node; three minutes (skips what is not installed: tools/ceph/setup.sh)
	@/usr/bin/python3 tools/ceph/checks.py $(BUILD)/causeway $(CHECKS)

test-network: build ## The network's checks to their whole extent, on real taps (as root); some minutes
	@tools/network/run.sh $(BUILD)/causeway

bench: build ## Prints ours beside the reference, and the ratio
	$(BUILD)/causeway bench block
	$(BUILD)/causeway bench network
	$(BUILD)/causeway bench grant

bench-translate: setup ## The translation library's figures beside their references, and the design's targets
	cd tools/bench && $(SWIFT) run -c release translate-bench

bench-vhost: build ## Disks over vhost-user beside qemu-storage-daemon, with one front end for both
	cd tools/bench && $(SWIFT) run -c release vhost-bench $(CURDIR)/$(BUILD)/causeway

bench-nbd: build ## The NBD server of a pair beside nbdkit and qemu-nbd, on one file with one client
	@python3 tools/bench/nbd.py $(BUILD)/causeway

bench-rbd: build ## A disk on a cluster of one node beside fio's own rbd engine and qemu-nbd
	@/usr/bin/python3 tools/bench/rbd.py $(BUILD)/causeway

verify-memory: build ## fio's verify job under every memory model, IOMMU mode and device limit
	@tools/verify-memory.sh $(BUILD)/causeway

verify-install: setup ## Installs below a scratch directory and uses the library and the command from there
	@MAKE=$(MAKE) tools/install-check.sh

# Debian's kernels have no iommufd, so that part needs one that the user names; without one the first part's pass is all, and that is said.
verify-vfio: setup ## VFIO on Debian's kernel; iommufd on the one that VFIO_KERNEL and VFIO_MODULES name (see tools/vfio/README.md)
	@env -u VFIO_KERNEL -u VFIO_MODULES tools/vfio/run
	@if [ -n "$$VFIO_KERNEL" ]; then VFIO_TESTS=$$($(SWIFT) build --show-bin-path)/causewayPackageTests.xctest tools/vfio/run --iommufd; \
	else echo "vfio: iommufd was NOT tested: VFIO_KERNEL and VFIO_MODULES name no kernel that has it"; fi

verify-nvme: setup ## NVMe disks by their bus addresses, on Debian's kernel in an emulated machine with an IOMMU (see tools/vfio/README.md)
	@tools/vfio/nvme

lab: ## A real Xen in emulation, our backend under Linux's own frontends; a few minutes (see tools/lab/README.md)
	@tools/lab/run

FUZZ_SECONDS ?= 60
fuzz: setup ## Runs each fuzz target for FUZZ_SECONDS
	@sh tools/fuzz/run.sh $(FUZZ_SECONDS)

SEEDS ?= 10000
simulate: setup ## Runs SEEDS simulated pairs, with faults (see Docs/simulation.md)
	$(SWIFT) build -c release $(SIMULATE_OPTIONS) --product causeway-sim
	$(BUILD)/causeway-sim --seeds $(SEEDS)

docs: ## Checks links and blocks within README.md and Docs/, and that attacks, rules and tests name each other
	@sh tools/docs.sh

imports: ## Checks that no import runs up between wings, that time and chance are arguments, and where unsafe code is
	@python3 tools/checks/imports.py
	@python3 tools/checks/imports_trial.py
	@python3 tools/checks/airborne.py
	@python3 tools/checks/airborne_trial.py
	@python3 tools/checks/unsafe.py
	@python3 tools/checks/unsafe_trial.py

docc: setup ## The translation library's pages, as DocC archives below .build/docc
	@sh tools/docc.sh

lint: ## Style and sizes of the Swift sources, the reasons for unsafe blocks, the words of errors, and the scripts if shellcheck is there
	$(SWIFT) format lint --strict --parallel -r Package.swift Sources Tests Examples $$(find tools -name '*.swift' -not -path '*/.build*')
	@python3 tools/checks/safety.py
	@python3 tools/checks/safety_trial.py
	@python3 tools/checks/errors.py
	@python3 tools/checks/errors_trial.py
	@python3 tools/checks/comments.py
	@python3 tools/checks/sizes.py
	@python3 tools/checks/sizes_trial.py
	@python3 tools/checks/mutants.py
	@python3 tools/checks/mutants_trial.py
	@if command -v mandoc >/dev/null 2>&1; then mandoc -T lint -W warning Packaging/causeway.8.in; fi
	@if command -v shellcheck >/dev/null 2>&1; then shellcheck -x -P SCRIPTDIR tools/*.sh tools/demo/*.sh tools/deb/*.sh tools/network/*.sh tools/ceph/*.sh tools/lab/run tools/vfio/run tools/vfio/nvme .ci/run; \
	else echo "lint: shellcheck is not installed; the scripts were not checked"; fi

# The plugin is found beside the command in the build directory, and in ../lib/causeway once installed.
install: build plugin library libxen ## Installs under PREFIX (default /usr/local), below DESTDIR if that is set
	install -s -D -m 755 $(BUILD)/causeway $(DESTDIR)$(PREFIX)/bin/causeway
	install -s -D -m 644 $(PLUGIN) $(DESTDIR)$(PREFIX)/lib/causeway/libCausewayNBD.so
	install -s -D -m 755 $(LIBRARY) $(DESTDIR)$(LIBDIR)/libcauseway-translation.so.1
	ln -sf libcauseway-translation.so.1 $(DESTDIR)$(LIBDIR)/libcauseway-translation.so
	install -s -D -m 755 $(LIBXEN) $(DESTDIR)$(PREFIX)/lib/causeway/libcauseway-libxen.so
	@sh tools/libxen-names.sh ../libcauseway-libxen.so $(DESTDIR)$(PREFIX)/lib/causeway/libxen
	install -D -m 644 Sources/Exports/CCausewayTranslation/causeway_translation.h $(DESTDIR)$(PREFIX)/include/causeway_translation.h
	mkdir -p $(DESTDIR)$(LIBDIR)/pkgconfig
	sed 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR:$(PREFIX)/%=%)|; s|@VERSION@|$(VERSION)|' Packaging/causeway-translation.pc.in \
	    > $(DESTDIR)$(LIBDIR)/pkgconfig/causeway-translation.pc
	ln -sf ../../bin/causeway $(DESTDIR)$(PREFIX)/lib/causeway/vhost-user-blk
	mkdir -p $(DESTDIR)$(PREFIX)/share/qemu/vhost-user
	mkdir -p $(DESTDIR)$(PREFIX)/share/causeway
	install -m 644 Packaging/causeway-blkif.lua Packaging/monitoring/* $(DESTDIR)$(PREFIX)/share/causeway
	sed 's|@PREFIX@|$(PREFIX)|' Packaging/50-causeway-blk.json.in > $(DESTDIR)$(PREFIX)/share/qemu/vhost-user/50-causeway-blk.json
	install -D -m 755 Packaging/block-causeway $(DESTDIR)/etc/xen/scripts/block-causeway
	mkdir -p $(DESTDIR)/lib/systemd/system
	sed 's|/usr/local/bin|$(PREFIX)/bin|' Packaging/causeway-backend.service > $(DESTDIR)/lib/systemd/system/causeway-backend.service
	install -D -m 644 Packaging/causeway.modules-load $(DESTDIR)/usr/lib/modules-load.d/causeway.conf
	install -D -m 644 Packaging/causeway.sysusers $(DESTDIR)/usr/lib/sysusers.d/causeway.conf
	mkdir -p $(DESTDIR)$(PREFIX)/share/man/man8
	sed 's|@VERSION@|$(VERSION)|' Packaging/causeway.8.in > $(DESTDIR)$(PREFIX)/share/man/man8/causeway.8
	mkdir -p $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	$(BUILD)/causeway --generate-completion-script bash | sed '1{/^#!/d}' \
	    > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/causeway
	mkdir -p $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	$(BUILD)/causeway --generate-completion-script zsh > $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions/_causeway
	$(BUILD)/causeway --generate-completion-script fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/causeway.fish

# What `make install` leaves to whoever installs by hand, and a package has: a configuration, a page for each verb, the pages of Docs.
install-more: build
	install -D -m 644 Packaging/backend.conf $(DESTDIR)/etc/causeway/backend.conf
	@sh tools/deb/pages.sh $(BUILD)/causeway $(DESTDIR)$(PREFIX)/share

deb: build plugin library libxen ## Builds Debian packages, .build/deb/*.deb
	@sh tools/deb/build.sh $(VERSION)

verify-deb: ## Installs, uses, upgrades and removes the packages in a Debian without anything (as root)
	@sh tools/deb/verify.sh

clean: ## Removes what SwiftPM built
	$(SWIFT) package clean
