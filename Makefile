# Understudy. `make help` lists the targets. V=1 shows commands, DEVELOPER=1 makes warnings errors,
# SANITIZE=address,undefined builds with sanitizers into a directory of its own.

BUILD   ?= build$(if $(SANITIZE),-san)
DESTDIR ?=
PREFIX  ?= /usr
CC      ?= gcc
PKGS    := libevent libevent_pthreads libevent_openssl libprotobuf-c liblz4 libxxhash liburing libcurl jansson libssl libcrypto
XENLIBS := -lxenctrl -lxencall -lxenforeignmemory -lxenevtchn -lxengnttab -lxenstore
WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wno-unused-parameter
CFLAGS  ?= -O2 -g
VERSION := $(shell cat VERSION)
ALL_CFLAGS := -std=gnu11 $(CFLAGS) $(WARN) $(if $(DEVELOPER),-Werror) $(if $(SANITIZE),-fsanitize=$(SANITIZE)) \
	-fno-omit-frame-pointer $(CPPFLAGS) -D_GNU_SOURCE -DUNDERSTUDY_VERSION='"$(VERSION)"' -I. -I$(BUILD)/proto \
	$(shell pkg-config --cflags $(PKGS)) -MMD -MP
ALL_LIBS := $(XENLIBS) $(shell pkg-config --libs $(PKGS)) -linih -lpthread -lm

Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-8s %s\n' '$(1)' '$(2)')

