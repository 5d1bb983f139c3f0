//! A job that a test program is itself, in a process of its own: it calls itself, through an ignored test named `program`.

use std::process::{Command, Stdio};

use nekton::prelude::*;

/// Where its flags are.
pub const FLAGS: &str = "NEKTON_TEST_FLAGS";

/// The arguments with which a test program is the job.
pub const ARGUMENTS: [&str; 4] = ["--exact", "program", "--ignored", "--nocapture"];

/// Runs the job with the flags of its command, and ends the process as it says.
pub fn run(name: &str, program: impl for<'s> Fn(&mut Flow<'s>) + Send + Sync + 'static) {
    #[derive(clap::Parser)]
    struct Bare {
        #[command(flatten)]
        runner: Runner,
    }
    let flags = std::env::var(FLAGS).unwrap();
    let bare = <Bare as clap::Parser>::parse_from(std::iter::once(name).chain(flags.split_whitespace()));
    if let Err(error) = bare.runner.run(name, program) {
        eprintln!("{error}");
        std::process::exit(error.exit_code());
    }
}

/// The command that starts the job with these flags. It shows itself nowhere, unless that is changed.
pub fn command(flags: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(ARGUMENTS).env(FLAGS, flags).env("NEKTON_LISTEN", "none");
    command.stdout(Stdio::null()).stderr(Stdio::inherit());
    command
}
