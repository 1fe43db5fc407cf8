//! What a node measures, for Prometheus.
//!
//! Nothing is kept for it: when somebody looks, the figures that the node's children have sent last
//! and what the node knows itself are written down. Labels are numbers of apps and executors, names
//! of processors and indices of tasks, so there are as many series as tasks, not as records.

mod apps;
mod families;
mod node;
mod proc;
mod query;
mod tasks;

use std::time::SystemTime;

use gear_core::control::ClusterStatus;
use gear_core::id::NodeId;
use prometheus::{Encoder as _, IntCounterVec, Opts, Registry, TextEncoder};

use crate::api::types::{MetricFamily, MetricsQuery};
use crate::api::{KnownNode, LocalProcess, TurnedAway};
use crate::security::Ends;
use families::Families;

/// The format that is written.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;
/// Series of one answer; tasks beyond are left out and counted, so that a job of very many does
/// not end whoever collects.
pub const SERIES_MAX: usize = 100_000;

/// What is known at the moment that somebody looks.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    /// What the masters say; none if they do not answer.
    pub cluster: Option<ClusterStatus>,
    /// The nodes that gossip knows.
    pub nodes: Vec<KnownNode>,
    /// The processes here.
    pub processes: Vec<LocalProcess>,
    /// What came from strangers.
    pub turned_away: TurnedAway,
    /// When the node's certificates end; none if it has none.
    pub certificates: Option<Ends>,
}

/// What a node measures.
#[derive(Clone, Debug)]
pub struct Metrics {
    node: NodeId,
    registry: Registry,
    requests: IntCounterVec,
}

impl Metrics {
    /// Of this node, in a registry of its own.
    #[must_use]
    pub fn new(node: NodeId) -> Self {
        let registry = Registry::new();
        let requests = Opts::new("gear_http_requests_total", "Requests to REST, by their outcome");
        let requests = IntCounterVec::new(requests, &["endpoint", "status"])
            .expect("its name and its labels are constants");
        registry.register(Box::new(requests.clone())).expect("nothing else is registered");
        Self { node, registry, requests }
    }

    /// A request to REST was answered. The endpoint is its pattern, of which there are few.
    pub fn answered(&self, endpoint: &str, status: u16) {
        self.requests.with_label_values(&[endpoint, &status.to_string()]).inc();
    }

    fn families(&self, scrape: &Scrape, now: SystemTime) -> Vec<prometheus::proto::MetricFamily> {
        let mut all = Families::new(SERIES_MAX);
        node::collect(&mut all, self.node, scrape);
        for process in &scrape.processes {
            proc::collect_child(&mut all, process);
            if let Some(figures) = &process.app {
                apps::collect(&mut all, figures, now);
            }
            if let Some(figures) = &process.figures {
                tasks::collect(&mut all, &process.process, figures, now);
            }
        }
        let mut families = all.finish();
        families.extend(self.registry.gather());
        families
    }

    /// Everything, in Prometheus' text format.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn text(&self, scrape: Scrape) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.families(&scrape, SystemTime::now()), &mut text)?;
        Ok(text)
    }

    /// What was asked for.
    #[must_use]
    pub fn query(&self, scrape: Scrape, query: &MetricsQuery) -> Vec<MetricFamily> {
        query::run(&self.families(&scrape, SystemTime::now()), query)
    }
}

/// Seconds since 1970.
fn since_epoch(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests;
