# What scripts/bench/run measures: a bash library. A measure NAME is a function measure_NAME that prints its figures as one
# JSON object, { figure: number }; figures.json says what they are and what unit they have. It finds
#
#     name         of the contestant
#     to, to6      the address inside at which h1 reaches h2; the IPv6 one, empty where it has none
#     pids         the processes that carry its packets
#     seconds      that a transfer takes
#
# and fails where it cannot be taken; what it has put into the background ends by itself. Those that are named after a network (networks.sh) are taken there, all others in
# the standard one.

measures_there=(tcp tcp4 reverse udp64 flood offered gso ping rr ping-loaded ipv6 rss plain lossy underlay6 jumbo)

measure_tcp() { stream tcp; }
measure_tcp4() { stream tcp4 -P 4; }
measure_reverse() { stream reverse -R; }
measure_plain() { stream plain; }
measure_underlay6() { stream underlay6; }
measure_jumbo() { stream jumbo; }

# BBR, for under loss others measure themselves; the first second is its start. The window keeps the stream far below what
# the relay can carry on the cores that it shares with all else, so that what is seen is what a tunnel adds to loss and
# delay; the segments are those of all, so that its header, which other measures pay for, is not.
measure_lossy() { stream lossy -C bbr -O 1 -M 1300 -w 1M; }

measure_ipv6() {
  local to=$to6
  [[ -z $to ]] || stream ipv6
}

# used prints the CPU time that the contestant's processes and the machine have had, in clock ticks: utime and stime
# (proc_pid_stat(5), 14 and 15); all of /proc/stat's but idle, iowait and what other machines took.
used() {
  local pid stat sum=0
  for pid in "${pids[@]}"; do
    stat=$(<"/proc/$pid/stat")
    read -r -a stat <<<"${stat##*) }" # the name before may hold spaces; the rest begins with field 3
    sum=$((sum + stat[11] + stat[12]))
  done
  read -r -a stat </proc/stat
  echo "$sum $((stat[1] + stat[2] + stat[3] + stat[6] + stat[7]))"
}

# spent KEY BITS BYTES BEFORE AFTER prints the figures of a transfer: its rate, and the CPU time used from BEFORE to AFTER.
spent() {
  jq -nc --arg key "$1" --argjson bits "$2" --argjson bytes "$3" --argjson before "[${4/ /,}]" --argjson after "[${5/ /,}]" \
    --argjson hertz "$(getconf CLK_TCK)" '
    def per_gb($i): ($after[$i] - $before[$i]) / $hertz / ($bytes / 1e9);
    { "\($key)_gbps": ($bits / 1e9), "\($key)_cpu": per_gb(0), "\($key)_system": per_gb(1) }'
}

# stream KEY [IPERF3-ARGUMENT...] is one transfer by TCP and what it took.
stream() {
  local before after report
  before=$(used)
  report=$(iperf3_between "${@:2}")
  after=$(used)
  # shellcheck disable=SC2046 # two words
  spent "$1" $(jq -r '.end.sum_received | "\(.bits_per_second) \(.bytes)"' <<<"$report") "$before" "$after"
}

# iperf3_between ARGUMENT... runs it from h1 to h2 and prints its report.
iperf3_between() {
  local server report
  inside "$name" h2 timeout "$((seconds + 10))" iperf3 -s -1 -B "$to" >"$work/server.log" 2>&1 &
  server=$!
  await 'iperf3' listening tcp 5201
  report=$(inside "$name" h1 timeout "$((seconds + 10))" iperf3 -c "$to" -t "$seconds" -J --connect-timeout 3000 "$@") ||
    die "$name: $(jq -r '.error // "iperf3 failed"' <<<"$report")"
  wait "$server"
  echo "$report"
}

# listening PROTOCOL PORT says whether h2 does.
listening() { inside "$name" h2 ss -Hln "--$1" "sport = :$2" | grep -q .; }

# The sender's report of its end has what the receiver got.
measure_udp64() {
  iperf3_between -u -b 0 -l 64 |
    jq -c '.end.sum | { udp64_kpps: ((.packets - .lost_packets) / .seconds / 1000), udp64_lost: .lost_percent }'
}

