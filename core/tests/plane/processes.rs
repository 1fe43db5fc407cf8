//! Keyed processes against a model: state of every kind, timers of both kinds, and undo.

use std::collections::BTreeMap;

use gear_core::api::{ListState, MapState, Process, ProcessContext, States, ValueState};
use gear_core::dsl::Stream;
use gear_core::time::{EventTime, WallTime};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::rig::{Plane, Rig, drain, restore};

/// What a record asks for: `(key, [(what, argument)], panics)`.
type Order = (u8, Vec<(u8, u8)>, bool);
/// What a process says: `(key, what, value)`.
type Word = (u8, u8, Vec<u16>);

#[derive(Clone, Default)]
struct Obeys {
    value: ValueState<u16>,
    list: ListState<u16>,
    map: MapState<u8, u16>,
    /// One more state, for a job of which the declarations have changed.
    more: bool,
    renamed: bool,
}

impl Obeys {
    fn say(&self, key: u8, cx: &mut ProcessContext<'_, Word, u8>) {
        cx.emit((key, 0, cx.get(self.value).into_iter().collect()));
        cx.emit((key, 1, cx.list(self.list)));
        let mut map = Vec::new();
        for key in cx.map_keys(self.map) {
            map.push(key.into());
            map.push(cx.map_get(self.map, &key).expect("a key has a value"));
        }
        cx.emit((key, 2, map));
    }
}

impl Process for Obeys {
    type Key = u8;
    type In = Order;
    type Out = Word;
    type Side = u8;

    fn open(&mut self, states: &mut States) {
        self.value = states.value(if self.renamed { "worth" } else { "value" });
        self.list = states.list("list");
        self.map = states.map("map");
        if self.more {
            let _: ValueState<String> = states.value("more");
        }
    }

    fn on_record(&mut self, (key, orders, panics): Order, cx: &mut ProcessContext<'_, Word, u8>) {
        for (what, argument) in orders {
            let number = u16::from(argument);
            match what {
                0 => cx.set(self.value, &number),
                1 => cx.clear(self.value),
                2 => cx.append(self.list, &number),
                3 => cx.clear_list(self.list),
                4 => cx.map_set(self.map, &(argument % 4), &number),
                5 => cx.map_remove(self.map, &(argument % 4)),
                6 => cx.set_event_timer(EventTime(argument.into())),
                7 => cx.clear_event_timer(EventTime(argument.into())),
                8 => cx.set_wall_timer(WallTime(argument.into())),
                9 => cx.clear_wall_timer(WallTime(argument.into())),
                10 => cx.side(argument),
                _ => self.say(key, cx),
            }
        }
        assert!(!panics, "as ordered");
    }

    fn on_event_timer(&mut self, at: EventTime, key: u8, cx: &mut ProcessContext<'_, Word, u8>) {
        cx.emit((key, 3, vec![at.0 as u16]));
        cx.append(self.list, &(1_000 + at.0 as u16));
    }

    fn on_wall_timer(&mut self, at: WallTime, key: u8, cx: &mut ProcessContext<'_, Word, u8>) {
        cx.emit((key, 4, vec![at.0 as u16]));
    }
}

fn plane(process: Obeys) -> Plane {
    Plane::of(true, |orders: Stream<Order>| {
        let keyed = orders.key_by(|order| {
            assert!(order.0 != 99, "no key");
            order.0
        });
        let said = keyed.process("p", process);
        said.side().sink("side", drain());
        said.sink("out", drain());
    })
}

#[derive(Clone, Debug, Default)]
struct OfKey {
    value: Option<u16>,
    list: Vec<u16>,
    map: Vec<(u8, u16)>,
    timers: std::collections::BTreeSet<(bool, u8)>,
}

#[derive(Default)]
struct Model {
    keys: BTreeMap<u8, OfKey>,
    clock: Option<u8>,
    wall: u8,
    out: Vec<Word>,
    side: Vec<u8>,
    aside: usize,
}

impl Model {
    fn order(&mut self, (key, orders, panics): &Order) {
        if *key == 99 || *panics {
            self.aside += 1;
            return;
        }
        let of = self.keys.entry(*key).or_default();
        for (what, argument) in orders {
            let number = u16::from(*argument);
            let at = argument % 4;
            match what {
                0 => of.value = Some(number),
                1 => of.value = None,
                2 => of.list.push(number),
                3 => of.list.clear(),
                4 => match of.map.iter_mut().find(|(key, _)| *key == at) {
                    Some((_, value)) => *value = number,
                    None => of.map.push((at, number)),
                },
                5 => of.map.retain(|(key, _)| *key != at),
                6 | 8 => _ = of.timers.insert((*what == 8, *argument)),
                7 | 9 => _ = of.timers.remove(&(*what == 9, *argument)),
                10 => self.side.push(*argument),
                _ => {
                    self.out.push((*key, 0, of.value.into_iter().collect()));
                    self.out.push((*key, 1, of.list.clone()));
                    let map = of.map.iter().flat_map(|(key, value)| [u16::from(*key), *value]);
                    self.out.push((*key, 2, map.collect()));
                }
            }
        }
    }

