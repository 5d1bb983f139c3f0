//! `nekton launch`: starts a program's processes on this machine, watches them, and starts all again when one dies.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use nekton::{Error, Kind, Result, say};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ring::rand::{SecureRandom, SystemRandom};

/// How often it is looked how the processes are.
const LOOK: Duration = Duration::from_millis(20);
/// How long the others may take to end by themselves when one has died.
const GRACE: Duration = Duration::from_secs(10);
/// A job that has worked for so long had a good start: deaths before it do not count any more.
const GOOD: Duration = Duration::from_secs(60);
/// The pauses before a new start.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The code of a program that is not to be started again: something must be changed first.
const HOPELESS: i32 = 2;
/// Below the ports that operating systems give to outgoing connections.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// The longest line of a program's that is kept together.
const LINE: u64 = 64 << 10;

#[derive(Args)]
pub(crate) struct Command {
    /// How many processes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    processes: u16,
    /// Worker threads in each of them
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// How often the job is started again, unless it has worked for a minute in between
    #[arg(long, value_name = "N", default_value_t = 10)]
    restarts: u32,
    /// The program and its flags; give it --checkpoints, so that it goes on where it was
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

/// How a job ended.
struct Ended {
    /// The process that died first, and how; `None` if all ended well.
    first: Option<(usize, ExitStatus)>,
    hopeless: bool,
}

pub(crate) fn run(command: &Command) -> Result<()> {
    // How often the end was asked for.
    let asked = Arc::new(AtomicUsize::new(0));
    let asking = asked.clone();
    ctrlc::set_handler(move || {
        asking.fetch_add(1, Ordering::SeqCst);
    })
    .map_err(|error| Error::config(format!("signals cannot be handled: {error}")))?;
    let secret = secret()?;
    let mut deaths = 0;
    loop {
        let begun = Instant::now();
        let mut job = Job::start(command, &secret)?;
        let Ended { first, hopeless } = job.watch(&asked)?;
        let Some((process, status)) = first else { return Ok(()) };
        if begun.elapsed() >= GOOD {
            deaths = 0;
        }
        let how = described(process, command.processes, status);
        let stopped = asked.load(Ordering::SeqCst) > 0;
        if stopped || hopeless || deaths >= command.restarts {
            if hopeless {
                say(format_args!("nekton launch: {how}: starting it again would not help"));
            } else if !stopped {
                say(format_args!(
                    "nekton launch: {how}: it has been started again {deaths} times, and is not any more"
                ));
            }
            let code = if hopeless { HOPELESS } else { code(status) };
            std::process::exit(code);
        }
        let pause = (FIRST_PAUSE * 2_u32.saturating_pow(deaths)).min(LONGEST_PAUSE);
        deaths += 1;
        say(format_args!(
            "nekton launch: {how}: all is started again in {} seconds ({deaths} of {} times)",
            pause.as_secs_f64(),
            command.restarts
        ));
        let begun = Instant::now();
        while begun.elapsed() < pause {
            if asked.load(Ordering::SeqCst) > 0 {
                std::process::exit(code(status));
            }
            std::thread::sleep(LOOK);
        }
    }
}

fn described(process: usize, processes: u16, status: ExitStatus) -> String {
    let who = if processes > 1 { format!("process {process}") } else { "the program".to_owned() };
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("{who} ended with code {code}"),
        (None, Some(signal)) => format!("{who} was ended by signal {signal}"),
        (None, None) => format!("{who} ended"),
    }
}

