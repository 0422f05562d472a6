// Real Wine for tests: a quiet setting, a pristine prefix, and installers made by Debian's tools whose programs run.
// Used by test/clients/wine*.test.ts and by whoever else needs a Windows program; nothing of it knows about layers.
// Follows: NSIS 3.08 (makensis), WiX 3 as wixl 0.101 has it.

import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  copyFileSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { MAIN } from '../cli/cli.js';
import { endProcessesWith, type MarkedProcess, processesWith } from '../support/processes.js';
import { shell } from './shell.js';

export interface Ended {
  readonly code: number | null;
  /** Windows line ends are unix ones here. */
  readonly out: string;
  readonly err: string;
}

/** Wine without a display, with a home and a library of its own. */
export class Wine {
  readonly folder: string;
  readonly env: NodeJS.ProcessEnv;
  #runs = 0;

  /** @param folder takes home, library and output files. */
  constructor(folder: string) {
    this.folder = folder;
    const env: NodeJS.ProcessEnv = { ...process.env };
    for (const name of Object.keys(env)) {
      if (/^(?:WINE|XDG_|DISPLAY$|WAYLAND_|VARVE_WINE)/.test(name)) delete env[name];
    }
    this.env = {
      ...env,
      HOME: join(folder, 'home'),
      USER: 'tester',
      WINEDEBUG: '-all',
      LC_ALL: 'C.UTF-8',
      VARVE_WINE_DIR: join(folder, 'wine'),
      VARVE_RUNTIME_DIR: join(folder, 'run'),
      VARVE_SUPERVISOR_IDLE: '300',
    };
    mkdirSync(join(folder, 'home'), { recursive: true });
    mkdirSync(join(folder, 'run'), { recursive: true, mode: 0o700 });
  }

  /**
   * Runs a command to its end. Output goes to files: Wine's services hold a pipe for seconds after the program.
   * @param patience milliseconds after which it is killed.
   */
  run(command: readonly string[], env: NodeJS.ProcessEnv = {}, patience = 120_000): Promise<Ended> {
    const path = join(this.folder, `run${this.#runs++}`);
    const files = ['out', 'err'].map((name) => openSync(`${path}.${name}`, 'w'));
    const text = (name: string): string =>
      readFileSync(`${path}.${name}`, 'utf8').replaceAll('\r\n', '\n');
    return new Promise((resolve, reject) => {
      const [program = '', ...args] = command;
      const child = spawn(program, args, {
        cwd: this.folder,
        env: { ...this.env, ...env },
        stdio: ['ignore', ...files],
        timeout: patience,
        killSignal: 'SIGKILL',
      });
      for (const file of files) closeSync(file);
      child.once('error', reject);
      child.once('exit', (code) => resolve({ code, out: text('out'), err: text('err') }));
    });
  }

