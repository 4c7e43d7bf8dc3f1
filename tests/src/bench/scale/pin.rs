//! The server on one core and the clients on the others, so that neither is
//! measured while the other runs.

use anyhow::Result;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Gives the first core to the server and the rest to this process; tells what was done.
pub fn apart(server: i32) -> Result<String> {
    let mine = sched_getaffinity(Pid::from_raw(0))?;
    let cores: Vec<usize> = (0..CpuSet::count())
        .filter(|core| mine.is_set(*core).unwrap_or(false))
        .collect();
    let [first, rest @ ..] = cores.as_slice() else {
        return Ok("cores: unknown".into());
    };
    if rest.is_empty() {
        return Ok("cores: one, which server and clients share: these are NOT the figures".into());
    }
    pin(server, &[*first])?;
    pin(std::process::id().cast_signed(), rest)?;
    Ok(format!(
        "cores: the server has one, the clients {}; HTTP/2 over TLS, a connection for each client",
        rest.len()
    ))
}

fn pin(process: i32, cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core)?;
    }
    for entry in std::fs::read_dir(format!("/proc/{process}/task"))?.flatten() {
        if let Some(thread) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            // A thread may have ended meanwhile.
            let _ = sched_setaffinity(Pid::from_raw(thread), &set);
        }
    }
    Ok(())
}
