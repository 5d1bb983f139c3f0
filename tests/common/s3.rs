//! A real S3 server on this machine: versitygw, with buckets in a folder. `tools/test` gets it.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nekton::connect::Store;
use nekton_connectors::object::open_store;

const KEY: &str = "nekton";
const SECRET: &str = "plankton-and-nekton";

pub struct S3 {
    endpoint: String,
    server: Child,
    folder: tempfile::TempDir,
}

/// Where the server's program is; `None` where `tools/test` has said that it cannot be had.
fn program() -> Option<PathBuf> {
    let told = std::env::var_os("NEKTON_TEST_S3");
    if told.as_deref() == Some("none".as_ref()) {
        eprintln!("SKIPPED: there is no S3 server for this test, as tools/test has said");
        return None;
    }
    let program = told.map_or_else(
        || concat!(env!("CARGO_MANIFEST_DIR"), "/target/test-s3/versitygw").into(),
        PathBuf::from,
    );
    assert!(program.exists(), "{} is not there: tools/test --setup-only gets it", program.display());
    Some(program)
}

impl S3 {
    /// Starts a server with one bucket, `bucket`. It ends with the test.
    pub fn up() -> Option<Self> {
        let program = program()?;
        let folder = tempfile::tempdir().unwrap();
        for name in ["buckets/bucket", "metadata"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let mut server = Command::new(program)
            .args(["--port", &address, "--access", KEY, "--secret", SECRET, "--quiet", "posix", "--sidecar"])
            .args([folder.path().join("metadata"), folder.path().join("buckets")])
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(&address).is_err() {
            assert!(server.try_wait().unwrap().is_none(), "the S3 server has ended");
            assert!(Instant::now() < deadline, "the S3 server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(S3 { endpoint: format!("http://{address}"), server, folder })
    }

    /// What a program finds in its environment.
    pub fn settings(&self) -> [(&str, &str); 4] {
        [
            ("AWS_ENDPOINT", &self.endpoint),
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_REGION", "us-east-1"),
        ]
    }

    pub fn store(&self, url: &str) -> Arc<dyn Store> {
        open_store(url, self.settings()).unwrap()
    }

    /// The bucket, as a folder.
    pub fn bucket(&self) -> PathBuf {
        self.folder.path().join("buckets/bucket")
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
