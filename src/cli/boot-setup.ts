// What `varve setup --boot` installs: links by which an update of a kernel comes to varve.
// Used by setup.ts. Where a program that would follow a link is not installed the link does no harm.
// Follows: kernel-install(8), update-initramfs(8), Debian kernel handbook (postrm.d), dracut.modules(7).

import { shared } from '../boot/share.js';
import type { SetupItem } from './setup-item.js';

/** @param root what stands before /etc and /usr: empty for the system itself. */
export function bootHooks(root: string): SetupItem[] {
  return [
    {
      path: `${root}/etc/kernel/install.d/95-varve-boot.install`,
      link: shared('kernel-install/95-varve-boot.install'),
    },
    {
      path: `${root}/etc/initramfs/post-update.d/varve-boot`,
      link: shared('initramfs-tools/post-update'),
    },
    { path: `${root}/etc/kernel/postrm.d/zz-varve-boot`, link: shared('initramfs-tools/postrm') },
    {
      path: `${root}/usr/lib/dracut/modules.d/90varve-boot/module-setup.sh`,
      link: shared('dracut/90varve-boot/module-setup.sh'),
    },
  ];
}
