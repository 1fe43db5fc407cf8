//! Requests that this node has the masters answer, for whoever asks it.
//!
//! The leader may be another at any time, so a request goes from master to master until one
//! answers for good; the leader knows a repeated one by its id.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::process::{Answer, ProcessEffect};
use crate::control::{Address, ClusterStatus, Reply, Request};
use crate::id::{NodeId, RequestId};
use crate::limits::{REQUEST_DEADLINE, REQUEST_RETRY, REQUEST_SILENCE, STALE_PATIENCE};
use crate::time::Time;

/// Requests that a node has under way; further ones are refused. People and programs ask a few a
/// second, and each is over within the deadline.
const REQUESTS_OPEN_MAX: usize = 1_024;

#[derive(Debug)]
struct Open {
    id: RequestId,
    request: Request,
    deadline: Time,
    /// The master that was asked last.
    asked: Option<NodeId>,
    /// Whom to ask next, if somebody was named.
    named: Option<NodeId>,
    /// When it is asked again.
    again: Time,
    /// An answer that may be old, and when it will do if there is no other.
    stale: Option<(Reply, Time)>,
}

impl Open {
    fn due(&self) -> Time {
        let stale = self.stale.as_ref().map_or(Time::MAX, |(_, at)| *at);
        self.again.min(self.deadline).min(stale)
    }

    /// Whom to ask now: who was named, or the one behind the one that was asked last.
    fn next(&mut self, masters: &BTreeMap<NodeId, Address>) -> Option<NodeId> {
        let named = self.named.take().filter(|node| masters.contains_key(node));
        named
            .or_else(|| {
                let last = self.asked?;
                masters.keys().find(|node| **node > last).copied()
            })
            .or_else(|| masters.keys().next().copied())
    }
}

/// Something that is to be asked of a master now.
#[derive(Debug, PartialEq)]
pub(super) struct Ask {
    pub(super) master: NodeId,
    pub(super) id: RequestId,
    pub(super) request: Request,
}

/// The requests of a node that are not answered, by the commands that brought them.
#[derive(Debug, Default)]
pub(super) struct Requests {
    open: BTreeMap<u64, Open>,
}

impl Requests {
    /// Takes a command; `leader` is who seems to lead.
    pub(super) fn take(
        &mut self,
        now: Time,
        command: u64,
        (id, request): (RequestId, Request),
        leader: Option<NodeId>,
        out: &mut Vec<ProcessEffect>,
    ) {
        if self.open.len() >= REQUESTS_OPEN_MAX {
            let reason =
                format!("{REQUESTS_OPEN_MAX} requests are under way already: ask again later");
            out.push(ProcessEffect::Answer { id: command, answer: Answer::Refused { reason } });
            return;
        }
        let deadline = now + REQUEST_DEADLINE;
        let (asked, named, again, stale) = (None, leader, now, None);
        self.open.insert(command, Open { id, request, deadline, asked, named, again, stale });
    }

    /// When [`Self::due`] has something to ask or to answer.
    pub(super) fn next_timeout(&self) -> Option<Time> {
        self.open.values().map(Open::due).min()
    }

    /// What is to be asked now; what has waited too long is answered.
    pub(super) fn due(
        &mut self,
        now: Time,
        masters: &BTreeMap<NodeId, Address>,
        out: &mut Vec<ProcessEffect>,
    ) -> Vec<Ask> {
        let mut asks = Vec::new();
        self.open.retain(|command, open| {
            if now >= open.due()
                && let Some((reply, _)) = open.stale.take_if(|(_, at)| *at <= now)
            {
                out.push(ProcessEffect::Answer { id: *command, answer: Answer::Reply(reply) });
                return false;
            }
            if now >= open.deadline {
                let answer = Answer::Refused { reason: nobody_leads(masters) };
                out.push(ProcessEffect::Answer { id: *command, answer });
                return false;
            }
            if now >= open.again {
                open.again = now + REQUEST_SILENCE;
                open.asked = open.next(masters);
                if let Some(master) = open.asked {
                    asks.push(Ask { master, id: open.id, request: open.request.clone() });
                }
            }
            true
        });
        asks
    }

    /// A master has replied.
    pub(super) fn reply(
        &mut self,
        now: Time,
        from: NodeId,
        (id, reply): (RequestId, Reply),
        out: &mut Vec<ProcessEffect>,
    ) {
        self.open.retain(|command, open| {
            if open.id != id {
                return true;
            }
            match &reply {
                Reply::NotLeader { leader } => {
                    // One that was asked before and speaks late changes nothing.
                    if open.asked == Some(from) {
                        open.named = *leader;
                        open.again = now + REQUEST_RETRY;
                    }
                    true
                }
                Reply::Apps { stale: true, .. }
                | Reply::Cluster(ClusterStatus { stale: true, .. }) => {
                    let until = open.stale.take().map_or(now + STALE_PATIENCE, |(_, at)| at);
                    open.stale = Some((reply.clone(), until));
                    if open.asked == Some(from) {
                        open.again = now + REQUEST_RETRY;
                    }
                    true
                }
                reply => {
                    let answer = Answer::Reply(reply.clone());
                    out.push(ProcessEffect::Answer { id: *command, answer });
                    false
                }
            }
        });
    }
}

