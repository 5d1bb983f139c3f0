//! A real Apache Pulsar on this machine, for trying things and for tests.
//!
//! [`Sandbox::up`] fetches Pulsar from Maven Central with the ordinary Maven client (once: it is kept unpacked in the
//! user's cache), starts its standalone server on 127.0.0.1 and waits until it answers. It needs `java` of version 17
//! or newer and, for the first time, `mvn` and `tar`.
//!
//! ```no_run
//! use nekton::sandbox::{Options, Sandbox};
//!
//! let sandbox = Sandbox::up(&Options::new("nekton-data/sandbox"), &mut |step| eprintln!("{step}"))?;
//! println!("--topics {}", sandbox.topics_url());
//! sandbox.down()?;
//! # Ok::<(), nekton::Error>(())
//! ```

mod admin;
mod broker;
mod conf;
mod distribution;
mod java;
mod options;
mod ports;
mod security;
mod state;
mod wait;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nekton_engine::{Error, Kind, Result};

use broker::Broker;
pub use options::{Life, Options, Progress};
pub use ports::Ports;
use security::Security;
use state::State;
use wait::Waited;

/// The version of Apache Pulsar that is run.
pub const PULSAR_VERSION: &str = "4.0.8";

/// How long a broker may take to answer. It takes 10 to 15 seconds on a quiet machine of two cores.
const PATIENCE: Duration = Duration::from_secs(150);
/// How often a start is tried that fails for a reason that passes.
const ATTEMPTS: u32 = 4;

/// A running Apache Pulsar.
#[derive(Debug)]
pub struct Sandbox {
    options: Options,
    ports: Ports,
    security: Security,
    broker: Broker,
    was_up: bool,
}

impl Sandbox {
    /// Starts a sandbox and waits until it works, or finds the one that runs in the folder already.
    ///
    /// # Errors
    /// If Java or Maven is missing, a port is in use, the folder cannot be written, another sandbox with other
    /// options runs in it, or the broker does not come up: with the last it said.
    pub fn up(options: &Options, progress: &mut dyn FnMut(&Progress)) -> Result<Self> {
        let _held = state::hold(&options.folder)?;
        let folder = state::absolute(&options.folder)?;
        let options = Options { folder, ..options.clone() };
        if let Some(mut running) = Self::find(&options.folder)? {
            running.check_wanted(&options)?;
            running.was_up = true;
            running.wait(progress)?;
            return Ok(running);
        }
        let java = java::find()?;
        let pulsar = match &options.pulsar {
            Some(folder) => distribution::given(folder)?,
            None => distribution::fetched(progress)?,
        };
        let security = Security::prepared(&options.folder, options.tls, options.token)?;
        let mut again = None;
        for _ in 0..ATTEMPTS {
            let ports = match (again, options.ports) {
                (Some(ports), _) => ports,
                (None, Some(ports)) => ports.checked(options.tls)?,
                (None, None) => Ports::free(options.tls)?,
            };
            let conf = conf::write(&options, &pulsar, &ports, &security)?;
            let broker = Broker::start(&java, &pulsar, &options, &conf)?;
            let mut started = Sandbox {
                options: options.clone(),
                ports,
                security: security.clone(),
                broker,
                was_up: false,
            };
            started.remember()?;
            match started.waited(progress)? {
                Waited::Ready => return Ok(started),
                Waited::LiveLocked => {
                    progress(&Progress::StartingAgain("it lost itself while it recovered".to_owned()));
                    again = Some(ports);
                    started.broker.end(true)?;
                }
                Waited::PortTaken if options.ports.is_none() => {
                    progress(&Progress::StartingAgain("another program took its port".to_owned()));
                    started.broker.end(false)?;
                }
                Waited::PortTaken => {
                    started.broker.end(false)?;
                    return Err(ports.taken());
                }
                Waited::Died => return Err(started.died()),
                Waited::Late => {
                    let said = started.late();
                    started.broker.end(false)?;
                    return Err(said);
                }
            }
        }
        Err(Error::new(
            Kind::Unavailable,
            format!(
                "Apache Pulsar in {} did not come up in {ATTEMPTS} starts. Its log is {}",
                options.folder.display(),
                broker::log_of(&options.folder).display()
            ),
        ))
    }

