// `varve completion`: scripts that complete commands, flags, mount options and mount points, for three shells.
// Everything comes from commands.ts and stack/option-table.ts; setup.ts installs the same text.
// Formats: bash(1) complete, zshcompsys(1), fish complete(1).

import { MountError } from '../stack/errors.js';
import { OPTIONS, type OptionRecord } from '../stack/option-table.js';
import type { Arguments } from './args.js';
import type { CommandRecord } from './command-record.js';
import { COMMANDS, FIRST_WORDS, GROUPS, groupWords, HELP, summaryOf } from './commands.js';
import { EXIT } from './exit-codes.js';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

export function run(given: Arguments): number {
  const shell = SHELLS.find((name) => name === given.operands[0]);
  if (shell === undefined) {
    throw new MountError('option', `completion: ${given.operands[0]}: one of ${SHELLS.join(', ')}`);
  }
  process.stdout.write(completionScript(shell));
  return EXIT.ok;
}

export function completionScript(shell: Shell): string {
  switch (shell) {
    case 'bash':
      return bash();
    case 'zsh':
      return zsh();
    case 'fish':
      return fish();
  }
}

const documented = OPTIONS.filter((option) => option.group !== 'ignored');

/** `name=` for options with a value. */
const optionWord = (option: OptionRecord): string =>
  option.value === undefined || option.optional === true ? option.name : `${option.name}=`;

const flagsOf = (command: CommandRecord): string[] =>
  [...command.flags, HELP].flatMap((flag) => [
    `--${flag.name}`,
    ...(flag.short === undefined ? [] : [`-${flag.short}`]),
  ]);

/** Values of flags that are a choice, such as --backend. */
const choices = (command: CommandRecord): [string, string[]][] =>
  command.flags
    .filter((flag) => flag.value?.includes('|') === true)
    .map((flag) => [flag.name, flag.value?.split('|') ?? []]);

function bash(): string {
  const cases = COMMANDS.map((command) => {
    const values = choices(command).map(
      ([flag, list]) =>
        `      --${flag}) COMPREPLY=($(compgen -W '${list.join(' ')}' -- "$cur")); return ;;`,
    );
    return `    '${command.name}')
      case $prev in
${[...values, ...(command.name === 'mount' ? ['      -o|--options) _varve_options; return ;;'] : []), '      *) ;;'].join('\n')}
      esac
      if [[ $cur == -* ]]; then COMPREPLY=($(compgen -W '${flagsOf(command).join(' ')}' -- "$cur")); return; fi
      ${bashOperand(command)} ;;`;
  });
  return `# bash completion of varve; printed by \`varve completion bash\`.
_varve_options() {
  local done= last=$cur
  if [[ $cur == *,* ]]; then done=\${cur%,*},; last=\${cur##*,}; fi
  if [[ $last == *=* ]]; then
    local name=\${last%%=*}= value=\${last#*=}
    local head=
    if [[ $value == *:* ]]; then head=\${value%:*}:; value=\${value##*:}; fi
    COMPREPLY=($(compgen -d -P "$done$name$head" -- "$value"))
  else
    COMPREPLY=($(compgen -P "$done" -W '${documented.map(optionWord).join(' ')}' -- "$last"))
  fi
  compopt -o nospace
}
_varve_stacks() {
  COMPREPLY=($(compgen -W "$(varve stack ls -q 2>/dev/null)" -- "$cur"))
}
_varve_mounts() {
  local mounts
  mounts=$(awk '$3 == "fuse.varve" || ($3 == "overlay" && $1 == "varve") { print $2 }' /proc/mounts 2>/dev/null)
  COMPREPLY=($(compgen -W "$mounts $(varve stack ls -q 2>/dev/null)" -- "$cur"))
}
_varve() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} line
  # Colons and equal signs split words in bash: put the option list together again.
  line=\${COMP_LINE:0:COMP_POINT}
  if [[ $line =~ (-o|--options)[[:space:]]+([^[:space:]]*)$ ]]; then prev=-o; cur=\${BASH_REMATCH[2]}; fi
  if ((COMP_CWORD == 1)); then
    COMPREPLY=($(compgen -W '${FIRST_WORDS.join(' ')} --help --version' -- "$cur")); return
  fi
  local command=\${COMP_WORDS[1]}
${[bashGroups(1), bashGroups(2)].join('\n')}
  case $command in
${cases.join('\n')}
  esac
}
complete -F _varve varve
`;
}

