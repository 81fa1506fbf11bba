# SPDX-License-Identifier: GPL-2.0-or-later
# bash completion for understudy(8) and understudyd(8). Guests are those that `understudy list` knows, and for `tag`
# the running domains that it does not know; policies are the configuration's. Each question has a second.
# shellcheck shell=bash disable=SC2207 # words are wanted

_understudy_ask() {
	timeout 1 "$@" 2>/dev/null
}

# _understudy_tagged PROGRAM OPTION...: the first column behind the heading
_understudy_tagged() {
	_understudy_ask "$@" list | awk 'NR > 1 { print $1 }'
}

_understudy_untagged() {
	_understudy_ask xl list | awk 'NR > 1 && $2 != 0 && $1 !~ /--shell$/ { print $1 }' |
		grep -vxF "$(_understudy_tagged "$@")"
}

_understudy_policies() {
	printf 'standard\n'
	sed -n 's/^[[:space:]]*\[policy[[:space:]]\{1,\}\([^][:space:]]\{1,\}\)[[:space:]]*\].*/\1/p' \
		"$1" 2>/dev/null
}

# What may follow VERB; `named`: a guest was given already.
_understudy_words() {
	local verb=$1 named=$2 config=$3
	shift 3
	case $verb in
	tag)
		if [ "$named" ]; then
			_understudy_policies "$config" | sort -u | sed 's/^/ha=/'
		else
			_understudy_untagged "$@"
		fi
		echo --no-wait
		;;
	switchover)
		[ "$named" ] || _understudy_tagged "$@"
		echo --no-wait
		;;
	failback)
		[ "$named" ] || _understudy_tagged "$@"
		echo --all
		;;
	untag) [ "$named" ] || _understudy_tagged "$@" ;;
	status)
		[ "$named" ] || _understudy_tagged "$@"
		echo --json
		;;
	failover)
		[ "$named" ] || _understudy_tagged "$@"
		printf '%s\n' --force --no-wait --peer-is-dead
		;;
	events) printf '%s\n' --follow --json ;;
	top) echo --once ;;
	pair)
		[ "$named" ] || printf '%s\n' init join
		echo --dir
		;;
	esac
}

_understudy() {
	local cur prev words cword
	local config=/etc/understudy/understudy.conf verb='' named='' word i
	local -a command
	_init_completion -n = || return
	command=("${words[0]}")

	for ((i = 1; i < cword; i++)); do
		case ${words[i]} in
		--config | --socket)
			[ -n "$verb" ] && continue
			command+=("${words[i]}" "${words[i + 1]}")
			[ "${words[i]}" = --config ] && config=${words[i + 1]}
			((i++))
			;;
		-* | *=*) ;;
		*) if [ -z "$verb" ]; then verb=${words[i]}; else named=${words[i]}; fi ;;
		esac
	done
	if [[ $verb == pair && ($named == join || $prev == --dir) && $cur != -* ]]; then
		_filedir
		return
	fi
	if [ -z "$verb" ]; then
		case $prev in
		--config | --socket) _filedir ;;
		*) COMPREPLY=($(compgen -W "tag untag list status top switchover failback failover events check pair version
			--config --socket --version --help" -- "$cur")) ;;
		esac
		return
	fi
	# Not compgen -W, which would expand what a name holds.
	while read -r word; do
		if [[ -n $word && $word == "$cur"* ]]; then COMPREPLY+=("$word"); fi
	done < <(_understudy_words "$verb" "$named" "$config" "${command[@]}")
	# readline takes what stands before a "=" for another word.
	if [[ $cur == *=* && $COMP_WORDBREAKS == *=* ]]; then
		COMPREPLY=("${COMPREPLY[@]#"${cur%%=*}="}")
	fi
}

_understudyd() {
	local cur prev words cword
	_init_completion || return
	if [ "$prev" = --config ]; then
		_filedir
		return
	fi
	COMPREPLY=($(compgen -W "--config --check-config --verbose --version --help" -- "$cur"))
}

complete -F _understudy understudy
complete -F _understudyd understudyd
