# WireGuard in user space, the published version below, configured by wg(8) of wireguard-tools.

wireguard=golang.zx2c4.com/wireguard@v0.0.0-20260522210424-ecfc5a8d5446

prepare() {
  install_missing wireguard-tools
  GOBIN=$work/bin go install "$wireguard"
}

# Interfaces have names of their own on each host and in each run: the control sockets are files, /var/run/wireguard/NAME.sock.
interface() { echo "wg$$$1"; }

up() {
  local host
  for host in h1 h2; do
    (umask 077 && wg genkey >"$state/$host.key")
    runs "$host" env LOG_LEVEL=error "$work/bin/wireguard" -f "$(interface "$host")"
    await "wireguard-go on $host" wg show "$(interface "$host")" listen-port
  done
  join h1 10.90.0.1 h2 10.90.0.2
  join h2 10.90.0.2 h1 10.90.0.1
}

# join HOST ADDRESS PEER ADDRESS gives HOST its address inside and the one peer it has.
join() {
  local interface
  interface=$(interface "$1")
  wg set "$interface" private-key "$state/$1.key" listen-port 51820 peer "$(wg pubkey <"$state/$3.key")" \
    endpoint "$(net_addr "$3"):51820" allowed-ips "$4/32"
  net_exec "$1" ip addr add "$2/24" dev "$interface"
  net_exec "$1" ip link set "$interface" up
}

down() { end h1 h2; }
address() { echo 10.90.0.2; }
version() { echo "${wireguard#*@}"; }
