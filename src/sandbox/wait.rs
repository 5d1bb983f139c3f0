//! Waiting until a broker works.

use std::time::{Duration, Instant};

use nekton_engine::Result;

use super::admin;
use super::broker::Broker;

const LOOK: Duration = Duration::from_millis(200);
/// How much of the log is looked at.
const LOG: u64 = 1 << 20;
/// How often a starting broker's storage registers itself again before it is taken for live-locked: a sound one does
/// it once at most, a live-locked one hundreds of times a second.
const TOO_OFTEN: usize = 20;

/// How a wait for a broker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// It works.
    Ready,
    /// It will never work, a restart helps. After some `kill -9`, standalone Pulsar 4.0.8 deletes and re-acquires the
    /// registration of its own storage for ever.
    LiveLocked,
    /// It ended because somebody listens on one of its ports.
    PortTaken,
    /// It ended.
    Died,
    /// It does not work after all the patience there was.
    Late,
}

/// Waits until a broker works, it ended, or there is no patience left. `look` is called several times a second.
pub(super) fn until_ready(
    broker: &mut Broker,
    port: u16,
    token: Option<&str>,
    patience: Duration,
    look: &mut dyn FnMut(),
) -> Result<Waited> {
    let deadline = Instant::now() + patience;
    loop {
        look();
        if !broker.alive() {
            return Ok(if says_port_taken(&broker.log(LOG)) { Waited::PortTaken } else { Waited::Died });
        }
        let log = broker.log(LOG);
        // First, since between two registrations it may well work for a moment.
        if registrations(&log) >= TOO_OFTEN {
            return Ok(Waited::LiveLocked);
        }
        // Who answers may be another broker that was faster to take the port, so this one must say it as well. Of one
        // that was found running, the beginning of its log is not known.
        if (says_ready(&log) || !broker.is_ours()) && works(port, token) {
            return Ok(Waited::Ready);
        }
        if Instant::now() > deadline {
            return Ok(Waited::Late);
        }
        std::thread::sleep(LOOK);
    }
}

/// Its own check writes a message and reads it back; the namespace for users comes last.
fn works(port: u16, token: Option<&str>) -> bool {
    let get = |path| admin::request_within(Duration::from_secs(5), port, token, "GET", path, "");
    get("/admin/v2/brokers/health").is_ok_and(|(status, _)| status == 200)
        && get("/admin/v2/namespaces/public").is_ok_and(|(_, names)| names.contains("\"public/default\""))
}

fn registrations(log: &str) -> usize {
    let registers = |line: &&str| line.contains("revalidated the lock on /ledgers/available/");
    log.lines().filter(registers).count()
}

fn says_ready(log: &str) -> bool {
    log.contains("messaging service is ready")
}

fn says_port_taken(log: &str) -> bool {
    ["Address already in use", "BindException", "Failed to bind"].iter().any(|words| log.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storage_that_registers_for_ever_is_noticed() {
        let line = "2026-11-21T07:09:43,289+0000 [BookieStateManagerService-0] INFO  \
                    org.apache.pulsar.metadata.coordination.impl.ResourceLockImpl - Successfully revalidated the \
                    lock on /ledgers/available/127.0.0.1:39301\n";
        let sound =
            format!("{line}{}", line.replace("/ledgers/available", "/loadbalance/brokers").repeat(50));
        assert!(registrations(&sound) < TOO_OFTEN);
        assert!(registrations(&line.repeat(TOO_OFTEN)) >= TOO_OFTEN);
    }
}
