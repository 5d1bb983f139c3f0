//! A real Apache Pulsar on this machine: it comes up, goes down, survives `kill -9`, and is secured if asked to be.

use std::time::{Duration, Instant};

use nekton::sandbox::{Life, Options, Sandbox};

fn options(folder: &std::path::Path) -> Options {
    let mut options = Options::new(folder);
    options.life = Life::ThisProcess;
    options
}

#[test]
fn a_sandbox_comes_up_works_and_keeps_its_topics_over_kill_nine() {
    let folder = tempfile::Builder::new().prefix("sand box ä").tempdir().unwrap();
    let options = options(folder.path());
    let begun = Instant::now();
    let mut told = 0;
    let mut sandbox = Sandbox::up(&options, &mut |_| told += 1).unwrap();
    println!("up after {:?}, told {told} times", begun.elapsed());
    assert!(told > 0 && !sandbox.was_up() && sandbox.healthy());

    let topic = "/admin/v2/persistent/public/default/kept/partitions";
    assert_eq!(sandbox.admin("PUT", topic, "3").unwrap().0, 204);
    let pid = sandbox.pid();
    sandbox.kill().unwrap();
    assert!(!sandbox.healthy() && Sandbox::find(folder.path()).unwrap().is_none());
    let begun = Instant::now();
    sandbox.restart(&mut |step| println!("{step}")).unwrap();
    println!("again after {:?}", begun.elapsed());
    assert!(sandbox.pid() != pid && sandbox.healthy());
    assert!(sandbox.admin("GET", topic, "").unwrap().1.contains("\"partitions\":3"));
    assert!(begun.elapsed() < Duration::from_secs(600));
}
