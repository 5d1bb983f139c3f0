//! The broker that a test's topics are on.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use nekton_connectors::pulsar::PulsarSettings;

pub struct Broker {
    base: String,
    admin: String,
}

/// The one broker of this test program.
pub fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(|| Broker {
        base: "pulsar://127.0.0.1:16650/public/default".into(),
        admin: "http://127.0.0.1:18080".into(),
    })
}

/// A topic's name that no other test has.
pub fn fresh(name: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Broker {
    pub fn url(&self, topic: &str) -> String {
        format!("{}/{topic}", self.base)
    }

    pub fn settings(&self, job: &str) -> PulsarSettings {
        PulsarSettings { admin_url: Some(self.admin.clone()), ..PulsarSettings::new(job) }
    }

    /// Asks the broker's administration for something that must succeed.
    pub fn admin(&self, method: &str, path: &str, body: &str) {
        let url = format!("{}/admin/v2/{path}", self.admin);
        let mut curl = std::process::Command::new("curl");
        curl.args(["-sS", "-f", "-X", method, "-H", "content-type: application/json", "-d", body, &url]);
        let output = curl.output().unwrap();
        assert!(output.status.success(), "{method} {url}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
