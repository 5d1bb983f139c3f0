//! What keeps the processes of a job apart, or comes between them: each ends in one clear sentence or is ignored, and
//! the job goes on from where it was.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::files::Files;
use common::job::{self, Job, PATIENCE};
use common::processes::{finish, flags, free_hosts};
use common::program::command;
use nix::sys::signal::Signal;

#[test]
#[ignore = "called by the other tests, in processes of their own"]
fn program() {
    common::sums::program();
}

/// A folder with some input.
fn place(number: u64) -> Files {
    Files::new(0x9E6C_63D0_876A_9A47 ^ number)
}

/// Appends until outputs have come of it.
fn append_until_read(files: &mut Files) {
    let before = files.size();
    files.append_until("an output", |files| files.size() > before);
}

/// Process `process` of two, which finds the others at `hosts`; what it says is kept.
fn one(flags: &str, process: usize, hosts: &[String], environment: &[(&str, &str)]) -> Job {
    let hosts = hosts.join(",");
    let mut command = command(&format!("{flags} --processes 2 --process {process} --hosts {hosts}"));
    command.envs(environment.iter().copied()).stderr(Stdio::piped());
    Job::of(&mut command)
}

/// What a process said that ends by itself with this code: one sentence.
fn said(process: &mut Child, code: i32) -> String {
    let said = job::said(process, &[code]);
    // From where it goes on is said as well.
    let warnings = said.lines().filter(|line| line.contains("WARN") || line.contains(" goes on ")).count();
    assert_eq!(said.lines().count() - warnings, usize::from(code != 0), "one sentence: {said}");
    said
}

#[test]
fn a_process_that_hangs_ends_the_job_within_the_time_set_and_writes_nothing_wrong_when_it_wakes() {
    let mut place = place(1);
    for stopped in [0, 1] {
        let flags = format!("{} --peer-timeout 1s", flags(&place, 1));
        let hosts = free_hosts(2);
        let mut job = [0, 1].map(|process| one(&flags, process, &hosts, &[]));
        append_until_read(&mut place);
        job[stopped].signal(Signal::SIGSTOP);
        let begun = Instant::now();
        let other = &mut job[1 - stopped].0[0];
        place.append_until("the end of the other", |_| other.try_wait().unwrap().is_some());
        assert!(begun.elapsed() < Duration::from_secs(20), "it is noticed: {:?}", begun.elapsed());
        let sentence = said(other, 1);
        let whom = format!("process {stopped} ({})", hosts[stopped]);
        assert!(sentence.contains(&whom) && sentence.contains("nothing was heard"), "{sentence}");
        job[stopped].signal(Signal::SIGCONT);
        let sentence = said(&mut job[stopped].0[0], 1);
        assert!(sentence.contains("the connection to process"), "{sentence}");
    }
    finish(&place);
}

