# SPDX-License-Identifier: GPL-2.0-or-later
# Two daemons on this machine, each with its own directories, over fakes of what is below vmm/: see fake/.
# Sourced by scenarios; BUILD and T (a temporary directory) are set.

BUILD=${BUILD:-build}
HERE=$PWD/tests/golden
UUID=11111111-2222-3333-4444-555555555555

host_conf() {	# host_conf HOST ADDRESS PEER [LINE...]
	mkdir -p "$T/$1/run" "$T/$1/state" "$T/$1/xs"
	{
		printf '[host]\nname = %s\nzone = %s\nlisten = %s\nstate-dir = %s\nrun-dir = %s\n' \
			"$1" "zone-$1" "$2" "$T/$1/state" "$T/$1/run"
		printf 'worker = %s\nshell = %s\ncontrol-port = %s\nstream-port = %s\n' \
			"$PWD/$BUILD/golden/worker" "$HERE/fake/shell" "${PORT:-17788}" "$((${PORT:-17788} + 1))"
		printf '[peer]\naddress = %s\n[policy standard]\ntakeover = %s\n' "$3" "${TAKEOVER:-automatic-without-witness}"
	} > "$T/$1/conf"
}

host_up() {	# host_up HOST
	FAKE_XENSTORE=$T/$1/xs LD_PRELOAD=$PWD/$BUILD/golden/xenstore.so \
		"$BUILD/understudyd" --config "$T/$1/conf" 2>> "$T/$1/log" &
	echo $! > "$T/$1/pid"
}

host_down() {	# host_down HOST [SIGNAL]: its daemon, which has let go of its lock when this returns
	kill "-${2:-TERM}" "$(cat "$T/$1/pid")"
	wait "$(cat "$T/$1/pid")" 2> /dev/null || true
}

host_workers() {	# the pids of HOST's workers
	u "$1" status --json 2>/dev/null | sed -n 's/.*"worker_pid": \([0-9]*\).*/\1/p' | grep -v '^0$' || true
}

domain() {	# domain HOST DOMID NAME
	printf '%s\n%s\nvif\n' "$3" "$UUID" > "$T/$1/xs/.new" && mv "$T/$1/xs/.new" "$T/$1/xs/$2"
}

u() {	# u HOST VERB...
	h=$1; shift
	"$BUILD/understudy" --config "$T/$h/conf" "$@"
}

state() {	# state HOST NAME
	u "$1" list 2>/dev/null | awk -v n="$2" '$1 == n { print $2 }'
}

wait_state() {	# wait_state HOST NAME STATE [TENTHS]
	n=0
	while [ "$(state "$1" "$2")" != "$3" ]; do
		n=$((n + 1))
		if [ $n -gt "${4:-100}" ]; then
			echo "$1: $2 is '$(state "$1" "$2")', not '$3'"
			for l in "$T"/*/log; do echo "== $l"; tail -40 "$l"; done
			exit 1
		fi
		sleep 0.1
	done
}
