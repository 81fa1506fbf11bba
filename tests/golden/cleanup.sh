# SPDX-License-Identifier: GPL-2.0-or-later
# Ends, at the end of a scenario, exactly the processes that it started.
cleanup() {
	for h in a b; do
		for p in $(cat "$T/$h/pid" 2>/dev/null); do
			if [ "$(readlink "/proc/$p/exe" 2>/dev/null)" = "$(readlink -f "$BUILD/understudyd")" ]; then kill -9 "$p" || true; fi
		done
		for p in $(sed -n 's/.*started as [a-z]*, pid \([0-9]*\)$/\1/p' "$T/$h/log" 2>/dev/null); do
			if [ "$(readlink "/proc/$p/exe" 2>/dev/null)" = "$(readlink -f "$BUILD/golden/worker")" ]; then kill -9 "$p" || true; fi
		done
	done
	[ "${KEEP:-}" ] || rm -rf "$T"
}
trap cleanup EXIT
