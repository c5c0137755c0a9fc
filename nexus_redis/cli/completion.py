"""Completion scripts for bash, zsh and fish, made from the verbs, their options and the words that these take.

A script completes without starting Python, which would take a tenth of a second at each press of the Tab key.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from nexus_redis._protocol.scripts import NAMES
from nexus_redis.cli.commands.pace import UNITS
from nexus_redis.cli.output import PROGRAM
from nexus_redis.errors import WORDS

SHELLS: Final = ("bash", "zsh", "fish")
_FILES: Final = ("--from", "--input")


@dataclass(frozen=True)
class Option:
    """One option as it is typed, with the `words` that it takes; `is_flag` if it takes no value."""

    name: str
    help: str
    is_flag: bool
    words: tuple[str, ...]


@dataclass(frozen=True)
class Verb:
    """One verb with its options, and its `arguments` if they come from a fixed list."""

    name: str
    help: str
    options: tuple[Option, ...]
    arguments: tuple[str, ...]


def script(shell: str, group: Any) -> str:
    """Return the script for a shell. `group` is the typer command that holds all verbs."""
    verbs = [_verb(name, command) for name, command in group.commands.items()]
    return "\n".join({"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](verbs)) + "\n"


def _verb(name: str, command: Any) -> Verb:
    options = tuple(
        Option(opt, (param.help or "").rstrip("."), bool(param.is_flag), _words(name, opt))
        for param in command.params
        if param.param_type_name == "option"
        for opt in (*param.opts, *param.secondary_opts)
        if opt.startswith("--")
    )
    summary = (command.help or "").strip().splitlines()[0].rstrip(".")
    help_option = Option("--help", "Show the help and exit", is_flag=True, words=())
    return Verb(name, summary, (*options, help_option), NAMES if name == "scripts" else ())


def _words(verb: str, option: str) -> tuple[str, ...]:
    if option == "--cost" and verb == "pace":
        return UNITS
    return (
        WORDS.get(option.removeprefix("--").replace("-", "_"), ())
        if option in ("--law", "--combine", "--priority", "--on-outage")
        else ()
    )


def _bash(verbs: list[Verb]) -> Iterator[str]:
    yield f'# bash completion of {PROGRAM}: eval "$({PROGRAM} --completion bash)" in ~/.bashrc'
    yield "_nexus_redis() {"
    yield '  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]} choices=""'
    yield "  COMPREPLY=()"
    yield "  if (( COMP_CWORD == 1 )); then"
    yield f'    COMPREPLY=($(compgen -W "{" ".join(v.name for v in verbs)} --help --version --completion" -- "$word"))'
    yield "    return"
    yield "  fi"
    yield '  case "$verb $before" in'
    yield f'    "--completion --completion") choices="{" ".join(SHELLS)}" ;;'
    for verb in verbs:
        for option in verb.options:
            if option.words:
                yield f'    "{verb.name} {option.name}") choices="{" ".join(option.words)}" ;;'
    yield "  esac"
    yield "  if [[ -z $choices ]]; then"
    yield '    case "$verb" in'
    for verb in verbs:
        if verb.arguments:
            yield f'      {verb.name}) choices="{" ".join(verb.arguments)}" ;;'
    yield "    esac"
    yield "  fi"
    yield "  if [[ $word == -* ]]; then"
    yield '    case "$verb" in'
    for verb in verbs:
        yield f'      {verb.name}) choices="{" ".join(o.name for o in verb.options)}" ;;'
    yield "    esac"
    yield "  fi"
    yield '  if [[ -n $choices ]]; then COMPREPLY=($(compgen -W "$choices" -- "$word"))'
    yield '  elif [[ $before == -- ]]; then COMPREPLY=($(compgen -c -- "$word"))'
    yield '  else COMPREPLY=($(compgen -f -- "$word")); fi'
    yield "}"
    yield f"complete -o filenames -F _nexus_redis {PROGRAM}"


def _zsh(verbs: list[Verb]) -> Iterator[str]:
    yield f"#compdef {PROGRAM}"
    yield f'# zsh completion of {PROGRAM}: eval "$({PROGRAM} --completion zsh)" in ~/.zshrc, after compinit'
    yield "_nexus_redis() {"
    yield "  local -a verbs"
    yield "  verbs=("
    for verb in verbs:
        yield f"    {_quoted(f'{verb.name}:{verb.help}')}"
    yield "  )"
    yield "  if (( CURRENT == 2 )); then"
    yield "    _describe verb verbs"
    yield "    return"
    yield "  fi"
    yield "  local verb=$words[2]"
    yield "  shift words; (( CURRENT-- ))"
    yield "  case $verb in"
    for verb in verbs:
        yield f"    {verb.name}) _arguments \\"
        for option in verb.options:
            yield f"      {_quoted(f'{option.name}[{_plain(option.help)}]{_takes(option)}')} \\"
        rest = f"*:argument:({' '.join(verb.arguments)})" if verb.arguments else "*:file:_files"
        yield f"      {_quoted(rest)} ;;"
    yield "  esac"
    yield "}"
    yield f"compdef _nexus_redis {PROGRAM}"


def _takes(option: Option) -> str:
    if option.is_flag:
        return ""
    if option.words:
        return f":{option.name.removeprefix('--')}:({' '.join(option.words)})"
    return ":file:_files" if option.name in _FILES else f":{option.name.removeprefix('--')}: "


def _plain(text: str) -> str:
    """Return `text` without the characters that mean something to `_arguments` of zsh."""
    return "".join(" " if c in "[]:\\`" else c for c in text)


def _fish(verbs: list[Verb]) -> Iterator[str]:
    yield f"# fish completion of {PROGRAM}: {PROGRAM} --completion fish > ~/.config/fish/completions/{PROGRAM}.fish"
    for verb in verbs:
        yield f"complete -c {PROGRAM} -n __fish_use_subcommand -f -a {verb.name} -d {_escaped(verb.help)}"
    for verb in verbs:
        seen = f"complete -c {PROGRAM} -n '__fish_seen_subcommand_from {verb.name}'"
        for option in verb.options:
            takes = "" if option.is_flag else " -r" if option.name in _FILES else " -x"
            words = f" -a {_escaped(' '.join(option.words))}" if option.words else ""
            yield f"{seen} -l {option.name.removeprefix('--')}{takes}{words} -d {_escaped(option.help)}"
        if verb.arguments:
            yield f"{seen} -f -a {_escaped(' '.join(verb.arguments))}"


def _quoted(text: str) -> str:
    """Return `text` in quotes for bash and zsh."""
    return "'" + text.replace("'", "'\\''") + "'"


def _escaped(text: str) -> str:
    """Return `text` in quotes for fish."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
