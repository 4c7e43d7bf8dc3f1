//! `pause`: holds a pod's namespaces. As PID 1 of a shared PID namespace it
//! also reaps orphans. It must stay tiny: one runs beside every pod.

extern crate libc;

extern "C" fn exit_now(_signal: libc::c_int) {
    // SAFETY: _exit is async-signal-safe and ends the process.
    unsafe { libc::_exit(0) }
}

fn main() {
    // SAFETY: plain libc calls; the handler only calls _exit.
    unsafe {
        libc::signal(libc::SIGTERM, exit_now as *const () as libc::sighandler_t);
        libc::signal(libc::SIGINT, exit_now as *const () as libc::sighandler_t);
        // The kernel reaps the children of a process that ignores SIGCHLD.
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        loop {
            libc::pause();
        }
    }
}
