//! Output that waits: in segments that are kept in the checkpoint store, and in memory too while
//! there is room for them.

use std::collections::VecDeque;

use gear_core::effect::Blob;
use gear_core::id::Token;
use gear_core::message::ObjectRef;
use gear_core::time::Time;

use super::account::{Account, IdAccount};
use super::mark::{Before, Mark};

/// Output that is sent and fetched as a whole.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) object: ObjectRef,
    /// Its content, while it is in memory.
    pub(super) bytes: Option<Blob>,
    /// What keeps it, until it is kept.
    pub(super) keeping: Option<Token>,
}

impl Segment {
    /// Its content may be let go of: it can be fetched again.
    fn spill(&mut self) -> usize {
        if self.keeping.is_some() {
            return 0;
        }
        self.bytes.take().map_or(0, |bytes| bytes.len())
    }

    fn allocated(&self) -> usize {
        self.bytes.as_ref().map_or(0, |bytes| bytes.len())
    }
}

/// What a task has put out in one epoch.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pub(super) epoch: u64,
    pub(super) segments: Vec<Segment>,
    /// When the epoch was heard to be committed; none before.
    pub(super) since: Option<Time>,
}

/// A transactional id, with the output that waits under it.
#[derive(Clone, Debug)]
pub(super) struct Id {
    pub(super) name: String,
    pub(super) topic: String,
    pub(super) lineage: u64,
    /// What its marks remember of the life before.
    pub(super) before: Option<Before>,
    /// No mark of this lineage was ever written.
    pub(super) fresh: bool,
    /// All output up to here that is not among `outputs` is in Kafka.
    pub(super) known: u64,
    pub(super) outputs: VecDeque<Output>,
    /// Numbers its producers; the last of them is of use if `fenced`.
    pub(super) producer: u32,
    pub(super) fenced: bool,
    /// The mark was read by that producer.
    pub(super) looked: bool,
    /// Segments of the first output that earlier transactions hold, where one could not hold all.
    pub(super) done: usize,
    /// Segments of the first output that were sent, with those.
    pub(super) sent: usize,
    /// What was sent is to be committed before more is.
    pub(super) ending: bool,
    /// Segments that a transaction takes at most.
    pub(super) most: usize,
    /// Transactions that this producer has committed.
    pub(super) commits: u32,
    /// When the open transaction was begun.
    pub(super) began: Option<Time>,
    /// A mark is to be written, whether there is output or not.
    pub(super) unmarked: bool,
    pub(super) marked_at: Time,
}

impl Id {
    pub(super) fn new(name: String, topic: String, lineage: u64, now: Time) -> Self {
        Self {
            name,
            topic,
            lineage,
            before: None,
            fresh: true,
            known: 0,
            outputs: VecDeque::new(),
            producer: 0,
            fenced: false,
            looked: false,
            done: 0,
            sent: 0,
            ending: false,
            most: usize::MAX,
            commits: 0,
            began: None,
            unmarked: false,
            marked_at: now,
        }
    }

    /// An id of an account, whose epoch has committed.
    fn restored(
        of: IdAccount,
        epoch: u64,
        objects: &mut impl Iterator<Item = ObjectRef>,
        now: Time,
    ) -> Result<Self, String> {
        let mut id = Self::new(of.name, of.topic, of.lineage, now);
        (id.fresh, id.known) = (false, epoch);
        for (epoch, count) in of.outputs {
            let new = |object| Segment { object, bytes: None, keeping: None };
            let segments: Vec<_> = objects.take(count as usize).map(new).collect();
            if segments.len() != count as usize {
                return Err(
                    "the account of a Kafka sink names objects that it does not come with; \
                            restore the checkpoint store, or use --fresh"
                        .to_owned(),
                );
            }
            id.outputs.push_back(Output { epoch, segments, since: Some(now) });
        }
        Ok(id)
    }

    /// The ids of an account, which come with these objects.
    pub(super) fn of_account(
        bytes: &[u8],
        objects: &[ObjectRef],
        now: Time,
    ) -> Result<Vec<Self>, String> {
        let account = Account::decode(bytes)?;
        let mut objects = objects.iter().cloned();
        let restored = |of| Self::restored(of, account.epoch, &mut objects, now);
        account.ids.into_iter().map(restored).collect()
    }