    fn timers(&mut self) {
        for (key, of) in &mut self.keys {
            let (clock, wall) = (self.clock, self.wall);
            let due = |&(is_wall, at): &(bool, u8)| {
                if is_wall { at <= wall } else { clock.is_some_and(|clock| at <= clock) }
            };
            for timer in of.timers.iter().copied().filter(due).collect::<Vec<_>>() {
                of.timers.remove(&timer);
                let (is_wall, at) = timer;
                self.out.push((*key, if is_wall { 4 } else { 3 }, vec![at.into()]));
                if !is_wall {
                    of.list.push(1_000 + u16::from(at));
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Orders(Vec<Order>),
    Watermark(u8),
    Wall(u8),
    Snapshot { settled: bool, crash: bool },
}

fn orders() -> impl Strategy<Value = Order> {
    let key = prop_oneof![9 => 0..3_u8, 1 => Just(99)];
    (key, vec((0..13_u8, any::<u8>()), 0..8), prop::bool::weighted(0.3))
}

fn said(rig: &mut Rig) -> Vec<Word> {
    assert_eq!(rig.failed, None);
    rig.records::<Word>(0).into_iter().map(|(_, word)| word).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_process_is_its_model(
        steps in vec(prop_oneof![
            6 => vec(orders(), 1..6).prop_map(Step::Orders),
            2 => (0..60_u8).prop_map(Step::Watermark),
            2 => (0..60_u8).prop_map(Step::Wall),
            2 => (any::<bool>(), any::<bool>())
                .prop_map(|(settled, crash)| Step::Snapshot { settled, crash }),
        ], 1..30),
    ) {
        let plane = plane(Obeys::default());
        let mut rig = plane.task("p", 1);
        let mut model = Model::default();
        let (mut epoch, mut aside) = (0, 0);
        for step in steps {
            match step {
                Step::Orders(orders) => {
                    // One by one, since a timer in the past is due once its batch is done.
                    for order in orders {
                        model.order(&order);
                        rig.batch(0, &[(0, order)]);
                        rig.settle();
                        model.timers();
                    }
                }
                Step::Watermark(ahead) => {
                    let clock = model.clock.unwrap_or(0).saturating_add(ahead);
                    model.clock = Some(clock);
                    rig.watermark(0, clock.into());
                }
                Step::Wall(ahead) => {
                    model.wall = model.wall.saturating_add(ahead);
                    rig.wall = WallTime(model.wall.into());
                }
                Step::Snapshot { settled, crash } => {
                    epoch += 1;
                    let base = rig.snapshots.keys().next_back().copied();
                    rig.barrier(0, epoch, base);
                    if settled || crash {
                        rig.settle();
                        rig.committed(epoch);
                    } else {
                        // The snapshot is begun, and goes on among what follows.
                        rig.step();
                    }
                    if crash {
                        aside += rig.aside(&rig.snapshots[&epoch]).len();
                        let out = std::mem::take(&mut rig.out);
                        let wall = rig.wall;
                        rig = plane.start("p", (0, 1), 1, restore(epoch, &[&rig]));
                        (rig.out, rig.wall) = (out, wall);
                    }
                }
            }
            rig.settle();
            model.timers();
            let (mut got, mut expected) = (said(&mut rig), std::mem::take(&mut model.out));
            got.sort();
            expected.sort();
            prop_assert_eq!(got, expected);
            let side: Vec<u8> = rig.records::<u8>(1).into_iter().map(|(_, it)| it).collect();
            prop_assert_eq!(side, std::mem::take(&mut model.side));
        }
        let _ = aside;
        rig.end();
        prop_assert_eq!(rig.all_aside().len(), model.aside, "also what was put aside before");
    }
}

#[test]
fn a_key_that_panics_takes_nothing_back_from_the_record_before() {
    let plane = plane(Obeys::default());
    let mut rig = plane.task("p", 1);
    let orders = [
        (0, (1, vec![(2, 5), (10, 3), (11, 0)], false)),
        (0, (99, Vec::new(), false)),
        (0, (1, vec![(11, 0)], false)),
    ];
    rig.batch::<Order>(0, &orders);
    rig.settle();
    let words = said(&mut rig);
    let lists: Vec<_> = words.iter().filter(|word| word.1 == 1).map(|word| &word.2).collect();
    assert_eq!(lists, [&[5], &[5]]);
    assert_eq!(rig.records::<u8>(1).len(), 1);
}

#[test]
fn changed_declarations_are_refused_by_name() {
    let before = plane(Obeys::default());
    let mut rig = before.task("p", 1);
    rig.batch::<Order>(0, &[(0, (1, vec![(0, 5)], false))]);
    rig.barrier(0, 1, None);
    rig.settle();
    let more = plane(Obeys { more: true, ..Obeys::default() });
    let mut grown = more.start("p", (0, 1), 1, restore(1, &[&rig]));
    assert_eq!(grown.failed, None, "a new state behind the others is welcome");
    grown.batch::<Order>(0, &[(0, (1, vec![(11, 0)], false))]);
    grown.barrier(0, 2, None);
    grown.settle();
    assert_eq!(said(&mut grown)[0], (1, 0, vec![5]));

    let renamed = plane(Obeys { renamed: true, ..Obeys::default() });
    let refused = renamed.start("p", (0, 1), 1, restore(1, &[&rig])).failed.expect("refused");
    for word in ["p: state value", "value u16", "worth", "--fresh"] {
        assert!(refused.contains(word), "{word} is missing in: {refused}");
    }
    let refused = before.start("p", (0, 1), 1, restore(2, &[&grown])).failed.expect("refused");
    for word in ["p: state more", "str", "no longer declared", "--fresh"] {
        assert!(refused.contains(word), "{word} is missing in: {refused}");
    }
}
