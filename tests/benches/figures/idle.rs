//! What a job costs that has nothing to do.

use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use gear_connectors::{blackhole, files};
use gear_core::api::Ref;

use crate::jobs::{self, How};
use crate::row::{Row, Target};

/// The argument that makes this program the idle job.
pub(crate) const CHILD: &str = "--idle-job";
const WATCHED: Duration = Duration::from_secs(5);

pub(crate) fn rows() -> Vec<Row> {
    vec![Row::alone("idle job", "% of a core", Target::AtMost(1.0), || Box::new(idle))]
}

/// In a process of its own, so that it can be ended and nothing else is counted.
fn idle() -> f64 {
    let program = std::env::current_exe().unwrap();
    let output =
        Command::new(program).arg(CHILD).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

pub(crate) fn child() -> ExitCode {
    let folder = jobs::temporary();
    let followed = folder.path().join("followed.txt");
    std::fs::write(&followed, "a line\n").unwrap();
    let path = followed.to_string_lossy().into_owned();
    std::thread::spawn(move || {
        let how = How::parallel(2, Duration::from_secs(1));
        jobs::run(how, |app| {
            app.source("lines", files::source([path.clone()]).follow())
                .key_by_ref(|line: &&str| *line)
                .count("count")
                .sink("drop", blackhole::sink::<(Ref<str>, u64)>());
        });
    });
    std::thread::sleep(Duration::from_secs(1));
    let before = jobs::cpu(libc::CLOCK_PROCESS_CPUTIME_ID);
    std::thread::sleep(WATCHED);
    let used = jobs::cpu(libc::CLOCK_PROCESS_CPUTIME_ID) - before;
    println!("{}", used.as_secs_f64() / WATCHED.as_secs_f64() * 100.0);
    ExitCode::SUCCESS
}
