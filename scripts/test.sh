#!/bin/sh
# `npm test`: as ./varve does, installs and builds when needed, then runs test/run.ts.
root=${0%/*}/..
. "$root/bin/launch.sh"
if ! ensure_built "$root"; then
  echo '0 passed, 1 failed'
  exit 1
fi
exec node "$root/dist/test/run.js" "$@"
