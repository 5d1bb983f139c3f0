//! What the operating system says about this process (Linux's /proc).

use std::fs;
use std::time::Duration;

/// Bytes of this process that are in memory now.
pub fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("Linux has /proc/self/statm");
    let pages = statm.split_whitespace().nth(1).and_then(|field| field.parse::<u64>().ok());
    // The size of a page on all machines that this is run on; /proc/self/status says kB, and less exactly.
    pages.expect("the second field is a number of pages") * 4_096
}

/// The most bytes of this process that were in memory at any time.
pub fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has /proc/self/status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.expect("VmHWM is a number of kB") * 1_024
}

/// The processor time of all threads that live now.
pub fn cpu() -> Duration {
    cpu_of("")
}

/// The same of those whose names begin so.
pub fn cpu_of(name: &str) -> Duration {
    let mut nanoseconds = 0;
    for thread in fs::read_dir("/proc/self/task").expect("Linux has /proc/self/task").flatten() {
        // A thread may end meanwhile.
        let named =
            || fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.starts_with(name));
        if !name.is_empty() && !named() {
            continue;
        }
        let Ok(stat) = fs::read_to_string(thread.path().join("schedstat")) else { continue };
        nanoseconds += stat.split_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0);
    }
    Duration::from_nanos(nanoseconds)
}
