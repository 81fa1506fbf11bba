#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Installs the Debian packages that a purpose needs and that are missing; does nothing when all are there.
#
#   deploy/deps.sh build|deb|templates|hypervisor|pair|fast...
#
# Needs root or sudo only if something is missing.
set -eu

packages_of() {
	case $1 in
	build)
		cat <<-END
			gcc make pkg-config libc6-dev	# the programs
			libxen-dev			# hypercalls, xenstore, event channels, grants, libxl
			libevent-dev			# event loops of daemon and worker
			protobuf-c-compiler libprotobuf-c-dev	# control messages
			liblz4-dev libxxhash-dev	# page encoding, epoch checksum
			liburing-dev			# disk I/O in flight
			libinih-dev uthash-dev		# configuration, tables
			libcurl4-openssl-dev libjansson-dev libssl-dev	# the witness: HTTP, JSON, base64
			scdoc				# man pages
		END
		;;
	hypervisor)
		cat <<-END
			gcc make libc6-dev patch flex bison python3 xz-utils	# what Xen's own build runs
			dpkg-dev ca-certificates debian-archive-keyring	# source package in, binary package out
			libxen-dev			# libraries of xenstored
		END
		;;
	deb)
		cat <<-END
			debhelper dpkg-dev lintian	# make deb
			mmdebstrap systemd-container debian-archive-keyring	# the system that tests/packages/run installs into
		END
		;;
	templates)
		echo nodejs npm			# the parser of HCL, and what judges the result
		;;
	pair)
		cat <<-END
			qemu-system-x86 qemu-utils	# the zones
			mmdebstrap e2fsprogs debian-archive-keyring	# their root image
			openssh-client python3		# driving them
			gcc libc6-dev			# the guests' test programs
		END
		;;
	fast)
		cat <<-END
			libcmocka-dev			# unit tests
			clang libclang-rt-14-dev	# fuzz targets
			python3 python3-lz4 python3-xxhash python3-crcmod	# the independent stream checker
			shellcheck pyflakes3		# scripts
			spin				# the model of lease and activation
			etcd-server			# the witness
			curl python3-prometheus-client	# who reads metrics
		END
		;;
	*)
		echo "deps: no purpose $1" >&2
		exit 64
		;;
	esac | sed 's/#.*//'
}

missing=
for purpose; do
	for package in $(packages_of "$purpose"); do
		case " $missing " in *" $package "*) continue ;; esac
		dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -q '^installed' ||
			missing="$missing $package"
	done
done
[ -n "$missing" ] || exit 0

echo "deps: installing$missing"
if [ "$(id -u)" = 0 ]; then
	sudo=
elif command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
	sudo=sudo
else
	echo "deps: neither root nor sudo; missing: apt-get install$missing" >&2
	exit 1
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086 # a list
if ! { $sudo apt-get -q update && $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
	--no-install-recommends install $missing; } >"$log" 2>&1; then
	tail -n 20 "$log" >&2
	echo "deps: cannot install$missing" >&2
	exit 1
fi
