#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Builds understudy-xen_*.deb: Debian's Xen 4.17 with our extension, and our xenstored. Fetches the source package with
# an apt configuration of its own. Usage: build.sh [OUTDIR]; XEN_VERSION pins a source version; JOBS (default: all CPUs).
set -euo pipefail

HERE=$(cd "$(dirname "$0")" && pwd)
OUT=$(mkdir -p "${1:-$HERE/../../build/hypervisor}" && cd "${1:-$HERE/../../build/hypervisor}" && pwd)
WORK=$OUT/work
LOG=$OUT/build.log
REVISION=understudy1
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
unset MAKEFLAGS MFLAGS MAKELEVEL

say() { echo "hypervisor: $*"; }
die() { echo "hypervisor: $*" >&2; exit 1; }

# Runs a step with its output in the log; shows the log's end if it fails.
logged() {
	local what=$1
	shift
	if ! "$@" >>"$LOG" 2>&1; then
		tail -n 20 "$LOG" >&2
		die "$what failed; all of it is in $LOG"
	fi
}

inputs_hash() {
	(cd "$HERE" && find . -type f -print0 | sort -z |
		xargs -0 sha256sum && echo "${XEN_VERSION-}") | sha256sum | cut -d' ' -f1
}

check_tools() {
	local missing=() tool header
	for tool in gcc:gcc make:make patch:patch flex:flex bison:bison python3:python3 dpkg-source:dpkg-dev \
		    dpkg-deb:dpkg apt-get:apt xz:xz-utils; do
		command -v "${tool%%:*}" >/dev/null || missing+=("${tool##*:}")
	done
	for header in xenctrl.h xenevtchn.h xengnttab.h; do
		[ -e /usr/include/$header ] || missing+=(libxen-dev)
	done
	[ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
	[ -e $KEYRING ] || missing+=(debian-archive-keyring)
	if [ ${#missing[@]} -gt 0 ]; then
		die "missing: apt-get install $(printf '%s\n' "${missing[@]}" | sort -u | tr '\n' ' ')"
	fi
}

own_apt() {
	local apt=$WORK/apt tool=$1
	shift
	"$tool" -q -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
		-o Dir::Etc::preferencesparts=/dev/null -o Dir::State="$apt/state" -o Dir::State::status=/var/lib/dpkg/status \
		-o Dir::Cache="$apt/cache" -o APT::Sandbox::User="$(id -un)" "$@"
}

update_apt() {
	local apt=$WORK/apt suite
	mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial"
	for suite in "debian bookworm" "debian bookworm-updates" "debian-security bookworm-security"; do
		echo "deb-src [signed-by=$KEYRING] http://deb.debian.org/$suite main"
	done >"$apt/sources.list"
	logged "apt-get update" own_apt apt-get update
}

# Versions on offer, newest first.
offered_versions() {
	own_apt apt-cache showsrc xen | sed -n 's/^Version: //p' | grep '^4\.17\.' | sort -ruV
}

# Downloads the pinned or the newest version that can be fetched; prints which.
fetch_source() {
	mkdir -p "$WORK/source"
	cd "$WORK/source"
	for version in ${XEN_VERSION:-$(offered_versions)}; do
		if own_apt apt-get source --download-only "xen=$version" >>"$LOG" 2>&1; then
			echo "$version"
			return 0
		fi
		say "xen $version cannot be fetched" >&2
	done
	return 1
}

# Unpacks and patches, unless the tree there is made from the same version and patches.
prepare_tree() {
	local version=$1 tree=$WORK/xen stamp patch
	stamp="$version $(cat "$HERE"/patches/* | sha256sum)"
	if [ "$(cat "$tree/.understudy" 2>/dev/null)" = "$stamp" ]; then
		return 0
	fi
	say "unpacking and patching xen $version"
	rm -rf "$tree"
	# apt has checked the files against the signed index
	logged unpacking dpkg-source --no-check -x "$WORK/source/xen_$version.dsc" "$tree"
	while read -r patch; do
		logged "$patch" patch -d "$tree" -p1 --fuzz=0 --no-backup-if-mismatch -i "$HERE/patches/$patch"
	done <"$HERE/patches/series"
	echo "$stamp" >"$tree/.understudy"
}

# Own files into the tree; unchanged ones keep their time, so that make leaves them alone.
place_files() {
	local tree=$WORK/xen
	place() { cmp -s "$HERE/$1" "$tree/$2" || cp "$HERE/$1" "$tree/$2"; }
	place include/pvstate.h xen/include/public/hvm/pvstate.h
	place include/pvstate_check.h xen/include/public/hvm/pvstate_check.h
	place src/pvstate_internal.h xen/include/xen/pvstate.h
	place src/pvstate.c xen/arch/x86/hvm/pvstate.c
	place src/pvstate_check.c xen/arch/x86/hvm/pvstate_check.c
	place src/event_pvstate.c xen/common/event_pvstate.c
	place src/event_fifo_pvstate.c xen/common/event_fifo_pvstate.c
	place src/relog.c xen/arch/x86/mm/relog.c
	place src/p2m_pt_relog.c xen/arch/x86/mm/p2m_pt_relog.c
	place src/xenstored_mirror.c tools/xenstore/xenstored_mirror.c
	place src/xenstored_mirror.h tools/xenstore/xenstored_mirror.h
}

build_xen() {
	local version=$1 tree=$WORK/xen
	local args=(-C "$tree/xen" -j"${JOBS:-$(nproc)}" XEN_COMPILE_ARCH=x86_64 XEN_TARGET_ARCH=x86_64
		    XEN_VENDORVERSION="-$REVISION"
		    DEB_VERSION="$version+$REVISION" DEB_MAINTAINER=understudy)
	say "building the hypervisor (about two minutes)"
	if ! cmp -s "$HERE/kconfig" "$tree/xen/.understudy-kconfig"; then
		cp "$HERE/kconfig" "$tree/xen/.config"
		logged configuring make "${args[@]}" olddefconfig
		cp "$HERE/kconfig" "$tree/xen/.understudy-kconfig"
	fi
	export DEB_VERSION="$version+$REVISION" DEB_MAINTAINER=understudy
	logged "building the hypervisor" make "${args[@]}"
	grep -q '^CONFIG_SHADOW_PAGING=y' "$tree/xen/.config" || die "shadow paging is off in the result"
}

# The C daemon alone, against the installed libraries (libxen-dev): they are what it runs with in dom0.
build_xenstored() {
	local dir=$WORK/xen/tools/xenstore objs=$WORK/xenstored name
	local cflags=(-std=gnu99 -O2 -g -Wall -fno-strict-aliasing -fcommon -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE
		      -D_LARGEFILE_SOURCE -D_LARGEFILE64_SOURCE -D_FILE_OFFSET_BITS=64
		      -D__XEN_TOOLS__ -D__XEN_INTERFACE_VERSION__=__XEN_LATEST_INTERFACE_VERSION__
		      "-DXEN_RUN_STORED=\"/var/run/xenstored\"" "-DINCLUDE_ENDIAN_H=<endian.h>"
		      -I"$dir" -I"$dir/include" -idirafter "$WORK/xen/tools/include")
	say "building xenstored"
	mkdir -p "$objs"
	for name in xenstored_core xenstored_watch xenstored_domain xenstored_transaction xenstored_control \
		    xenstored_posix xs_lib talloc utils tdb hashtable; do
		logged "$name.c" gcc "${cflags[@]}" -c "$dir/$name.c" -o "$objs/$name.o"
	done
	logged "linking xenstored" gcc -pie -Wl,-z,relro,-z,now -o "$objs/xenstored" "$objs"/*.o \
		-lxenevtchn -lxengnttab -lxenctrl
}

build_selftest() {
	[ -e "$HERE/selftest.c" ] || return 0
	logged "building understudy-hvtest" gcc -std=gnu11 -O2 -g -Wall -Wextra -o "$WORK/understudy-hvtest" \
		"$HERE/selftest.c" "$HERE/src/pvstate_walk.c" "$HERE/src/pvstate_check.c" -lxenctrl
}

package() {
	local version=$1 root=$WORK/root deb=$OUT/understudy-xen_$1+${REVISION}_amd64.deb script
	say "packaging"
	rm -rf "$root"
	install -D -m 644 "$WORK/xen/xen/xen.gz" "$root/boot/xen-understudy.gz"
	install -D -m 644 "$WORK/xen/xen/.config" "$root/boot/xen-understudy.config"
	install -D -m 755 -s "$WORK/xenstored/xenstored" "$root/usr/lib/xen-4.17/bin/xenstored"
	# what Debian's init script, or /etc/default/xen, looks for first
	ln -s xenstored "$root/usr/lib/xen-4.17/bin/oxenstored"
	[ ! -e "$WORK/understudy-hvtest" ] ||
		install -D -m 755 -s "$WORK/understudy-hvtest" "$root/usr/sbin/understudy-hvtest"
	install -D -m 644 "$WORK/xen/debian/copyright" "$root/usr/share/doc/understudy-xen/copyright"
	mkdir -p "$root/DEBIAN"
	sed -e "s/@VERSION@/$version+$REVISION/" -e "s/@XEN_VERSION@/$version/" "$HERE/debian/control.in" >"$root/DEBIAN/control"
	for script in preinst postinst postrm; do
		install -m 755 "$HERE/debian/$script" "$root/DEBIAN/$script"
	done
	logged dpkg-deb dpkg-deb --root-owner-group -Zgzip -b "$root" "$deb.new"
	mv "$deb.new" "$deb"
	ln -sfn "$(basename "$deb")" "$OUT/understudy-xen.deb"
	find "$OUT" -maxdepth 1 -name 'understudy-xen_*.deb' ! -path "$deb" -delete
	say "$deb"
}

main() {
	local hash version
	# one build at a time in a directory; the second finds the first one's result
	exec 9>"$OUT/lock"
	flock -n 9 || { say "another build is under way here; waiting for it" && flock 9; }
	hash=$(inputs_hash)
	if [ -e "$OUT/understudy-xen.deb" ] && [ "$(cat "$OUT/stamp" 2>/dev/null)" = "$hash" ]; then
		say "up to date"
		return 0
	fi
	check_tools
	mkdir -p "$WORK"
	: >"$LOG"
	say "fetching the source (log: $LOG)"
	update_apt
	version=$(fetch_source) || die "no Xen 4.17 source could be fetched; see $LOG"
	prepare_tree "$version"
	place_files
	build_xen "$version"
	build_xenstored
	build_selftest
	package "$version"
	echo "$hash" >"$OUT/stamp"
}

main
