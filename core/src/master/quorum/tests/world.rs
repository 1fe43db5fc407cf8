//! Masters, the network between them, their disks and clocks: all from one seed.
//!
//! After each step the rules are checked: at most one leader a term, at most one that may act, no
//! acknowledged update missing from a later leader's state, no update coming back that a leader
//! has begun without, and nothing that counts counting backwards.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::super::random::Random;
use super::super::{
    Formation, Position, Quorum, QuorumConfig, QuorumContent, QuorumEffect, QuorumInput,
    QuorumMessage, QuorumRole,
};
use super::Updates;
use crate::control::Address;
use crate::host::Faults;
use crate::host::process::{DiskReply, DiskRequest};
use crate::id::{Incarnation, MasterTerm, NodeId, Token};
use crate::time::{Duration, Time, millis};

pub(super) const CLUSTER: u64 = 77;

type Disk = BTreeMap<String, Vec<u8>>;

enum Event {
    Deliver {
        from: u64,
        to: u64,
        message: QuorumMessage,
    },
    /// The oldest request of a node's disk is done.
    DiskDone {
        node: u64,
        life: u64,
    },
    Timer {
        node: u64,
        life: u64,
        at: Time,
    },
}

/// A machine that runs a master.
pub(super) struct Node<F: Faults> {
    pub(super) quorum: Option<Quorum<Updates, F>>,
    pub(super) disk: Disk,
    requests: VecDeque<(Token, DiskRequest)>,
    pub(super) life: u64,
    /// Its clock: where it began, and its speed in thousandths.
    offset: u64,
    speed: u64,
    timer: Option<Time>,
    /// Whether anything was ever written here.
    pub(super) formed: bool,
}

/// How unkind the world is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    /// Messages in a thousand that get lost, or come twice.
    pub(super) loss: u64,
    pub(super) doubled: u64,
    /// Messages in a thousand that take up to three seconds.
    pub(super) late: u64,
    /// Longest way of a message, longest write.
    pub(super) way: Duration,
    pub(super) write: Duration,
}

pub(super) struct World<F: Faults> {
    pub(super) nodes: BTreeMap<u64, Node<F>>,
    pub(super) founders: u64,
    pub(super) now: Time,
    queue: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    pub(super) random: Random,
    pub(super) weather: Weather,
    /// Pairs between which nothing goes, in this direction.
    pub(super) cut: BTreeSet<(u64, u64)>,
    pub(super) notices: Vec<String>,
    updates: u64,
    lives: u64,
    pub(super) steps: u64,
    // What was seen.
    leaders: BTreeMap<u64, (u64, u64)>,
    acknowledged: BTreeSet<(u64, u64)>,
    numbers: BTreeMap<u64, u64>,
    /// For each term whose leader served: what it knew of earlier terms.
    inherited: BTreeMap<u64, BTreeSet<(u64, u64)>>,
    /// For each folder what it was seen to have stored.
    stored: BTreeMap<(u64, Incarnation), (Position, MasterTerm)>,
    /// For each folder and term who was told to have its vote.
    votes: BTreeMap<(u64, Incarnation, MasterTerm), u64>,
}

impl<F: Faults> World<F> {
    /// `founders` masters that form a cluster, and `spare` ones that may join.
    pub(super) fn new(seed: u64, founders: u64, spare: u64) -> Self {
        let mut world = Self {
            nodes: BTreeMap::new(),
            founders,
            now: Time(0),
            queue: BTreeMap::new(),
            sequence: 0,
            random: Random::new(seed),
            weather: Weather { way: millis(2), write: millis(5), ..Weather::default() },
            cut: BTreeSet::new(),
            notices: Vec::new(),
            updates: 0,
            lives: 0,
            steps: 0,
            leaders: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            numbers: BTreeMap::new(),
            inherited: BTreeMap::new(),
            stored: BTreeMap::new(),
            votes: BTreeMap::new(),
        };
        for id in 0..founders + spare {
            let node = Node {
                quorum: None,
                disk: Disk::new(),
                requests: VecDeque::new(),
                life: 0,
                offset: 0,
                speed: 1_000,
                timer: None,
                formed: false,
            };
            world.nodes.insert(id, node);
            let formation = if id < founders { Formation::First } else { Formation::Joins };
            world.start(id, formation);
        }
        world
    }

