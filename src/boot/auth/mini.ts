// A mini-initramfs taken apart again: the configuration, the certificate and the images that it carries.
// Called by sign.ts, uki.ts and verify.ts: what is in it counts at boot, not what lies beside it.
// Layout: docs/boot-format.md.

import { FileSource } from '../../linux/file-source.js';
import { MountError, reasonOf } from '../../stack/errors.js';
import { readCpio } from '../../tree/cpio-read.js';
import { readContent } from '../../tree/read-content.js';
import { find, type OpenContent } from '../../tree/tree.js';
import { type BootConfig, CONFIG_FILE, parseConfig } from '../config.js';

/** Paths in a mini-initramfs. */
const CONFIG = `etc/${CONFIG_FILE}`;
const CERTIFICATE = 'etc/varve/boot.crt';

export interface Mini {
  readonly config: BootConfig;
  readonly configText: string;
  /** PEM. */
  readonly certificate: Buffer | undefined;
  /** The bytes of an image that it carries; the caller closes it. undefined: there is none. */
  image(fs: string): OpenContent | undefined;
  close(): void;
}

/** @throws MountError of kind `layer` for what is no mini-initramfs of ours. */
export function openMini(path: string): Mini {
  let source: FileSource;
  try {
    source = FileSource.open(path);
  } catch (error) {
    throw new MountError('layer', `${path}: ${reasonOf(error)}: build it with varve boot build`);
  }
  try {
    return openMiniFile(source.fd, path, () => source.close());
  } catch (error) {
    source.close();
    throw error;
  }
}

/** @param fd a file that holds it and nothing else; stays open until close(). */
export function openMiniFile(fd: number, where: string, onClose: () => void): Mini {
  const tree = read(fd, where);
  try {
    const file = (name: string) => {
      const node = find(tree.root, name);
      return node === undefined ? undefined : readContent(node);
    };
    const text = file(CONFIG)?.toString('utf8');
    if (text === undefined)
      throw new MountError('layer', `${where}: has no /${CONFIG}: it is not of varve boot build`);
    return {
      config: parseConfig(text, `${where}: /${CONFIG}`),
      configText: text,
      certificate: file(CERTIFICATE),
      image: (fs) => find(tree.root, fs.replace(/^\//, ''))?.content?.open(),
      close() {
        tree.close();
        onClose();
      },
    };
  } catch (error) {
    tree.close();
    throw error;
  }
}

function read(fd: number, where: string) {
  try {
    return readCpio(fd, { name: where });
  } catch (error) {
    throw new MountError('layer', `${where}: cannot be read as an initramfs: ${reasonOf(error)}`, {
      cause: error,
    });
  }
}
