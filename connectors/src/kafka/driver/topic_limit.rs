//! What a topic takes at most, which only the administrative interface of librdkafka tells.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::config::ClientConfig;

use super::told::Told;

/// The setting of a topic that bounds its batches.
const TOPIC_LIMIT: &str = "max.message.bytes";

/// Bytes of the largest batch that a topic takes; none if the cluster does not say
/// in about that time.
pub(super) fn batch_bytes_max(config: &ClientConfig, topic: &str, time: Duration) -> Option<u32> {
    let admin: AdminClient<Told> = config.create_with_context(Told::default()).ok()?;
    let options = AdminOptions::new().request_timeout(Some(time));
    let named = ResourceSpecifier::Topic(topic);
    let asked = admin.describe_configs([&named], &options);
    let found = wait(asked, time * 2)?.ok()?;
    let found = found.into_iter().next()?.ok()?;
    found.get(TOPIC_LIMIT)?.value.as_ref()?.parse().ok()
}

/// Waits for something that another thread does, for so long.
fn wait<T>(future: impl Future<Output = T>, most: Duration) -> Option<T> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    let deadline = Instant::now() + most;
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(value);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}
