//! What a user's job should leave.

use std::collections::BTreeMap;

use gear_connectors::model::ModelDisk;
use gear_core::dsl::{Content, Job};

use crate::model::{self, Known};
use crate::oracle::counted;

/// The lines of all visible files, folder by folder, in no order.
pub type Lines = BTreeMap<String, Vec<String>>;

/// Says what is wrong with the lines.
type Judge<'a> = dyn Fn(&Lines) -> Result<(), String> + Sync + 'a;

/// What is expected.
pub(super) enum Expect<'a> {
    /// What the reference model says.
    Model,
    /// These lines, wherever they are.
    Given(Vec<String>),
    /// What this function has nothing against.
    Judge(Box<Judge<'a>>),
}

/// Differences that are told.
const TOLD_MAX: usize = 5;

/// The lines of all files that were not there before, hidden ones excepted.
pub(super) fn lines(disk: &ModelDisk, before: &ModelDisk) -> Lines {
    let mut lines = Lines::new();
    for path in disk.names().filter(|path| before.content(path).is_none()) {
        let hidden = path.split('/').any(|part| part.starts_with('.') && part.len() > 1);
        if hidden {
            continue;
        }
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let text = String::from_utf8_lossy(disk.content(path).unwrap_or_default());
        let lines = lines.entry(folder.to_owned()).or_default();
        lines.extend(text.lines().map(str::to_owned));
    }
    lines
}

/// How lines differ from those that should be there, in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Lines that are missing, each as often as it is.
    pub lost: u64,
    /// Lines that are there too often, each as often as it is.
    pub doubled: u64,
    /// The first of them, in words.
    pub told: Vec<String>,
}

/// How the lines differ, in words.
pub(super) fn differences(place: &str, expected: &[String], found: &[String]) -> Vec<String> {
    compare(place, expected, found).told
}

/// How the lines of a place differ from those that are expected.
#[must_use]
pub fn compare(place: &str, expected: &[String], found: &[String]) -> Difference {
    let mut counts: BTreeMap<&String, (i64, i64)> = BTreeMap::new();
    for (line, count) in counted(expected) {
        counts.entry(line).or_default().0 = count;
    }
    for (line, count) in counted(found) {
        counts.entry(line).or_default().1 = count;
    }
    let mut difference = Difference::default();
    for (should, is) in counts.values() {
        difference.lost += u64::try_from(should - is).unwrap_or(0);
        difference.doubled += u64::try_from(is - should).unwrap_or(0);
    }
    let wrong: Vec<String> = counts
        .into_iter()
        .filter(|(_, (should, is))| should != is)
        .map(|(line, (should, is))| {
            let what = if is > should { "duplicate or phantom" } else { "lost" };
            format!("{what}: {place} holds `{line}` {is} times, not {should}")
        })
        .collect();
    let more = wrong.len().saturating_sub(TOLD_MAX);
    let rest = (more > 0).then(|| format!("and {more} more lines of {place} are wrong"));
    difference.told = wrong.into_iter().take(TOLD_MAX).chain(rest).collect();
    difference
}

/// The input of a job, as its own sources read it.
struct Sources<'a> {
    job: &'a Job,
    files: &'a ModelDisk,
}

impl Known for Sources<'_> {
    fn source(&self, name: &str) -> Result<Vec<Content>, String> {
        let source = self.job.sources.iter().find(|source| source.name == name);
        let source = source.ok_or_else(|| format!("there is no source `{name}`"))?;
        let content = source.connector.read_all(&mut self.files.clone());
        content.map_err(|error| format!("the source `{name}`: {error}"))
    }
}

/// How many records the sources of a job hold.
pub(super) fn records(job: &Job, files: &ModelDisk) -> Result<usize, String> {
    let sources = Sources { job, files };
    let counts = job.sources.iter().map(|source| Ok(sources.source(&source.name)?.len()));
    counts.sum()
}

/// What the reference model says that the files of a job's sinks hold in the end, folder by folder;
/// `files` is what its sources read.
///
/// # Errors
/// What the model cannot know of the job.
pub fn modelled(job: &Job, files: &ModelDisk) -> Result<Lines, String> {
    let expected = model::interpret(&job.model, &Sources { job, files }).map_err(|error| {
        format!("{error}: say with .expect_lines(...) or .expect(...) what the output should be")
    })?;
    let mut disk = files.clone();
    for sink in &job.sinks {
        let records = expected.sinks.get(&sink.name).map_or(&[] as &[_], Vec::as_slice);
        for request in sink.connector.write_all(&sink.name, records)? {
            disk.perform(&request).map_err(|error| error.to_string())?;
        }
    }
    Ok(lines(&disk, files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_lost_or_doubled_are_told() {
        let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(differences("out", &lines("a b b"), &lines("b a b")).is_empty());
        let difference = compare("out", &lines("a b b"), &lines("b b b b"));
        assert_eq!((difference.lost, difference.doubled), (1, 2));
        let wrong = difference.told;
        assert_eq!(wrong.len(), 2);
        assert!(wrong[0].starts_with("lost: out holds `a` 0 times, not 1"), "{wrong:?}");
    }

    #[test]
    fn inputs_and_hidden_files_are_no_output() {
        let mut before = ModelDisk::new(0);
        before.put("in/a", "x\n");
        let mut disk = before.clone();
        disk.put("out/.staged/b", "y\n");
        disk.put("out/c", "z\nz\n");
        let expected = Lines::from([("out".to_owned(), vec!["z".to_owned(); 2])]);
        assert_eq!(lines(&disk, &before), expected);
    }
}
