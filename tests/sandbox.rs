//! A real Apache Pulsar on this machine: it comes up, survives `kill -9`, and is secured if asked to be.

#[path = "common/job.rs"]
mod job;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use job::{Job, eventually};
use nekton::Kind;
use nekton::sandbox::{Life, Options, Ports, Progress, Sandbox};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A sandbox that does not outlive its test.
fn options(folder: &Path) -> Options {
    let mut options = Options::new(folder);
    options.life = Life::ThisProcess;
    options.quick_start = true;
    options
}

fn status(sandbox: &Sandbox, method: &str, path: &str, body: &str) -> u16 {
    sandbox.admin(method, path, body).unwrap().0
}

#[test]
fn a_sandbox_works_and_keeps_its_topics_over_kill_nine_whatever_its_folder_is_called() {
    let folder = tempfile::Builder::new().prefix("sand box ä").tempdir().unwrap();
    let options = options(folder.path());
    let mut told = 0;
    let mut sandbox = Sandbox::up(&options, &mut |_| told += 1).unwrap();
    assert!(told > 0 && !sandbox.was_up() && sandbox.healthy());
    let second = Sandbox::up(&options, &mut |_| {}).unwrap();
    assert!(second.was_up() && second.pid() == sandbox.pid() && second.url() == sandbox.url());
    let mut other = options.clone();
    other.tls = true;
    assert_eq!(Sandbox::up(&other, &mut |_| {}).unwrap_err().kind(), Kind::Conflict);

    let topic = "/admin/v2/persistent/public/default/kept/partitions";
    assert_eq!(status(&sandbox, "PUT", topic, "3"), 204);
    let (pid, url) = (sandbox.pid(), sandbox.url());
    sandbox.kill().unwrap();
    assert!(!sandbox.healthy() && Sandbox::find(folder.path()).unwrap().is_none());
    sandbox.restart(&mut |_| {}).unwrap();
    assert!(sandbox.pid() != pid && sandbox.url() == url && sandbox.healthy());
    assert!(sandbox.admin("GET", topic, "").unwrap().1.contains("\"partitions\":3"));

    sandbox.down().unwrap();
    assert!(Sandbox::find(folder.path()).unwrap().is_none());
    assert!(!folder.path().join("sandbox.json").exists());
}

#[test]
fn a_secured_sandbox_lets_in_only_those_who_hold_its_tokens_and_proves_who_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    (options.tls, options.token) = (true, true);
    let sandbox = Sandbox::up(&options, &mut |_| {}).unwrap();
    assert!(sandbox.url().starts_with("pulsar+ssl://127.0.0.1:"), "{}", sandbox.url());

    let plain: SocketAddr = sandbox.plain_admin_url().trim_start_matches("http://").parse().unwrap();
    let ask = |token: Option<String>| {
        let mut stream = TcpStream::connect(plain).unwrap();
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        write!(stream, "GET /admin/v2/persistent/public/default HTTP/1.0\r\n{token}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(ask(sandbox.token()), "200");
    assert_eq!(ask(sandbox.token_for("guest")), "403");
    assert_eq!(ask(None), "401");
    let grant = "/admin/v2/namespaces/public/default/permissions/guest";
    assert_eq!(status(&sandbox, "POST", grant, "[\"produce\",\"consume\"]"), 204);

    assert_eq!(sandbox.admin_url(), format!("https://127.0.0.1:{}", sandbox.ports().admin));
    let mut trusting = RootCertStore::empty();
    trusting.add(CertificateDer::from_pem_file(sandbox.ca().unwrap()).unwrap()).unwrap();
    for port in [sandbox.ports().broker, sandbox.ports().admin] {
        handshake(port, trusting.clone()).unwrap();
        let refused = handshake(port, RootCertStore::empty()).unwrap_err();
        assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
    }
}

fn handshake(port: u16, trusted: RootCertStore) -> std::io::Result<()> {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusted)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(())
}

#[test]
fn a_port_in_use_is_named_before_anything_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = held.local_addr().unwrap().port();
    let mut options = options(folder.path());
    options.ports = Some(Ports::new(port, 1));
    let refused = Sandbox::up(&options, &mut |_| {}).unwrap_err();
    assert_eq!(refused.kind(), Kind::Conflict);
    assert!(refused.to_string().contains(&format!("port {port} of 127.0.0.1 is in use")), "{refused}");
    assert!(Sandbox::find(folder.path()).unwrap().is_none());
}

/// What the next test starts: a sandbox of a process that is killed.
#[test]
#[ignore = "a part of another test"]
fn a_process_with_a_sandbox() {
    if std::env::var_os("NEKTON_TEST_SANDBOX").is_some() {
        let _ = Sandbox::up(&Options::temporary().unwrap(), &mut |_| {});
    }
}

#[test]
fn a_sandbox_of_a_process_ends_when_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join("temporary");
    std::fs::create_dir(&temporary).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_process_with_a_sandbox", "--ignored"]);
    command.env("NEKTON_TEST_SANDBOX", "yes").env("TMPDIR", &temporary);
    let process = Job::of(command.stdout(Stdio::null()));
    let made = || std::fs::read_dir(&temporary).unwrap().next().map(|made| made.unwrap().path());
    eventually("it starts", || made().is_some_and(|made| Sandbox::find(&made).unwrap().is_some()));
    let pid = Sandbox::find(&made().unwrap()).unwrap().unwrap().pid();
    drop(process);
    eventually("its folder is deleted", || made().is_none());
    // Gone, or at most a zombie, which has no command line.
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    assert!(line.is_empty(), "its broker has ended");
}

/// Some of these kills leave standalone Pulsar live-locked, which a restart must notice and cure. It takes minutes:
/// `cargo test --test sandbox -- --ignored --nocapture`.
#[test]
#[ignore = "minutes"]
fn twenty_kills_in_a_row_are_survived() {
    let folder = tempfile::tempdir().unwrap();
    let mut sandbox = Sandbox::up(&options(folder.path()), &mut |_| {}).unwrap();
    for round in 0..20 {
        let topic = format!("/admin/v2/persistent/public/default/round-{round}/partitions");
        assert_eq!(status(&sandbox, "PUT", &topic, "4"), 204);
        sandbox.kill().unwrap();
        let begun = Instant::now();
        let mut again = Vec::new();
        let restarted = sandbox.restart(&mut |step| {
            if matches!(step, Progress::StartingAgain(_)) {
                again.push(format!("{:.0?}: {step}", begun.elapsed()));
            }
        });
        println!("round {round}: {:.1?} {again:?}", begun.elapsed());
        restarted.unwrap();
        assert!(sandbox.admin("GET", &topic, "").unwrap().1.contains("\"partitions\":4"), "round {round}");
    }
}