/** The words behind groups whose names have `depth` words. */
function bashGroups(depth: number): string {
  const groups = GROUPS.filter((group) => group.split(' ').length === depth).map(
    (group) => `    '${group}')
      if ((COMP_CWORD == ${depth + 1})); then COMPREPLY=($(compgen -W '${groupWords(group).join(' ')} --help' -- "$cur")); return; fi
      command+=" \${COMP_WORDS[${depth + 1}]}" ;;`,
  );
  return `  case $command in\n${groups.join('\n')}\n  esac`;
}

function bashOperand(command: CommandRecord): string {
  switch (command.completes) {
    case 'directory':
      return 'compopt -o filenames; COMPREPLY=($(compgen -d -- "$cur"))';
    case 'path':
      return 'compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur"))';
    case 'mount':
      return '_varve_mounts';
    case 'stack':
      return '_varve_stacks';
    case 'command':
      return `COMPREPLY=($(compgen -W '${FIRST_WORDS.join(' ')}' -- "$cur"))`;
    case 'shell':
      return `COMPREPLY=($(compgen -W '${SHELLS.join(' ')}' -- "$cur"))`;
    case 'nothing':
      return ':';
  }
}

/** Quotes for the inside of zsh's '...' specs. */
const zshText = (text: string): string => text.replace(/'/g, "'\\''").replace(/[[\]:]/g, '\\$&');

function zsh(): string {
  const cases = COMMANDS.map((command) => {
    const specs = [...command.flags, HELP].flatMap((flag) => {
      const help = `[${zshText(flag.help)}]`;
      const value =
        flag.value === undefined
          ? ''
          : flag.name === 'options'
            ? ':options:_varve_options'
            : flag.value.includes('|')
              ? `:value:(${flag.value.split('|').join(' ')})`
              : ':value:_files';
      const many = flag.many === true ? '*' : '';
      // `=-`: the value, if any, stands behind the sign; `::`: there may be none.
      const sign = flag.value === undefined ? '' : flag.optional === true ? '=-' : '=';
      const shown = flag.optional === true ? `:${value}` : value;
      const long = `'${many}--${flag.name}${sign}${help}${shown}'`;
      return flag.short === undefined ? [long] : [`'${many}-${flag.short}${help}${value}'`, long];
    });
    return `    '${command.name}') _arguments -s ${[...specs, `'*:operand:${zshOperand(command)}'`].join(' ')} ;;`;
  });
  const described = FIRST_WORDS.map((word) => `'${word}:${zshText(summaryOf(word))}'`).join(' ');
  const groups = [1, 2].map((depth) => {
    const alike = GROUPS.filter((group) => group.split(' ').length === depth).map(
      (group) => `    '${group}')
      if ((CURRENT == 2)); then _values command ${groupWords(group).join(' ')}; return; fi
      command="$command $words[2]"
      shift words; ((CURRENT--)) ;;`,
    );
    return `  case $command in\n${alike.join('\n')}\n  esac`;
  });
  const options = documented
    .map((o) => `'${zshText(optionWord(o))}[${zshText(o.help)}]'`)
    .join(' ');
  return `#compdef varve
# zsh completion of varve; printed by \`varve completion zsh\`.
_varve_options() { _values -s , 'mount option' ${options} }
_varve_stacks() { local -a stacks; stacks=(\${(f)"$(varve stack ls -q 2>/dev/null)"}); compadd -a stacks }
_varve_mounts() {
  local -a mounts
  mounts=(\${(f)"$(awk '$3 == "fuse.varve" || ($3 == "overlay" && $1 == "varve") { print $2 }' /proc/mounts)"})
  compadd -a mounts
  _varve_stacks
}
_varve_commands() { local -a commands; commands=(${described}); _describe command commands }
_varve() {
  if ((CURRENT == 2)); then _varve_commands; return; fi
  local command=$words[2]
  shift words; ((CURRENT--))
${groups.join('\n')}
  case $command in
${cases.join('\n')}
  esac
}
_varve "$@"
`;
}

function zshOperand(command: CommandRecord): string {
  switch (command.completes) {
    case 'directory':
      return '_directories';
    case 'path':
      return '_files';
    case 'mount':
      return '_varve_mounts';
    case 'stack':
      return '_varve_stacks';
    case 'command':
      return '_varve_commands';
    case 'shell':
      return `(${SHELLS.join(' ')})`;
    case 'nothing':
      return ' ';
  }
}

const fishText = (text: string): string => `'${text.replace(/[\\']/g, '\\$&')}'`;

function fish(): string {
  const lines = [
    '# fish completion of varve; printed by `varve completion fish`.',
    'function __varve_mounts',
    `  awk '$3 == "fuse.varve" || ($3 == "overlay" && $1 == "varve") { print $2 }' /proc/mounts`,
    'end',
    'function __varve_stacks',
    '  varve stack ls -q 2>/dev/null',
    'end',
    'complete -c varve -f',
  ];
  for (const word of FIRST_WORDS) {
    lines.push(
      `complete -c varve -n __fish_use_subcommand -a ${word} -d ${fishText(summaryOf(word))}`,
    );
  }
  for (const group of GROUPS.filter((name) => name.includes(' '))) {
    const [word = '', inner] = group.split(' ');
    const open = `__fish_seen_subcommand_from ${word}; and not __fish_seen_subcommand_from ${groupWords(word).join(' ')}`;
    lines.push(`complete -c varve -n '${open}' -a ${inner} -d ${fishText(summaryOf(group))}`);
  }
  for (const command of COMMANDS) {
    const words = command.name.split(' ');
    const last = words.pop() as string;
    const before = words.map((word) => `__fish_seen_subcommand_from ${word}`);
    if (words.length > 0) {
      const others = groupWords(words.join(' ')).join(' ');
      const open = [...before, `not __fish_seen_subcommand_from ${others}`].join('; and ');
      lines.push(`complete -c varve -n '${open}' -a ${last} -d ${fishText(command.summary)}`);
    }
    const when = `-n '${[...before, `__fish_seen_subcommand_from ${last}`].join('; and ')}'`;
    for (const flag of [...command.flags, HELP]) {
      const short = flag.short === undefined ? '' : ` -s ${flag.short}`;
      const value =
        flag.value === undefined
          ? ''
          : flag.value.includes('|')
            ? ` -x -a ${fishText(flag.value.split('|').join(' '))}`
            : flag.name === 'options'
              ? ` -x -a ${fishText(documented.map(optionWord).join(' '))}`
              : flag.optional === true
                ? ''
                : ' -r';
      lines.push(
        `complete -c varve ${when}${short} -l ${flag.name}${value} -d ${fishText(flag.help)}`,
      );
    }
    const operand = fishOperand(command);
    if (operand !== '') lines.push(`complete -c varve ${when} ${operand}`);
  }
  return `${lines.join('\n')}\n`;
}

function fishOperand(command: CommandRecord): string {
  switch (command.completes) {
    case 'directory':
      return "-a '(__fish_complete_directories)'";
    case 'path':
      return '-F';
    case 'mount':
      return "-a '(__varve_mounts; __varve_stacks)'";
    case 'stack':
      return "-a '(__varve_stacks)'";
    case 'command':
      return `-a ${fishText(FIRST_WORDS.join(' '))}`;
    case 'shell':
      return `-a ${fishText(SHELLS.join(' '))}`;
    case 'nothing':
      return '';
  }
}
