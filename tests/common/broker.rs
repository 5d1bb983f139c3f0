//! The broker that a test's topics are on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use nekton::sandbox::{Options, Sandbox};
use nekton_connectors::pulsar::PulsarSettings;

pub struct Broker {
    base: String,
    admin: String,
    token: Option<String>,
    ca: Option<std::path::PathBuf>,
    sandbox: Mutex<Sandbox>,
}

/// The one broker of this test program.
pub fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(|| Broker::up(false))
}

/// A topic's name that no other test has.
pub fn fresh(name: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Broker {
    /// Starts a broker, with TLS and tokens if it is to be `secured`. It ends with this process.
    pub fn up(secured: bool) -> Self {
        let mut options = Options::temporary().unwrap();
        (options.tls, options.token) = (secured, secured);
        let sandbox = Sandbox::up(&options, &mut |_| {}).unwrap();
        Broker {
            base: sandbox.topics_url(),
            admin: sandbox.admin_url(),
            token: sandbox.token(),
            ca: sandbox.ca().map(Into::into),
            sandbox: Mutex::new(sandbox),
        }
    }

    pub fn sandbox(&self) -> MutexGuard<'_, Sandbox> {
        self.sandbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where all topics are.
    pub fn base(&self) -> &str {
        &self.base
    }

    pub fn url(&self, topic: &str) -> String {
        format!("{}/{topic}", self.base)
    }

    pub fn settings(&self, job: &str) -> PulsarSettings {
        PulsarSettings {
            admin_url: Some(self.admin.clone()),
            token: self.token.clone(),
            ca_file: self.ca.clone(),
            ..PulsarSettings::new(job)
        }
    }

    /// Asks the broker's administration for something that must succeed.
    pub fn admin(&self, method: &str, path: &str, body: &str) -> String {
        let (status, answer) = self.sandbox().admin(method, &format!("/admin/v2/{path}"), body).unwrap();
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }
}