    /// True if whoever wrote the mark was started later than this life: by the calendar, and it is
    /// no earlier attempt, whose machine's calendar may be ahead.
    pub(super) const fn is_older(&self, mark: Mark, attempt: u64) -> bool {
        mark.lineage > self.lineage && mark.attempt >= attempt
    }

    pub(super) fn account(&self) -> IdAccount {
        let outputs =
            self.outputs.iter().map(|output| (output.epoch, output.segments.len() as u32));
        IdAccount {
            name: self.name.clone(),
            topic: self.topic.clone(),
            lineage: self.lineage,
            outputs: outputs.collect(),
        }
    }

    /// The output that is to be produced next.
    pub(super) fn due(&self) -> Option<&Output> {
        self.outputs.front().filter(|output| output.since.is_some())
    }

    /// The last epoch that may be in Kafka.
    pub(super) fn highest(&self) -> u64 {
        let due = self.outputs.iter().rfind(|output| output.since.is_some());
        due.map_or(self.known, |output| output.epoch.max(self.known))
    }

    /// The segment that is to be sent next.
    pub(super) fn next_mut(&mut self) -> Option<&mut Segment> {
        let sent = self.sent;
        let due = self.outputs.front_mut().filter(|output| output.since.is_some());
        due.and_then(|output| output.segments.get_mut(sent))
    }

    /// That segment was sent. If it was in vain, it is fetched to be sent again.
    pub(super) fn note_sent(&mut self) {
        if let Some(segment) = self.next_mut() {
            segment.spill();
        }
        self.sent += 1;
    }

    /// The output of epochs up to this one, of which it is known that they have committed, is in
    /// Kafka.
    pub(super) fn produced(&mut self, epoch: u64) {
        while self.due().is_some_and(|output| output.epoch <= epoch) {
            self.outputs.pop_front();
        }
        self.begin_behind(0);
    }

    /// So many segments of the first output are in Kafka.
    pub(super) const fn begin_behind(&mut self, done: usize) {
        (self.done, self.sent, self.ending, self.began) = (done, done, false, None);
    }

    /// Takes over how far a mark of this life says that the output has been produced. False if it
    /// says so of output that there is none of.
    pub(super) fn go_on_behind(&mut self, mark: Mark) -> bool {
        self.produced(mark.epoch);
        let count = mark.segments as usize;
        let is_partly_done = |due: &Output| due.epoch == mark.last() && due.segments.len() >= count;
        let is_there = count == 0 || self.due().is_some_and(is_partly_done);
        if is_there {
            self.begin_behind(count);
        }
        is_there
    }

    /// What a transaction commits now: all that was sent.
    pub(super) fn mark(&self, attempt: u64) -> Mark {
        let (epoch, segments) = match self.due() {
            None => (self.known, 0),
            Some(due) if self.sent < due.segments.len() => {
                (due.epoch.saturating_sub(1), self.sent as u32)
            }
            Some(due) => (due.epoch, 0),
        };
        let Self { lineage, before, .. } = *self;
        Mark { epoch, segments, lineage, attempt, before }
    }

    /// Its producer is of no more use.
    pub(super) const fn lose(&mut self) {
        (self.fenced, self.looked) = (false, false);
        self.begin_behind(0);
        self.commits = 0;
        self.producer += 1;
    }

    pub(super) fn segments(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.outputs.iter().flat_map(|output| &output.segments)
    }

    pub(super) fn segments_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Segment> {
        self.outputs.iter_mut().flat_map(|output| &mut output.segments)
    }
}

/// Lets go of what is produced last until so many bytes are left in memory, or until nothing more
/// can be fetched again.
pub(super) fn spill<'a>(
    segments: impl DoubleEndedIterator<Item = &'a mut Segment>,
    allocated: usize,
    budget: usize,
) {
    let mut left = allocated;
    for segment in segments.rev() {
        if left <= budget {
            return;
        }
        left -= segment.spill();
    }
}

/// Bytes of segments, and how many of them are in memory.
pub(super) fn sizes<'a>(segments: impl Iterator<Item = &'a Segment>) -> (u64, usize) {
    segments.fold((0, 0), |(bytes, allocated), segment| {
        (bytes + segment.object.len, allocated + segment.allocated())
    })
}
