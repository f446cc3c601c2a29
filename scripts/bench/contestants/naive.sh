# The wall in user space: super-frames from TUN to TUN in chunks of what the underlay carries, without crypto, sessions or
# policy (scripts/bench/naive says how).

sealing=()

prepare() { go build -o "$work/bin/naive" ./scripts/bench/naive; }

up() {
  local headers=28
  [[ $family == 4 ]] || headers=48
  join h1 10.92.0.1 h2 "$headers"
  join h2 10.92.0.2 h1 "$headers"
}

# join HOST ADDRESS PEER HEADERS starts it with the MTU of ours, and super-frames that fit one send with their overhead.
join() {
  runs "$1" "$work/bin/naive" --tun nv0 --local "$(outer "$1" 5300)" --peer "$(outer "$3" 5300)" \
    --chunk $((mtu - $4)) "${sealing[@]}"
  await "naive on $1" net_exec "$1" ip link show nv0
  net_exec "$1" ip link set nv0 mtu $((mtu - 80)) gso_max_size 60000 up
  net_exec "$1" ip addr add "$2/24" dev nv0
  net_exec "$1" ip addr add "fd92::${2##*.}/64" dev nv0 nodad
}

down() { end h1 h2; }
address() { echo 10.92.0.2; }
address6() { echo fd92::2; }
version() { go env GOVERSION; }
