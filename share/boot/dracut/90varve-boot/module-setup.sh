#!/bin/bash
# A module of dracut(8) for initramfs that `varve boot build` splits: what records which of its files a boot reads (varve.trace).
# Linked into dracut's folder by `varve setup --boot`. The splitting itself is done by 95-varve-boot.install of kernel-install,
# when the initramfs is there: a module of dracut runs before.

check() {
  require_binaries find fincore || return 1
  return 0
}

depends() {
  return 0
}

install() {
  local here
  here=$(dirname "$(readlink -f "$moddir/module-setup.sh")")
  inst_multiple find fincore cat mkdir
  # Last of all: what other hooks read counts as well.
  inst_hook pre-pivot 99 "$here/../../record-reads"
}
