//! Real processes of a job, each test with a folder of its own.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longer than any run takes on the slowest machine: a process that runs on is a failure.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at what is being waited for.
const PAUSE: Duration = Duration::from_millis(2);

/// Input that lasts for as long as a test disturbs its job, however slow the machine is: without an
/// end until the test knows how much of it there has been.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    began: Instant,
    rate: u64,
}

impl Input {
    /// The count while the job is disturbed.
    pub const ENDLESS: u64 = u32::MAX as u64;

    /// So many records a second; to be called before the job is started.
    #[must_use]
    pub fn new(rate: u64) -> Self {
        Self { began: Instant::now(), rate }
    }

    /// The count with which the job is started at last: more than it can have read, and not by
    /// much.
    #[must_use]
    pub fn count(&self) -> u64 {
        (self.began.elapsed().as_secs() + 2) * self.rate
    }
}

/// A folder in which the processes of one job's binary run.
#[derive(Debug)]
pub struct Room {
    folder: TempDir,
    program: &'static str,
    processes: Cell<u32>,
}

/// How a process ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How it was called.
    pub arguments: String,
    /// Its exit code; none if a signal has ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub out: String,
    /// What it printed on standard error.
    pub err: String,
}

/// A process that has not been waited for.
#[derive(Debug)]
pub struct Running {
    child: Child,
    arguments: String,
    out: PathBuf,
    err: PathBuf,
}

impl Room {
    /// An empty folder for runs of this program.
    ///
    /// # Panics
    /// If there can be none.
    #[must_use]
    pub fn new(program: &'static str) -> Self {
        let folder = TempDir::new().expect("there is room for a temporary folder");
        Self { folder, program, processes: Cell::new(0) }
    }

    /// A path in the folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, with the folders above it.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        let parent = path.parent().expect("a file is in a folder");
        fs::create_dir_all(parent).expect("the folder can be made");
        fs::write(path, content).expect("the file can be written");
    }

    /// A command in this folder that runs the program, with nothing of Gear nor of a cloud in its
    /// environment.
    #[must_use]
    pub fn command(&self, arguments: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(self.program);
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let begin = name.to_string_lossy();
            if ["GEAR_", "AWS_", "AZURE_", "GOOGLE_"].iter().any(|it| begin.starts_with(it)) {
                command.env_remove(&name);
            }
        }
        command
    }

    /// Starts the program.
    #[must_use]
    pub fn start(&self, arguments: &[impl AsRef<OsStr>]) -> Running {
        self.start_command(self.command(arguments))
    }

    /// Starts a command of [`Self::command`].
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start_command(&self, mut command: Command) -> Running {
        let number = self.processes.get() + 1;
        self.processes.set(number);
        let out = self.path(&format!(".process-{number}.out"));
        let err = self.path(&format!(".process-{number}.err"));
        command.stdout(File::create(&out).expect("its output can be kept"));
        command.stderr(File::create(&err).expect("its output can be kept"));
        let child = command.spawn().expect("the job's binary can be started");
        let arguments: Vec<_> = command.get_args().map(|it| it.to_string_lossy()).collect();
        Running { child, arguments: arguments.join(" "), out, err }
    }

    /// Runs the program to its end.
    #[must_use]
    pub fn run(&self, arguments: &[impl AsRef<OsStr>]) -> Ended {
        self.start(arguments).wait()
    }

    /// The files below a folder of this one, by their names relative to it; none if it is missing.
    ///
    /// # Panics
    /// If one cannot be read.
    #[must_use]
    pub fn files(&self, folder: &str) -> BTreeMap<String, Vec<u8>> {
        let root = self.path(folder);
        let mut found = Vec::new();
        if root.exists() {
            super::walk_all(&root, &mut found);
        }
        let read = |path: PathBuf| {
            let content = fs::read(&path).expect("the file is readable");
            let name = path.strip_prefix(&root).expect("it is below");
            (name.to_string_lossy().into_owned(), content)
        };
        found.into_iter().map(read).collect()
    }

    /// The number of the last record in an app's commit log; 0 if there is none.
    #[must_use]
    pub fn last_record(&self, app: &str) -> u64 {
        let log = self.path(&format!("gear-state/{app}/log"));
        let entries = fs::read_dir(log).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter_map(|name| name.parse().ok()).max().unwrap_or(0)
    }

    /// The `key<TAB>value` lines of the visible files of an output folder.
    ///
    /// # Panics
    /// If a key stands there twice, or a line is something else.
    #[must_use]
    pub fn table(&self, folder: &str) -> BTreeMap<String, String> {
        let mut table = BTreeMap::new();
        for line in self.lines(folder) {
            let (key, value) = line.rsplit_once('\t').expect("a line is a key and a value");
            let before = table.insert(key.to_owned(), value.to_owned());
            assert!(before.is_none(), "{key:?} stands twice in {folder}");
        }
        table
    }

    /// The lines of the visible files of an output folder.
    ///
    /// # Panics
    /// If they are no text.
    #[must_use]
    pub fn lines(&self, folder: &str) -> Vec<String> {
        let files = self.files(folder).into_iter();
        let visible = files.filter(|(path, _)| !path.starts_with(".staged/"));
        let texts = visible.map(|(_, content)| String::from_utf8(content).expect("it is text"));
        texts
            .flat_map(|text| text.split_terminator('\n').map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }
}

