# Where install.sh puts what it installs, and uninstall.sh looks for it: a bash library, sourced after prepare.sh. Both
# have it on their command line alike; relative directories there are meant from where the user stands, which the script
# has in from.

prefix=/usr/local destdir=
units=/etc/systemd/system

# take_directory --NAME [DIR] sets the variable of that name.
take_directory() {
  [[ -n ${2:-} ]] || die "$1 needs a directory: $usage"
  printf -v "${1#--}" %s "$(cd "$from" && realpath -m -- "$2")"
}

# settle is for when all options are taken: it says where the record is, and that root is needed.
settle() {
  [[ -n $destdir || $EUID -eq 0 ]] || die 'needs root: run it with sudo, or name a --destdir'
  installed=$prefix/share/ssmnet/installed
}
