//! What a user is told when a sandbox cannot be had. Java and Maven are played by small scripts here.
#![cfg(unix)]

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Says its version; else finds its log in what it is told, and does what the test wants.
const JAVA: &str = r#"#!/bin/sh
if [ "$1" = -version ]; then echo "openjdk version \"${FAKE_VERSION:-17.0.1}\"" >&2; exit 0; fi
for argument; do case $argument in -Dpulsar.log.dir=*) log=${argument#*=}/broker.log ;; esac; done
say() { echo "2026-01-01T00:00:00,000+0000 [main] $*" >>"$log"; }
"#;

const DIES: &str = "say INFO Starting\nsay ERROR the disk is on fire\nexit 1\n";

/// A Maven that puts a tarball with a Pulsar into its repository.
const MAVEN: &str = r#"#!/bin/sh
case "$*" in *dependency:get*org.apache.pulsar:pulsar-server-distribution:4.0.8:tar.gz:bin*) ;; *) exit 2 ;; esac
folder=$HOME/.m2/repository/org/apache/pulsar/pulsar-server-distribution/4.0.8
mkdir -p "$folder" "$HOME/made/apache-pulsar-4.0.8/conf" "$HOME/made/apache-pulsar-4.0.8/lib"
echo webServicePort=8080 >"$HOME/made/apache-pulsar-4.0.8/conf/standalone.conf"
tar -czf "$folder/pulsar-server-distribution-4.0.8-bin.tar.gz" -C "$HOME/made" apache-pulsar-4.0.8
sleep 0.5
"#;

/// A machine with nothing but what a test gives it.
struct Machine {
    folder: tempfile::TempDir,
    ports: [String; 2],
}

impl Machine {
    fn new() -> Self {
        // Both are held while the system chooses, so they differ.
        let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = held.map(|held| held.local_addr().unwrap().port().to_string());
        let machine = Machine { folder: tempfile::tempdir().unwrap(), ports };
        std::fs::create_dir_all(machine.path("bin")).unwrap();
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn script(&self, name: &str, text: &str) -> &Self {
        let path = self.path("bin").join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        self
    }

    /// An unpacked Pulsar.
    fn pulsar(&self) -> PathBuf {
        let folder = self.path("pulsar");
        std::fs::create_dir_all(folder.join("conf")).unwrap();
        std::fs::create_dir_all(folder.join("lib")).unwrap();
        std::fs::write(folder.join("conf/standalone.conf"), "webServicePort=8080\n").unwrap();
        folder
    }

    /// What `nekton sandbox up` says, which does not succeed.
    fn fails(&self, prepare: impl FnOnce(&mut Command)) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nekton"));
        let system = if self.path("bin/mvn").exists() { ":/usr/bin:/bin" } else { "" };
        let [port, admin] = &self.ports;
        command.args(["sandbox", "up", "--port", port, "--admin-port", admin]);
        command.arg("--folder").arg(self.path("sandbox"));
        command.env_clear().env("PATH", format!("{}{system}", self.path("bin").display()));
        command.env("HOME", self.folder.path()).stdin(Stdio::null());
        prepare(&mut command);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        said
    }

    fn fails_with(&self, pulsar: &Path) -> String {
        self.fails(|command| {
            // The scripts need the system's commands.
            let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
            command.arg("--pulsar").arg(pulsar).env("PATH", path);
        })
    }
}

fn java(does: &str) -> String {
    format!("{JAVA}{does}")
}

#[test]
fn a_broker_that_dies_is_quoted() {
    let machine = Machine::new();
    machine.script("java", &java(DIES));
    let said = machine.fails_with(&machine.pulsar());
    assert!(said.contains("ended while it started") && said.contains("ERROR the disk is on fire"), "{said}");
    assert!(!said.contains("INFO Starting") && said.contains("broker.log"), "{said}");
}

#[test]
fn a_live_locked_broker_is_restarted() {
    let machine = Machine::new();
    let locks = "if [ ! -e \"$HOME/ran\" ]; then\n touch \"$HOME/ran\"\n for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 \
                 18 19 20; do say INFO Successfully revalidated the lock on /ledgers/available/127.0.0.1:1; done\n exec \
                 sleep 600\nfi\n";
    machine.script("java", &java(&format!("{locks}{DIES}")));
    let said = machine.fails_with(&machine.pulsar());
    assert!(said.contains("starting it again: it lost itself while it recovered"), "{said}");
    assert!(said.contains("ERROR the disk is on fire"), "the second start is seen: {said}");
}

#[test]
fn a_port_that_is_taken_meanwhile_is_named() {
    let machine = Machine::new();
    machine.script("java", &java("say ERROR java.net.BindException: Address already in use\nexit 1\n"));
    let said = machine.fails_with(&machine.pulsar());
    let [port, admin] = &machine.ports;
    assert!(said.contains(&format!("another program took port {port} or {admin}")), "{said}");
}

#[test]
fn a_missing_or_old_java_is_named_with_what_to_install() {
    let machine = Machine::new();
    let said = machine.fails(|_| {});
    assert!(
        said.contains("Apache Pulsar needs Java, and java cannot be run") && said.contains("Install Java 17")
    );
    let said = machine.fails(|command| {
        command.env("JAVA_HOME", "/nowhere");
    });
    assert!(said.contains("/nowhere/bin/java cannot be run"), "{said}");
    machine.script("java", &java(""));
    let said = machine.fails(|command| {
        command.env("FAKE_VERSION", "11.0.2");
    });
    assert!(said.contains("needs Java 17 or newer") && said.contains("is Java 11"), "{said}");
}

#[test]
fn pulsar_is_fetched_by_maven_once() {
    let machine = Machine::new();
    machine.script("java", &java(DIES));
    let said = machine.fails(|_| {});
    assert!(said.contains("Maven (mvn) is needed to get Apache Pulsar 4.0.8"), "{said}");

    machine.script("mvn", "#!/bin/sh\necho '[INFO] x'\necho '[ERROR] the network is down'\nexit 1\n");
    let said = machine.fails(|_| {});
    assert!(said.contains("Maven could not fetch") && said.contains("[ERROR] the network is down"), "{said}");
    assert!(!said.contains("[INFO]"), "{said}");

    machine.script("mvn", MAVEN);
    let said = machine.fails(|_| {});
    assert!(said.contains("fetching Apache Pulsar 4.0.8 from Maven Central"), "{said}");
    assert!(said.contains("the disk is on fire"), "it was unpacked and started: {said}");
    assert!(machine.path(".cache/nekton/apache-pulsar-4.0.8/conf/standalone.conf").exists());

    machine.script("mvn", "#!/bin/sh\nexit 1\n");
    assert!(machine.fails(|_| {}).contains("the disk is on fire"), "it is in the cache");
}

#[test]
fn a_damaged_tarball_is_named() {
    let machine = Machine::new();
    machine.script("java", &java(DIES)).script("mvn", "#!/bin/sh\nexit 1\n");
    let folder = machine.path(".m2/repository/org/apache/pulsar/pulsar-server-distribution/4.0.8");
    std::fs::create_dir_all(&folder).unwrap();
    let tarball = folder.join("pulsar-server-distribution-4.0.8-bin.tar.gz");
    std::fs::write(&tarball, "no tarball").unwrap();
    let said = machine.fails(|_| {});
    assert!(said.contains(tarball.to_str().unwrap()) && said.contains("could not be unpacked"), "{said}");
    assert!(
        !machine.path(".cache/nekton/apache-pulsar-4.0.8").exists(),
        "nothing half unpacked is taken for whole"
    );
}
