//! `pointsman`: see `pointsman --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    pointsman::cli::main()
}
