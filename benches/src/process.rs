//! What a process under test costs: its CPU time and its memory, from /proc.

use std::fs;

use anyhow::{Context as _, Result};

/// Nanoseconds that all threads of the process spent on a CPU. Threads that ended are not counted: use it on processes
/// with a fixed set of threads, over a window.
pub fn cpu_ns(pid: u32) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = entry?.path().join("schedstat");
        // A thread may end between the two reads.
        let Ok(text) = fs::read_to_string(path) else {
            continue;
        };
        let first = text.split(' ').next().context("empty schedstat")?;
        total += first.parse::<u64>()?;
    }
    Ok(total)
}

/// Octets of resident memory.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS: has the process ended?")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}
