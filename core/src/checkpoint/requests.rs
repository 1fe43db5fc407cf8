//! Requests to the checkpoint store, repeated with growing waits until they are answered.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use crate::effect::{Effect, Level, Notice, StoreReply, StoreRequest};
use crate::id::Token;
use crate::limits::{STORE_BACKOFF_MAX, STORE_BACKOFF_MIN, STORE_RETRIES_MAX};
use crate::time::{Duration, Time};

/// Parties of one app master that share its tokens.
pub(crate) const LANES: u64 = 5;
const _: () = assert!(STORE_RETRIES_MAX > 0);

/// How long a failing request is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// [`STORE_RETRIES_MAX`] times.
    Bounded,
    /// For ever: a slow epoch ages, but it never fails the job.
    Endless,
}

/// The requests of one party, each with what it is for.
#[derive(Clone, Debug)]
pub(crate) struct Requests<P> {
    /// Which party: keeps its tokens apart from those of the others.
    lane: u64,
    issued: u64,
    open: BTreeMap<Token, Open<P>>,
}

#[derive(Clone, Debug)]
struct Open<P> {
    purpose: P,
    request: StoreRequest,
    patience: Patience,
    tries: u32,
    /// When to repeat it; none while an answer is awaited.
    retry_at: Option<Time>,
}

impl<P> Requests<P> {
    pub(crate) fn new(lane: u64) -> Self {
        Self::above(lane, 0)
    }

    /// Goes on for another one of the same lane, which has issued so many: late answers to those
    /// are nobody's.
    pub(crate) fn above(lane: u64, issued: u64) -> Self {
        assert!(lane < LANES);
        Self { lane, issued, open: BTreeMap::new() }
    }

    /// How many were issued.
    pub(crate) const fn issued(&self) -> u64 {
        self.issued
    }

    /// True if this party issued the token.
    pub(crate) fn owns(&self, token: Token) -> bool {
        token.0 % LANES == self.lane
    }

    /// How many have not been answered for good.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn issue(
        &mut self,
        purpose: P,
        request: StoreRequest,
        patience: Patience,
        out: &mut Vec<Effect>,
    ) {
        let open = Open { purpose, request, patience, tries: 0, retry_at: None };
        self.send(open, out);
    }

    fn send(&mut self, mut open: Open<P>, out: &mut Vec<Effect>) {
        // Every try has a token of its own: a late answer to an earlier try is nobody's.
        let token = Token(self.issued * LANES + self.lane);
        self.issued += 1;
        open.tries = open.tries.saturating_add(1);
        open.retry_at = None;
        out.push(Effect::Store { token, request: open.request.clone() });
        let before = self.open.insert(token, open);
        assert!(before.is_none(), "a token is issued once");
    }

    /// The purpose and the final answer of a request; none if it will be repeated or if the
    /// answer came twice.
    pub(crate) fn answer(
        &mut self,
        now: Time,
        token: Token,
        reply: StoreReply,
        out: &mut Vec<Effect>,
    ) -> Option<(P, StoreReply)> {
        let mut open = self.open.remove(&token)?;
        if open.retry_at.is_some() {
            // The same failure, heard twice.
            self.open.insert(token, open);
            return None;
        }
        let StoreReply::Failed { reason, retriable: true } = &reply else {
            return Some((open.purpose, reply));
        };
        if open.tries == STORE_RETRIES_MAX {
            if open.patience == Patience::Bounded {
                return Some((open.purpose, reply));
            }
            let text = format!(
                "the checkpoint store has failed {} times in a row ({reason}): nothing is \
                 committed until it answers",
                open.tries
            );
            out.push(Effect::Notice(Notice { level: Level::Warning, text }));
        }
        open.retry_at = Some(now + wait_after(open.tries));
        self.open.insert(token, open);
        None
    }

    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.open.values().filter_map(|open| open.retry_at).min()
    }

    /// Repeats what is due.
    pub(crate) fn handle_timeout(&mut self, now: Time, out: &mut Vec<Effect>) {
        let is_due = |open: &Open<P>| open.retry_at.is_some_and(|at| at <= now);
        let due: Vec<Token> =
            self.open.iter().filter(|(_, open)| is_due(open)).map(|(token, _)| *token).collect();
        for token in due {
            let open = self.open.remove(&token).expect("it was just seen");
            self.send(open, out);
        }
    }
}

fn wait_after(tries: u32) -> Duration {
    let doublings = tries.saturating_sub(1).min(16);
    (STORE_BACKOFF_MIN * 2_u32.pow(doublings)).min(STORE_BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> StoreReply {
        StoreReply::Failed { reason: "busy".into(), retriable: true }
    }

    fn token(out: &[Effect]) -> Token {
        let last = out.iter().rev().find_map(|effect| match effect {
            Effect::Store { token, .. } => Some(*token),
            _ => None,
        });
        last.expect("a request was issued")
    }

    #[test]
    fn a_failing_request_is_repeated_a_bounded_number_of_times() {
        let mut requests = Requests::new(0);
        let mut out = Vec::new();
        let request = StoreRequest::Get { name: "x".into() };
        requests.issue("why", request, Patience::Bounded, &mut out);
        let mut now = Time::ZERO;
        for _ in 1..STORE_RETRIES_MAX {
            assert_eq!(requests.answer(now, token(&out), failed(), &mut Vec::new()), None);
            // Heard twice, it counts once.
            assert_eq!(requests.answer(now, token(&out), failed(), &mut Vec::new()), None);
            now = requests.next_timeout().expect("it waits");
            requests.handle_timeout(now, &mut out);
        }
        let end = requests.answer(now, token(&out), failed(), &mut Vec::new());
        assert_eq!(end, Some(("why", failed())));
        assert_eq!(out.len(), STORE_RETRIES_MAX as usize);
        assert_eq!(requests.len(), 0);
    }

    #[test]
    fn endless_patience_says_once_that_it_waits() {
        let mut requests = Requests::new(1);
        let mut out = Vec::new();
        let request = StoreRequest::Get { name: "x".into() };
        requests.issue((), request, Patience::Endless, &mut out);
        let mut now = Time::ZERO;
        for _ in 0..3 * STORE_RETRIES_MAX {
            assert!(requests.owns(token(&out)));
            let answered = token(&out);
            assert_eq!(requests.answer(now, answered, failed(), &mut out), None);
            now = requests.next_timeout().expect("it waits");
            requests.handle_timeout(now, &mut out);
        }
        let notices = out.iter().filter(|effect| matches!(effect, Effect::Notice(_))).count();
        assert_eq!(notices, 1);
    }
}
