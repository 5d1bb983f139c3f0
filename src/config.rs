//! Where settings come from: flags, then the environment, then a file.

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches};
use nekton_engine::{Error, Result};

/// Parses a program's own flags together with the runner's
/// (`#[command(flatten)] runner: nekton::Runner`). Flags win over environment variables, these over the
/// file named by `--config` or `NEKTON_CONFIG`, whose keys are the names of flags. Help and wrong flags end the
/// process, as usual with clap.
///
/// # Errors
/// If the file cannot be read or has a key that is no flag.
///
/// A program with a flag of its own, and clap among its dependencies:
///
/// ```no_run
/// use nekton::prelude::*;
///
/// #[derive(clap::Parser)]
/// struct Flags {
///     /// From which temperature on a sensor is hot
///     #[arg(long, default_value_t = 60)]
///     hot: i64,
///     #[command(flatten)]
///     runner: Runner,
/// }
///
/// fn main() -> nekton::Result<()> {
///     let Flags { hot, runner } = nekton::parse()?;
///     runner.run("house", move |flow| {
///         let readings = flow.events::<i64>("readings");
///         flow.sink("hot", &readings.filter(move |celsius| *celsius >= hot));
///     })?;
///     Ok(())
/// }
/// ```
pub fn parse<P: CommandFactory + FromArgMatches>() -> Result<P> {
    let mut arguments = std::env::args_os();
    let program = arguments.next().into_iter();
    let flags: Vec<OsString> = arguments.collect();
    let command = P::command().args_override_self(true);
    let of_file = match file_named(&flags) {
        Some(path) => from_file(&command, &path)?,
        None => Vec::new(),
    };
    let matches = command.get_matches_from(program.chain(of_file).chain(flags));
    P::from_arg_matches(&matches).map_err(|error| error.exit())
}

fn file_named(flags: &[OsString]) -> Option<OsString> {
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        match flag.to_str() {
            Some("--config") => return flags.next().cloned(),
            Some(text) if text.starts_with("--config=") => return Some(text["--config=".len()..].into()),
            _ => {}
        }
    }
    std::env::var_os("NEKTON_CONFIG")
}

/// The settings of a file as flags, but for those that the environment has.
fn from_file(command: &clap::Command, path: &OsString) -> Result<Vec<OsString>> {
    let shown = path.to_string_lossy();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::io(format!("the settings file {shown}"), &error))?;
    let table: toml::Table = text
        .parse()
        .map_err(|error| Error::config(format!("the settings file {shown} is no TOML: {error}")))?;
    let mut flags = Vec::new();
    for (key, value) in table {
        let argument = command.get_arguments().find(|argument| argument.get_long() == Some(&key));
        let Some(argument) = argument else {
            let known: Vec<&str> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
            return Err(Error::config(format!(
                "the settings file {shown} has an unknown key {key:?}. Known are: {}",
                known.join(", ")
            )));
        };
        if argument.get_env().is_some_and(|name| std::env::var_os(name).is_some()) {
            continue;
        }
        match value {
            toml::Value::Boolean(true) => flags.push(format!("--{key}").into()),
            toml::Value::Boolean(false) => {}
            toml::Value::String(text) => flags.push(format!("--{key}={text}").into()),
            toml::Value::Integer(number) => flags.push(format!("--{key}={number}").into()),
            toml::Value::Array(items) if items.iter().all(toml::Value::is_str) => {
                flags.extend(
                    items.iter().filter_map(toml::Value::as_str).map(|item| format!("--{key}={item}").into()),
                );
            }
            // `[topic]` names topics, one a key.
            toml::Value::Table(entries) if key == "topic" => {
                flags.extend(
                    entries
                        .iter()
                        .filter_map(|(name, url)| Some(format!("--{key}={name}={}", url.as_str()?).into())),
                );
            }
            _ => {
                return Err(Error::config(format!(
                    "the key {key:?} in {shown} must be text, a number or a list of texts"
                )));
            }
        }
    }
    Ok(flags)
}
