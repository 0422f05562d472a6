// Which drivers and filesystems a mini-initramfs needs: the names that --storage knows, and what each of them stands for.
// Used by build.ts; host.ts finds the same for one machine.
// A name stands for what kernels have of it: a driver that this kernel lacks is left out, unless nothing is left.

import { MountError } from '../../stack/errors.js';
import type { KernelModules } from './modules.js';

/** Disks of SCSI are found by one driver more. */
const DISK = ['sd_mod'];

/** Name -> modules; those that the kernel does not have count as absent, not as an error. */
const STORAGE: Readonly<Record<string, readonly string[]>> = {
  virtio: ['virtio_pci', 'virtio_mmio', 'virtio_blk', 'virtio_scsi', ...DISK],
  nvme: ['nvme'],
  ata: ['ahci', 'ata_piix', 'ata_generic', ...DISK],
  scsi: [
    'mpt3sas',
    'mptsas',
    'mptspi',
    'megaraid_sas',
    'aacraid',
    'hpsa',
    'smartpqi',
    'sym53c8xx',
    'vmw_pvscsi',
    ...DISK,
  ],
  usb: ['xhci_pci', 'ehci_pci', 'ohci_pci', 'uhci_hcd', 'usb_storage', 'uas', ...DISK],
  mmc: ['sdhci_pci', 'sdhci_acpi', 'rtsx_pci_sdmmc', 'mmc_block'],
  hyperv: ['hv_vmbus', 'pci_hyperv', 'hv_storvsc', ...DISK],
  xen: ['xen_blkfront'],
  vmware: ['vmw_pvscsi', 'mptspi', ...DISK],
};

/** Where nothing is asked for: what most machines have. */
const COMMON = ['virtio', 'nvme', 'ata', 'usb', 'mmc'];

/** Filesystem of /boot -> modules, the first of which must be there. */
const FILESYSTEMS: Readonly<Record<string, readonly string[]>> = {
  ext2: ['ext4'],
  ext3: ['ext4'],
  ext4: ['ext4'],
  vfat: ['vfat', 'nls_cp437', 'nls_ascii', 'nls_iso8859_1', 'nls_utf8'],
  xfs: ['xfs'],
  btrfs: ['btrfs'],
  f2fs: ['f2fs'],
  erofs: ['erofs'],
  squashfs: ['squashfs'],
  iso9660: ['isofs'],
};
/** With `auto` the two that /boot mostly is. */
const AUTO = ['ext4', 'vfat'];

/**
 * Modules for what --storage asks for: names of kinds, or of modules.
 * @param asked empty: what is common. @throws MountError of kind `option` for what is neither, or not there.
 */
export function storageModules(asked: readonly string[], modules: KernelModules): string[] {
  if (asked.length === 0) {
    return COMMON.flatMap((kind) => (STORAGE[kind] as string[]).filter((one) => modules.has(one)));
  }
  return asked.flatMap((name) => {
    const kind = Object.hasOwn(STORAGE, name) ? STORAGE[name] : undefined;
    if (kind === undefined) return [knownModule(name, modules)];
    const there = kind.filter((one) => modules.has(one));
    // The driver of disks alone drives no controller.
    if (there.some((one) => !DISK.includes(one))) return there;
    const { release, where } = modules.folder;
    throw new MountError(
      'option',
      `storage ${name}: the kernel ${release} has none of ${kind.join(', ')} (${where}): name another, or another kernel by --kver`,
    );
  });
}

function knownModule(name: string, modules: KernelModules): string {
  if (modules.has(name)) return name;
  const { release } = modules.folder;
  throw new MountError(
    'option',
    `storage ${name}: is no kind of storage and no module of kernel ${release}: kinds are ${Object.keys(STORAGE).join(', ')}`,
  );
}

/** Modules of the filesystem that /boot is. @throws MountError of kind `option` for one that is not known. */
export function filesystemModules(type: string, modules: KernelModules): string[] {
  const names = type === 'auto' ? AUTO : [type];
  return names.flatMap((name) => {
    const [first = name, ...further] = FILESYSTEMS[name] ?? [name];
    if (modules.has(first)) return [first, ...further.filter((one) => modules.has(one))];
    if (type === 'auto') return [];
    throw new MountError(
      'option',
      `bootfstype ${type}: the kernel ${modules.folder.release} has no module ${first}: known are ${Object.keys(FILESYSTEMS).join(', ')}`,
    );
  });
}
