//! The commit log meets a store that answers anything, and never panics.

use gear_core::checkpoint::log::{Log, LogEvent};
use gear_core::checkpoint::record::{Closed, Identity, Record};
use gear_core::effect::StoreRequest;
use gear_core::id::{AppTerm, Epoch, Token};
use gear_core::time::{Time, seconds};

use crate::script::{Script, requests};

/// Opens a log and appends to it, as the bytes say.
pub fn run(bytes: &[u8]) {
    let mut script = Script(bytes);
    let granted = (script.byte() % 2 == 1).then(|| AppTerm(script.number()));
    let mut log = Log::new(Identity::default(), 1, granted);
    let mut effects = Vec::new();
    let mut now = Time::ZERO;
    let mut open: Vec<(Token, StoreRequest)> = Vec::new();
    log.start(&mut effects);
    loop {
        open.extend(requests(std::mem::take(&mut effects)));
        let Some(choice) = script.next() else { break };
        if choice < 40 || open.is_empty() {
            now = now + seconds(u64::from(choice));
            log.handle_timeout(now, &mut effects);
            if open.is_empty() && log.is_idle() {
                let closed = Closed {
                    term: log.term(),
                    epoch: Epoch(choice.into()),
                    identity: Identity::default(),
                };
                log.append(&Record::Closed(closed), &mut effects);
            }
            continue;
        }
        let (token, request) = open.swap_remove(usize::from(choice) % open.len());
        assert!(log.owns(token), "the request is the log's");
        let reply = script.reply(&request);
        if let Some(LogEvent::Failed(error)) =
            log.handle_stored(now, token, reply, &mut effects)
        {
            assert!(!error.to_string().is_empty(), "a failure says what happened");
            assert!(!log.is_idle() && log.next_timeout().is_none(), "nothing follows a failure");
        }
    }
}
