#!/usr/bin/env bash
# Takes away what install.sh has put on this host, and nothing else: it goes by PREFIX/share/ssmnet/installed. The
# services are stopped and disabled before. State and configuration in /var/lib/ssmnet are kept, unless --purge.
#
# usage: scripts/uninstall.sh [--prefix /usr/local] [--purge] [--destdir DIR]
set -euo pipefail
from=$PWD # what relative directories on the command line mean
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/prepare.sh
. scripts/places.sh

usage='usage: scripts/uninstall.sh [--prefix DIR] [--purge] [--destdir DIR]'
purge=

parse() {
  while [[ $# -gt 0 ]]; do
    case $1 in
    --purge) purge=1 ;;
    --prefix | --destdir) take_directory "$@"; shift ;;
    *) die "unknown argument $1: $usage" ;;
    esac
    shift
  done
  settle
}

# foreign says that a path on record is a unit that install.sh has since given to the programs of another prefix.
foreign() { [[ $1 == *.service && -f $destdir$1 ]] && ! grep -q "^ExecStart=$prefix/bin/" "$destdir$1"; }

# stop_all ends what runs of it, under systemd or from 'ssm up'. A KDC in somebody's foreground is theirs to end.
stop_all() {
  local unit
  [[ -z $destdir ]] || return 0
  if [[ -d /run/systemd/system ]]; then
    for unit in ssmnet-kdc ssmnet-ssm; do
      grep -qxF "$units/$unit.service" "$record" && ! foreign "$units/$unit.service" || continue
      systemctl --quiet disable --now "$unit" || die "cannot stop $unit"
    done
  fi
  [[ ! -x $prefix/bin/ssm ]] || "$prefix/bin/ssm" down >/dev/null || die "'ssm down' failed: the SSM still runs"
}

# remove takes away the files on record, then the directories that were made for them and are empty.
remove() {
  local path
  while read -r path; do
    [[ $path == */ ]] || foreign "$path" || rm -f -- "$destdir$path"
  done <"$record"
  while read -r path; do
    [[ $path != */ ]] || rmdir --ignore-fail-on-non-empty -- "$destdir$path" 2>/dev/null || true
  done < <(LC_ALL=C sort -r "$record")
}

main() {
  parse "$@"
  [[ -f $destdir$installed ]] || die "nothing of ssmnet is installed in $destdir$prefix: there is no $destdir$installed"
  record=$(mktemp)
  trap 'rm -f "$record"' EXIT
  cat "$destdir$installed" >"$record"
  stop_all
  remove
  [[ -n $destdir || ! -d /run/systemd/system ]] || systemctl daemon-reload
  if [[ -n $purge ]]; then
    rm -rf -- "$destdir/var/lib/ssmnet"
    say 'removed, with all keys and state'
  else
    say "removed; keys and state stay in $destdir/var/lib/ssmnet (--purge removes them)"
  fi
}

main "$@"; exit
