# OpenVPN between two hosts, AES-256-GCM, each knowing the other by the fingerprint of its certificate. Only where it is
# installed.

available() { command -v openvpn openssl >/dev/null || { echo 'it needs openvpn and openssl'; return 1; }; }

up() {
  local host
  for host in h1 h2; do
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$host" -days 2 \
      -keyout "$state/$host.key" -out "$state/$host.crt" 2>"$state/$host.openssl"
  done
  join h2 2 h1 1 --tls-server --dh none
  join h1 1 h2 2 --tls-client
  await 'OpenVPN' net_exec h1 ping -c 1 -W 1 10.94.0.2
}

# join HOST NUMBER PEER NUMBER OPTION... starts it. Its socket is one that the other can connect to in the family outside.
join() {
  local protocol=udp4
  [[ $family == 4 ]] || protocol=udp6
  runs "$1" openvpn --dev ov0 --dev-type tun --topology p2p --proto "$protocol" --lport 1194 \
    --remote "$(net_addr "$3" "$family")" 1194 --ifconfig "10.94.0.$2" "10.94.0.$4" \
    --ifconfig-ipv6 "fd94::$2/64" "fd94::$4" --tun-mtu $((mtu - 80)) --cipher AES-256-GCM --data-ciphers AES-256-GCM \
    --cert "$state/$1.crt" --key "$state/$1.key" --verb 1 --ping 10 \
    --peer-fingerprint "$(openssl x509 -in "$state/$3.crt" -noout -fingerprint -sha256 | sed 's/.*=//')" "${@:5}"
}

down() { end h1 h2; }
address() { echo 10.94.0.2; }
address6() { echo fd94::2; }
version() { openvpn --version | awk 'NR == 1 { print $2 }'; }
