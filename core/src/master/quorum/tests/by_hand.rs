//! What one master makes of single messages, disks and commands.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};

use proptest::prelude::*;
use serde_bytes::ByteBuf;

use super::super::message::{KIND_BODY, KIND_DELTA};
use super::super::replicated::{Body, Delta};
use super::super::storage::encode;
use super::super::{
    FOUNDERS_FOLDER, Formation, Position, Quorum, QuorumConfig, QuorumContent, QuorumEffect,
    QuorumInput, QuorumMessage, QuorumRole, TERM_MAX, Unfit, UpdateNumber, Voter, Voters,
    VotersError,
};
use super::Updates;
use super::world::{CLUSTER, World};
use crate::control::Address;
use crate::crdt::{Register, Stamp};
use crate::host::NoFaults;
use crate::host::process::{DiskReply, DiskRequest};
use crate::id::{Incarnation, MasterTerm, NodeId};
use crate::limits::LEADER_LEASE;
use crate::time::{Duration, Time, seconds};

type Master = Quorum<Updates, NoFaults>;
type Entries = BTreeMap<String, Vec<u8>>;

fn config(node: u64, voters: u64, formation: Formation) -> QuorumConfig {
    let voters = (1..=voters).map(|it| (NodeId(it), Address(it.to_string()))).collect();
    let (node, life) = (NodeId(node), Incarnation(9));
    QuorumConfig { cluster: CLUSTER, node, life, formation, voters, seed: 5 }
}

/// Has a master hear something, and its disk do what it wants; returns what it sent and said.
fn tell(
    master: &mut Master,
    disk: &mut Entries,
    now: Time,
    input: QuorumInput,
) -> (Vec<(u64, QuorumContent)>, Vec<String>) {
    let (mut sent, mut said, mut out) = (Vec::new(), Vec::new(), Vec::new());
    master.handle(now, input, &mut out);
    while !out.is_empty() {
        for effect in core::mem::take(&mut out) {
            match effect {
                QuorumEffect::Send { to, message } => sent.push((to.0, message.content)),
                QuorumEffect::Notice(notice) => said.push(notice.text),
                QuorumEffect::Disk { token, request } => {
                    let reply = perform(disk, request);
                    master.handle(now, QuorumInput::Disk { token, reply }, &mut out);
                }
            }
        }
    }
    (sent, said)
}

fn perform(disk: &mut Entries, request: DiskRequest) -> DiskReply {
    match request {
        DiskRequest::Load => {
            let entries = disk.iter().map(|(name, value)| (name.clone(), value.clone()));
            DiskReply::Loaded { entries: entries.collect() }
        }
        DiskRequest::Write { entries } => {
            for (name, value) in entries {
                match value {
                    Some(value) => disk.insert(name, value),
                    None => disk.remove(&name),
                };
            }
            DiskReply::Written
        }
    }
}

fn message(from: u64, content: QuorumContent) -> QuorumInput {
    let message = QuorumMessage { cluster: CLUSTER, folder: Incarnation(0), content };
    QuorumInput::Message { from: NodeId(from), message }
}

fn follower(disk: &mut Entries) -> Master {
    let mut master = Master::new(config(1, 3, Formation::First));
    tell(&mut master, disk, Time(0), QuorumInput::Start);
    assert_eq!(master.role(), QuorumRole::Follower);
    master
}

fn start(node: u64, disk: &mut Entries, formation: Formation) -> (Master, Vec<String>) {
    let mut master = Master::new(config(node, 3, formation));
    let (_, said) = tell(&mut master, disk, Time(0), QuorumInput::Start);
    (master, said)
}

fn vote(term: u64) -> QuorumContent {
    QuorumContent::Vote { term: MasterTerm(term), position: Position::default() }
}

