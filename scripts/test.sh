#!/usr/bin/env bash
# All checks and tests of ssmnet, from a clean clone on Debian or Ubuntu with Go 1.26: installs what is missing, then
#
#   gofmt, go vet, staticcheck     the house's style
#   house                          import arrows, lengths, names, seeds (cmd/e2e/house_test.go)
#   units                          exposure of the systemd units, 2.0 at most
#   release build                  both programs as they are shipped, in bin/
#   unit tests                     every package with the race detector, fuzz targets on their seeds
#   unit tests as released         what erases keys, built as it is shipped
#   namespaces                     the real programs between network namespaces (cmd/e2e/netns)
#
# Every step is one line with its time; what fails prints its output. A skipped test counts as failed. The last line is
# "N passed, N failed" (a check counts as one test), and the exit code is 1 if anything failed.
#
# usage: scripts/test.sh [--sudo] [--full]
#   --sudo   become root without asking
#   --full   the namespace tests, as often as their figures are quoted for: about 25 minutes
set -euo pipefail
self=$(realpath "${BASH_SOURCE[0]}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."

staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2
packages=(iproute2 iputils-ping tcpdump iperf3 nftables jq socat ethtool gcc libc6-dev systemd mandoc curl)

. scripts/prepare.sh

passed=0 failed=0

# report prints a step's line: how it ended, its name, its seconds and, for tests, how many.
report() {
  local verdict=$1 name=$2 start=$3 note=${4:-} end=$EPOCHREALTIME
  awk -v v="$verdict" -v n="$name" -v s="$start" -v e="$end" -v t="$note" \
    'BEGIN { printf "%-4s  %-24s %6.1f s  %s\n", v, n, e - s, t }'
}

# check NAME COMMAND... runs a step that passes or fails as one. Bash heeds no set -e in there, so a
# function says "|| return".
check() {
  local name=$1 start=$EPOCHREALTIME
  shift
  if "$@" >"$tmp/out" 2>&1; then
    passed=$((passed + 1))
    report ok "$name" "$start"
  else
    failed=$((failed + 1))
    report FAIL "$name" "$start"
    sed 's/^/      /' "$tmp/out"
  fi
}

# tests NAME ARGUMENT... runs go test and counts what it did.
tests() {
  local name=$1 start=$EPOCHREALTIME status=0 good=0 bad=1
  shift
  go test -json -count=1 "$@" 2>"$tmp/err" | "$tmp/testcount" >"$tmp/counts" 2>"$tmp/out" || status=$?
  read -r good bad <"$tmp/counts" || true
  [[ $status -eq 0 || $bad -gt 0 ]] || bad=1 # go test failed in a way that no event tells
  passed=$((passed + good)) failed=$((failed + bad))
  if [[ $bad -eq 0 ]]; then
    report ok "$name" "$start" "$good passed"
  else
    report FAIL "$name" "$start" "$good passed, $bad failed"
    sed 's/^/      /' "$tmp/out" "$tmp/err"
  fi
}

unformatted() {
  local files
  files=$(gofmt -l .) || return
  [[ -z $files ]] || { echo "gofmt -w" $files; return 1; }
}

# exposed fails where systemd would let a unit do more than its score of 2.0 allows.
exposed() {
  local unit status=0
  for unit in scripts/systemd/*.service; do
    systemd-analyze security --no-pager --offline=yes --threshold=20 "$unit" || status=1
  done
  return $status
}

# all_but_namespaces lists the packages of the unit step; the namespace tests have their own.
all_but_namespaces() { go list ./... | grep -v '/cmd/e2e/netns\(/\|$\)'; }

# install_database installs PostgreSQL's programs. Where they are new to the machine, Debian is kept from making a cluster
# and starting it: a test runs one of its own.
install_database() {
  [[ -z $(ls -d /usr/lib/postgresql/*/bin/postgres 2>/dev/null) ]] || return 0
  install_missing postgresql-common
  sed -i 's/^#* *create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
  install_missing postgresql
}

main() {
  become_root "$@"
  local limit=8m
  while [[ $# -gt 0 ]]; do
    case $1 in
    --sudo) ;;
    --full) limit=80m; export SSMNET_FULL=1 ;;
    *) die "unknown argument $1: usage: scripts/test.sh [--sudo] [--full]" ;;
    esac
    shift
  done
  local start=$EPOCHREALTIME unit
  tmp=$(mktemp -d)
  trap 'rm -rf "$tmp"' EXIT
  install_missing "${packages[@]}"
  install_database
  find_go
  check modules go mod download
  go build -o "$tmp/testcount" ./scripts/testcount || die 'cannot build scripts/testcount'

  check gofmt unformatted
  check 'go vet' go vet ./...
  check staticcheck go run "$staticcheck" ./...
  tests house -run '^TestHouse' ./cmd/e2e
  check units exposed
  check 'release build' release_build
  mapfile -t unit < <(all_but_namespaces)
  tests 'unit tests, -race' -race -timeout 8m -skip '^TestHouse' "${unit[@]}"
  CGO_ENABLED=0 GOEXPERIMENT=runtimesecret tests 'unit tests as released' -timeout 4m ./packet/...
  tests namespaces -timeout "$limit" ./cmd/e2e/netns/...

  report "$([[ $failed -eq 0 ]] && echo ok || echo FAIL)" total "$start"
  printf '%d passed, %d failed\n' "$passed" "$failed"
  [[ $failed -eq 0 ]]
}

main "$@"; exit # on one line, so that editing the script while it runs does no harm
