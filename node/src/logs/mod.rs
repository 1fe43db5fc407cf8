//! What jobs' processes print: files that are rotated, so that they stay within their bounds.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use gear_core::control::{ProcessId, Role};
use gear_core::id::{AppId, AppTerm, ExecutorId};

use crate::api::LogTail;

/// Bytes of one file of a process: what a person can still look through.
const FILE_BYTES_MAX: u64 = 4 * 1_024 * 1_024;
/// Files of a process: the one that is written, and those before it.
const FILES_MAX: u32 = 3;

/// The folder of an app's logs.
pub(crate) fn folder(logs: &Path, app: AppId) -> PathBuf {
    logs.join(format!("app-{}", app.0))
}

/// The file to which a process prints.
pub(crate) fn file(logs: &Path, process: ProcessId) -> PathBuf {
    let name = match process.role {
        Role::AppMaster(term) => format!("app-master-{}.log", term.0),
        Role::Executor(executor) => format!("executor-{}.log", executor.0),
    };
    folder(logs, process.app).join(name)
}

/// The older part of a log: 1 is the newest of them.
fn older(path: &Path, number: u32) -> PathBuf {
    path.with_extension(format!("log.{number}"))
}

/// A log that is written.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
    most: u64,
}

impl Log {
    /// Goes on with the log of a process.
    pub(crate) fn open(logs: &Path, process: ProcessId) -> io::Result<Self> {
        fs::create_dir_all(folder(logs, process.app))?;
        Self::at(file(logs, process), FILE_BYTES_MAX)
    }

    fn at(path: PathBuf, most: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, file, bytes, most })
    }

    /// Appends what was printed; a file that is full is put aside before.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.bytes >= self.most {
            for number in (1..FILES_MAX - 1).rev() {
                let from = older(&self.path, number);
                if from.exists() {
                    fs::rename(from, older(&self.path, number + 1))?;
                }
            }
            fs::rename(&self.path, older(&self.path, 1))?;
            *self = Self::at(self.path.clone(), self.most)?;
        }
        self.file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// The last bytes of what a process has printed, at most so many, from the begin of a line on if
/// something was left out.
///
/// # Errors
/// As the operating system says it: not found if it has printed nothing here.
pub(crate) fn tail(logs: &Path, process: ProcessId, bytes: u64) -> io::Result<Vec<u8>> {
    let path = file(logs, process);
    let mut text = Vec::new();
    for number in 1..FILES_MAX {
        if let Ok(before) = fs::read(older(&path, number)) {
            text.splice(0..0, before);
        }
    }
    text.extend(fs::read(&path)?);
    let most = usize::try_from(bytes).unwrap_or(usize::MAX);
    if text.len() > most {
        text.drain(..text.len() - most);
        let line = text.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        text.drain(..line);
    }
    Ok(text)
}

/// The ends of all logs of an app here, by their files' names; none if it never ran here.
///
/// # Errors
/// As the operating system says it.
pub(crate) fn tails(logs: &Path, app: AppId, bytes: u64) -> io::Result<Vec<LogTail>> {
    let entries = match fs::read_dir(folder(logs, app)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut tails = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Some(process) = process(app, &name) else { continue };
        let text = tail(logs, process, bytes)?;
        // What was left out may begin before a line's end, so that less than asked for is here.
        let cut = (1..FILES_MAX).map(|number| older(&file(logs, process), number));
        let all = cut.chain([file(logs, process)]).filter_map(|path| fs::metadata(path).ok());
        let cut = all.map(|it| it.len()).sum::<u64>() > text.len() as u64;
        let process = name.trim_end_matches(".log").to_owned();
        tails.push(LogTail { process, text, cut });
    }
    tails.sort_by(|a, b| a.process.cmp(&b.process));
    Ok(tails)
}

/// The process to whose log a file belongs; none if it is an older part, or none of ours.
fn process(app: AppId, name: &str) -> Option<ProcessId> {
    let name = name.strip_suffix(".log")?;
    let role = match name.strip_prefix("app-master-") {
        Some(term) => Role::AppMaster(AppTerm(term.parse().ok()?)),
        None => Role::Executor(ExecutorId(name.strip_prefix("executor-")?.parse().ok()?)),
    };
    Some(ProcessId { app, role })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_log_stays_within_its_bounds_and_keeps_the_end() {
        let place = TempDir::new().expect("there is a folder");
        let process = ProcessId { app: AppId(3), role: Role::Executor(ExecutorId(2)) };
        fs::create_dir_all(folder(place.path(), process.app)).expect("it can be made");
        let path = file(place.path(), process);
        let mut log = Log::at(path.clone(), 100).expect("it can be made");
        for number in 0..1_000 {
            log.write(format!("line {number}\n").as_bytes()).expect("it can be written");
        }
        drop(log);
        let mut log = Log::at(path, 100).expect("it can be opened");
        log.write(b"again\n").expect("it can be written");
        let files = fs::read_dir(folder(place.path(), process.app)).expect("it is there");
        let sizes: Vec<u64> =
            files.map(|file| file.and_then(|it| it.metadata()).expect("it is").len()).collect();
        assert_eq!(sizes.len() as u32, FILES_MAX);
        assert!(sizes.iter().all(|bytes| *bytes <= 110), "{sizes:?}");
        let all = tail(place.path(), process, 1_000).expect("it can be read");
        assert!(all.ends_with(b"line 998\nline 999\nagain\n"));
        let some = tail(place.path(), process, 20).expect("it can be read");
        assert_eq!(some, b"line 999\nagain\n");
    }

    #[test]
    fn all_logs_of_an_app_are_found_by_their_names() {
        let place = TempDir::new().expect("there is a folder");
        assert_eq!(tails(place.path(), AppId(3), 10).expect("there is none"), []);
        let role = |executor| Role::Executor(ExecutorId(executor));
        for role in [role(2), Role::AppMaster(AppTerm(1))] {
            let process = ProcessId { app: AppId(3), role };
            let mut log = Log::open(place.path(), process).expect("it can be made");
            log.write(b"one\ntwo\n").expect("it can be written");
        }
        let foreign = folder(place.path(), AppId(3)).join("notes.txt");
        fs::write(foreign, "mine").expect("it can be written");
        let found = tails(place.path(), AppId(3), 5).expect("they can be read");
        let tail =
            |process: &str| LogTail { process: process.into(), text: b"two\n".to_vec(), cut: true };
        assert_eq!(found, [tail("app-master-1"), tail("executor-2")]);
        assert!(!tails(place.path(), AppId(3), 50).expect("they can be read")[0].cut);
    }
}