# load_between "VERB ARGUMENT..." "VERB ARGUMENT..." runs scripts/bench/load, what listens on h2 and what sends on h1,
# and leaves what they said in $work/heard and $work/sent.
load_between() {
  local listener
  # shellcheck disable=SC2086 # words
  inside "$name" h2 "$work/bin/load" $1 --listen "$to:5202" >"$work/heard" &
  listener=$!
  await 'load' listening udp 5202
  # shellcheck disable=SC2086 # words
  inside "$name" h1 "$work/bin/load" $2 --to "$to:5202" >"$work/sent"
  wait "$listener"
}

# flooded RATE SECONDS prints how many thousand datagrams a second arrive of the rate, 0 being all that can be sent. The
# sender outlasts the receiver.
flooded() {
  load_between "sink --seconds $2" "flood --rate $1 --seconds $2.5"
  jq '.datagrams / .seconds / 1000' "$work/heard"
}

measure_flood() { flooded 0 "$seconds" | jq -c '{ flood_kpps: . }'; }

# The last is no rate.
offers=(50000 100000 200000 400000 0)
measure_offered() {
  local rate arrived=()
  for rate in "${offers[@]}"; do
    arrived+=("$(flooded "$rate" 1)")
  done
  local IFS=,
  jq -nc --argjson offers "[${offers[*]}]" --argjson arrived "[${arrived[*]}]" '
    [$offers, $arrived] | transpose | map({ "offered_\(.[0] / 1000)": .[1] }) | add'
}

measure_gso() {
  local before after
  before=$(used)
  load_between "acknowledge --seconds $seconds" "quic --seconds $seconds"
  after=$(used)
  # shellcheck disable=SC2046 # two words
  spent gso $(jq -r '"\(.bytes * 8 / .seconds) \(.bytes)"' "$work/heard") "$before" "$after"
}

# trips PING-ARGUMENT... prints round trips from h1 to h2 in ms, one a line.
trips() { inside "$name" h1 ping -n -i 0.01 -W 1 "$@" "$to" | sed -n 's/.*time=\([0-9.]*\) ms.*/\1/p'; }

measure_ping() {
  trips -c 100 | jq -sc -L scripts/bench 'include "stats"; { ping_us: (median * 1000) }'
}

measure_rr() {
  load_between echo 'ask --count 2000'
  jq -c '{ rr_us: .median_us, rr_p99_us: .p99_us }' "$work/sent"
}

# The transfer begins before the first ping and ends after the last.
measure_ping-loaded() {
  local transfer
  seconds=$((seconds + 1)) iperf3_between >"$work/transfer" &
  transfer=$!
  await 'the transfer' established
  trips -w "$seconds" | jq -sc -L scripts/bench 'include "stats";
    { ping_loaded_us: (median * 1000), ping_loaded_p99_us: (quantile(0.99) * 1000) }'
  wait "$transfer"
}

established() { inside "$name" h1 ss -Htn state established 'dport = :5201' | grep -q .; }

# resident FIELD prints the greatest of the processes' in KiB (proc_pid_status(5)), or nothing for none.
resident() {
  local pid
  for pid in "${pids[@]}"; do
    sed -n "s/^$1:\s*\([0-9]*\) kB/\1/p" "/proc/$pid/status"
  done | sort -n | tail -n 1
}

# rest notes the memory before any load, and has the kernel forget the peak of the start.
rest() {
  local pid
  resident VmRSS >"$work/$name/resident"
  for pid in "${pids[@]}"; do
    echo 5 >"/proc/$pid/clear_refs"
  done
}

measure_rss() {
  local peak
  [[ ${#pids[@]} -gt 0 ]] || return 0
  peak=$(resident VmHWM)
  jq -nc --argjson idle "$(<"$work/$name/resident")" --argjson peak "$peak" \
    '{ rss_idle_mib: ($idle / 1024), rss_loaded_mib: ($peak / 1024) }'
}
