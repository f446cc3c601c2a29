#!/usr/bin/env bash
# The whole of ssmnet on one machine, in a minute: a KDC and three hosts in network namespaces (scripts/netns.sh draws
# them), real TUN interfaces, real packets. It installs what is missing, builds, shows each thing as it happens, ends
# with a summary and removes all it made.
#
# usage: scripts/quickstart.sh [--sudo] [--keep]      --keep: leave it up, and print what to type next
set -euo pipefail
self=$(realpath "${BASH_SOURCE[0]}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/prepare.sh

packages=(iproute2 iputils-ping tcpdump iperf3)
keep=
began=$EPOCHREALTIME

# The demonstration's peers, by namespace.
declare -A peer=([h1]=ana-laptop [h2]=web-frontend [h3]=db-primary)
declare -A tag=([h1]=ops [h2]=web [h3]=db)
declare -A overlay4 overlay6

title() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
show() { sed 's/^/   /'; }
seconds() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.1f", b - a }'; }

kdc() { net_exec kdc bin/kdc --dir "$state/kdc" "$@"; }
ssm() { local host=$1; shift; net_exec "$host" bin/ssm --dir "$state/${peer[$host]}" "$@"; }

facts=()
# fact NAME RESULT adds a line to the summary.
fact() { facts+=("$(printf '%-34s %s' "$1" "$2")"); }

# proves WHAT COMMAND... fails the whole where the command does: a demonstration that does not hold is none.
proves() {
  local what=$1
  shift
  "$@" || die "this did not hold: $what (state and logs: $state)"
}

clean_up() {
  local status=$?
  [[ -z $keep || $status -ne 0 ]] || return 0
  [[ $status -eq 0 ]] || say "stopped; what the daemons said last:" && [[ $status -eq 0 ]] || tail -qn 5 "$state"/*/*.log "$state"/kdc.log >&2 || true
  net_down || true
  rm -rf "$state"
}

answers() { kdc status >/dev/null 2>&1; }

start_kdc() {
  title "A KDC on 10.77.0.1, port 7600"
  kdc init --address 10.77.0.1:7600 2>&1 | show
  net_exec kdc bin/kdc --dir "$state/kdc" serve >"$state/kdc.log" 2>&1 &
  await answers || { cat "$state/kdc.log" >&2; die 'the KDC did not start'; }
}

enrol_peers() {
  local host
  title "Three peers, enrolled with one-time tokens"
  for host in h1 h2 h3; do
    kdc peer add "${peer[$host]}" --tag "${tag[$host]}" >"$state/${peer[$host]}.token"
    ssm "$host" enrol --token-file "$state/${peer[$host]}.token" | show
  done
  cat >"$state/policy.hujson" <<'POLICY'
{
  "schema": "ssmnet.policy/v1",
  "grants": [
    // Operators may do these things on the database host. Nothing else is permitted to anybody.
    { "id": "ops-db", "src": ["tag:ops"], "dst": ["tag:db"], "allow": ["icmp", "tcp/5201"] },
    { "id": "web-db", "src": ["tag:web"], "dst": ["tag:db"], "allow": ["tcp/5432"] },
  ],
}
POLICY
  title "The policy: what is not granted is denied"
  show <"$state/policy.hujson"
  kdc policy apply "$state/policy.hujson" 2>&1 | show
}

bring_up() {
  local host
  title "ssm up on each host"
  for host in h1 h2 h3; do
    ssm "$host" up | show
    read -r "overlay4[$host]" "overlay6[$host]" < <(net_exec "$host" ip -o addr show dev tun0 |
      awk '$3 == "inet" { four = $4 } $3 == "inet6" { six = $4 } END { sub("/.*", "", four); sub("/.*", "", six); print four, six }')
  done
  net_exec h3 tcpdump -q -i eth0 -c 1500 -U -w "$state/underlay.pcap" 2>"$state/tcpdump-underlay" &
  net_exec h3 tcpdump -q -i tun0 -c 1500 -U -w "$state/inside.pcap" 2>"$state/tcpdump-inside" &
  local f
  for f in underlay inside; do
    await grep -qs listening "$state/tcpdump-$f" || die "tcpdump did not start: $(cat "$state/tcpdump-$f")"
  done
}

# steps prints the four steps as ana-laptop's and db-primary's logs have them, with the time since the packet was held.
steps() {
  sed -n 's/.*msg="\{0,1\}\([^"=]*\)"\{0,1\} step=\([1-4]\) .*role=responder.*/   step \2  db-primary  \1 and accepts/p' "$state/db-primary/ssm.log" | tail -n 1 >"$state/responder"
  local line step text after
  while read -r line; do
    step=$(sed 's/.*step=\([1-4]\).*/\1/' <<<"$line")
    text=$(sed 's/.*msg="\([^"]*\)".*/\1/' <<<"$line")
    after=$(sed -n 's/.* after=\([^ ]*\).*/\1/p' <<<"$line")
    [[ $step != 3 ]] || cat "$state/responder"
    printf '   step %s  ana-laptop  %-32s %s\n' "$step" "$text" "${after:+$after after the packet}"
  done < <(grep 'step=[1-4]' "$state/ana-laptop/ssm.log" | tail -n 4)
}

first_packet() {
  title "The first packet: ana-laptop pings db-primary, there is no session yet"
  local out
  out=$(net_exec h1 ping -c 1 -W 2 "${overlay4[h3]}") || die "the first packet was lost: $out"
  steps
  local ms
  ms=$(sed -n 's/.*time=\([0-9.]*\) ms.*/\1/p' <<<"$out")
  echo "   answered after $ms ms: held, authorised, keyed, released"
  fact "first packet, cold" "$ms ms, none lost"
}

pings() {
  title "Ping over IPv4 and IPv6"
  local family target out
  for family in 4 6; do
    target=${overlay4[h3]}
    [[ $family = 4 ]] || target=${overlay6[h3]}
    out=$(net_exec h1 ping -q -i 0.02 -c 20 -W 2 -s 200 -p 73736d6e65742d6d61726b6572 "$target") || die "ping over IPv$family failed: $out"
    tail -n 2 <<<"$out" | show
    fact "ping, IPv$family" "$(sed -n 's/.*= [0-9.]*\/\([0-9.]*\)\/.*/\1/p' <<<"$out") ms on average, $(grep -o '[0-9]*% packet loss' <<<"$out")"
  done
}

serves_iperf() { [[ -n $(net_exec h3 ss -Hltn 'sport = 5201') ]]; }

transfer() {
  title "A TCP transfer, ana-laptop to db-primary (3 s)"
  net_exec h3 iperf3 -s -1 -B "${overlay4[h3]}" >"$state/iperf-server" 2>&1 &
  await serves_iperf || die "iperf3 did not start: $(cat "$state/iperf-server")"
  local rate
  rate=$(net_exec h1 iperf3 -c "${overlay4[h3]}" -t 3 -f g | awk '/receiver/ { print $7, "Gbit/s" }')
  echo "   $rate"
  fact "TCP, one stream" "$rate"
  ssm h1 session list | show
}

# has FILE TEXT: whether the capture holds the bytes.
has() { grep -qaF -- "$2" "$1"; }

capture() {
  title "What the network saw: a capture of db-primary's underlay"
  proves 'the marker is visible inside the tunnel (or this proof proves nothing)' has "$state/inside.pcap" ssmnet-marker
  local word
  for word in ssmnet-marker ana-laptop db-primary "$(cat "$state/db-primary.token")"; do
    if has "$state/underlay.pcap" "$word"; then
      die "\"$word\" crossed the underlay in clear"
    fi
  done
  tcpdump -r "$state/underlay.pcap" -nn -c 4 'udp port 7601' 2>/dev/null | cut -c 1-110 | show
  echo "   the pings' marker is in the packets of tun0; of it, the names and the tokens, nothing is on eth0"
  fact "underlay capture" "$(stat -c %s "$state/underlay.pcap") bytes, nothing inside in clear"
}

denied() {
  title "A flow that policy does not grant: web-frontend pings ana-laptop"
  local out before=$EPOCHREALTIME
  out=$(net_exec h2 ping -c 1 -W 2 "${overlay4[h1]}" 2>&1) && die 'a denied ping was answered'
  grep -o 'From.*' <<<"$out" | show
  proves 'the denial is administrative' grep -q 'Packet filtered' <<<"$out"
  fact "denied flow" "\"administratively prohibited\" at once ($(seconds "$before" "$EPOCHREALTIME") s with ping's own start)"
}

flows() { [[ $(grep -c 'bytes from' "$state/flow") -ge 20 ]]; }

suspension() {
  title "Suspending db-primary while ana-laptop talks to it"
  net_exec h1 ping -D -O -i 0.02 -w 4 "${overlay4[h3]}" >"$state/flow" 2>&1 &
  local flow=$! cut last
  await flows || die 'ana-laptop does not reach db-primary'
  cut=$EPOCHREALTIME
  kdc peer suspend db-primary 2>&1 | show
  wait "$flow" || true # ping ends by itself, with an error as it should
  last=$(sed -n 's/^\[\([0-9.]*\)\].*bytes from.*/\1/p' "$state/flow" | tail -n 1)
  grep -a 'From' "$state/flow" | tail -n 1 | sed 's/^\[[0-9.]*\] //' | show
  proves 'the flow ended within a second' awk -v a="$cut" -v b="$last" 'BEGIN { exit !(b - a < 1) }'
  fact "suspension" "last answer $(awk -v a="$cut" -v b="$last" 'BEGIN { printf "%d", (b > a ? (b - a) * 1000 : 0) }') ms after the command began"
  kdc peer resume db-primary 2>&1 | show
}

summary() {
  title Summary
  printf '   %s\n' "${facts[@]}"
  printf '   %-34s %s s\n' 'all of it' "$(seconds "$began" "$EPOCHREALTIME")"
  kdc status | show
}

next() {
  cat <<NEXT

It is still up. Type, as root:

   scripts/netns.sh exec $NET_PREFIX h1 ping ${overlay4[h3]}                      ana-laptop to db-primary
   scripts/netns.sh exec $NET_PREFIX h1 bin/ssm --dir $state/ana-laptop status
   scripts/netns.sh exec $NET_PREFIX h1 bin/ssm --dir $state/ana-laptop ping db-primary
   scripts/netns.sh exec $NET_PREFIX kdc bin/kdc --dir $state/kdc session list
   scripts/netns.sh exec $NET_PREFIX kdc bin/kdc --dir $state/kdc peer list

and to remove it all:

   scripts/netns.sh down $NET_PREFIX && rm -rf $state
NEXT
}

main() {
  local arg
  become_root "$@"
  for arg; do
    case $arg in
    --keep) keep=1 ;;
    --sudo) ;;
    *) die "unknown argument $arg: usage: scripts/quickstart.sh [--sudo] [--keep]" ;;
    esac
  done
  install_missing "${packages[@]}"
  find_go
  title 'Building (release: CGO_ENABLED=0 GOEXPERIMENT=runtimesecret)'
  release_build
  echo "   bin/kdc and bin/ssm: $(bin/ssm version | head -n 1)"

  NET_PREFIX=ssmnet-demo-$$-
  . scripts/netns.sh
  state=$(mktemp -d /tmp/ssmnet-demo.XXXXXX)
  trap clean_up EXIT
  net_up 3
  start_kdc
  enrol_peers
  bring_up
  first_packet
  pings
  transfer
  capture
  denied
  suspension
  summary
  [[ -z $keep ]] || next
}

main "$@"; exit
