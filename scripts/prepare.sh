# What the scripts need before their own work: root, packages, Go, the release binaries. A bash library; the sourcing
# script has set -euo pipefail, stands in the root of the checkout, and has its own absolute path in self.

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

# await COMMAND... waits until the command succeeds, for 10 s at most.
await() {
  local i
  for ((i = 0; i < 200; i++)); do
    "$@" && return
    sleep 0.05
  done
  return 1
}

# become_root [--sudo] ARGUMENT... re-runs the script with its arguments under sudo where the user says so. TUN devices
# and namespaces need root; what cannot have them fails, it is not skipped.
become_root() {
  [[ $EUID -ne 0 ]] || return 0
  local answer=
  if [[ " $* " == *" --sudo "* ]]; then
    answer=y
  elif [[ -t 0 ]] && command -v sudo >/dev/null; then
    read -r -p "${0##*/} needs root for TUN devices and network namespaces. Run it with sudo? [y/N] " answer
  fi
  [[ $answer == [yY]* ]] || die "needs root for TUN devices and network namespaces: sudo $self"
  exec sudo -- env "PATH=$PATH" "$self" "$@"
}

# install_missing PACKAGE... installs the Debian packages that are not there.
install_missing() {
  local missing=() p log
  if ! command -v dpkg-query >/dev/null; then
    say "not Debian or Ubuntu: needs $*, by whatever name"
    return 0
  fi
  for p in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null) == installed ]] || missing+=("$p")
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  log=$(mktemp)
  if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    die "cannot install ${missing[*]}"
  fi
  rm -f "$log"
}

# find_go puts a Go that is new enough into PATH.
find_go() {
  command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin
  command -v go >/dev/null || die 'no go in PATH or /usr/local/go/bin: install Go 1.26 or newer from go.dev/dl'
  local version
  version=$(go env GOVERSION) || die 'go does not run here'
  [[ $(printf '%s\n' go1.26 "$version" | sort -V | head -n 1) == go1.26 ]] ||
    die "$version is too old: install Go 1.26 or newer"
  export GOFLAGS="${GOFLAGS:-} -buildvcs=false" # the checkout may belong to another user than root
}

# release_build makes bin/kdc and bin/ssm as they are shipped. It returns, not exits, on an error.
release_build() {
  CGO_ENABLED=0 GOEXPERIMENT=runtimesecret go build -trimpath -ldflags '-s -w' -o bin/ ./cmd/kdc ./cmd/ssm || return
  chown -R --reference=go.mod bin
}
