//! Keyed operators written by hand: named state, timers and side outputs.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::marker::PhantomData;

use crate::api::key::Key;
use crate::api::record::{Owned, Record};
use crate::flow::process::KeyedStates;
use crate::time::{EventTime, WallTime};

/// An operator with state for each key.
///
/// One value of it runs in each task; what belongs to a key is in the states that it declares.
/// A panic puts the record aside and takes back everything it did: state, timers, output.
pub trait Process: Clone + Send + Sync + 'static {
    /// What state belongs to.
    type Key: Key;
    /// What it takes.
    type In: Record;
    /// What it emits.
    type Out: Record;
    /// What it emits on its side output; `()` if it has none.
    type Side: Record;

    /// Declares the states, once, before anything else.
    fn open(&mut self, states: &mut States);

    /// Takes a record.
    fn on_record(
        &mut self,
        record: <Self::In as Record>::View<'_>,
        cx: &mut ProcessContext<'_, Self::Out, Self::Side>,
    );

    /// An event-time timer of the key is due: the task's clock has reached it.
    fn on_event_timer(
        &mut self,
        at: EventTime,
        key: <Self::Key as Record>::View<'_>,
        cx: &mut ProcessContext<'_, Self::Out, Self::Side>,
    ) {
        let _ = (at, key, cx);
    }

    /// A processing-time timer of the key is due.
    fn on_wall_timer(
        &mut self,
        at: WallTime,
        key: <Self::Key as Record>::View<'_>,
        cx: &mut ProcessContext<'_, Self::Out, Self::Side>,
    ) {
        let _ = (at, key, cx);
    }
}

/// The states that an operator declares.
#[derive(Clone, Debug, Default)]
pub struct States {
    pub(crate) declared: Vec<(String, String)>,
}

impl States {
    fn declare(&mut self, name: &str, kind: &str, types: &str) -> u16 {
        assert!(
            self.declared.iter().all(|(other, _)| other != name),
            "two states are named {name}: give each its own name"
        );
        self.declared.push((name.to_string(), [kind, " ", types].concat()));
        (self.declared.len() - 1) as u16
    }

    /// One value for each key.
    pub fn value<T: Owned>(&mut self, name: &str) -> ValueState<T> {
        let types = crate::api::record::type_name::<T>();
        ValueState { id: self.declare(name, "value", &types), types: PhantomData }
    }

    /// A list for each key.
    pub fn list<T: Owned>(&mut self, name: &str) -> ListState<T> {
        let types = crate::api::record::type_name::<T>();
        ListState { id: self.declare(name, "list", &types), types: PhantomData }
    }

    /// A map for each key.
    pub fn map<K: Owned, V: Owned>(&mut self, name: &str) -> MapState<K, V> {
        let types = crate::api::record::type_name::<(K, V)>();
        MapState { id: self.declare(name, "map", &types), types: PhantomData }
    }
}

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident<$($param:ident),+>) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name<$($param),+> {
            id: u16,
            types: PhantomData<fn() -> ($($param,)+)>,
        }

        impl<$($param),+> Clone for $name<$($param),+> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<$($param),+> Copy for $name<$($param),+> {}

        impl<$($param),+> Default for $name<$($param),+> {
            /// A handle of no state, until [`Process::open`] declares one.
            fn default() -> Self {
                Self { id: u16::MAX, types: PhantomData }
            }
        }
    };
}

handle! {
    /// A handle of a declared value.
    ValueState<T>
}
handle! {
    /// A handle of a declared list.
    ListState<T>
}
handle! {
    /// A handle of a declared map.
    MapState<K, V>
}

/// What a [`Process`] may use while it has a record or a timer of one key at hand.
pub struct ProcessContext<'a, O: Record, S: Record> {
    /// The event time of the record or timer at hand.
    pub at: EventTime,
    /// The task's clock.
    pub watermark: EventTime,
    /// The wall-clock time.
    pub wall: WallTime,
    pub(crate) states: &'a mut dyn KeyedStates,
    pub(crate) emit: &'a mut dyn FnMut(EventTime, O::View<'_>),
    pub(crate) side: &'a mut dyn FnMut(EventTime, S::View<'_>),
    pub(crate) scratch: &'a mut Vec<u8>,
}

