# Nebula, the published version below: certificates, and each host told where the other is; no lighthouse.

nebula=v1.11.1

prepare() {
  GOBIN=$work/bin go install "github.com/slackhq/nebula/cmd/nebula@$nebula" "github.com/slackhq/nebula/cmd/nebula-cert@$nebula"
}

up() {
  (cd "$state" && "$work/bin/nebula-cert" ca -name bench)
  join h1 1 h2 2
  join h2 2 h1 1
}

# join HOST NUMBER PEER NUMBER starts it.
join() {
  (cd "$state" && "$work/bin/nebula-cert" sign -name "$1" -networks "10.93.0.$2/24,fd93::$2/64")
  cat >"$state/$1.yml" <<CONFIG
pki: { ca: $state/ca.crt, cert: $state/$1.crt, key: $state/$1.key }
static_host_map: { "10.93.0.$4": ["$(outer "$3" 4242)"], "fd93::$4": ["$(outer "$3" 4242)"] }
listen: { host: "::", port: 4242 }
tun: { dev: nb0, mtu: $((mtu - 80)) }
logging: { level: error }
firewall:
  inbound: [{ port: any, proto: any, host: any }]
  outbound: [{ port: any, proto: any, host: any }]
CONFIG
  runs "$1" "$work/bin/nebula" -config "$state/$1.yml"
  await "nebula on $1" net_exec "$1" ip link show nb0 up
}

down() { end h1 h2; }
address() { echo 10.93.0.2; }
address6() { echo fd93::2; }
version() { echo "$nebula"; }
