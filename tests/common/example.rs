//! The example programs, as a user runs them.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// An example, beside this test. Cargo has built it, unless only this test was asked for.
pub fn example(name: &str) -> Command {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().unwrap().parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--example", name]);
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).arg("--target-dir").arg(profile.parent().unwrap());
        // What cargo tells a test of its package, build scripts would take for a change, and everything would be built again.
        let told = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(told)) {
            cargo.env_remove(name);
        }
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success(), "the example builds");
        profile.join("examples")
    });
    let mut command = Command::new(folder.join(name));
    command.env_clear().env("NEKTON_LISTEN", "none").stderr(Stdio::piped()).stdout(Stdio::piped());
    command
}