/// The code of a process, as shells say it.
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// A secret for the job's processes, unless they are given one.
fn secret() -> Result<Option<String>> {
    if ["NEKTON_SECRET", "NEKTON_SECRET_FILE"].into_iter().any(|name| std::env::var_os(name).is_some()) {
        return Ok(None);
    }
    let mut bytes = [0; 32];
    let random = SystemRandom::new().fill(&mut bytes);
    random.map_err(|_| Error::new(Kind::Io, "the system gave no random bytes for a secret"))?;
    Ok(Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// An address for each process, on which nobody listens.
fn hosts(count: usize) -> Result<Vec<String>> {
    // Launches at the same time begin at different ports.
    let size = PORTS.len();
    let begin = std::process::id() as usize * 97 % size;
    let mut hosts = Vec::new();
    for port in (0..size).map(|offset| PORTS.start + ((begin + offset) % size) as u16) {
        if hosts.len() == count {
            return Ok(hosts);
        }
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            hosts.push(format!("127.0.0.1:{port}"));
        }
    }
    Err(Error::new(Kind::Unavailable, "no ports are free on 127.0.0.1 for the job's processes"))
}

/// The processes of a job. None is left when it goes.
struct Job(Vec<Child>);

impl Drop for Job {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Job {
    fn start(command: &Command, secret: &Option<String>) -> Result<Self> {
        let count = usize::from(command.processes);
        let hosts = if count > 1 { hosts(count)? } else { Vec::new() };
        let mut job = Job(Vec::new());
        for process in 0..count {
            let [program, arguments @ ..] = &command.program[..] else {
                return Err(Error::config("there is no program to launch: name one behind --"));
            };
            // The environment, because where flags belong is the program's to know.
            let mut child = std::process::Command::new(program);
            child.args(arguments).stdin(Stdio::piped()).env("NEKTON_LAUNCHED", "1");
            if count > 1 {
                child.env("NEKTON_PROCESSES", count.to_string()).env("NEKTON_PROCESS", process.to_string());
                child.env("NEKTON_HOSTS", hosts.join(",")).stderr(Stdio::piped());
            }
            if let Some(workers) = command.workers {
                child.env("NEKTON_WORKERS", workers.to_string());
            }
            if let Some(secret) = secret {
                child.env("NEKTON_SECRET", secret);
            }
            // A group of its own: Ctrl-C in a terminal goes to this process only, which passes it on.
            let mut child = child
                .process_group(0)
                .spawn()
                .map_err(|error| Error::io(format!("starting {}", program.to_string_lossy()), &error))?;
            let said = child.stderr.take();
            job.0.push(child);
            if let Some(said) = said {
                let show = move || show(process, said);
                let thread = std::thread::Builder::new().name("lines".to_owned()).spawn(show);
                thread.map_err(|error| Error::io("starting a thread", &error))?;
            }
        }
        Ok(job)
    }

    /// Waits until all have ended, and sees to it when one has died.
    fn watch(&mut self, asked: &AtomicUsize) -> Result<Ended> {
        let (mut told, mut killing) = (0, false);
        let mut statuses: Vec<Option<ExitStatus>> = self.0.iter().map(|_| None).collect();
        let mut first: Option<(usize, ExitStatus, Instant)> = None;
        loop {
            for (process, child) in self.0.iter_mut().enumerate() {
                if statuses[process].is_some() {
                    continue;
                }
                let status = child.try_wait().map_err(|error| Error::io("waiting for a process", &error))?;
                statuses[process] = status;
                if let Some(status) = status.filter(|status| !status.success()) {
                    // One that was killed is why the others end, whichever of them was seen first.
                    let cause = first.is_none_or(|(_, known, _)| {
                        !killing && known.signal().is_none() && status.signal().is_some()
                    });
                    if cause {
                        first = Some((process, status, first.map_or_else(Instant::now, |(_, _, when)| when)));
                    }
                }
            }
            if statuses.iter().all(Option::is_some) {
                let hopeless = statuses.iter().flatten().any(|status| status.code() == Some(HOPELESS));
                return Ok(Ended { first: first.map(|(process, status, _)| (process, status)), hopeless });
            }
            let running = || statuses.iter().zip(&self.0).filter(|(status, _)| status.is_none());
            let now = asked.load(Ordering::SeqCst);
            if told < now {
                told = now;
                for (_, child) in running() {
                    let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
                }
            }
            // Those that hang, or are stopped, do not end by themselves.
            if first.is_some_and(|(_, _, when)| when.elapsed() >= GRACE) {
                killing = true;
                for (_, child) in running() {
                    let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
                }
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Shows the lines of a process with its number in front.
fn show(process: usize, said: impl Read) {
    let mut said = BufReader::new(said);
    let mut line = Vec::new();
    loop {
        line.clear();
        match said.by_ref().take(LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                say(format_args!("{process}: {}", String::from_utf8_lossy(&line).trim_end_matches('\n')))
            }
        }
    }
}
