// Device numbers in the kernel's new_encode_dev() form: minor low 8 bits, major 12 bits, minor high 12 bits.
// What FUSE, EROFS and trees carry; mknod(2) and statx(2) have forms of their own.
// Follows: include/linux/kdev_t.h.

export function encodeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xfff00) << 12)) >>> 0;
}

export function majorOf(device: number): number {
  return (device >>> 8) & 0xfff;
}

export function minorOf(device: number): number {
  return (device & 0xff) | ((device >>> 12) & 0xfff00);
}
