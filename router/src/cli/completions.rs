//! `pointsman completions`: what a shell needs to complete the command line.

use std::io::{self, Write as _};

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, Exit, complain};

/// Print the completions of a shell, from the definition of this command line.
///
/// For this session of bash: `source <(pointsman completions bash)`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn execute(Arguments { shell }: &Arguments) -> Exit {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    let mut text = Vec::new();
    clap_complete::generate(*shell, &mut command, name, &mut text);
    match io::stdout().write_all(&text).and_then(|()| io::stdout().flush()) {
        // A reader that has gone away is no error, as for every answer.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => super::output_failed(&error, &mut complain),
        _ => Exit::Fine,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use clap::CommandFactory as _;
    use clap_complete::Shell;

    use crate::cli::Cli;

    fn completions(shell: Shell) -> String {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "pointsman", &mut text);
        String::from_utf8(text).unwrap()
    }

    /// The command, and all below it, by the words that lead there.
    fn paths(command: &clap::Command, above: &[String], found: &mut Vec<Vec<String>>) {
        for below in command.get_subcommands() {
            let path: Vec<String> = above.iter().cloned().chain([below.get_name().to_owned()]).collect();
            paths(below, &path, found);
            found.push(path);
        }
    }

    #[test]
    fn bash_takes_its_completions_and_they_know_every_command() {
        let text = completions(Shell::Bash);
        let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        bash.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let answer = bash.wait_with_output().unwrap();
        assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));

        let mut all = Vec::new();
        paths(&Cli::command(), &[], &mut all);
        assert!(all.len() > 25, "{all:?}");
        for path in &all {
            // As bash is asked: the words that stand there, and an empty one to be completed.
            let words = [vec!["pointsman".to_owned()], path[..path.len() - 1].to_vec(), vec![String::new()]].concat();
            let ask = format!(
                "{text}\nCOMP_WORDS=({})\nCOMP_CWORD={}\n_pointsman pointsman '' ''\necho \"${{COMPREPLY[@]}}\"",
                words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
                words.len() - 1
            );
            let answer = Command::new("bash").arg("-c").arg(ask).output().unwrap();
            let offered = String::from_utf8_lossy(&answer.stdout).into_owned();
            let last = path.last().unwrap();
            assert!(offered.split_whitespace().any(|word| word == last), "{path:?} is not offered: {offered}");
        }
    }

    #[test]
    fn every_shell_has_completions() {
        for shell in [Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            assert!(completions(shell).contains("dead-letter"), "{shell}");
        }
    }
}
