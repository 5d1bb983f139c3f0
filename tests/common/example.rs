//! The example programs, as a user runs them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// An example program, which stands beside this test. Cargo has built it, unless only this test was asked for.
pub fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let profile: PathBuf = test.parent().unwrap().parent().unwrap().to_owned();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--example", name]);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).arg("--target-dir").arg(profile.parent().unwrap());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "the example builds");
    let mut command = Command::new(profile.join("examples").join(name));
    command.env_clear().stderr(Stdio::piped()).stdout(Stdio::piped());
    command
}
