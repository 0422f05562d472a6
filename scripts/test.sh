#!/bin/sh
# `npm test`: as ./varve does, installs and builds when needed, then runs test/run.ts.
root=${0%/*}/..
. "$root/bin/launch.sh"
ensure_built "$root" || exit 1
exec node "$root/dist/test/run.js" "$@"
