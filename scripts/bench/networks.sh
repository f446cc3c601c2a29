# What lies between the hosts: a bash library for scripts/bench/*, sourced after netns.sh. Each network is netns.sh's, veth
# pairs and a bridge with packets of 1500 bytes and every offload, or that and
#
#     plain      no segmentation offload and no GRO on any cable, as on a NIC without
#     lossy      1% random loss and 10 ms of delay each way, by an impairment relay (cmd/e2e/impair) in h1's cable
#     underlay6  no IPv4 outside
#     jumbo      packets of 9000 bytes

networks_there=(standard plain lossy underlay6 jumbo)

# enter NETWORK makes it the one of all that is brought up from then on.
enter() {
  network=$1 family=4 mtu=1500
  case $1 in
  underlay6) family=6 ;;
  jumbo) mtu=9000 ;;
  esac
}
enter standard

# outer HOST PORT is a socket address outside.
outer() {
  if [[ $family == 6 ]]; then
    echo "[$(net_addr "$1" 6)]:$2"
  else
    echo "$(net_addr "$1"):$2"
  fi
}

# lay makes NET_PREFIX's namespaces the network.
lay() {
  local host
  case $network in
  lossy) impaired ;;
  plain | underlay6 | jumbo)
    for host in kdc h1 h2; do
      "$network" "$host"
    done
    ;;
  esac
}

plain() {
  local off=(tso off gso off gro off tx-udp-segmentation off)
  net_exec "$1" ethtool -K eth0 "${off[@]}"
  net_exec br ethtool -K "$1" "${off[@]}"
} >/dev/null

underlay6() { net_exec "$1" ip -4 addr flush dev eth0; }

# The bridge follows its ports.
jumbo() {
  net_exec "$1" ip link set eth0 mtu "$mtu"
  net_exec br ip link set "$1" mtu "$mtu"
}

impaired() {
  go build -o "$work/bin/impair" ./cmd/e2e/impair
  net_relay h1
  runs rh1 "$work/bin/impair" run --between host,bridge --control "$state/relay.sock" --loss 0.01 --delay 10ms
  await 'the relay' grep -q ready "$state/rh1.log"
}