#[test]
fn a_single_master_leads_and_remembers() {
    let mut disk = Entries::new();
    let mut master = Master::new(config(1, 1, Formation::First));
    tell(&mut master, &mut disk, Time(0), QuorumInput::Start);
    let now = Time(0);
    assert_eq!(master.next_timeout(), Some(now), "nobody else can lead");
    tell(&mut master, &mut disk, now, QuorumInput::Timeout);
    assert!(master.may_serve(now) && master.voters_settled());
    let mut out = Vec::new();
    let update = Updates(BTreeSet::from([(1, 7)]));
    let number = master.propose(now, update.clone(), &mut out);
    assert_eq!(number, Some(UpdateNumber(2)));
    assert_eq!((master.acknowledged(), master.state()), (UpdateNumber(1), &update));
    assert_eq!(master.acknowledged_state(), Some(&Updates::default()), "not on disk yet");
    // More wait for the disk, and go in one write.
    master.propose(now, Updates(BTreeSet::from([(1, 8)])), &mut out);
    master.propose(now, Updates(BTreeSet::from([(1, 9)])), &mut out);
    let [QuorumEffect::Disk { token, request }] = &out[..] else {
        panic!("one write is under way: {out:?}");
    };
    let reply = perform(&mut disk, request.clone());
    let input = QuorumInput::Disk { token: *token, reply };
    tell(&mut master, &mut disk, now, input);
    assert_eq!(master.acknowledged(), UpdateNumber(4));
    // A later life has it all.
    let mut master = Master::new(config(1, 1, Formation::Before));
    tell(&mut master, &mut disk, now, QuorumInput::Start);
    assert_eq!(master.state().0.len(), 3);
    assert!(!master.may_serve(now));
    tell(&mut master, &mut disk, now, QuorumInput::Timeout);
    assert!(master.may_serve(now), "nor could anybody before");
}

/// The other of two voters may have removed itself a moment ago, and act on its lease still.
#[test]
fn a_single_master_waits_if_another_has_led() {
    let mut disk = Entries::new();
    let mut master = Master::new(config(1, 2, Formation::First));
    tell(&mut master, &mut disk, Time(0), QuorumInput::Start);
    let now = Time(0) + seconds(3);
    let voter = Voter { folder: FOUNDERS_FOLDER, address: Address(String::from("1")) };
    let alone = Voters::new(BTreeMap::from([(NodeId(1), voter)]));
    let voters = Register::new(Stamp { term: MasterTerm(1), counter: 2 }, alone);
    let body = Body { voters, state: Updates::default() };
    let (term, sent) = (MasterTerm(1), Time(0));
    let body = ByteBuf::from(encode(KIND_BODY, &body));
    let whole = QuorumContent::Whole { term, sent, number: 1, body };
    tell(&mut master, &mut disk, now, message(2, whole));
    let (mut master, _) = start(1, &mut disk, Formation::Before);
    assert_eq!(master.voters().current().len(), 1);
    let due = master.next_timeout().expect("it campaigns");
    assert!(due >= Time(0) + LEADER_LEASE, "{due}");
    tell(&mut master, &mut disk, due, QuorumInput::Timeout);
    assert!(master.may_serve(due));
    // Since then it has led itself.
    let (master, _) = start(1, &mut disk, Formation::Before);
    assert_eq!(master.next_timeout(), Some(Time(0)));
}

#[test]
fn a_lost_folder_has_no_vote() {
    let mut good = Entries::new();
    follower(&mut good);
    let damage = |name: &str| {
        let mut disk = good.clone();
        disk.get_mut(name).expect("it is there").push(0);
        disk
    };
    let mut missing = good.clone();
    missing.remove("quorum/promise");
    let disks = [Entries::new(), missing, damage("quorum/identity"), damage("quorum/head")];
    for mut disk in disks {
        let (mut master, said) = start(1, &mut disk, Formation::Before);
        assert_eq!(master.role(), QuorumRole::Unfit);
        for part in ["readmitted", "`gear-node voters --readmit 1`"] {
            assert!(said[0].contains(part), "{said:?}");
        }
        let later = Time(0) + seconds(60);
        let (sent, _) = tell(&mut master, &mut disk, later, message(2, vote(5)));
        assert_eq!((sent, master.next_timeout()), (vec![], None));
        // The command empties the folder; the master asks for its place, under another folder.
        tell(&mut master, &mut disk, later, QuorumInput::Readmit);
        assert_eq!(master.role(), QuorumRole::Follower);
        let now = master.next_timeout().expect("it asks");
        let (sent, _) = tell(&mut master, &mut disk, now, QuorumInput::Timeout);
        let apply = QuorumContent::Apply { readmit: true };
        assert_eq!(sent, vec![(2, apply.clone()), (3, apply)]);
        assert_eq!(master.identity.folder, Incarnation(9));
    }
    // Another node's disk.
    let (master, _) = start(2, &mut good, Formation::First);
    assert!(matches!(master.unfit(), Some(Unfit::Foreign { found_node: NodeId(1), .. })));
}

