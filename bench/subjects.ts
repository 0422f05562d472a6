// What is compared: kernel overlayfs, fuse-overlayfs and varve, each as the commands that mount and unmount it.
// Used by runner.ts inside the benchmark's namespace; report.ts takes the names.
// Follows: mount(8) with Documentation/filesystems/overlayfs.rst, fuse-overlayfs(1) 1.10, varve-mount(1).

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import type { Privilege } from './environments.js';

export type SubjectName = 'kernel' | 'fuse-overlayfs' | 'varve' | 'node';

/** Every subject that mounts, in the order in which they take turns. */
export const SUBJECT_NAMES: readonly SubjectName[] = ['kernel', 'fuse-overlayfs', 'varve'];

/** A stack to be mounted: absolute paths. Without an upper it is read-only. */
export interface Stack {
  readonly lowers: readonly string[];
  readonly upper?: string;
  readonly work?: string;
  /** Entries and attributes are asked for again every time. Kernel overlayfs has no such option. */
  readonly timeout0: boolean;
}

export interface Subject {
  readonly name: SubjectName;
  mount(stack: Stack, mountpoint: string): readonly string[];
  umount(mountpoint: string): readonly string[];
}

function layerOptions(stack: Stack): string[] {
  const options = [`lowerdir=${stack.lowers.join(':')}`];
  if (stack.upper !== undefined) {
    options.push(`upperdir=${stack.upper}`, `workdir=${stack.work}`);
  }
  return options;
}

function kernel(privilege: Privilege): Subject {
  const extra = privilege === 'rootless' ? ['userxattr'] : [];
  return {
    name: 'kernel',
    mount(stack, mountpoint) {
      const options = [...layerOptions(stack), ...extra].join(',');
      return ['mount', '-t', 'overlay', 'overlay', '-o', options, mountpoint];
    },
    umount: (mountpoint) => ['umount', mountpoint],
  };
}

const fuseOverlayfs: Subject = {
  name: 'fuse-overlayfs',
  mount(stack, mountpoint) {
    const options = [...layerOptions(stack), ...(stack.timeout0 ? ['timeout=0'] : [])].join(',');
    return ['fuse-overlayfs', '-o', options, mountpoint];
  },
  umount: (mountpoint) => ['umount', mountpoint],
};

function varve(command: readonly string[]): Subject {
  return {
    name: 'varve',
    // The FUSE backend always: `auto` may choose kernel overlayfs, which is another subject here.
    mount(stack, mountpoint) {
      const options = [...layerOptions(stack), ...(stack.timeout0 ? ['timeout=0'] : [])].join(',');
      return [...command, 'mount', '--backend=fuse', '-o', options, mountpoint];
    },
    umount: (mountpoint) => [...command, 'umount', mountpoint],
  };
}

/** The subjects of `names` for one environment; `varvePath` is a script for Node. */
export function makeSubjects(
  names: readonly SubjectName[],
  privilege: Privilege,
  varvePath: string,
): Subject[] {
  const all = [kernel(privilege), fuseOverlayfs, varve([process.execPath, varvePath])];
  return all.filter((subject) => names.includes(subject.name));
}

/** Why a subject cannot be run here, or undefined when it can. */
export function whyMissing(name: SubjectName, varvePath: string): string | undefined {
  if (name === 'fuse-overlayfs' && spawnSync('fuse-overlayfs', ['--version']).status !== 0) {
    return 'fuse-overlayfs is not installed (Debian package fuse-overlayfs)';
  }
  if (name === 'varve' && !existsSync(varvePath)) return `${varvePath} is not built`;
  return undefined;
}
