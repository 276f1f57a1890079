//! `fleetctl completion`

use clap::{Args, ValueEnum};
use clap_complete::env::Shells;

use super::Outcome;
use crate::{completion::VARIABLE, error::Failure, output};

/// Print a script that has a shell complete commands, units and machines
///
/// The script asks fleetctl itself, so that it never is out of date, and names are those of the cluster.
#[derive(Args, Debug)]
#[command(after_help = "\
EXAMPLES:
    fleetctl completion bash > /etc/bash_completion.d/fleetctl
    fleetctl completion zsh > /usr/local/share/zsh/site-functions/_fleetctl
    fleetctl completion fish > ~/.config/fish/completions/fleetctl.fish")]
pub struct CompletionArgs {
    /// bash, zsh or fish
    #[arg(value_name = "SHELL", hide_possible_values = true)]
    shell: Shell,
}

/// Bash takes words apart at `@` and `:`, which unit names have. This puts them together for clap_complete's
/// function, and gives bash only the end that it asked for.
const BASH_WORDS: &str = r#"
_fleetctl() {
    local words line=${COMP_LINE:0:COMP_POINT}
    read -ra words <<< "$line"
    [[ $line == *' ' ]] && words+=('')
    local word=${words[-1]}
    if [[ $word == *"$2" ]]; then
        local COMP_WORDS=("${words[@]}") COMP_CWORD=$((${#words[@]} - 1))
        _clap_complete_fleetctl "$1" "$word" "$3"
        COMPREPLY=("${COMPREPLY[@]#"${word%"$2"}"}")
    else
        _clap_complete_fleetctl "$@"
    fi
}
complete -o nospace -o bashdefault -o nosort -F _fleetctl fleetctl
"#;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub fn run(args: &CompletionArgs) -> Outcome {
    let name = match args.shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    };
    let shells = Shells::builtins();
    let shell = shells.completer(name).expect("clap_complete knows these three");
    let mut script = Vec::new();
    shell
        .write_registration(VARIABLE, "fleetctl", "fleetctl", "fleetctl", &mut script)
        .map_err(|error| Failure::new(format!("cannot write the script: {error}")))?;
    output::verbatim(&String::from_utf8_lossy(&script))?;
    if matches!(args.shell, Shell::Bash) {
        output::verbatim(BASH_WORDS)?;
    }
    Ok(0)
}
