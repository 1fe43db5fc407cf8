//! What is done to processes from outside: signals, and connections that are cut.

use std::fs;
use std::net::TcpStream;

use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, kill_process, pidfd_getfd, pidfd_open,
};

/// Something that is done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// It ends at once, as by `kill -9`.
    Kill,
    /// It stands still, as by `kill -STOP`.
    Stop,
    /// It goes on.
    Continue,
}

/// Does this to a process; one that has ended by itself does not mind.
pub fn strike(pid: u32, blow: Blow) {
    let signal = match blow {
        Blow::Kill => Signal::KILL,
        Blow::Stop => Signal::STOP,
        Blow::Continue => Signal::CONT,
    };
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Cuts connections of a process with others for both ends, at most so many, and gives how many
/// that were. The process itself is not asked: the sockets are taken from outside.
///
/// # Panics
/// If the operating system does not allow that.
#[must_use]
pub fn cut_connections(pid: u32, most: usize) -> usize {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(Ok(process)) = process.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else {
        return 0;
    };
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return 0 };
    let mut cut = 0;
    for entry in entries.flatten() {
        let is_socket =
            fs::read_link(entry.path()).is_ok_and(|it| it.to_string_lossy().starts_with("socket:"));
        let number = entry.file_name().to_str().and_then(|it| it.parse().ok());
        let (true, Some(number), true) = (is_socket, number, cut < most) else { continue };
        let taken = match pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) {
            // It has closed it meanwhile, or has ended.
            Err(rustix::io::Errno::BADF | rustix::io::Errno::SRCH) => continue,
            taken => taken.expect("whoever tests may take the sockets of its own processes"),
        };
        let stream = TcpStream::from(taken);
        // Sockets that listen, and those of other kinds, have no such peer.
        if stream.peer_addr().is_ok() && stream.shutdown(std::net::Shutdown::Both).is_ok() {
            cut += 1;
        }
    }
    cut
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_connection_of_another_process_is_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let at = listener.local_addr().expect("it has an address");
        let script = format!("exec 3<>/dev/tcp/{}/{}; sleep 60 <&3", at.ip(), at.port());
        let mut child = Command::new("bash")
            .args(["-c", &script])
            .stdout(Stdio::null())
            .spawn()
            .expect("there is bash");
        let (mut stream, _) = listener.accept().expect("it connects");
        assert!(cut_connections(child.id(), 1) == 1, "there is one");
        assert_eq!(stream.read(&mut [0]).expect("it ends in order"), 0);
        child.kill().expect("it runs");
        child.wait().expect("it is our child");
    }
}