impl Running {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed on standard error so far.
    #[must_use]
    pub fn err(&self) -> String {
        text(&self.err)
    }

    /// True if it has ended.
    ///
    /// # Panics
    /// If the operating system does not know it.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_some()
    }

    /// Ends it as `kill -9` does, at once.
    ///
    /// # Panics
    /// If it cannot be killed.
    pub fn kill(mut self) -> Ended {
        self.child.kill().expect("it can be killed");
        self.wait()
    }

    /// Interrupts it as Ctrl-C does.
    ///
    /// # Panics
    /// If it cannot be interrupted.
    pub fn interrupt(&self) {
        let status = Command::new("kill").args(["-INT", &self.id().to_string()]).status();
        assert!(status.expect("there is a kill").success());
    }

    /// Waits until this is true, or until it has ended; false if it never was.
    ///
    /// # Panics
    /// If it takes too long.
    pub fn wait_until(&mut self, mut is_so: impl FnMut() -> bool) -> bool {
        let began = Instant::now();
        loop {
            let ended = self.has_ended();
            if is_so() {
                return true;
            }
            if ended {
                return false;
            }
            assert!(began.elapsed() < PATIENCE, "what was waited for never came: {}", self.err());
            sleep(PAUSE);
        }
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// If it takes too long.
    #[must_use]
    pub fn wait(mut self) -> Ended {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                break status;
            }
            if began.elapsed() > PATIENCE {
                self.child.kill().expect("it can be killed");
                panic!("it does not end: {}", self.err());
            }
            sleep(PAUSE);
        };
        let arguments = std::mem::take(&mut self.arguments);
        Ended { arguments, code: status.code(), out: text(&self.out), err: self.err() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that fails leaves no process behind; one that has ended cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Asserts that all went well.
    ///
    /// # Panics
    /// If not.
    #[must_use]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// Asserts that it failed, and that its message has all of these in it.
    ///
    /// # Panics
    /// If not.
    pub fn refused(self, texts: &[&str]) -> Self {
        assert!(self.code.is_some_and(|code| code != 0), "{self:?}");
        self.says(texts)
    }

    /// Asserts that standard error has all of these in it.
    ///
    /// # Panics
    /// If not.
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.err.contains(text), "it does not say {text:?}: {}{}", self.err, self.out);
        }
        self
    }

    /// The number in front of a word of the summary line, such as `quarantined`.
    ///
    /// # Panics
    /// If there is no such line.
    #[must_use]
    pub fn summary(&self, word: &str) -> u64 {
        let line = self.out.lines().find(|line| line.contains(" records/s, "));
        let line = line.unwrap_or_else(|| panic!("there is no summary: {self:?}"));
        let mut words = line.split([' ', ',']).filter(|part| !part.is_empty());
        let mut before = "";
        words
            .find_map(|part| {
                let found = (part == word).then(|| before.parse().ok());
                before = part;
                found.flatten()
            })
            .unwrap_or_else(|| panic!("the summary says nothing of {word}: {line}"))
    }
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Numbers for tests, printed with their seed so that a failure can be repeated.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Numbers of the seed in `GEAR_TEST_SEED`, or of a new one.
    ///
    /// # Panics
    /// If the variable is no number.
    #[must_use]
    pub fn new() -> Self {
        use std::hash::{BuildHasher as _, Hasher as _};
        let seed = match std::env::var("GEAR_TEST_SEED") {
            Ok(text) => text.parse().expect("GEAR_TEST_SEED is a number"),
            Err(_) => std::collections::hash_map::RandomState::new().build_hasher().finish(),
        };
        println!("to repeat it: GEAR_TEST_SEED={seed}");
        Self(seed)
    }

    /// Numbers of this seed.
    #[must_use]
    pub const fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`.
    pub const fn below(&mut self, end: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

impl Default for Dice {
    fn default() -> Self {
        Self::new()
    }
}
