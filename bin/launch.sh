# Shared by the launchers: finds the repository, builds it when needed, starts node.
# Sourced by ./varve, bin/varve, bin/varve-overlayfs and bin/mount.fuse.varve; the steady state forks once (find).
# POSIX sh.

# launch ROOT [ARG...]: replaces this shell by the command line of ROOT.
launch() {
  root=$1
  shift
  case "$1 $2" in 'wine run') wine_at_once "$@" ;; esac
  # mount(8) and service managers start helpers with a short PATH.
  command -v node >/dev/null 2>&1 || PATH=$PATH:/usr/local/bin:/usr/bin:/bin
  if ! command -v node >/dev/null 2>&1; then
    echo 'varve: node is not installed; install Node 20 or newer' >&2
    exit 127
  fi
  ensure_built "$root" || exit 1
  exec node "$root/dist/bundle/programs/main.js" "$@"
}

# wine_at_once wine run --detach [FLAG...] PREFIX PROGRAM [ARG...]: becomes the program where that takes nothing of Node: see
# bin/wine-shim. Returns for everything else.
wine_at_once() {
  shift 2
  varve_backend=auto
  detached=
  while :; do
    case $1 in
      -d | --detach) detached=1 ;;
      --backend=auto | --backend=kernel | --backend=fuse) varve_backend=${1#*=} ;;
      --linger=*) VARVE_WINE_LINGER=${1#*=} ;;
      -q | --quiet) ;;
      *) break ;;
    esac
    shift
  done
  case $detached:$2 in 1:wineserver | : | :* | 1:) return ;; esac
  case $1 in
    /*) folder=$1 ;;
    */* | . | ..) return ;;
    *) folder=${VARVE_WINE_DIR:-${XDG_DATA_HOME:-$HOME/.local/share}/varve/wine}/prefixes/$1 ;;
  esac
  case $folder in /*) ;; *) return ;; esac
  [ -f "$folder/.varve/prefix.json" ] || return 0
  shift
  WINEPREFIX=$folder
  export WINEPREFIX
  unset WINEPREFIX_OVERLAYS
  . "$root/bin/wine-shim"
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
