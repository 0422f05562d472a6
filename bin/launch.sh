# Shared by the launchers: finds the repository, builds it when needed, starts node.
# Sourced by ./varve, bin/varve-overlayfs and bin/mount.fuse.varve; the steady state forks once (find).
# POSIX sh.

# launch ROOT [ARG...]: replaces this shell by the command line of ROOT.
launch() {
  root=$1
  shift
  # mount(8) and service managers start helpers with a short PATH.
  command -v node >/dev/null 2>&1 || PATH=$PATH:/usr/local/bin:/usr/bin:/bin
  if ! command -v node >/dev/null 2>&1; then
    echo 'varve: node is not installed; install Node 20 or newer' >&2
    exit 127
  fi
  ensure_built "$root" || exit 1
  exec node "$root/dist/bundle/programs/main.js" "$@"
}

# ensure_built ROOT: installs and builds in a clone where the result is missing or older than a source.
# A published package has no tsconfig.json and is always built. Directory times tell of removed files.
ensure_built() {
  [ -e "$1/tsconfig.json" ] || return 0
  built=$1/dist/.built
  if [ -e "$built" ] && [ ! "$1/package-lock.json" -nt "$built" ] &&
    [ -z "$(find "$1/src" "$1/test" "$1/bench" "$1/tsconfig.json" -newer "$built" -print -quit 2>/dev/null)" ]; then
    return 0
  fi
  # Two first runs at once: the second waits, then finds everything done. The lock is package.json
  # itself, so that nothing is left behind; -o keeps it out of what the build starts.
  if command -v flock >/dev/null 2>&1; then
    flock -o "$1/package.json" node "$1/scripts/ensure-built.mjs"
  else
    node "$1/scripts/ensure-built.mjs"
  fi
}
