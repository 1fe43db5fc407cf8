//! What is done to processes from outside: signals, connections that are cut, and disks that are
//! full.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

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

/// What the kernel says of a process in `/proc/PID/stat` behind its name: its state, its parent and
/// so on; none if there is no such process.
pub(crate) fn status(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    Some(stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

/// Processor time that a process has taken, of all its threads that there have been; zero if there
/// is no such process.
#[must_use]
pub fn processor_time(pid: u32) -> Duration {
    let fields = status(pid).unwrap_or_default();
    let times = fields.iter().skip(11).take(2);
    let ticks: u64 = times.filter_map(|field| field.parse::<u64>().ok()).sum();
    // Linux counts hundredths of a second for programs, on every machine.
    Duration::from_millis(ticks * 10)
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

/// A file system of a few bytes, mounted until it is dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// A disk of this size, such as `1m`, at a folder that is made for it; none, loudly, where
    /// whoever tests may not mount one.
    ///
    /// # Panics
    /// If there can be no such folder.
    #[must_use]
    pub fn at(folder: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(folder).expect("there is room for a folder");
        let size = format!("size={size}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder);
        let mounted = mount.status().is_ok_and(|status| status.success());
        if !mounted {
            eprintln!("SKIPPED: nothing can be mounted here, so no disk was filled");
        }
        mounted.then(|| Self(folder.to_owned()))
    }

    /// Has it have another size.
    ///
    /// # Panics
    /// If it cannot have it.
    pub fn resize(&self, size: &str) {
        let size = format!("remount,size={size}");
        let status = Command::new("mount").args(["-o", &size]).arg(&self.0).status();
        assert!(status.expect("there is such a command").success());
    }

    /// Uses all that is left.
    ///
    /// # Panics
    /// If it never ends.
    pub fn fill(&self) {
        let mut file = fs::File::create(self.filler()).expect("there is room for its name");
        // The last pages one by one.
        for bytes in [64 << 10, 4 << 10] {
            let mut written = 0_u64;
            while file.write_all(&vec![1; bytes]).is_ok() {
                written += bytes as u64;
                assert!(written < 1 << 30, "{} is not small", self.0.display());
            }
        }
    }

    /// Gives back what [`Self::fill`] took.
    ///
    /// # Panics
    /// If it took nothing.
    pub fn make_room(&self) {
        fs::remove_file(self.filler()).expect("it was filled");
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Processes that still have files open there keep it a little longer, out of sight.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;
    use std::process::Stdio;

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
