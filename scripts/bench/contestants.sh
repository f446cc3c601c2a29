# What measures VPNs against each other needs of them: a bash library for scripts/bench/*, which have sourced
# prepare.sh, netns.sh and networks.sh, stand in the root of the checkout and have set work to a directory of their own.
#
# A contestant NAME is one small file, contestants/NAME.sh, with these functions:
#
#     up         connects h1 and h2 of NET_PREFIX's namespaces, from nothing, and returns when packets can flow
#     down       ends what up began; what it forgets in the namespaces goes with them
#     address    prints the address inside at which h1 reaches h2
#     version    prints what it is, in a word
#     address6   optional: the IPv6 one
#     available  optional: fails where the machine lacks it, and prints what
#     prepare    optional: installs or builds what it needs, into $work/bin
#     processes  optional: prints the process ids that carry its packets, for the CPU time; unless told, those that
#                up began with `runs` or noted with `noted` as h1 and h2
#
# They run in a subshell of their own, under set -e, with
#
#     NET_PREFIX  the contestant's own namespaces (netns.sh): kdc, h1, h2
#     state       a directory of its own, empty before up; keys and logs (*.log) go there
#     network, family, mtu
#                 what lies between the hosts (networks.sh): its name, the IP version to use outside, the bytes of a packet
#
# and have the functions below besides those of prepare.sh and netns.sh.

available() { :; }
prepare() { :; }
address6() { :; }
processes() { cat "$state"/h[12].pid 2>/dev/null || true; }

# runs HOST COMMAND... starts a program that stays, in the host's namespace, with its log in $state/HOST.log.
runs() {
  # Not by net_exec: a function in the background is a shell of its own, and $! that shell.
  ip netns exec "$NET_PREFIX$1" "${@:2}" >"$state/$1.log" 2>&1 </dev/null &
  noted "$1" $!
}

# noted HOST PID notes a program that put itself into the background.
noted() { echo "$2" >"$state/$1.pid"; }

# end HOST... ends the hosts' noted programs, politely for two seconds.
end() {
  local host pid i
  for host; do
    [[ -e $state/$host.pid ]] || continue
    pid=$(<"$state/$host.pid")
    kill "$pid" 2>/dev/null || true
    for ((i = 0; i < 40; i++)); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.05
    done
    kill -KILL "$pid" 2>/dev/null || true
    rm "$state/$host.pid"
  done
}

# await WHAT COMMAND... repeats the command until it succeeds, for $patience seconds.
patience=5
await() {
  local what=$1 deadline=$((SECONDS + patience))
  shift
  until "$@" >/dev/null 2>&1; do
    [[ $SECONDS -lt $deadline ]] || die "$what did not come up in $patience s"
    sleep 0.02
  done
}

# contestant NAME FUNCTION runs one function of a contestant where it finds what the head of this file promises. As a
# condition (if, ||, &&) it would lose its set -e.
contestant() (
  NET_PREFIX=$(prefix "$1")
  state=$work/$1
  . "scripts/bench/contestants/$1.sh"
  "$2"
)

prefix() { echo "bench-$$-$1-"; }

# bring_up NAME builds its namespaces in the network and starts it. `started` lists those that take_down has to undo.
started=()
bring_up() {
  mkdir -p "$work/bin" "$work/$1"
  [[ -e $work/$1.version ]] || contestant "$1" prepare
  started+=("$1")
  NET_PREFIX=$(prefix "$1") net_up 2
  contestant "$1" lay
  contestant "$1" up
  contestant "$1" version >"$work/$1.version"
  patience=30 await "$1: a ping from h1 to h2" inside "$1" h1 ping -c 1 -W 1 "$(contestant "$1" address)"
}

# inside NAME HOST COMMAND... runs the command in a namespace of that contestant.
inside() { NET_PREFIX=$(prefix "$1") net_exec "${@:2}"; }

# bring_down undoes what bring_up has done for all that were started.
bring_down() {
  local name
  for name in "${started[@]}"; do
    contestant "$name" down || true
    NET_PREFIX=$(prefix "$name") net_down || true
    rm -rf "${work:?}/$name"
  done
  started=()
}

# take_down is for the EXIT trap: it undoes all and, where no summary was reached, shows what the programs said last.
take_down() {
  if [[ ${#started[@]} -gt 0 && ! -e $work/summary.json ]]; then
    tail -qn 5 "$work"/*/*.log "$work"/*/*/*.log >&2 2>/dev/null || true
  fi
  bring_down
  rm -rf "$work"
}

# contestants_there lists the names of contestants/.
contestants_there() {
  local file
  for file in scripts/bench/contestants/*.sh; do
    file=${file##*/}
    echo "${file%.sh}"
  done
}