# A program's main() is in PROGRAM_main.c; everything else goes into one archive that programs and tests link.
FOLDERS := common vmm netbuf pvdrivers pvdrivers/net pvdrivers/block checkpoint replicator cli
PROTOS  := checkpoint/worker.proto $(wildcard replicator/*.proto)
PROTO_C := $(PROTOS:%.proto=$(BUILD)/proto/%.pb-c.c)
SOURCES := $(filter-out %_main.c,$(foreach d,$(FOLDERS),$(wildcard $(d)/*.c)))
# The part of our extension of Xen that dom0 uses as well.
SOURCES += vmm/hypervisor/src/pvstate_check.c vmm/hypervisor/src/pvstate_walk.c
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o) $(PROTO_C:%.c=%.o)
CORE    := $(BUILD)/libunderstudy.a
WORKER   := $(BUILD)/understudy-worker
DAEMON   := $(BUILD)/understudyd
CLI      := $(BUILD)/understudy
SHELL_PROGRAM := $(BUILD)/understudy-shell
SHELL_STUB := $(BUILD)/vmm/shell.elf
PROGRAMS := $(foreach p,checkpoint/worker_main.c replicator/daemon_main.c cli/cli_main.c vmm/shell_main.c,$(wildcard $(p)))
BINARIES := $(if $(filter checkpoint/%,$(PROGRAMS)),$(WORKER)) $(if $(filter replicator/%,$(PROGRAMS)),$(DAEMON)) \
	$(if $(filter cli/%,$(PROGRAMS)),$(CLI)) $(if $(filter vmm/%,$(PROGRAMS)),$(SHELL_PROGRAM))
UNIT     := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test_*.c))
FUZZ     := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))

.PHONY: bench-programs pair-tools check check-fast model torture demo all man unit fuzz tidy clean install deb hypervisor help
.SECONDARY:
.DELETE_ON_ERROR:

all: $(BINARIES) $(SHELL_STUB)	## build the programs

MAN := $(patsubst docs/%.scd,$(BUILD)/man/%,$(wildcard docs/*.scd))
$(BUILD)/man/%: docs/%.scd
	$(call say,MAN,$<)
	$(Q)mkdir -p $(@D)
	$(Q)scdoc < $< > $@

man: $(MAN)	## build the man pages

help:	## list the targets
	@sed -n 's/^\([a-z-]*\):.*##/\1	/p' Makefile | expand -t 20

$(BUILD)/proto/%.pb-c.c $(BUILD)/proto/%.pb-c.h: %.proto
	$(call say,PROTOC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)protoc-c --c_out=$(BUILD)/proto $<

$(BUILD)/proto/%.o: $(BUILD)/proto/%.c
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) -Wno-shadow -c -o $@ $<

$(BUILD)/%.o: %.c | $(PROTO_C:%.c=%.h)
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(CORE): $(OBJECTS)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(WORKER): $(BUILD)/checkpoint/worker_main.o $(CORE)
$(DAEMON): $(BUILD)/replicator/daemon_main.o $(CORE)
$(CLI): $(BUILD)/cli/cli_main.o $(CORE)
$(SHELL_PROGRAM): $(BUILD)/vmm/shell_main.o $(CORE)
$(SHELL_PROGRAM): EXTRA_LIBS := -lxenlight -lxentoollog
$(BINARIES):
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(EXTRA_LIBS) $(ALL_LIBS)

# Loaded by libxl as a 32-bit ELF at 1 MiB; needs no libc, so no 32-bit toolchain either.
$(SHELL_STUB): vmm/shell_stub.S
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -m32 -nostdlib -static -no-pie -Wl,--build-id=none,-Ttext-segment=0x100000,-e,start -o $@ $<

$(BUILD)/tests/%: tests/unit/%.c $(CORE)
	$(call say,TEST,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -o $@ $< $(CORE) -lcmocka $(ALL_LIBS)

unit: $(UNIT)	## build and run the unit tests
	$(Q)for t in $(UNIT); do $$t || exit 1; done

# Fuzz targets compile their sources themselves: tests/fuzz/fuzz_X.c names them in a first line `// sources: a.c b.c`.
FUZZ_CC ?= clang
# CORE: so that a change of any of them builds the target anew.
$(BUILD)/fuzz/%: tests/fuzz/%.c $(PROTO_C) $(CORE) $(wildcard vmm/hypervisor/src/*.c)
	$(call say,FUZZ,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(FUZZ_CC) $(filter-out -MMD -MP,$(ALL_CFLAGS)) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
		-o $@ $< $$(sed -n 's@^// sources: @@p' $< | sed 's@BUILD@$(BUILD)@g') $(ALL_LIBS)

fuzz: $(FUZZ)	## build the fuzz targets

BENCH := $(patsubst bench/%.c,$(BUILD)/bench/%,$(wildcard bench/*.c))
$(BUILD)/bench/%: bench/%.c $(CORE)
	$(call say,BENCH,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -o $@ $< $(CORE) $(ALL_LIBS)

# What scenarios on the pair run in dom0.
PAIR_TOOLS := $(patsubst tests/pair/dom0/%.c,$(BUILD)/tests/pair/%,$(wildcard tests/pair/dom0/*.c))
$(BUILD)/tests/pair/%: tests/pair/dom0/%.c $(CORE)
	$(call say,TOOL,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -o $@ $< $(CORE) $(ALL_LIBS)

pair-tools: $(PAIR_TOOLS)	## build what the pair's scenarios run in dom0

bench-programs: $(BENCH)	## build the programs that benchmarks run

# The folder has the same name. BENCH_ARGS="--full epochs": see bench/run.
.PHONY: bench
bench:	## measure against `xl remus`, the floor and xen-netback on a local pair: a table, build/bench/result.json
	$(Q)bench/run $(BENCH_ARGS)

# Not a part of `make check`: it takes ten minutes and judges style as much as errors.
tidy: $(PROTO_C)	## read the sources with clang-tidy
	$(Q)clang-tidy --quiet $(SOURCES) $(PROGRAMS) -- $(filter-out -MMD -MP -fno-omit-frame-pointer,$(ALL_CFLAGS))

hypervisor:	## build our Xen and xenstored (.deb in build/hypervisor)
	$(Q)vmm/hypervisor/build.sh build/hypervisor

check:	## all tests, the pair included; installs what is missing
	$(Q)tests/check

torture:	## a fault campaign on a local pair: TORTURE_ARGS="--runs 20 --seed 7", see tests/pair/torture
	$(Q)tests/pair/torture $(TORTURE_ARGS)

model:	## check the model of lease and activation, and that each mutation of it is caught
	$(Q)tests/model/run

check-fast:	## the tests that need no pair, in under three minutes
	$(Q)tests/check --fast

demo:	## a guest loses its zone on a local pair, its clients notice a short stall
	$(Q)deploy/demo/demo


MANDIR := $(DESTDIR)$(PREFIX)/share/man
install: all man	## install below DESTDIR
	install -D -t $(DESTDIR)$(PREFIX)/sbin $(DAEMON)
	install -D -t $(DESTDIR)$(PREFIX)/bin $(CLI)
	install -D -t $(DESTDIR)$(PREFIX)/lib/understudy $(WORKER) $(SHELL_PROGRAM)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/understudy $(SHELL_STUB)
	install -D -m 644 -t $(DESTDIR)/lib/systemd/system deploy/systemd/understudyd.service
	install -D -m 644 deploy/systemd/understudy.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/understudy.conf
	install -D -m 644 deploy/modprobe/understudy.conf $(DESTDIR)/lib/modprobe.d/understudy.conf
	install -D -m 644 -t $(DESTDIR)/etc/understudy deploy/understudy.conf
	install -D -m 644 deploy/completion/understudy.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/understudy
	install -D -m 644 -t $(MANDIR)/man5 $(filter %.5,$(MAN))
	install -D -m 644 -t $(MANDIR)/man8 $(filter %.8,$(MAN))

# DEB_VERSION= gives them another version than VERSION.
deb:	## build the Debian packages (in build/deb)
	$(Q)deploy/debian/build $(BUILD)/deb $(DEB_VERSION)

clean:	## remove what was built, except images and hypervisor
	rm -rf build-san build/common build/vmm build/netbuf build/pvdrivers build/checkpoint build/replicator build/cli \
		build/proto build/tests build/fuzz build/man build/deb build/libunderstudy.a $(BINARIES)

-include $(OBJECTS:.o=.d) $(wildcard $(BUILD)/*/*_main.d) $(wildcard $(BUILD)/tests/*.d)