    pub(super) fn draw(&mut self, below: u64) -> u64 {
        self.random.next() % below.max(1)
    }

    fn span(&mut self, most: Duration) -> Duration {
        // Mostly short, sometimes as long as it gets.
        let most = u64::try_from(most.as_nanos()).expect("a span of seconds") + 1;
        let most = most >> (self.draw(4) * 2);
        Duration::from_nanos(self.draw(most))
    }

    fn at(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), event);
    }

    /// What a node's clock shows.
    pub(super) fn clock(&self, id: u64) -> Time {
        let node = &self.nodes[&id];
        Time(node.offset + self.now.0 / 1_000 * node.speed)
    }

    pub(super) fn start(&mut self, id: u64, formation: Formation) {
        self.lives += 1;
        let (life, seed) = (self.lives, self.random.next());
        // Clocks run apart, and show nothing in common.
        let (offset, speed) = (self.draw(1 << 40), 960 + self.draw(81));
        let voters = (0..self.founders).map(|it| (NodeId(it), Address(it.to_string())));
        let config = QuorumConfig {
            cluster: CLUSTER,
            node: NodeId(id),
            life: Incarnation(life),
            formation,
            voters: voters.collect(),
            seed,
        };
        let node = self.nodes.get_mut(&id).expect("it exists");
        assert!(node.quorum.is_none(), "it does not run");
        node.quorum = Some(Quorum::new(config));
        (node.life, node.offset, node.speed, node.timer) = (life, offset, speed, None);
        self.tell(id, QuorumInput::Start);
    }

    /// A node dies; what its disk has not finished may be there or not, but nothing after it.
    pub(super) fn crash(&mut self, id: u64) {
        let finished = self.draw(3);
        let node = self.nodes.get_mut(&id).expect("it exists");
        node.quorum = None;
        if finished == 0
            && let Some((_, DiskRequest::Write { entries })) = node.requests.pop_front()
        {
            node.formed = true;
            write(&mut node.disk, entries);
        }
        node.requests.clear();
    }

    pub(super) fn tell(&mut self, id: u64, input: QuorumInput) {
        let now = self.clock(id);
        let mut out = Vec::new();
        let node = self.nodes.get_mut(&id).expect("it exists");
        if let Some(quorum) = &mut node.quorum {
            quorum.handle(now, input, &mut out);
        }
        self.perform(id, out);
    }

    /// Has a node propose the next update, if it may.
    pub(super) fn propose(&mut self, id: u64) -> bool {
        let now = self.clock(id);
        let mut out = Vec::new();
        let node = self.nodes.get_mut(&id).expect("it exists");
        let Some(quorum) = &mut node.quorum else {
            return false;
        };
        self.updates += 1;
        let update = Updates(BTreeSet::from([(quorum.term().0, self.updates)]));
        let taken = quorum.propose(now, update, &mut out).is_some();
        self.perform(id, out);
        taken
    }

    /// Has a node change the voters, if it may.
    pub(super) fn change_voters(&mut self, id: u64, voters: &BTreeSet<u64>) -> bool {
        let now = self.clock(id);
        let mut out = Vec::new();
        let wanted = voters.iter().map(|it| (NodeId(*it), Address(it.to_string()))).collect();
        let node = self.nodes.get_mut(&id).expect("it exists");
        let Some(quorum) = &mut node.quorum else {
            return false;
        };
        let begun = quorum.change_voters(now, &wanted, &mut out).is_ok();
        self.perform(id, out);
        begun
    }

    fn perform(&mut self, id: u64, out: Vec<QuorumEffect>) {
        for effect in out {
            match effect {
                QuorumEffect::Send { to, message } => self.post(id, to.0, message),
                QuorumEffect::Disk { token, request } => {
                    let node = self.nodes.get_mut(&id).expect("it exists");
                    node.requests.push_back((token, request));
                    let life = node.life;
                    if node.requests.len() == 1 {
                        let after = self.span(self.weather.write);
                        self.at(after, Event::DiskDone { node: id, life });
                    }
                }
                QuorumEffect::Notice(notice) => self.notices.push(notice.text),
            }
        }
        let node = self.nodes.get_mut(&id).expect("it exists");
        let due = node.quorum.as_ref().and_then(Quorum::next_timeout);
        let due = due.filter(|due| *due != Time::MAX);
        if due != node.timer {
            node.timer = due;
            if let Some(local) = due {
                // The first moment at which the node's clock shows it.
                let real = Time(local.0.saturating_sub(node.offset) / node.speed * 1_000 + 1_000);
                let (after, life) = (real.since(self.now), node.life);
                self.at(after, Event::Timer { node: id, life, at: local });
            }
        }
        self.check(id);
    }

    fn post(&mut self, from: u64, to: u64, message: QuorumMessage) {
        // Whoever asks for votes has its own.
        let vote = match message.content {
            QuorumContent::Promised { term, .. } => Some((term, to)),
            QuorumContent::Vote { term, .. } => Some((term, from)),
            _ => None,
        };
        if let Some((term, to)) = vote {
            let vote = *self.votes.entry((from, message.folder, term)).or_insert(to);
            assert_eq!(vote, to, "node {from} votes twice in {term}");
        }
        let weather = self.weather;
        if self.cut.contains(&(from, to)) || self.draw(1_000) < weather.loss {
            return;
        }
        let copies = if self.draw(1_000) < weather.doubled { 2 } else { 1 };
        for _ in 0..copies {
            let late = self.draw(1_000) < weather.late;
            let after = self.span(if late { Duration::from_secs(3) } else { weather.way });
            self.at(after, Event::Deliver { from, to, message: message.clone() });
        }
    }

    /// Those that have promised a term that their disk has not.
    pub(super) fn promising(&self) -> Vec<u64> {
        let promises = |node: &Node<F>| {
            node.quorum.as_ref().is_some_and(|it| it.promise.term > it.disk.promise.term)
        };
        self.nodes.iter().filter(|(_, node)| promises(node)).map(|(id, _)| *id).collect()
    }

    /// Runs until `until`.
    pub(super) fn run(&mut self, until: Time) {
        while let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= until
        {
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.steps += 1;
            match event {
                Event::Deliver { from, to, message } => {
                    if !self.cut.contains(&(from, to)) && self.nodes.contains_key(&to) {
                        let from = NodeId(from);
                        self.tell(to, QuorumInput::Message { from, message });
                    }
                }
                Event::DiskDone { node, life } => self.disk_done(node, life),
                Event::Timer { node: id, life, at } => {
                    let node = self.nodes.get_mut(&id).expect("it exists");
                    if node.life == life && node.timer == Some(at) {
                        node.timer = None;
                        self.tell(id, QuorumInput::Timeout);
                    }
                }
            }
        }
        self.now = until;
    }

    fn disk_done(&mut self, id: u64, life: u64) {
        let node = self.nodes.get_mut(&id).expect("it exists");
        if node.life != life || node.quorum.is_none() {
            return;
        }
        let (token, request) = node.requests.pop_front().expect("a request is under way");
        let more = !node.requests.is_empty();
        let reply = match request {
            DiskRequest::Load => {
                let entries = node.disk.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
                DiskReply::Loaded { entries }
            }
            DiskRequest::Write { entries } => {
                node.formed = true;
                write(&mut node.disk, entries);
                DiskReply::Written
            }
        };
        if more {
            let after = self.span(self.weather.write);
            self.at(after, Event::DiskDone { node: id, life });
        }
        self.tell(id, QuorumInput::Disk { token, reply });
    }

    /// Those who say that they may act.
    pub(super) fn serving(&self) -> Vec<u64> {
        let serves = |id: &u64| {
            let now = self.clock(*id);
            self.nodes[id].quorum.as_ref().is_some_and(|quorum| quorum.may_serve(now))
        };
        self.nodes.keys().copied().filter(serves).collect()
    }

    /// The rules, after `id` has done something.
    fn check(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).expect("it exists");
        let Some(quorum) = &node.quorum else {
            return;
        };
        if quorum.role() == QuorumRole::Unfit {
            return;
        }
        let (term, life) = (quorum.term(), node.life);
        let now = (quorum.disk.position, quorum.disk.promise.term);
        let before = self.stored.insert((id, quorum.identity.folder), now).unwrap_or_default();
        assert!(now.0 >= before.0 && now.1 >= before.1, "node {id} stored {before:?}, now {now:?}");
        if quorum.role() != QuorumRole::Leader {
            return;
        }
        let leader = *self.leaders.entry(term.0).or_insert((id, life));
        assert_eq!(leader, (id, life), "two leaders of {term}");
        let number = quorum.acknowledged().0;
        let before = self.numbers.insert(term.0, number).unwrap_or(0);
        assert!(number >= before, "acknowledged {before}, now {number}");
        let serving = self.serving();
        assert!(serving.len() <= 1, "{serving:?} act at the same time");
        let quorum = self.nodes[&id].quorum.as_ref().expect("it runs");
        let Some(state) = quorum.acknowledged_state() else {
            return;
        };
        let news = number > before;
        if news {
            self.acknowledged.extend(&state.0);
        }
        if !news {
            return;
        }
        // Whoever has written back knows everything that is acknowledged.
        for (other, node) in &self.nodes {
            let Some(quorum) = &node.quorum else { continue };
            if quorum.acknowledged_state().is_none() {
                continue;
            }
            let (term, state) = (quorum.term().0, quorum.state());
            let lost = self.acknowledged.iter().find(|it| it.0 < term && !state.0.contains(it));
            assert_eq!(lost, None, "acknowledged, and node {other} leads {term} without it");
            let known = state.0.iter().filter(|it| it.0 < term).copied().collect();
            let inherited = self.inherited.entry(term).or_insert(known);
            let now: BTreeSet<_> = state.0.iter().filter(|it| it.0 < term).copied().collect();
            assert_eq!(*inherited, now, "what older terms wrote has changed in {term}");
        }
        for (term, inherited) in &self.inherited {
            if let Some((later, known)) = self.inherited.range(term + 1..).next() {
                let known: BTreeSet<_> = known.iter().filter(|it| it.0 < *term).copied().collect();
                let back = known.difference(inherited).next();
                assert_eq!(back, None, "{term} began without it, it came back in {later}");
            }
        }
    }

    /// Every write that anybody was told of.
    pub(super) fn acknowledged(&self) -> &BTreeSet<(u64, u64)> {
        &self.acknowledged
    }

    /// Terms that had a leader.
    pub(super) fn terms(&self) -> usize {
        self.leaders.len()
    }

    /// Who votes, as the leader sees it, once the voters are settled.
    pub(super) fn settled_voters(&self) -> Option<BTreeSet<u64>> {
        let serving = self.serving();
        let quorum = self.nodes[serving.first()?].quorum.as_ref()?;
        quorum
            .voters_settled()
            .then(|| quorum.voters().current().keys().map(|node| node.0).collect())
    }

    /// What is going on, for a failure's message.
    pub(super) fn describe(&self) -> String {
        let mut text = format!("at {}, cut {:?}, {:?}", self.now, self.cut, self.weather);
        for (id, node) in &self.nodes {
            match &node.quorum {
                None => text += &format!("\n{id}: down"),
                Some(quorum) => {
                    text += &format!(
                        "\n{id}: {:?} {} {:?} voters {:?} unfit {:?}",
                        quorum.role(),
                        quorum.term(),
                        quorum.position(),
                        quorum.voters().members().collect::<Vec<_>>(),
                        quorum.unfit(),
                    );
                }
            }
        }
        text
    }
}

fn write(disk: &mut Disk, entries: Vec<(String, Option<Vec<u8>>)>) {
    for (name, value) in entries {
        match value {
            Some(value) => disk.insert(name, value),
            None => disk.remove(&name),
        };
    }
}
