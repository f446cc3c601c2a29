#!/usr/bin/env bash
# A network of namespaces on one machine: a KDC and N hosts on one Ethernet, and nothing else.
#
#     PREFIXkdc            PREFIXh1             PREFIXh2        ...   PREFIXhN        namespaces
#     eth0                 eth0                 eth0                  eth0
#     10.77.0.1/24         10.77.0.11/24        10.77.0.12/24         10.77.0.(10+N)/24
#     fd77::1/64           fd77::11/64          fd77::12/64           fd77::(10+N)/64
#        | veth               | veth               | veth                |
#     ===+====================+====================+=====================+===  bridge br0
#                                                                              in PREFIXbr
#
# Every name starts with PREFIX, by default ssmnet-PID-, so runs side by side do not meet; both ends of each
# veth are made inside their namespaces, so the machine's own network never sees them. Addresses are usable at once
# (no duplicate address detection). There is no default route: nothing leads out.
#
# As a library:    . scripts/netns.sh;  trap net_down EXIT;  net_up 3;  net_exec h1 ping -c1 10.77.0.12
# As a command:    scripts/netns.sh up N PREFIX | relay PREFIX HOST | exec PREFIX HOST COMMAND... | down PREFIX
# HOST is kdc, h1 to hN, or br; for exec also rkdc, or rh1 to rhN, where `relay` (net_relay) has put a namespace into
# the host's cable. `up` undoes what it had made when it fails; `down` ends the processes that are still in the
# namespaces, removes them, and does nothing when there are none.

NET_PREFIX=${NET_PREFIX:-ssmnet-$$-}
NET_MAX_HOSTS=200

# net_check: what all the rest needs. An empty prefix would be everybody's namespaces.
net_check() {
	if ! [[ $NET_PREFIX =~ ^[A-Za-z0-9][A-Za-z0-9-]{2,39}$ ]]; then
		echo "netns.sh: a prefix is 3 to 40 letters, digits and '-', not '$NET_PREFIX'" >&2
		return 2
	fi
	if ! command -v ip >/dev/null; then
		echo "netns.sh: 'ip' not found: install iproute2" >&2
		return 1
	fi
	if [ "$(id -u)" -ne 0 ]; then
		echo "netns.sh: network namespaces need root: run it with sudo" >&2
		return 1
	fi
}

