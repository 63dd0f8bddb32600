"""`kcluster completion`: the script that lets a shell complete kcluster's command lines."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from kcluster.cli import output

app = typer.Typer()


class Shell(enum.StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


# Where nothing is offered each falls back to the names of files.
SCRIPTS = {
    Shell.BASH: r"""_kcluster() {
    local IFS=$'\n'
    COMPREPLY=($(kcluster __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f 1))
}
complete -o default -F _kcluster kcluster""",
    Shell.ZSH: r"""#compdef kcluster
_kcluster() {
    local line
    local -a found
    for line in "${(@f)$(kcluster __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        [[ -n $line ]] || continue
        if [[ $line == *$'\t'* ]]; then
            found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
        else
            found+=("${line//:/\\:}")
        fi
    done
    if (( $#found )); then _describe kcluster found; else _files; fi
}
if [[ $funcstack[1] == _kcluster ]]; then _kcluster "$@"; else compdef _kcluster kcluster; fi""",
    Shell.FISH: r"""function __kcluster_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l found (kcluster __complete $words[2..-1] "$current" 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path "$current"
    end
end
complete -c kcluster -f -a '(__kcluster_complete)'""",
}


@app.command()
def completion(
    shell: Annotated[Shell, typer.Argument(help="Whose.", case_sensitive=False)],
) -> None:
    """Print the script that completes commands, options, clusters, brokers and topics.

    To have it in every new shell, add it to what the shell reads at its start:

    \b
    echo 'eval "$(kcluster completion bash)"' >> ~/.bashrc
    echo 'eval "$(kcluster completion zsh)"' >> ~/.zshrc       # below compinit
    kcluster completion fish > ~/.config/fish/completions/kcluster.fish
    """
    output.data(SCRIPTS[shell])
