//! What changes in the cluster, as it changes.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event as Line, KeepAlive, Sse};
use futures_util::stream::{Stream, unfold};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::errors::{Code, Problem};
use super::types::{AppSummary, Event};
use super::{Api, health};

/// Who looks on at once, on a node.
const LISTENERS_MAX: usize = 256;
/// Events that wait for a listener: whoever is slower is dropped, and may come again.
const WAITING_MAX: usize = 16;
/// Time between two looks at the cluster; nobody looks while nobody listens.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Those who listen.
#[derive(Debug)]
pub(super) struct Events {
    listeners: Arc<Semaphore>,
    sender: broadcast::Sender<Arc<str>>,
    looks: AtomicBool,
}

impl Events {
    pub(super) fn new() -> Self {
        let (sender, _) = broadcast::channel(WAITING_MAX);
        let listeners = Arc::new(Semaphore::new(LISTENERS_MAX));
        Self { listeners, sender, looks: AtomicBool::new(false) }
    }
}

/// The cluster, the nodes and the apps: all at once at first, then each when it has changed.
#[utoipa::path(get, path = "/events", tag = health::TAG, responses(
    (status = 200, body = Event, content_type = "text/event-stream"),
    (status = "default", body = Problem)))]
pub(super) async fn events(
    State(api): State<Api>,
) -> Result<Sse<impl Stream<Item = Result<Line, Infallible>>>, Problem> {
    let events = &api.0.events;
    let Ok(permit) = events.listeners.clone().try_acquire_owned() else {
        let what = format!("{LISTENERS_MAX} listen to this node already: ask another one");
        return Err(Problem::new(Code::Refused, what));
    };
    let receiver = events.sender.subscribe();
    let first = now(&api).await;
    if !events.looks.swap(true, Ordering::SeqCst) {
        tokio::spawn(look(api.clone()));
    }
    Ok(Sse::new(stream(first, receiver, permit)).keep_alive(KeepAlive::default()))
}

fn stream(
    first: Vec<Arc<str>>,
    receiver: broadcast::Receiver<Arc<str>>,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Line, Infallible>> {
    let begin = (first.into_iter(), receiver, permit);
    unfold(begin, |(mut first, mut receiver, permit)| async move {
        let text = match first.next() {
            Some(text) => text,
            None => match receiver.recv().await {
                Ok(text) => text,
                // It has missed something: its next stream begins with everything.
                Err(RecvError::Lagged(_) | RecvError::Closed) => return None,
            },
        };
        let line = Line::default().data(&*text);
        Some((Ok(line), (first, receiver, permit)))
    })
}

/// Everything as it is now; what cannot be known is left out.
async fn now(api: &Api) -> Vec<Arc<str>> {
    let mut events = Vec::new();
    if let Ok(mut cluster) = api.cluster_info().await {
        // It would differ every time.
        cluster.uptime_seconds = 0.0;
        events.push(Event::Cluster(cluster));
    }
    if let Ok(nodes) = api.node_entries().await {
        events.push(Event::Nodes(nodes));
    }
    if let Ok((apps, _)) = api.apps().await {
        events.push(Event::Apps(apps.iter().map(AppSummary::from).collect()));
    }
    let text = |event: &Event| serde_json::to_string(event).expect("plain data").into();
    events.iter().map(text).collect()
}

/// Sends what has changed for as long as somebody listens.
async fn look(api: Api) {
    let events = &api.0.events;
    let mut known = now(&api).await;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if events.sender.receiver_count() == 0 {
            events.looks.store(false, Ordering::SeqCst);
            // Who came in between has seen that somebody looks, and relies on it.
            let came = events.sender.receiver_count() > 0;
            if !came || events.looks.swap(true, Ordering::SeqCst) {
                return;
            }
        }
        let current = now(&api).await;
        for event in &current {
            if !known.contains(event) {
                // Nobody may listen any more.
                let _ = events.sender.send(event.clone());
            }
        }
        known = current;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn a_slow_listener_is_dropped_and_gives_its_place_free() {
        let events = Events::new();
        let permit = events.listeners.clone().try_acquire_owned().expect("there is room");
        let receiver = events.sender.subscribe();
        let mut stream = Box::pin(stream(vec!["first".into()], receiver, permit));
        assert!(stream.next().await.is_some());
        for number in 0..=WAITING_MAX {
            events.sender.send(number.to_string().into()).expect("somebody listens");
        }
        assert!(stream.next().await.is_none(), "it has missed one");
        drop(stream);
        assert_eq!(events.listeners.available_permits(), LISTENERS_MAX);
    }
}