# net_addr HOST [4|6]: its underlay address, IPv4 unless told.
net_addr() {
	local last
	case $1 in
	kdc) last=1 ;;
	h[0-9]*) last=$((10 + ${1#h})) ;;
	*) echo "netns.sh: no host '$1': use kdc, or h1, h2, ..." >&2; return 1 ;;
	esac
	if [ "${2:-4}" = 6 ]; then echo "fd77::$last"; else echo "10.77.0.$last"; fi
}

# net_names: the namespaces of NET_PREFIX that exist.
net_names() {
	ip netns list | awk -v p="$NET_PREFIX" 'index($1, p) == 1 { print $1 }'
}

# net_space NAME: one empty namespace with its loopback up.
net_space() {
	local sysctls='cd /proc/sys/net/ipv6/conf && echo 0 >all/accept_dad && echo 0 >default/accept_dad'
	ip netns add "$NET_PREFIX$1" &&
		ip netns exec "$NET_PREFIX$1" sh -c "$sysctls" &&
		ip -n "$NET_PREFIX$1" link set lo up
}

# net_attach HOST: its namespace, its cable to the bridge, its addresses.
net_attach() {
	local four six
	four=$(net_addr "$1" 4) && six=$(net_addr "$1" 6) && net_space "$1" &&
		ip -n "$NET_PREFIX$1" link add eth0 type veth peer name "$1" netns "${NET_PREFIX}br" &&
		ip -n "${NET_PREFIX}br" link set "$1" master br0 up &&
		ip -n "$NET_PREFIX$1" addr add "$four/24" dev eth0 &&
		ip -n "$NET_PREFIX$1" addr add "$six/64" dev eth0 nodad &&
		ip -n "$NET_PREFIX$1" link set eth0 up &&
		net_await "$1" "$six"
}

# net_await HOST ADDRESS: until the kernel takes packets for it, which for IPv6 it arranges in its own time.
net_await() {
	local i
	for ((i = 0; i < 200; i++)); do
		ip -n "$NET_PREFIX$1" route get "$2" 2>/dev/null | grep -q '^local' && return
		sleep 0.01
	done
	echo "netns.sh: address $2 of $1 does not come up" >&2
	return 1
}

# net_up N: the whole topology with N hosts; all of it or nothing.
net_up() {
	local hosts=${1:-}
	net_check || return
	if ! [[ $hosts =~ ^[1-9][0-9]{0,2}$ ]] || [ "$hosts" -gt "$NET_MAX_HOSTS" ]; then
		echo "netns.sh: give a number of hosts from 1 to $NET_MAX_HOSTS, not '$hosts'" >&2
		return 2
	fi
	if [ -n "$(net_names)" ]; then
		echo "netns.sh: ${NET_PREFIX}* is up already: take it down, or choose another prefix" >&2
		return 1
	fi
	net_build "$hosts" && return
	echo "netns.sh: could not build ${NET_PREFIX}*: undone" >&2
	net_down
	return 1
}

net_build() {
	local i
	net_space br &&
		ip -n "${NET_PREFIX}br" link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0 &&
		ip -n "${NET_PREFIX}br" link set br0 up &&
		net_attach kdc || return
	for ((i = 1; i <= $1; i++)); do
		net_attach "h$i" || return
	done
}

# net_relay HOST: leads the host's cable through a namespace of its own, PREFIXrHOST, in which nothing forwards until an
# impairment relay runs there (cmd/e2e/impair):
#
#     PREFIXh1                PREFIXrh1                PREFIXbr
#     eth0 =============== host  relay  bridge ======= h1 on br0
#
#     net_relay h1; net_exec rh1 impair run --between host,bridge --control SOCKET --loss 0.3
#
# That kernel's own stack stays silent. Where this fails the network is not whole any more: take it down.
net_relay() {
	local host=$1 space=${NET_PREFIX}r$1
	local silence='cd /proc/sys/net/ipv6/conf && echo 1 >all/disable_ipv6 && echo 1 >default/disable_ipv6'
	net_addr "$host" >/dev/null && net_space "r$host" &&
		ip netns exec "$space" sh -c "$silence" &&
		ip -n "${NET_PREFIX}br" link set "$host" netns "$space" name host &&
		ip -n "$space" link add bridge type veth peer name "$host" netns "${NET_PREFIX}br" &&
		ip -n "${NET_PREFIX}br" link set "$host" master br0 up &&
		ip -n "$space" link set dev bridge up &&
		ip -n "$space" link set dev host up
}

# net_exec HOST COMMAND...: runs it in the host's namespace and returns its status.
net_exec() {
	local host=$1
	shift
	ip netns exec "$NET_PREFIX$host" "$@"
}

# net_pids: the processes inside our namespaces, this one excepted.
net_pids() {
	local space
	for space in $(net_names); do
		ip netns pids "$space"
	done | grep -vx "$$"
}

# net_kill SIGNAL: sends it to them and waits up to two seconds until none is left.
net_kill() {
	local pids i
	pids=$(net_pids) || return 0
	# shellcheck disable=SC2086 # one word a process
	kill "-$1" $pids 2>/dev/null
	for ((i = 0; i < 40; i++)); do
		net_pids >/dev/null || return 0
		sleep 0.05
	done
	return 1
}

# net_down: removes all that carries NET_PREFIX; the veths and the bridge go with their namespaces.
net_down() {
	local space status=0
	net_check || return
	net_kill TERM || net_kill KILL
	for space in $(net_names); do
		ip netns del "$space" || status=1
	done
	return $status
}

net_usage() {
	echo "usage: $0 up HOSTS PREFIX | relay PREFIX HOST | exec PREFIX HOST COMMAND... | down PREFIX" >&2
	return 2
}

net_main() {
	local verb=${1:-}
	case $verb in
	up) [ $# -eq 3 ] || { net_usage; return; }; NET_PREFIX=$3 ;;
	down) [ $# -eq 2 ] || { net_usage; return; }; NET_PREFIX=$2 ;;
	relay) [ $# -eq 3 ] || { net_usage; return; }; NET_PREFIX=$2 ;;
	exec) [ $# -ge 4 ] || { net_usage; return; }; NET_PREFIX=$2 ;;
	*) net_usage; return ;;
	esac
	case $verb in
	up) net_up "$2" ;;
	down) net_down ;;
	relay) net_check && net_relay "$3" ;;
	exec) net_check && net_exec "${@:3}" ;;
	esac
}

# Sourced, it only defines the functions.
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
	net_main "$@"
fi
