#!/usr/bin/env bash
# Installs ssmnet on this host: the programs, their systemd units, completion for bash, zsh and fish, manual pages, and
# a sample of ssm.toml. Run again, it upgrades: each file is replaced at once (renamed over the old one), state and
# configuration in /var/lib/ssmnet are not touched, and what runs goes on until it is started anew. What it put where is
# on record in PREFIX/share/ssmnet/installed, for uninstall.sh.
#
# usage: scripts/install.sh [--kdc] [--ssm] [--prefix /usr/local] [--bin DIR] [--destdir DIR]
#   --kdc, --ssm   only this one (default: both)
#   --bin          take the programs from DIR rather than build them (they are static: build them on one machine)
#   --destdir      put everything below DIR, as package builders do; this needs no root
set -euo pipefail
from=$PWD # what relative directories on the command line mean
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/prepare.sh
. scripts/places.sh

usage='usage: scripts/install.sh [--kdc] [--ssm] [--prefix DIR] [--bin DIR] [--destdir DIR]'
bin= record= programs=()

# parse takes the command line.
parse() {
  while [[ $# -gt 0 ]]; do
    case $1 in
    --kdc | --ssm) programs+=("${1#--}") ;;
    --prefix | --bin | --destdir) take_directory "$@"; shift ;;
    *) die "unknown argument $1: $usage" ;;
    esac
    shift
  done
  [[ ${#programs[@]} -gt 0 ]] || programs=(kdc ssm)
  settle
  [[ $prefix != *[^A-Za-z0-9/._+-]* ]] || die "--prefix $prefix: a unit cannot name it; use letters, digits and /._+-"
  [[ -z $destdir ]] || mkdir -p -- "$destdir" || die "cannot make $destdir"
}

# take_programs builds them, or checks those that were named.
take_programs() {
  local p
  if [[ -z $bin ]]; then
    find_go
    release_build || die 'the build failed'
    bin=bin
  fi
  for p in "${programs[@]}"; do
    [[ -x $bin/$p ]] || die "$bin/$p is no program"
  done
}

# note puts a path on record, once; that of a directory ends in a slash.
note() { grep -qxF -- "$1" "$record" || printf '%s\n' "$1" >>"$record"; }

# directory PATH makes what of it is not there, and notes that.
directory() {
  [[ ! -d $destdir$1 ]] || return 0
  directory "$(dirname "$1")"
  mkdir -m 755 "$destdir$1"
  note "$1/"
}

# place MODE PATH puts standard input there, in one step.
place() {
  local new=$destdir$2.ssmnet-new
  directory "$(dirname "$2")"
  if ! { cat >"$new" && chmod "$1" "$new" && mv -fT "$new" "$destdir$2"; }; then
    rm -f "$new"
    die "cannot write $destdir$2"
  fi
  note "$2"
}

# install_program places one program and what belongs to it, most of which it prints itself.
install_program() {
  local p=$1 share=$prefix/share
  place 755 "$prefix/bin/$p" <"$bin/$p"
  sed "s|/usr/local/bin/|$prefix/bin/|" "scripts/systemd/ssmnet-$p.service" | place 644 "$units/ssmnet-$p.service"
  "$bin/$p" completion bash | place 644 "$share/bash-completion/completions/$p"
  "$bin/$p" completion zsh | place 644 "$share/zsh/site-functions/_$p"
  "$bin/$p" completion fish | place 644 "$share/fish/vendor_completions.d/$p.fish"
  "$bin/$p" man | place 644 "$share/man/man8/$p.8"
  [[ $p == kdc ]] || "$bin/$p" config | place 644 "$share/doc/ssmnet/ssm.toml"
}

# save_record puts the record in its place, at the end of a run that failed too, so that uninstall.sh undoes that one.
save_record() {
  if [[ -s $record ]]; then
    directory "$(dirname "$installed")"
    note "$installed"
    place 644 "$installed" <"$record"
  fi
  rm -f "$record"
}

# restart_hint says what is left to do where systemd runs.
restart_hint() {
  [[ -z $destdir && -d /run/systemd/system ]] || return 0
  systemctl daemon-reload
  local p
  for p in "${programs[@]}"; do
    if systemctl --quiet is-active "ssmnet-$p"; then
      say "the old $p still runs: systemctl restart ssmnet-$p"
    fi
  done
}

main() {
  parse "$@"
  take_programs
  local p
  record=$(mktemp)
  trap save_record EXIT
  [[ ! -f $destdir$installed ]] || cat "$destdir$installed" >"$record"
  for p in "${programs[@]}"; do
    install_program "$p"
  done
  restart_hint
  say "installed ${programs[*]} in $destdir$prefix; scripts/uninstall.sh takes it away"
}

main "$@"; exit
