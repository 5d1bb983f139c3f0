//! `nekton sandbox`: a real Apache Pulsar on this machine.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use nekton::sandbox::{Options, PULSAR_VERSION, Ports, Sandbox};
use nekton::{Error, Kind, Result, say};

use crate::display::Display;

const FOLDER: &str = "nekton-data/sandbox";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Start it, and wait until it works; the first time, fetch it with Maven (245 MB)
    Up(Up),
    /// Say whether it runs, and where
    Status(Status),
    /// End it; its data stay
    Down(Place),
    /// Print a token of a role, if it was started with --token
    Token(Token),
}

#[derive(Args)]
pub(crate) struct Place {
    /// The folder with its data, settings and logs; one folder is one sandbox
    #[arg(long, value_name = "DIR", default_value = FOLDER)]
    folder: PathBuf,
}

#[derive(Args)]
pub(crate) struct Up {
    #[command(flatten)]
    place: Place,
    /// The port for clients on 127.0.0.1 [default: 6650, or 6651 with --tls]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// The port for administration on 127.0.0.1 [default: 8080, or 8443 with --tls]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    admin_port: Option<u16>,
    /// Let clients in through TLS only, with a certificate made for it
    #[arg(long)]
    tls: bool,
    /// Let in only clients with a token
    #[arg(long)]
    token: bool,
    /// The most memory for its heap, in MiB; it may use as much again outside of it
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(128..))]
    heap: u32,
    /// An unpacked Apache Pulsar to run, instead of fetching one
    #[arg(long, env = "NEKTON_PULSAR", value_name = "DIR")]
    pulsar: Option<PathBuf>,
    /// Print one JSON object for programs
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct Status {
    #[command(flatten)]
    place: Place,
    /// Print one JSON object for programs
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct Token {
    #[command(flatten)]
    place: Place,
    /// The role; admin may do everything, others what they were granted
    #[arg(default_value = "admin")]
    role: String,
}

pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Up(command) => up(command),
        Command::Status(command) => status(&command),
        Command::Down(place) => down(&place),
        Command::Token(command) => token(&command),
    }
}

fn up(command: Up) -> Result<()> {
    let mut options = Options::new(command.place.folder);
    let (port, admin) = if command.tls { (6651, 8443) } else { (6650, 8080) };
    options.ports = Some(Ports::new(command.port.unwrap_or(port), command.admin_port.unwrap_or(admin)));
    options.tls = command.tls;
    options.token = command.token;
    options.heap = command.heap;
    options.pulsar = command.pulsar;
    // A sandbox that runs on other ports is good for those who did not ask for any.
    let running = Sandbox::find(&options.folder)?;
    if let Some(running) = running.filter(|_| command.port.is_none() && command.admin_port.is_none()) {
        options.ports = Some(running.ports());
    }
    let mut display = Display::new();
    let sandbox = Sandbox::up(&options, &mut |progress| display.show(progress));
    display.done();
    let sandbox = sandbox?;
    if command.json {
        println!("{}", json(&sandbox, true));
        return Ok(());
    }
    let already = if sandbox.was_up() { " already" } else { "" };
    println!(
        "Apache Pulsar {PULSAR_VERSION} is up{already}, as process {}, with its data in {}.\n",
        sandbox.pid(),
        path(sandbox.folder())
    );
    explain(&sandbox);
    Ok(())
}

fn explain(sandbox: &Sandbox) {
    let topics = sandbox.topics_url();
    let access = access(sandbox);
    println!("  run a program on it   cargo run -- --topics {topics}{access}");
    println!("  write to a topic      nekton topics publish {topics}/NAME{access}");
    println!("  look into a topic     nekton topics tail {topics}/NAME{access}");
    println!("  administration        {}", sandbox.admin_url());
    println!("  log                   {}", path(&sandbox.log()));
    let default = Path::new(FOLDER).canonicalize().is_ok_and(|default| default == sandbox.folder());
    let folder = if default { String::new() } else { format!(" --folder {}", path(sandbox.folder())) };
    println!("  end it                nekton sandbox down{folder}");
}

/// The flags by which programs get in, where it takes any.
fn access(sandbox: &Sandbox) -> String {
    let mut flags = String::new();
    if let Some(ca) = sandbox.ca() {
        flags.push_str(&format!(" --pulsar-ca {}", path(ca)));
    }
    if let Some(token) = sandbox.token_file() {
        flags.push_str(&format!(" --pulsar-token file:{}", path(token)));
    }
    let usual = if sandbox.ca().is_some() { 8443 } else { 8080 };
    if sandbox.ports().admin != usual {
        flags.push_str(&format!(" --pulsar-admin {}", sandbox.admin_url()));
    }
    flags
}

/// A path as one writes it in a shell, from the working folder if it is below.
fn path(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let path = here.and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path);
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

fn json(sandbox: &Sandbox, healthy: bool) -> serde_json::Value {
    serde_json::json!({
        "healthy": healthy,
        "pid": sandbox.pid(),
        "url": sandbox.url(),
        "topics": sandbox.topics_url(),
        "admin": sandbox.admin_url(),
        "folder": sandbox.folder(),
        "log": sandbox.log(),
        "ca": sandbox.ca(),
        "token_file": sandbox.token_file(),
    })
}

fn running(place: &Place) -> Result<Sandbox> {
    Sandbox::find(&place.folder)?.ok_or_else(|| {
        Error::new(
            Kind::Missing,
            format!(
                "no sandbox is running in {}. Start one with nekton sandbox up, or name its folder with --folder",
                place.folder.display()
            ),
        )
    })
}

fn status(command: &Status) -> Result<()> {
    let sandbox = running(&command.place)?;
    let healthy = sandbox.healthy();
    if command.json {
        println!("{}", json(&sandbox, healthy));
    } else if healthy {
        println!("Apache Pulsar {PULSAR_VERSION} is up, as process {}.\n", sandbox.pid());
        explain(&sandbox);
    }
    if healthy {
        return Ok(());
    }
    Err(Error::new(
        Kind::Unavailable,
        format!(
            "the sandbox in {} runs as process {} but does not work, or not yet. nekton sandbox up waits for it; its \
             log is {}",
            sandbox.folder().display(),
            sandbox.pid(),
            sandbox.log().display()
        ),
    ))
}

fn down(place: &Place) -> Result<()> {
    let sandbox = running(place)?;
    let (pid, folder) = (sandbox.pid(), sandbox.folder().to_owned());
    sandbox.down()?;
    println!("The sandbox is down (it was process {pid}). Its data stay in {}.", folder.display());
    Ok(())
}

fn token(command: &Token) -> Result<()> {
    let sandbox = running(&command.place)?;
    let token = sandbox.token_for(&command.role).ok_or_else(|| {
        Error::config("this sandbox needs no token: it was started without --token".to_owned())
    })?;
    println!("{token}");
    Ok(())
}
