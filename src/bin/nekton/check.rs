//! `nekton check`: whether a program, as it is now, can go on from its checkpoints.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;

/// Builds the program's dataflow, reads all of the newest checkpoint's state, and says what would happen.
/// Nothing is run, written or taken over; a job that is running is not disturbed.
#[derive(Args)]
pub struct Command {
    /// Where the checkpoints are, if not where the program's own flags or defaults say
    #[arg(long, env = "NEKTON_CHECKPOINTS", value_name = "URL")]
    checkpoints: Option<String>,
    /// The program and its flags
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

/// Ends as the program does: 0 if it could go on.
pub fn run(command: Command) -> ExitCode {
    let Some((program, flags)) = command.program.split_first() else { return ExitCode::FAILURE };
    let mut checked = std::process::Command::new(program);
    checked.args(flags).env("NEKTON_CHECK", "true");
    if let Some(url) = command.checkpoints {
        checked.env("NEKTON_CHECKPOINTS", url);
    }
    match checked.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        // It has said why.
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            nekton::say(format_args!("nekton: {} cannot be started: {error}", program.to_string_lossy()));
            ExitCode::FAILURE
        }
    }
}
