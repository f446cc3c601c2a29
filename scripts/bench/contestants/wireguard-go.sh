# WireGuard in user space, the published version below, configured by wg(8) of wireguard-tools.

wireguard=golang.zx2c4.com/wireguard@v0.0.0-20260522210424-ecfc5a8d5446
interfaces=wg # their names begin with it

prepare() {
  install_missing wireguard-tools
  GOBIN=$work/bin go install "$wireguard"
}

# Interfaces have names of their own on each host and in each run: the control sockets are files, /var/run/wireguard/NAME.sock.
interface() { echo "$interfaces$$$1"; }

up() {
  local host program=${wireguard%@*}
  for host in h1 h2; do
    (umask 077 && wg genkey >"$state/$host.key")
    runs "$host" env LOG_LEVEL=error "$work/bin/${program##*/}" -f "$(interface "$host")"
    await "$program on $host" wg show "$(interface "$host")" listen-port
  done
  join h1 1 h2 2
  join h2 2 h1 1
}

# join HOST NUMBER PEER NUMBER gives HOST its addresses inside and the one peer it has.
join() {
  local interface
  interface=$(interface "$1")
  wg set "$interface" private-key "$state/$1.key" listen-port 51820 peer "$(wg pubkey <"$state/$3.key")" \
    endpoint "$(outer "$3" 51820)" allowed-ips "10.90.0.$4/32,fd90::$4/128"
  net_exec "$1" ip link set "$interface" mtu $((mtu - 80)) up
  net_exec "$1" ip addr add "10.90.0.$2/24" dev "$interface"
  net_exec "$1" ip addr add "fd90::$2/64" dev "$interface" nodad
}

down() { end h1 h2; }
address() { echo 10.90.0.2; }
address6() { echo fd90::2; }
version() { echo "${wireguard#*@}"; }
