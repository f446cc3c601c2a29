# tinc between two hosts, as it comes. Only where it is installed.

available() { command -v tincd >/dev/null || { echo 'it needs tinc'; return 1; }; }

up() {
  join h1 1 h2
  join h2 2 h1
  cp "$state/h1/hosts/h1" "$state/h2/hosts/"
  cp "$state/h2/hosts/h2" "$state/h1/hosts/"
  local host
  for host in h1 h2; do
    runs "$host" tincd --config "$state/$host" --pidfile "$state/$host.tincd" --no-detach
    await "tinc on $host" net_exec "$host" ip addr show dev tinc0 to 10.96.0.0/24
  done
}

# join HOST NUMBER PEER writes what the host knows of itself.
join() {
  mkdir -p "$state/$1/hosts"
  printf 'Name = %s\nInterface = tinc0\nConnectTo = %s\n' "$1" "$3" >"$state/$1/tinc.conf"
  printf 'Address = %s\nSubnet = 10.96.0.%s/32\nSubnet = fd96::%s/128\n' "$(net_addr "$1" "$family")" "$2" "$2" \
    >"$state/$1/hosts/$1"
  cat >"$state/$1/tinc-up" <<UP
#!/bin/sh
ip link set tinc0 mtu $((mtu - 80)) up
ip addr add 10.96.0.$2/24 dev tinc0
ip addr add fd96::$2/64 dev tinc0 nodad
UP
  chmod +x "$state/$1/tinc-up"
  tincd --config "$state/$1" --generate-keys </dev/null >"$state/$1.keys" 2>&1
}

down() { end h1 h2; }
address() { echo 10.96.0.2; }
address6() { echo fd96::2; }
version() { tincd --version | awk 'NR == 1 { print $3 }'; }
