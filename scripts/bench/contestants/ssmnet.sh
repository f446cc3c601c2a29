# This repository: a KDC in the namespace kdc, an SSM on h1 and h2, everything permitted between the two.

programs=$work/bin

prepare() {
  release_build
  cp bin/kdc bin/ssm "$programs/" # what is measured is what was built, whatever is built meanwhile
}

kdc() { net_exec kdc "$programs/kdc" --dir "$state/kdc" "$@"; }
ssm() { net_exec "$1" "$programs/ssm" --dir "$state/$1" "${@:2}"; }

up() {
  local host
  kdc init --address "$(outer kdc 7600)" >"$state/init.log" 2>&1
  runs kdc "$programs/kdc" --dir "$state/kdc" serve
  await 'the KDC' kdc status
  cat >"$state/policy.hujson" <<'POLICY'
{ "schema": "ssmnet.policy/v1", "grants": [{ "id": "bench", "src": ["*"], "dst": ["*"], "allow": ["*"] }] }
POLICY
  kdc policy apply "$state/policy.hujson" >"$state/apply.log" 2>&1
  for host in h1 h2; do
    kdc peer add "$host" >"$state/$host.token" 2>"$state/$host.added"
    ssm "$host" enrol --token-file "$state/$host.token" >"$state/$host.enrolled"
    ssm "$host" up >"$state/$host.up"
    noted "$host" "$(ip netns pids "$NET_PREFIX$host")" # the SSM, alone there
  done
}

down() {
  local host
  for host in h1 h2; do
    [[ ! -e $state/$host.pid ]] || ssm "$host" down >>"$state/down.log" 2>&1 || true
  done
  end kdc
}

address() { ssm h2 status -o json | jq -r '.addresses[0]'; }
address6() { ssm h2 status -o json | jq -r '.addresses[1]'; }
version() { "$programs/ssm" version | awk 'NR == 1 { print $2 }'; }
