#!/usr/bin/env bash
# Runs the fuzz targets of ssmnet one after the other, each for a while. scripts/test.sh runs them on their seeds alone.
# Each target is one line: how it ended, its name, how many inputs it ran, and how many of them were new to it. What
# fails prints its output and where the input is that does it: commit that file, and every test runs it from then on.
# Inputs that were new are kept in Go's cache, from which the next run goes on. The exit code is 1 if anything failed,
# and also where a target has no seeds: go test runs it on nothing, and says ok.
#
# usage: scripts/fuzz.sh [--time 60s] [REGEXP]      REGEXP: only targets whose name, as in policy.FuzzParse, fits
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/prepare.sh

passed=0 failed=0 inputs=0
usage='usage: scripts/fuzz.sh [--time 60s] [REGEXP]'

# targets prints each target as the directory of its package and its name.
targets() {
  local package dir
  go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{.Dir}}{{end}}' ./... |
    while read -r package dir; do
      grep -qs '^func Fuzz' "$dir"/*_test.go || continue # or go test would build what has none
      go test -list '^Fuzz' "$package" | awk -v dir="${dir#"$PWD/"}" '/^Fuzz/ { print dir, $1 }' || return
    done
}

# seeds counts what a target runs on without fuzzing.
seeds() { go test -count=1 -v -run "^$2\$" "./$1" | grep -c "^=== RUN   $2/" || true; }

# fuzz DIRECTORY TARGET TIME
fuzz() {
  local name=${1//\//.}.$2 verdict=ok count=0 new=0
  if [[ $(seeds "$1" "$2") -eq 0 ]]; then
    verdict=FAIL
    echo "$name has no seeds" >"$tmp/out"
  elif ! go test -run '^$' -fuzz "^$2\$" -fuzztime "$3" -fuzzminimizetime 1s "./$1" >"$tmp/out" 2>&1; then
    # On a busy machine go test calls it a failure, without an input, that a worker is slow to end when time is up.
    grep -q '^ *context deadline exceeded' "$tmp/out" && ! grep -q 'Failing input' "$tmp/out" || verdict=FAIL
  fi
  read -r count new < <(awk '/^fuzz: elapsed/ && /execs/ { for (i = 1; i < NF; i++) {
    if ($i == "execs:") count = $(i + 1); if ($i == "interesting:") new = $(i + 1) } } END { print count + 0, new + 0 }' "$tmp/out")
  inputs=$((inputs + count))
  printf '%-4s  %-44s %10d inputs  %5d new\n' "$verdict" "$name" "$count" "$new"
  if [[ $verdict == ok ]]; then
    passed=$((passed + 1))
    return
  fi
  failed=$((failed + 1))
  sed -n "s|.*Failing input written to |      the input that fails is $1/|p" "$tmp/out"
  grep -v '^fuzz: elapsed' "$tmp/out" | head -n 60 | sed 's/^/      /'
}

main() {
  local limit=60s pattern=. start=$SECONDS dir target
  while [[ $# -gt 0 ]]; do
    case $1 in
    --time) [[ $# -gt 1 ]] || die "$usage"; limit=$2; shift ;;
    -*) die "unknown argument $1: $usage" ;;
    *) pattern=$1 ;;
    esac
    shift
  done
  tmp=$(mktemp -d)
  trap 'rm -rf "$tmp"' EXIT
  find_go
  targets >"$tmp/targets"
  while read -r dir target; do
    [[ ${dir//\//.}.$target =~ $pattern ]] || continue
    fuzz "$dir" "$target" "$limit" </dev/null
  done <"$tmp/targets"
  [[ $((passed + failed)) -gt 0 ]] || die "no target fits $pattern"
  printf '%d targets held, %d failed: %d inputs in %d s\n' "$passed" "$failed" "$inputs" $((SECONDS - start))
  [[ $failed -eq 0 ]]
}

main "$@"; exit # on one line, so that editing the script while it runs does no harm