    /// The sandbox that runs in a folder, if there is one. It need not answer yet: see [`Sandbox::healthy`].
    ///
    /// # Errors
    /// If what was written down about it cannot be read.
    ///
    /// ```
    /// use nekton::sandbox::Sandbox;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let folder = folder.path();
    /// match Sandbox::find(folder)? {
    ///     Some(sandbox) => println!("runs at {}", sandbox.url()),
    ///     None => println!("does not run"),
    /// }
    /// # assert!(Sandbox::find(folder)?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn find(folder: &Path) -> Result<Option<Self>> {
        let Ok(folder) = state::absolute(folder) else { return Ok(None) };
        let Some(state) = State::read(&folder)? else { return Ok(None) };
        let Some(broker) = Broker::running(&folder, state.pid) else { return Ok(None) };
        Ok(Some(Sandbox {
            security: Security::read(&folder, state.tls, state.token)?,
            options: Options {
                ports: Some(state.ports),
                tls: state.tls,
                token: state.token,
                heap: state.heap,
                pulsar: Some(state.pulsar),
                ..Options::new(folder)
            },
            ports: state.ports,
            broker,
            was_up: true,
        }))
    }

    /// Whether it was running before [`Sandbox::up`] was called.
    pub fn was_up(&self) -> bool {
        self.was_up
    }

    /// Where it listens: `pulsar://127.0.0.1:6650`, or `pulsar+ssl://` with TLS.
    pub fn url(&self) -> String {
        let scheme = if self.options.tls { "pulsar+ssl" } else { "pulsar" };
        format!("{scheme}://127.0.0.1:{}", self.ports.broker)
    }

    /// What to pass to `--topics`: the namespace that is always there.
    pub fn topics_url(&self) -> String {
        format!("{}/public/default", self.url())
    }

    /// Its HTTP interface: `http://127.0.0.1:8080`, or `https://` with TLS.
    pub fn admin_url(&self) -> String {
        let scheme = if self.options.tls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.ports.admin)
    }

    /// Its HTTP interface without TLS, whether or not there is one with it.
    pub fn plain_admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.plain_admin())
    }

    /// The ports it listens on.
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// The folder with all that is its own.
    pub fn folder(&self) -> &Path {
        &self.options.folder
    }

    /// The unpacked Apache Pulsar that it runs, with its tools in `bin`.
    pub fn pulsar(&self) -> &Path {
        self.broker.pulsar()
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.broker.pid()
    }

    /// Its log. It is rolled at 16 MB.
    pub fn log(&self) -> PathBuf {
        broker::log_of(self.folder())
    }

    /// A token of the role `admin`, which may do everything, if clients need one.
    pub fn token(&self) -> Option<String> {
        self.token_for(security::ADMIN)
    }

    /// The file with the token of the role `admin`, for programs: `--pulsar-token file:PATH`.
    pub fn token_file(&self) -> Option<&Path> {
        self.security.admin_token()
    }

    /// A token of a role, if clients need one. A role may do nothing until it is granted something.
    ///
    /// ```no_run
    /// use nekton::sandbox::{Options, Sandbox};
    ///
    /// let mut options = Options::temporary()?;
    /// options.token = true;
    /// let sandbox = Sandbox::up(&options, &mut |_| {})?;
    /// let reader = sandbox.token_for("reader").expect("this sandbox wants tokens");
    /// let grant = "/admin/v2/namespaces/public/default/permissions/reader";
    /// let (status, _) = sandbox.admin("POST", grant, r#"["consume"]"#)?;
    /// assert_eq!(status, 204); // for `--pulsar-token`, with which one may read and not write
    /// # drop(reader);
    /// # Ok::<(), nekton::Error>(())
    /// ```
    pub fn token_for(&self, role: &str) -> Option<String> {
        self.security.token_for(role)
    }

    /// The certificate (PEM) that clients must trust, with TLS.
    pub fn ca(&self) -> Option<&Path> {
        self.security.ca()
    }

    /// Whether it answers and works: its own check writes a message and reads it back.
    pub fn healthy(&self) -> bool {
        self.admin("GET", "/admin/v2/brokers/health", "").is_ok_and(|(status, _)| status == 200)
    }

    /// Asks its HTTP interface, as `admin`: the status and the body of the answer. A body that is sent is JSON.
    ///
    /// # Errors
    /// If there is no answer within 30 seconds.
    pub fn admin(&self, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        admin::request(self.ports.plain_admin(), self.token().as_deref(), method, path, body)
    }

    /// Ends it as an operator would, and keeps its data.
    ///
    /// # Errors
    /// If its process cannot be ended.
    pub fn down(mut self) -> Result<()> {
        let _held = state::hold(self.folder())?;
        self.broker.end(true)?;
        State::forget(self.folder())
    }

    /// Ends it as a power cut would (`kill -9`). [`Sandbox::restart`] brings it back.
    ///
    /// # Errors
    /// If its process cannot be ended.
    pub fn kill(&mut self) -> Result<()> {
        self.broker.end(false)
    }

    /// Ends it, if it is running, and starts it again with the same ports and data.
    ///
    /// # Errors
    /// As [`Sandbox::up`].
    ///
    /// ```no_run
    /// use nekton::sandbox::{Options, Sandbox};
    ///
    /// let mut sandbox = Sandbox::up(&Options::temporary()?, &mut |_| {})?;
    /// // .. a job runs on `sandbox.topics_url()`: what does it do when its broker is lost?
    /// sandbox.kill()?;
    /// sandbox.restart(&mut |_| {})?;
    /// # Ok::<(), nekton::Error>(())
    /// ```
    pub fn restart(&mut self, progress: &mut dyn FnMut(&Progress)) -> Result<()> {
        self.broker.end(true)?;
        let again = Options { ports: Some(self.ports), ..self.options.clone() };
        let started = Self::up(&again, progress)?;
        let wanted = self.options.ports;
        *self = started;
        self.options.ports = wanted;
        Ok(())
    }

    fn remember(&self) -> Result<()> {
        State {
            pid: self.broker.pid(),
            ports: self.ports,
            tls: self.options.tls,
            token: self.options.token,
            heap: self.options.heap,
            pulsar: self.broker.pulsar().to_owned(),
            url: self.url(),
            admin_url: self.admin_url(),
        }
        .write(self.folder())
    }

    /// A sandbox that was found is of use only if it is what was asked for.
    fn check_wanted(&self, wanted: &Options) -> Result<()> {
        let differs = [
            (self.options.tls != wanted.tls).then_some("TLS"),
            (self.options.token != wanted.token).then_some("tokens"),
            wanted.ports.is_some_and(|ports| !ports.same(&self.ports)).then_some("ports"),
        ];
        let Some(differs) = differs.into_iter().flatten().next() else { return Ok(()) };
        Err(Error::new(
            Kind::Conflict,
            format!(
                "a sandbox with other {differs} runs in {} already, at {}. End it first (nekton sandbox down --folder \
                 {0}), or take another folder",
                self.folder().display(),
                self.url()
            ),
        ))
    }

    fn wait(&mut self, progress: &mut dyn FnMut(&Progress)) -> Result<()> {
        match self.waited(progress)? {
            Waited::Ready => Ok(()),
            Waited::Died | Waited::PortTaken => Err(self.died()),
            Waited::Late | Waited::LiveLocked => Err(self.late()),
        }
    }

    fn waited(&mut self, progress: &mut dyn FnMut(&Progress)) -> Result<Waited> {
        let started = Instant::now();
        let token = self.token();
        wait::until_ready(&mut self.broker, self.ports.plain_admin(), token.as_deref(), PATIENCE, &mut || {
            progress(&Progress::Starting(started.elapsed()));
        })
    }

    fn died(&self) -> Error {
        Error::new(
            Kind::Unavailable,
            format!(
                "Apache Pulsar in {} ended while it started. Its log is {} and says at its end:\n{}",
                self.folder().display(),
                self.log().display(),
                self.broker.last_words()
            ),
        )
    }

    fn late(&self) -> Error {
        Error::new(
            Kind::Unavailable,
            format!(
                "Apache Pulsar in {} does not answer at {} after {} s. Its log is {} and says at its end:\n{}",
                self.folder().display(),
                self.admin_url(),
                PATIENCE.as_secs(),
                self.log().display(),
                self.broker.last_words()
            ),
        )
    }
}