  /** `varve ARGS`. */
  varve(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ended> {
    return this.run([process.execPath, MAIN, ...args], env);
  }

  /** `varve ARGS`, which must succeed. @returns what it printed. @throws with all of its output. */
  async must(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
    const { code, out, err } = await this.varve(args, env);
    if (code !== 0) throw new Error(`varve ${args.join(' ')}: exit ${code}\n${out}\n${err}`);
    return out;
  }

  /** Plain Wine, without varve. */
  plain(prefix: string, command: readonly string[]): Promise<Ended> {
    return this.run(['wine', ...command], { WINEPREFIX: prefix });
  }

  /** Makes a plain prefix as Wine itself does: 695 MB, several seconds. */
  async boot(prefix: string): Promise<void> {
    const { code, err } = await this.plain(prefix, ['wineboot', '-i']);
    if (code !== 0) throw new Error(`wineboot -i: exit ${code}: ${err}`);
    await this.end(prefix);
  }

  /** Waits for the wineserver of a prefix. */
  async end(prefix: string): Promise<void> {
    await this.run(['wineserver', '-w'], { WINEPREFIX: prefix });
  }

  /** Kills processes of this setting, at once. */
  async kill(which: (process: MarkedProcess) => boolean): Promise<void> {
    const { VARVE_WINE_DIR: mark = '' } = this.env;
    for (let round = 0; round < 1200; round++) {
      const found = processesWith('VARVE_WINE_DIR', mark).filter(which);
      const alive = found.filter(({ state }) => state !== 'Z');
      if (alive.length === 0) return;
      for (const { pid } of alive) {
        try {
          process.kill(pid, 'SIGKILL');
        } catch {
          // It has ended.
        }
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error('processes that cannot be killed');
  }

  /** Ends every process that a test has left: all carry this folder's library in their environment. For the clean-up. */
  async killAll(): Promise<void> {
    await endProcessesWith('VARVE_WINE_DIR', this.env['VARVE_WINE_DIR'] as string, 2000);
  }
}

/** A Windows application and its installer. */
export interface Installer {
  readonly name: string;
  /** The installer, .exe or .msi. */
  readonly path: string;
  /** The Windows words that install it without a question. */
  readonly silently: readonly string[];
  /**
   * The installed program: prints `NAME says GREETING ARGS`, and ends with exit code 7. With the argument `wait` it
   * sets a value, writes C:\\NAME-waits.txt, and stays for two minutes.
   */
  readonly program: string;
  readonly greeting: string;
}

/** A program that reads its greeting from the registry. */
function makeProgram(folder: string, name: string): string {
  const script = join(folder, `${name}.nsi`);
  const path = join(folder, `${name}.exe`);
  writeFileSync(
    script,
    `Target amd64-unicode
     Name ${name}
     OutFile ${path}
     SilentInstall silent
     RequestExecutionLevel user
     !include FileFunc.nsh
     !include LogicLib.nsh
     Section
       SetRegView 64
       ReadRegStr $1 HKLM "Software\\Varve\\${name}" "Greeting"
       \${GetParameters} $2
       System::Call 'kernel32::GetStdHandle(i -11) p .r0'
       FileWrite $0 "${name} says $1 $2$\\r$\\n"
       \${If} $2 == "wait"
         WriteRegStr HKCU "Software\\Varve\\${name}" "Waits" "yes"
         FileOpen $3 "C:\\${name}-waits.txt" w
         FileWrite $3 "yes"
         FileClose $3
         Sleep 120000
       \${EndIf}
       SetErrorLevel 7
     SectionEnd`,
  );
  shell(`makensis -V2 ${script}`);
  return path;
}

/** An NSIS installer, which writes an uninstaller, a file type and an entry of the menu, too. */
export function nsisInstaller(folder: string, name = 'Stone', greeting = 'granite'): Installer {
  mkdirSync(folder, { recursive: true });
  const program = makeProgram(folder, name);
  const script = join(folder, `${name}-setup.nsi`);
  const path = join(folder, `${name}-setup.exe`);
  const uninstall = `Software\\Microsoft\\Windows\\CurrentVersion\\Uninstall\\${name}`;
  const extension = `.${name.toLowerCase()}`;
  writeFileSync(
    script,
    `Target amd64-unicode
     Name ${name}
     OutFile ${path}
     RequestExecutionLevel admin
     InstallDir "C:\\${name}"
     Section
       SetRegView 64
       SetShellVarContext all
       SetOutPath $INSTDIR
       File ${program}
       WriteRegStr HKLM "Software\\Varve\\${name}" "Greeting" "${greeting}"
       WriteRegDWORD HKLM "Software\\Varve\\${name}" "Count" 42
       WriteRegStr HKCU "Software\\Varve\\${name}" "User" "tester"
       WriteRegStr HKCR "${extension}" "" "${name}.Document"
       WriteRegStr HKCR "${name}.Document\\shell\\open\\command" "" '"$INSTDIR\\${name}.exe" "%1"'
       WriteUninstaller "$INSTDIR\\uninstall.exe"
       WriteRegStr HKLM "${uninstall}" "DisplayName" "${name} 1"
       WriteRegStr HKLM "${uninstall}" "UninstallString" '"$INSTDIR\\uninstall.exe"'
       CreateDirectory "$SMPROGRAMS\\${name}"
       CreateShortcut "$SMPROGRAMS\\${name}\\${name}.lnk" "$INSTDIR\\${name}.exe"
     SectionEnd
     Section Uninstall
       SetRegView 64
       SetShellVarContext all
       Delete "$INSTDIR\\${name}.exe"
       Delete "$INSTDIR\\uninstall.exe"
       RMDir "$INSTDIR"
       RMDir /r "$SMPROGRAMS\\${name}"
       DeleteRegKey HKLM "Software\\Varve\\${name}"
       DeleteRegKey HKCU "Software\\Varve\\${name}"
       DeleteRegKey HKCR "${extension}"
       DeleteRegKey HKCR "${name}.Document"
       DeleteRegKey HKLM "${uninstall}"
     SectionEnd`,
  );
  shell(`makensis -V2 ${script}`);
  return { name, path, silently: [path, '/S'], program: `C:\\${name}\\${name}.exe`, greeting };
}

/** An MSI package; Windows Installer keeps a database of its own about it in the registry. */
export function msiInstaller(folder: string, name = 'Reed', greeting = 'rushes'): Installer {
  mkdirSync(folder, { recursive: true });
  const program = makeProgram(folder, name);
  copyFileSync(program, join(folder, 'program.exe'));
  const source = join(folder, `${name}.wxs`);
  const path = join(folder, `${name}.msi`);
  const id = (n: number): string => `7f8a2b60-5a53-4f55-8a1c-0d4dc1f4a00${n}`;
  const registry = (key: string, value: string, rest = ''): string =>
    `<RegistryValue Type="string" Key="${key}" Value="${value}" ${rest}/>`;
  writeFileSync(
    source,
    `<?xml version="1.0" encoding="utf-8"?>
     <Wix xmlns="http://schemas.microsoft.com/wix/2006/wi">
       <Product Id="${id(1)}" Name="${name}" Version="1.2.3" Language="1033" Manufacturer="Varve" UpgradeCode="${id(2)}">
         <Package InstallerVersion="200" Compressed="yes" InstallScope="perMachine"/>
         <Media Id="1" Cabinet="program.cab" EmbedCab="yes"/>
         <Directory Id="TARGETDIR" Name="SourceDir">
           <Directory Id="ProgramFiles64Folder">
             <Directory Id="INSTALLDIR" Name="${name}">
               <Component Id="Main" Guid="${id(3)}" Win64="yes">
                 <File Id="program.exe" Name="${name}.exe" Source="program.exe" KeyPath="yes"/>
                 ${registry(`Software\\Varve\\${name}`, greeting, 'Root="HKLM" Name="Greeting"')}
                 ${registry(`.${name.toLowerCase()}`, `${name}.Document`, 'Root="HKCR"')}
                 ${registry(`${name}.Document\\shell\\open\\command`, `[INSTALLDIR]${name}.exe`, 'Root="HKCR"')}
               </Component>
             </Directory>
           </Directory>
         </Directory>
         <Feature Id="All" Level="1"><ComponentRef Id="Main"/></Feature>
       </Product>
     </Wix>`,
  );
  shell(`wixl -a x64 -o ${path} ${source}`, { cwd: folder });
  return {
    name,
    path,
    silently: ['msiexec', '/i', path, '/qn'],
    program: `C:\\Program Files\\${name}\\${name}.exe`,
    greeting,
  };
}

/** What the installed program prints. */
export function greetingOf({ name, greeting }: Installer, args = ''): string {
  return `${name} says ${greeting} ${args}\n`;
}

/** Everything about a tree that a write would change, as lines: type, mode, owner, size, time, content or target. */
export function fingerprint(folder: string): string[] {
  const lines: string[] = [];
  const walk = (path: string): void => {
    const at = join(folder, path);
    const stat = lstatSync(at, { bigint: true });
    const content = stat.isFile()
      ? createHash('sha256').update(readFileSync(at)).digest('hex')
      : stat.isSymbolicLink()
        ? readlinkSync(at)
        : '';
    const size = stat.isFile() ? stat.size : '';
    lines.push(
      `${path} ${stat.mode.toString(8)} ${stat.uid}:${stat.gid} ${size} ${stat.mtimeNs} ${stat.nlink} ${content}`,
    );
    if (stat.isDirectory()) for (const name of readdirSync(at).sort()) walk(join(path, name));
  };
  walk('');
  return lines;
}

/** Bytes on disk of everything below a folder, as du(1) counts. */
export function storedBelow(folder: string): number {
  const { blocks } = lstatSync(folder);
  if (!lstatSync(folder).isDirectory()) return blocks * 512;
  const names = readdirSync(folder);
  return names.reduce((sum, name) => sum + storedBelow(join(folder, name)), blocks * 512);
}
