//! A real S3 server on this machine: versitygw, with buckets in a folder. `tools/test` gets it.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use nekton::connect::Store;
use nekton_connectors::object::open_store;

use super::job::{Job, eventually};

const KEY: &str = "nekton";
const SECRET: &str = "plankton-and-nekton";

pub struct S3 {
    endpoint: String,
    /// Ends with the test.
    _server: Job,
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
        let mut command = Command::new(program);
        command
            .args(["--port", &address, "--access", KEY, "--secret", SECRET, "--quiet", "posix", "--sidecar"])
            .args([folder.path().join("metadata"), folder.path().join("buckets")])
            .stdout(Stdio::null())
            .stderr(Stdio::inherit());
        let mut server = Job::of(&mut command);
        eventually("an answer of the S3 server", || {
            server.still_runs();
            TcpStream::connect(&address).is_ok()
        });
        Some(S3 { endpoint: format!("http://{address}"), _server: server, folder })
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
