# fastd between two hosts, its fastest method with both secrecy and authenticity here. Only where it is installed.

method=salsa2012+umac

available() { command -v fastd >/dev/null || { echo 'it needs fastd'; return 1; }; }

up() {
  local host
  for host in h1 h2; do
    fastd --generate-key >"$state/$host.pair" 2>&1
  done
  join h1 1 h2
  join h2 2 h1
}

key() { sed -n "s/^$2: //p" "$state/$1.pair"; }

# join HOST NUMBER PEER starts it.
join() {
  cat >"$state/$1.conf" <<CONFIG
mode tun;
interface "fd0";
method "$method";
mtu $((mtu - 80));
bind any:10000;
secret "$(key "$1" Secret)";
on up "ip link set fd0 up; ip addr add 10.95.0.$2/24 dev fd0; ip addr add fd95::$2/64 dev fd0 nodad";
peer "$3" { key "$(key "$3" Public)"; remote $(outer "$3" 10000); }
CONFIG
  runs "$1" fastd --config "$state/$1.conf"
  await "fastd on $1" net_exec "$1" ip addr show dev fd0 to "10.95.0.$2"
}

down() { end h1 h2; }
address() { echo 10.95.0.2; }
address6() { echo fd95::2; }
version() { fastd --version | awk '{ print $2 }'; }
