//! What a job's binary says of itself, before it is run.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use gear_core::control::AppStatus;
use tokio::sync::Semaphore;

use super::errors::{Code, Problem};
use super::{Api, Digest};
use crate::binaries::BinaryError;
use crate::child::Description;

/// Binaries that describe themselves at once: each is a process.
const AT_ONCE: usize = 2;
/// Descriptions that are kept, for who looks at an app again and again.
const KEPT_MAX: usize = 64;

type Key = (Digest, Vec<String>);

/// Has binaries describe themselves, a few at a time.
#[derive(Debug)]
pub(super) struct Describer {
    at_once: Semaphore,
    kept: Mutex<VecDeque<(Key, Arc<Description>)>>,
}

impl Describer {
    pub(super) fn new() -> Self {
        Self { at_once: Semaphore::new(AT_ONCE), kept: Mutex::default() }
    }

    fn known(&self, key: &Key) -> Option<Arc<Description>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(known, _)| known == key).map(|(_, it)| it.clone())
    }

    fn keep(&self, key: Key, description: Arc<Description>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back((key, description));
        if kept.len() > KEPT_MAX {
            kept.pop_front();
        }
    }
}

impl Api {
    /// What the job of a binary is, called with these arguments; the binary is fetched if another
    /// node has it.
    pub(super) async fn describe(
        &self,
        digest: Digest,
        arguments: &[String],
    ) -> Result<Arc<Description>, Problem> {
        let describer = &self.0.describer;
        let key = (digest, arguments.to_vec());
        if let Some(known) = describer.known(&key) {
            return Ok(known);
        }
        let path = self.backend().binaries().get(&digest.to_bytes()).await;
        let path = path.map_err(|error| match error {
            BinaryError::Missing { .. } => Problem::not_found(error.to_string()),
            other => Problem::new(Code::BadBinary, other.to_string()),
        })?;
        let _turn = describer.at_once.acquire().await.expect("it is never closed");
        let description = Description::of(&path, arguments).await;
        let description =
            description.map_err(|error| Problem::new(Code::BadJob, error.to_string()))?;
        let description = Arc::new(description);
        describer.keep(key, description.clone());
        Ok(description)
    }

    pub(super) async fn describe_app(&self, app: &AppStatus) -> Result<Arc<Description>, Problem> {
        let digest = Digest::from_bytes(&app.spec.binary)
            .ok_or_else(|| Problem::not_found(format!("{} has no binary", app.app)))?;
        self.describe(digest, &app.spec.arguments).await
    }
}