fn nobody_leads(masters: &BTreeMap<NodeId, Address>) -> String {
    let seconds = REQUEST_DEADLINE.as_secs();
    let names: Vec<String> =
        masters.iter().map(|(node, address)| format!("{node} at {address}")).collect();
    format!(
        "no leader of the masters has answered for {seconds} s. See that a majority of them run \
         and reach each other ({}), and ask again under the same request id: it may have been done",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::time::Duration;

    const ID: RequestId = RequestId { client: 1, number: 1 };

    fn masters() -> BTreeMap<NodeId, Address> {
        (1..=3).map(|node| (NodeId(node), Address(format!("m{node}:1")))).collect()
    }

    struct Bench {
        requests: Requests,
        now: Time,
        answers: Vec<ProcessEffect>,
    }

    impl Bench {
        fn asked(request: Request, leader: Option<u64>) -> Self {
            let mut requests = Requests::default();
            let mut answers = Vec::new();
            let now = Time(1_000_000_000);
            requests.take(now, 7, (ID, request), leader.map(NodeId), &mut answers);
            Self { requests, now, answers }
        }

        /// Whom it asks next, and after how long.
        fn next(&mut self) -> Option<(u64, Duration)> {
            loop {
                let at = self.requests.next_timeout()?;
                let waited = at.since(self.now);
                self.now = self.now.max(at);
                let asks = self.requests.due(self.now, &masters(), &mut self.answers);
                if let [Ask { master, id: ID, .. }] = &asks[..] {
                    return Some((master.0, waited));
                }
                assert_eq!(asks, vec![], "it asks one at a time");
            }
        }

        fn reply(&mut self, from: u64, reply: Reply) {
            let reply = (ID, reply);
            self.requests.reply(self.now, NodeId(from), reply, &mut self.answers);
        }

        fn answer(&self) -> &Answer {
            match &self.answers[..] {
                [ProcessEffect::Answer { id: 7, answer }] => answer,
                answers => panic!("{answers:?}"),
            }
        }
    }

    fn wish() -> Request {
        Request::Drain { node: NodeId(5), drains: true }
    }

    #[test]
    fn who_seems_to_lead_is_asked_first_and_answers() {
        let mut bench = Bench::asked(wish(), Some(2));
        assert_eq!(bench.next(), Some((2, Duration::ZERO)));
        bench.reply(2, Reply::Done);
        assert_eq!(*bench.answer(), Answer::Reply(Reply::Done));
        assert_eq!(bench.next(), None);
        // Late words of another are of no interest.
        bench.reply(1, Reply::Done);
        bench.answer();
    }

    #[test]
    fn who_is_named_is_asked_and_after_silence_the_next() {
        let mut bench = Bench::asked(wish(), None);
        assert_eq!(bench.next(), Some((1, Duration::ZERO)));
        bench.reply(1, Reply::NotLeader { leader: Some(NodeId(3)) });
        assert_eq!(bench.next(), Some((3, REQUEST_RETRY)));
        assert_eq!(bench.next(), Some((1, REQUEST_SILENCE)));
        // The word of somebody who was given up does not send it elsewhere.
        bench.reply(3, Reply::NotLeader { leader: None });
        assert_eq!(bench.next(), Some((2, REQUEST_SILENCE)));
        bench.reply(2, Reply::NotLeader { leader: Some(NodeId(9)) });
        assert_eq!(bench.next(), Some((3, REQUEST_RETRY)), "nobody knows node 9");
    }

    #[test]
    fn without_a_leader_it_is_refused_in_time_and_says_what_to_do() {
        let mut bench = Bench::asked(wish(), Some(1));
        let begin = bench.now;
        while bench.next().is_some() {}
        assert_eq!(bench.now, begin + REQUEST_DEADLINE);
        let Answer::Refused { reason } = bench.answer() else { panic!() };
        assert!(reason.contains("node 2 at m2:1"), "{reason}");
        assert!(reason.contains("under the same request id"), "{reason}");
    }

    #[test]
    fn what_may_be_old_is_given_only_if_no_leader_is_found() {
        let stale = || Reply::Apps { stale: true, apps: Vec::new() };
        let mut bench = Bench::asked(Request::Apps, Some(1));
        let begin = bench.now;
        bench.next();
        bench.reply(1, stale());
        bench.next();
        bench.reply(2, Reply::Apps { stale: false, apps: Vec::new() });
        let fresh = Answer::Reply(Reply::Apps { stale: false, apps: Vec::new() });
        assert_eq!(*bench.answer(), fresh);
        let mut bench = Bench::asked(Request::Apps, Some(1));
        while let Some((master, _)) = bench.next() {
            bench.reply(master, stale());
        }
        assert_eq!(*bench.answer(), Answer::Reply(stale()));
        assert_eq!(bench.now, begin + STALE_PATIENCE);
    }

    #[test]
    fn requests_are_only_so_many() {
        let mut bench = Bench::asked(wish(), None);
        for number in 1..REQUESTS_OPEN_MAX as u64 {
            let request = (RequestId { client: 2, number }, wish());
            bench.requests.take(bench.now, 100 + number, request, None, &mut bench.answers);
        }
        assert_eq!(bench.answers, vec![]);
        bench.requests.take(bench.now, 7, (ID, wish()), None, &mut bench.answers);
        let Answer::Refused { reason } = bench.answer() else { panic!() };
        assert!(reason.contains("1024 requests"), "{reason}");
    }
}