#[test]
fn strangers_are_turned_away_and_the_job_begins_all_the_same() {
    let place = place(2);
    let flags = format!("{} --until-end", flags(&place, 1));
    let hosts = free_hosts(2);
    let secret = [("NEKTON_SECRET", "a secret of this test")];
    let mut first = one(&flags, 0, &hosts, &secret);
    let connect = || {
        let begun = Instant::now();
        loop {
            match TcpStream::connect(&hosts[0]) {
                Ok(socket) => return socket,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    // One that says nothing, one that says something else, one of a later version, one that goes on and on.
    let _silent = connect();
    for words in
        [&b"GET / HTTP/1.1\r\nHost: nekton\r\n\r\n"[..], b"nekton\x00\x09\x00\x01x", &[0; 100_000], b""]
    {
        let mut socket = connect();
        let _ = socket.write_all(words);
        let _ = socket.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        assert!(answer.len() < 200, "only a hello");
    }
    let mut wrong = one(&flags, 1, &hosts, &[("NEKTON_SECRET", "a secret of another test")]);
    assert!(said(&mut wrong.0[0], 2).contains("another secret"));
    let mut without = one(&flags, 1, &hosts, &[]);
    assert!(said(&mut without.0[0], 2).contains("it has a secret and this one has none"));
    assert!(first.running(), "it still waits for the right one");
    let mut second = one(&flags, 1, &hosts, &secret);
    said(&mut second.0[0], 0);
    let warned = said(&mut first.0[0], 0);
    assert!(warned.contains("another secret") && warned.contains("it is no nekton process"), "{warned}");
    finish(&place);
}

#[test]
fn processes_that_do_not_fit_say_so_on_both_sides() {
    let place = place(3);
    let hosts = free_hosts(2);
    let mut first = one(&flags(&place, 1), 0, &hosts, &[]);
    let mut second = one(&flags(&place, 2), 1, &hosts, &[]);
    assert!(said(&mut second.0[0], 2).contains("workers"));
    assert!(said(&mut first.0[0], 2).contains("workers"));
    // Both have --checkpoints, or none.
    let hosts = free_hosts(2);
    let mut first = one(&flags(&place, 1), 0, &hosts, &[]);
    let none = format!("--topics file:{} --checkpoints none", place.path("topics").display());
    let mut second = one(&none, 1, &hosts, &[]);
    assert!(said(&mut second.0[0], 2).contains("only some processes have --checkpoints"));
    let sentence = said(&mut first.0[0], 1);
    assert!(sentence.contains("has ended with an error: only some processes have"), "{sentence}");
}

#[test]
fn nobody_listens_to_the_world_without_a_secret_or_tls() {
    let place = place(4);
    let mut hosts = free_hosts(2);
    hosts[0] = hosts[0].replace("127.0.0.1", "0.0.0.0");
    let sentence = said(&mut one(&flags(&place, 1), 0, &hosts, &[]).0[0], 2);
    assert!(sentence.contains("--secret-file"), "{sentence}");
    let short = [("NEKTON_SECRET", "swordfish")];
    let sentence = said(&mut one(&flags(&place, 1), 0, &hosts, &short).0[0], 2);
    assert!(sentence.contains("at least 16"), "{sentence}");
}

#[test]
fn a_port_in_use_is_a_sentence() {
    let place = place(5);
    let hosts = free_hosts(2);
    let _taken = TcpListener::bind(&hosts[1]).unwrap();
    let sentence = said(&mut one(&flags(&place, 1), 1, &hosts, &[]).0[0], 2);
    assert!(sentence.contains("is in use") && sentence.contains(&hosts[1]), "{sentence}");
}

/// Something between two processes.
struct Between {
    address: String,
    /// From so many bytes on, one of what process 0 says is changed.
    changes: Arc<AtomicU64>,
    /// Nothing comes through any more, in either direction.
    cut: Arc<AtomicBool>,
}

impl Between {
    fn to(host: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let between = Between {
            address: listener.local_addr().unwrap().to_string(),
            changes: Arc::new(AtomicU64::new(u64::MAX)),
            cut: Arc::default(),
        };
        let (changes, cut) = (between.changes.clone(), between.cut.clone());
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(&host) else { continue };
                let never = Arc::new(AtomicU64::new(u64::MAX));
                let both = [
                    (near.try_clone().unwrap(), far.try_clone().unwrap(), never),
                    (far, near, changes.clone()),
                ];
                for (from, to, changes) in both {
                    let cut = cut.clone();
                    std::thread::spawn(move || pass(from, to, &changes, &cut));
                }
            }
        });
        between
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, changes: &AtomicU64, cut: &AtomicBool) {
    let (mut piece, mut passed) = (vec![0; 4_096], 0);
    loop {
        let count = from.read(&mut piece).unwrap_or(0);
        if cut.load(Ordering::SeqCst) {
            // As a broken cable: neither data nor an end.
            std::thread::sleep(PATIENCE);
        }
        if count == 0 {
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
        passed += count as u64;
        if passed > changes.load(Ordering::SeqCst) {
            changes.store(u64::MAX, Ordering::SeqCst);
            piece[count / 2] ^= 0x10;
        }
        if to.write_all(&piece[..count]).is_err() {
            let _ = from.shutdown(Shutdown::Both);
            return;
        }
    }
}

#[test]
fn a_byte_that_is_changed_on_its_way_ends_the_job_and_reaches_nobody() {
    let mut place = place(6);
    let hosts = free_hosts(2);
    let between = Between::to(hosts[0].clone());
    let mut first = one(&flags(&place, 1), 0, &hosts, &[]);
    let mut second = one(&flags(&place, 1), 1, &[between.address.clone(), hosts[1].clone()], &[]);
    append_until_read(&mut place);
    between.changes.store(0, Ordering::SeqCst);
    place.append_until("an end", |_| !second.running());
    let sentence = said(&mut second.0[0], 1);
    assert!(sentence.contains("damaged on its way"), "{sentence}");
    said(&mut first.0[0], 1);
    finish(&place);
}

#[test]
fn a_network_that_is_cut_ends_both_processes() {
    let mut place = place(7);
    let hosts = free_hosts(2);
    let between = Between::to(hosts[0].clone());
    let flags = format!("{} --peer-timeout 1s", flags(&place, 2));
    let mut first = one(&flags, 0, &hosts, &[]);
    let mut second = one(&flags, 1, &[between.address.clone(), hosts[1].clone()], &[]);
    append_until_read(&mut place);
    between.cut.store(true, Ordering::SeqCst);
    for process in [&mut first, &mut second] {
        let sentence = said(&mut process.0[0], 1);
        assert!(sentence.contains("nothing was heard"), "{sentence}");
    }
    finish(&place);
}

/// An authority, and a certificate with its key that it gave to this machine, in files: certificate, key, authority.
fn certificates(folder: &Path, name: &str) -> [String; 3] {
    use base64::Engine as _;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = authority.self_signed(&key).unwrap();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let of = |what: &str, der: &[u8]| {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN {what}-----\n{text}\n-----END {what}-----\n")
    };
    [
        ("cert", of("CERTIFICATE", own.der())),
        ("key", of("PRIVATE KEY", &key.serialize_der())),
        ("ca", of("CERTIFICATE", root.der())),
    ]
    .map(|(what, pem)| {
        let path = folder.join(format!("{name}-{what}.pem"));
        std::fs::write(&path, pem).unwrap();
        path.display().to_string()
    })
}

#[test]
fn processes_with_certificates_of_one_authority_work_together_and_others_do_not() {
    let place = place(8);
    let tls = |name: &str| {
        let [cert, key, ca] = certificates(&place.path(""), name);
        format!("--cluster-tls-cert {cert} --cluster-tls-key {key} --cluster-tls-ca {ca}")
    };
    let (ours, others) = (tls("ours"), tls("others"));
    let hosts = free_hosts(2);
    let plain = format!("{} --until-end", flags(&place, 1));
    let flags = format!("{plain} {ours}");
    let mut first = one(&flags, 0, &hosts, &[]);
    let sentence = said(&mut one(&format!("{plain} {others}"), 1, &hosts, &[]).0[0], 2);
    assert!(sentence.contains("TLS with process 0"), "{sentence}");
    assert!(first.running());
    let mut second = one(&flags, 1, &hosts, &[]);
    said(&mut second.0[0], 0);
    said(&mut first.0[0], 0);
    finish(&place);
}
