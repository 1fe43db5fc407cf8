//! What a terminal shows while a job runs.

use gear_core::app::Status;
use gear_core::effect::Level;
use gear_core::id::TaskId;
use gear_core::task::Figures;
use indicatif::{ProgressBar, ProgressStyle};

use crate::options::RuntimeOptions;

/// A bar on standard error; nothing where that is no terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
    quiet: bool,
}

const BAR: &str = "{spinner} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}  {msg}";
const SPINNER: &str = "{spinner} {elapsed}  {msg}";

impl Progress {
    pub(crate) fn new(total_bytes: Option<u64>, options: &RuntimeOptions) -> Self {
        let bar = match total_bytes {
            _ if options.quiet => ProgressBar::hidden(),
            Some(total) => ProgressBar::new(total).with_style(style(BAR)),
            None => ProgressBar::new_spinner().with_style(style(SPINNER)),
        };
        Self { bar, quiet: options.quiet }
    }

    pub(crate) fn draw(&self, status: &Status, figures: &[(TaskId, Figures)]) {
        if self.bar.is_hidden() {
            return;
        }
        let sources = || figures.iter().map(|(_, figures)| figures).filter(|f| f.is_source);
        let bytes: u64 = sources().map(|figures| figures.bytes_in).sum();
        let records: u64 = sources().map(|figures| figures.records_in).sum();
        let committed = status.committed.map_or(0, |epoch| epoch.0);
        self.bar.set_position(bytes);
        let aside = figures.iter().map(|(_, figures)| figures.quarantined).sum::<u64>();
        self.bar.set_message(format!("{records} records, {committed} epochs, {aside} quarantined"));
        self.bar.tick();
    }

    /// Tells the user something that is not an error.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet {
            self.bar.suspend(|| eprintln!("{text}"));
        }
    }

    /// Tells the user what a machine has to say.
    pub(crate) fn notice(&self, level: Level, text: &str) {
        match level {
            Level::Info => self.say(text),
            Level::Warning => self.bar.suspend(|| super::embedded_notice(level, text)),
            // What ends the job is said at the end.
            Level::Error => super::embedded_notice(Level::Info, text),
        }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is a constant")
}