#[test]
fn a_promise_is_told_when_the_disk_has_it_and_kept() {
    let mut disk = Entries::new();
    let mut master = follower(&mut disk);
    let now = Time(0) + seconds(2);
    let mut out = Vec::new();
    master.handle(now, message(2, vote(5)), &mut out);
    let [QuorumEffect::Disk { token, request }] = &out[..] else {
        panic!("nothing but a write: {out:?}");
    };
    let reply = perform(&mut disk, request.clone());
    let (sent, _) = tell(&mut master, &mut disk, now, QuorumInput::Disk { token: *token, reply });
    let promised =
        QuorumContent::Promised { term: MasterTerm(5), position: Position::default(), body: None };
    assert_eq!(sent, vec![(2, promised)]);
    let (mut master, _) = start(1, &mut disk, Formation::Before);
    for (from, term) in [(3, 5), (3, 4), (2, 4)] {
        let (sent, _) = tell(&mut master, &mut disk, now, message(from, vote(term)));
        assert_eq!(sent, vec![(from, QuorumContent::Refused { term: MasterTerm(5) })]);
    }
}

#[test]
fn who_has_heard_a_leader_votes_for_nobody_else() {
    let mut disk = Entries::new();
    let mut master = follower(&mut disk);
    let beat = |sent| QuorumContent::Append {
        term: MasterTerm(1),
        sent: Time(sent),
        first: 1,
        deltas: Vec::new(),
    };
    let heard = Time(0) + seconds(5);
    tell(&mut master, &mut disk, heard, message(2, beat(77)));
    assert_eq!(master.leader_hint(heard), Some(NodeId(2)));
    let soon = heard + Duration::from_millis(999);
    let refused = vec![(3, QuorumContent::Refused { term: MasterTerm(1) })];
    let pre_vote = QuorumContent::PreVote { term: MasterTerm(2) };
    assert_eq!(tell(&mut master, &mut disk, soon, message(3, pre_vote.clone())).0, refused);
    assert_eq!(tell(&mut master, &mut disk, soon, message(3, vote(2))).0, refused);
    // A restarted one does not know whom it has heard.
    let (mut master, _) = start(1, &mut disk, Formation::Before);
    let soon = Time(0) + Duration::from_millis(999);
    assert_eq!(tell(&mut master, &mut disk, soon, message(3, vote(2))).0, refused);
    let later = Time(0) + seconds(1);
    let (sent, _) = tell(&mut master, &mut disk, later, message(3, pre_vote));
    assert_eq!(sent, vec![(3, QuorumContent::PreVoteGranted { term: MasterTerm(2) })]);
    assert_eq!(master.leader_hint(later), None);
}

#[test]
fn a_later_term_replaces_and_a_gap_is_not_taken() {
    let mut disk = Entries::new();
    let mut master = follower(&mut disk);
    let now = Time(0) + seconds(3);
    let body = |updates: &[(u64, u64)]| {
        let voters = Register::new(Stamp::ZERO, Voters::default());
        let body = Body { voters, state: Updates(updates.iter().copied().collect()) };
        ByteBuf::from(encode(KIND_BODY, &body))
    };
    let whole = |term, number, updates: &[(u64, u64)]| QuorumContent::Whole {
        term: MasterTerm(term),
        sent: Time(term),
        number,
        body: body(updates),
    };
    let append = |first, update| {
        let delta = Delta { voters: None, state: Some(Updates(BTreeSet::from([update]))) };
        let deltas = vec![ByteBuf::from(encode(KIND_DELTA, &delta))];
        QuorumContent::Append { term: MasterTerm(1), sent: Time(9), first, deltas }
    };
    tell(&mut master, &mut disk, now, message(2, whole(1, 3, &[(1, 1), (1, 2)])));
    let (sent, _) = tell(&mut master, &mut disk, now, message(2, append(5, (1, 4))));
    let answer = |received, stored| QuorumContent::Acknowledged {
        term: MasterTerm(1),
        sent: Time(9),
        received,
        stored,
    };
    assert_eq!(sent, vec![(2, answer(3, 3))]);
    let (sent, _) = tell(&mut master, &mut disk, now, message(2, append(4, (1, 3))));
    assert_eq!(sent, vec![(2, answer(4, 4))]);
    tell(&mut master, &mut disk, now, message(3, whole(2, 1, &[(1, 1)])));
    assert_eq!(master.state().0, BTreeSet::from([(1, 1)]), "replaced, not joined");
    let (sent, _) = tell(&mut master, &mut disk, now, message(2, append(5, (1, 4))));
    assert_eq!(sent, vec![(2, QuorumContent::Refused { term: MasterTerm(2) })]);
    // And nothing of it is left on disk.
    let (master, _) = start(1, &mut disk, Formation::Before);
    assert_eq!(master.state().0, BTreeSet::from([(1, 1)]));
    assert_eq!(master.position(), Position { term: MasterTerm(2), number: 1 });
}

