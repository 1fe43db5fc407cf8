//! A user's job as the work of a cluster.

use gear_connectors::model::ModelDisk;
use gear_core::control::AppSpec;
use gear_core::dsl::{App, Job, Settings};
use gear_core::limits::KEY_GROUPS_DEFAULT;
use gear_core::time::Duration;

use super::expect::{Expect, Lines, differences, lines, modelled, records};
use super::{Cluster, NAME};
use crate::cluster::{Jobs, Output, Work, spec};

/// Turns in which a source reads its input.
const TURNS: usize = 150;

/// What a cluster runs, and what should come of it.
pub(super) struct UserWork<'a, O> {
    cluster: &'a Cluster<'a, O>,
    /// What the model says, if it is asked.
    modelled: Lines,
    records_per_turn: usize,
}

impl<'a, O: Clone + Sync> UserWork<'a, O> {
    /// Builds the job once, to see that it can be, and what it should do.
    pub(super) fn new(cluster: &'a Cluster<'a, O>) -> Result<Self, String> {
        let mut work = Self { cluster, modelled: Lines::new(), records_per_turn: 1 };
        let job = work.build()?;
        if let Expect::Model = cluster.expect {
            work.modelled = modelled(&job, &cluster.files)?;
        }
        work.records_per_turn = records(&job, &cluster.files)?.div_ceil(TURNS).max(1);
        Ok(work)
    }

    fn build(&self) -> Result<Job, String> {
        let Cluster { parallelism, options, describe, .. } = self.cluster;
        let settings = Settings { parallelism: *parallelism, key_groups: KEY_GROUPS_DEFAULT };
        let mut app = App::new(NAME, options.clone(), settings);
        describe(&mut app)?;
        app.finish()
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }
}

impl<O: Clone + Sync> Jobs for UserWork<'_, O> {
    fn job(&self, _: u64) -> Result<Job, String> {
        self.build()
    }

    fn key_groups(&self) -> u32 {
        KEY_GROUPS_DEFAULT
    }

    fn epoch_interval(&self) -> Option<Duration> {
        Some(self.cluster.epoch_interval)
    }
}

impl<O: Clone + Sync> Work for UserWork<'_, O> {
    fn specs(&self) -> Vec<AppSpec> {
        vec![spec(NAME, self.cluster.executors)]
    }

    fn files(&self) -> ModelDisk {
        self.cluster.files.clone()
    }

    fn records_per_turn(&self) -> usize {
        self.records_per_turn
    }

    fn feed(&self, _: u64) {}

    fn punctual(&self) -> bool {
        false
    }

    fn judge(&self, output: &Output<'_>) -> (Vec<String>, u64) {
        let found = lines(output.disk, &self.cluster.files);
        let count = found.values().map(|lines| lines.len() as u64).sum();
        let wrong = match &self.cluster.expect {
            Expect::Model => {
                let mut wrong = Vec::new();
                for folder in self.modelled.keys().chain(found.keys()) {
                    let of = |lines: &Lines| lines.get(folder).cloned().unwrap_or_default();
                    wrong.extend(differences(folder, &of(&self.modelled), &of(&found)));
                }
                wrong.dedup();
                wrong
            }
            Expect::Given(expected) => {
                let found: Vec<String> = found.into_values().flatten().collect();
                differences("the output", expected, &found)
            }
            Expect::Judge(judge) => judge(&found).err().into_iter().collect(),
        };
        (wrong, count)
    }
}