impl<O: Record, S: Record> ProcessContext<'_, O, S> {
    /// Emits a record with the event time at hand.
    pub fn emit(&mut self, record: O::View<'_>) {
        (self.emit)(self.at, record);
    }

    /// Emits a record with an event time of its own.
    pub fn emit_at(&mut self, at: EventTime, record: O::View<'_>) {
        (self.emit)(at, record);
    }

    /// Emits a record on the side output.
    pub fn side(&mut self, record: S::View<'_>) {
        (self.side)(self.at, record);
    }

    /// The value, if it was set.
    #[must_use]
    pub fn get<T: Owned>(&self, state: ValueState<T>) -> Option<T> {
        self.states.read(state.id, &[]).map(decode)
    }

    /// Sets the value.
    pub fn set<T: Owned>(&mut self, state: ValueState<T>, value: &T) {
        self.scratch.clear();
        T::encode(value, self.scratch);
        self.states.write(state.id, &[], self.scratch);
    }

    /// Forgets the value.
    pub fn clear<T: Owned>(&mut self, state: ValueState<T>) {
        self.states.remove(state.id, &[]);
    }

    /// Appends to the list.
    pub fn append<T: Owned>(&mut self, state: ListState<T>, element: &T) {
        self.scratch.clear();
        T::encode(element, self.scratch);
        self.states.append(state.id, &[], self.scratch);
    }

    /// The elements of the list, in the order in which they were appended.
    #[must_use]
    pub fn list<T: Owned>(&self, state: ListState<T>) -> Vec<T> {
        let mut bytes = self.states.read(state.id, &[]).unwrap_or_default();
        let mut elements = Vec::new();
        while !bytes.is_empty() {
            elements.push(T::decode(&mut bytes).expect("the list encoded it"));
        }
        elements
    }

    /// Forgets the list.
    pub fn clear_list<T: Owned>(&mut self, state: ListState<T>) {
        self.states.remove(state.id, &[]);
    }

    /// The value of a key of the map.
    #[must_use]
    pub fn map_get<K: Owned, V: Owned>(&self, state: MapState<K, V>, key: &K) -> Option<V> {
        self.states.read(state.id, &map_key(key)).map(decode)
    }

    /// Sets the value of a key of the map.
    pub fn map_set<K: Owned, V: Owned>(&mut self, state: MapState<K, V>, key: &K, value: &V) {
        let key = map_key(key);
        if self.states.read(state.id, &key).is_none() {
            self.states.append(state.id, MAP_KEYS, &key[1..]);
        }
        self.scratch.clear();
        V::encode(value, self.scratch);
        self.states.write(state.id, &key, self.scratch);
    }

    /// Forgets a key of the map.
    pub fn map_remove<K: Owned, V: Owned>(&mut self, state: MapState<K, V>, key: &K) {
        let key = map_key(key);
        if self.states.read(state.id, &key).is_none() {
            return;
        }
        self.states.remove(state.id, &key);
        let keys = self.map_keys(state);
        self.scratch.clear();
        for other in keys.iter().filter(|other| map_key(*other) != key) {
            K::encode(other, self.scratch);
        }
        self.states.write(state.id, MAP_KEYS, self.scratch);
    }

    /// The keys of the map, in the order in which they were first set.
    #[must_use]
    pub fn map_keys<K: Owned, V: Owned>(&self, state: MapState<K, V>) -> Vec<K> {
        let mut bytes = self.states.read(state.id, MAP_KEYS).unwrap_or_default();
        let mut keys = Vec::new();
        while !bytes.is_empty() {
            keys.push(K::decode(&mut bytes).expect("the map encoded it"));
        }
        keys
    }

    /// Asks for [`Process::on_event_timer`] when the task's clock reaches `at`. One timer a key and
    /// time.
    pub fn set_event_timer(&mut self, at: EventTime) {
        self.states.set_timer(Timer::Event(at));
    }

    /// Takes an event-time timer back.
    pub fn clear_event_timer(&mut self, at: EventTime) {
        self.states.clear_timer(Timer::Event(at));
    }

    /// Asks for [`Process::on_wall_timer`] at a wall-clock time. One timer a key and time.
    pub fn set_wall_timer(&mut self, at: WallTime) {
        self.states.set_timer(Timer::Wall(at));
    }

    /// Takes a processing-time timer back.
    pub fn clear_wall_timer(&mut self, at: WallTime) {
        self.states.clear_timer(Timer::Wall(at));
    }
}

/// A timer of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Due when the task's clock reaches it.
    Event(EventTime),
    /// Due at a wall-clock time.
    Wall(WallTime),
}

/// Where a map keeps the list of its keys; the keys themselves begin with a 1.
const MAP_KEYS: &[u8] = &[0];

fn map_key<K: Owned>(key: &K) -> Vec<u8> {
    let mut bytes = Vec::from([1]);
    K::encode(key, &mut bytes);
    bytes
}

fn decode<T: Owned>(mut bytes: &[u8]) -> T {
    T::decode(&mut bytes).expect("the state encoded it, and its type was compared")
}