#[test]
fn a_failed_disk_ends_it() {
    let mut disk = Entries::new();
    let mut master = Master::new(config(1, 1, Formation::First));
    tell(&mut master, &mut disk, Time(0), QuorumInput::Start);
    let now = Time(0) + seconds(2);
    tell(&mut master, &mut disk, now, QuorumInput::Timeout);
    assert!(master.may_serve(now));
    let reply = DiskReply::Failed { reason: String::from("no room is left") };
    let token = crate::id::Token(99);
    let (sent, said) = tell(&mut master, &mut disk, now, QuorumInput::Disk { token, reply });
    assert!(sent.is_empty() && said[0].contains("no room is left"), "{said:?}");
    assert_eq!((master.role(), master.may_serve(now)), (QuorumRole::Unfit, false));
    assert_eq!(master.propose(now, Updates::default(), &mut Vec::new()), None);
}

#[test]
fn voters_change_one_at_a_time() {
    let mut world = World::<NoFaults>::new(3, 3, 1);
    world.run(Time(0) + seconds(5));
    let leader = world.serving()[0];
    let now = world.clock(leader);
    let set = |ids: &[u64]| -> BTreeMap<_, _> {
        ids.iter().map(|it| (NodeId(*it), Address(format!("{it}")))).collect()
    };
    let quorum = world.nodes.get_mut(&leader).and_then(|node| node.quorum.as_mut());
    let quorum = quorum.expect("it leads");
    let mut change = |ids: &[u64]| quorum.change_voters(now, &set(ids), &mut Vec::new());
    assert_eq!(change(&[0, 1, 3]), Err(VotersError::TooMany { joining: 1, leaving: 1 }));
    assert_eq!(change(&[]), Err(VotersError::Count { count: 0 }));
    assert_eq!(change(&[0, 1, 2, 8]), Err(VotersError::Unheard { node: NodeId(8) }));
    assert_eq!(change(&[0, 1, 2]), Ok(UpdateNumber(1)), "it is so already");
    assert!(world.change_voters(leader, &BTreeSet::from([0, 1, 2, 3])));
    world.run(world.now + seconds(2));
    assert_eq!(world.settled_voters(), Some(BTreeSet::from([0, 1, 2, 3])));
    // The leader itself may leave: another one takes over.
    let rest: BTreeSet<_> = (0..4).filter(|id| *id != leader).collect();
    assert!(world.change_voters(leader, &rest));
    world.run(world.now + seconds(5));
    assert_eq!(world.settled_voters(), Some(rest));
    assert_ne!(world.serving()[0], leader);
}

fn content() -> impl Strategy<Value = QuorumContent> {
    let term = prop_oneof![0_u64..6, Just(TERM_MAX), any::<u64>()].prop_map(MasterTerm);
    let bytes = || prop::collection::vec(any::<u8>(), 0..20).prop_map(ByteBuf::from);
    (term, prop_oneof![0_u64..6, any::<u64>()], 0_u64..6, bytes(), 0..9).prop_map(
        |(term, number, small, bytes, kind)| {
            let position = Position { term: MasterTerm(small), number };
            let sent = Time(number);
            match kind {
                0 => QuorumContent::PreVote { term },
                1 => QuorumContent::PreVoteGranted { term },
                2 => QuorumContent::Vote { term, position },
                3 => QuorumContent::Promised { term, position, body: Some(bytes) },
                4 => QuorumContent::Refused { term },
                5 => QuorumContent::Append { term, sent, first: number, deltas: vec![bytes] },
                6 => QuorumContent::Whole { term, sent, number, body: bytes },
                7 => QuorumContent::Acknowledged { term, sent, received: number, stored: small },
                _ => QuorumContent::Apply { readmit: small % 2 == 0 },
            }
        },
    )
}

proptest! {
    #[test]
    fn no_message_makes_it_panic(
        contents in prop::collection::vec((2_u64..5, content(), 0_u64..900), 1..40),
    ) {
        let mut disk = Entries::new();
        let mut master = follower(&mut disk);
        let mut now = Time(0);
        for (from, content, pause) in contents {
            now = now + Duration::from_millis(pause);
            if master.next_timeout().is_some_and(|due| due <= now) {
                tell(&mut master, &mut disk, now, QuorumInput::Timeout);
            }
            tell(&mut master, &mut disk, now, message(from, content));
        }
    }
}
