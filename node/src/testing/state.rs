//! Looking into the state of a job, as its last epoch holds it.

use gear_core::api::key::Scoped;
pub use gear_core::api::process::Timer;
use gear_core::api::record::{Malformed, Owned};
use gear_core::api::state::State;
use gear_core::api::{Key, Record, Ref};
use gear_core::flow::state::{SnapshotReader, Table};
use gear_core::time::{EventTime, WallTime};

use super::Harness;

/// The bytes of a process's state, as its table keeps them.
#[derive(Clone, Debug, Default)]
struct Encoded(Vec<u8>);

impl State for Encoded {
    fn save(&self, out: &mut Vec<u8>) {
        Ref::<[u8]>::encode(&self.0.as_slice(), out);
    }

    fn load(input: &mut &[u8]) -> Result<Self, Malformed> {
        Ref::<[u8]>::decode(input).map(|bytes| Self(bytes.to_vec()))
    }

    fn state_name(out: &mut String) {
        out.push_str("encoded");
    }
}

/// The state's number, the field within it (for a map), and the key.
type StateKey<K> = Scoped<(u16, Ref<[u8]>), K>;
type TimerKey<K> = Scoped<(i64, bool), K>;

/// A field of a map begins with this byte; everything else there is the map's own.
const MAP_FIELD: u8 = 1;

impl Harness {
    /// The value of each key of an aggregate (`count`, `fold`, `reduce`), as the last epoch holds
    /// it. The types are those that the job declares; the order is that of the key groups.
    ///
    /// # Panics
    /// If the processor has state of other types.
    #[must_use]
    pub fn state<K: Key + Owned, V: State>(&self, uid: &str) -> Vec<(K, V)> {
        let mut all = Vec::new();
        self.tables::<K, V>(uid, "keys", |_, key, value| all.push((key, value.clone())));
        all
    }

    /// The value that a [`Process`](gear_core::api::Process) keeps for each key under this name, as
    /// the last epoch holds it.
    ///
    /// # Panics
    /// If the processor's state has keys of another type.
    #[must_use]
    pub fn value<K: Key + Owned, T: Owned>(&self, uid: &str, name: &str) -> Vec<(K, T)> {
        let mut all = Vec::new();
        self.process_state::<K>(uid, name, |key, _, mut value| {
            all.push((key, T::decode(&mut value).expect("the state is of this type")));
        });
        all
    }

    /// The list that a process keeps for each key under this name.
    ///
    /// # Panics
    /// If the processor's state has keys of another type.
    #[must_use]
    pub fn list<K: Key + Owned, T: Owned>(&self, uid: &str, name: &str) -> Vec<(K, Vec<T>)> {
        let mut all = Vec::new();
        self.process_state::<K>(uid, name, |key, _, mut value| {
            let mut elements = Vec::new();
            while !value.is_empty() {
                elements.push(T::decode(&mut value).expect("the state is of this type"));
            }
            all.push((key, elements));
        });
        all
    }

    /// The entries of the maps that a process keeps under this name, each with its key.
    ///
    /// # Panics
    /// If the processor's state has keys of another type.
    #[must_use]
    pub fn map<K, F, T>(&self, uid: &str, name: &str) -> Vec<(K, F, T)>
    where
        K: Key + Owned,
        F: Owned,
        T: Owned,
    {
        let mut all = Vec::new();
        self.process_state::<K>(uid, name, |key, field, mut value| {
            if let Some((&MAP_FIELD, mut field)) = field.split_first() {
                let field = F::decode(&mut field).expect("the map is of this type");
                all.push((key, field, T::decode(&mut value).expect("the map is of this type")));
            }
        });
        all
    }

    /// The timers of a process, each with its key, earliest first.
    ///
    /// # Panics
    /// If the processor's state has keys of another type.
    #[must_use]
    pub fn timers<K: Key + Owned>(&self, uid: &str) -> Vec<(Timer, K)> {
        let mut all = Vec::new();
        self.tables::<TimerKey<K>, bool>(uid, "timers", |_, ((at, wall), key), _| {
            let timer = if wall { Timer::Wall(WallTime(at)) } else { Timer::Event(EventTime(at)) };
            all.push((timer, key));
        });
        all.sort_by_key(|(timer, _)| *timer);
        all
    }

    fn process_state<K: Key + Owned>(
        &self,
        uid: &str,
        name: &str,
        mut each: impl FnMut(K, &[u8], &[u8]),
    ) {
        self.tables::<StateKey<K>, Encoded>(uid, "states", |meta, ((state, field), key), value| {
            if declared(meta).get(usize::from(state)).is_some_and(|other| other == name) {
                each(key, field, &value.0);
            }
        });
    }

    /// Shows the entries of a table of each of a processor's tasks, with what the task's object
    /// says besides.
    fn tables<K: Key, V: State>(
        &self,
        uid: &str,
        section: &str,
        mut each: impl FnMut(&[u8], K::View<'_>, &V),
    ) {
        let Some(record) = self.record() else { return };
        let tasks = record.tasks.iter().filter(|(key, _)| key.uid == uid);
        for (_, snapshot) in tasks {
            let mut table = Table::<K, V>::new(0..record.key_groups, record.key_groups);
            let mut meta = Vec::new();
            for object in &snapshot.chain {
                let bytes = &self.store[&object.name];
                let reader = SnapshotReader::open(bytes).expect("the store loses nothing");
                table.restore(&reader, section).unwrap_or_else(|error| panic!("{uid}: {error}"));
                meta = reader.meta().to_vec();
            }
            table.for_each(|_, key, value| each(&meta, key, value));
        }
    }
}

/// The names of the states that a process has declared, from what its object says besides.
fn declared(mut meta: &[u8]) -> Vec<String> {
    let clock = EventTime::decode(&mut meta);
    let declared = clock.and_then(|_| Vec::<(String, String)>::decode(&mut meta));
    let declared = declared.unwrap_or_default();
    declared.into_iter().map(|(name, _)| name).collect()
}
