//! The checkpoint store: objects that appear whole or not at all, and only once.

use std::sync::Barrier;
use std::thread;

use gear_connectors::hdfs::{Created, Fault, Objects};
use gear_node::store::CheckpointStore;
use tokio::runtime::{Builder, Runtime};

use super::Place;

/// One without timers, as the store's thread has it.
fn runtime() -> Runtime {
    Builder::new_current_thread().build().expect("there is room for a runtime")
}

#[test]
fn a_name_is_given_once_whoever_asks_for_it() {
    let Some(place) = Place::new("objects") else { return };
    let objects = Objects::open(&place.url("store")).unwrap();
    let start = Barrier::new(4);
    let created = thread::scope(|scope| {
        let create = |own: u8| {
            let (start, place) = (&start, &place);
            scope.spawn(move || {
                // As another process does.
                let objects = Objects::open(&place.url("store")).unwrap();
                let runtime = runtime();
                start.wait();
                let create = |number| objects.create(number, vec![own; 100].into());
                let numbers: Vec<String> = (0..20).map(|it| format!("log/{it:03}")).collect();
                numbers.iter().map(|it| runtime.block_on(create(it)).unwrap()).collect::<Vec<_>>()
            })
        };
        let all: Vec<_> = (1..=4).map(create).collect();
        all.into_iter().map(|it| it.join().unwrap()).collect::<Vec<_>>()
    });
    let runtime = runtime();
    for number in 0..20 {
        let winners = created.iter().enumerate().filter(|(_, it)| it[number] == Created::Done);
        let winners: Vec<u8> = winners.map(|(own, _)| own as u8 + 1).collect();
        assert_eq!(winners.len(), 1, "{number}: {created:?}");
        let content = runtime.block_on(objects.get(&format!("log/{number:03}"))).unwrap();
        assert_eq!(content, vec![winners[0]; 100]);
    }
    // What lost left nothing.
    let listed = runtime.block_on(objects.list("")).unwrap();
    assert_eq!(listed.len(), 20, "{listed:?}");
    let raw = place.hdfs(&["-ls", &place.path("store/.tmp")]);
    assert!(!raw.contains("store/.tmp/"), "{raw}");
}

#[test]
fn objects_are_replaced_read_and_removed() {
    let Some(place) = Place::new("replaced") else { return };
    let objects = Objects::open(&place.url("store")).unwrap();
    let runtime = runtime();
    let large = vec![7; 9 * 1_024 * 1_024];
    runtime.block_on(objects.put("state/1", large.clone().into())).unwrap();
    assert!(runtime.block_on(objects.get("state/1")).unwrap() == large);
    runtime.block_on(objects.put("state/1", vec![1].into())).unwrap();
    assert_eq!(runtime.block_on(objects.get("state/1")).unwrap(), vec![1]);
    runtime.block_on(objects.put("state/empty", Vec::new().into())).unwrap();
    assert!(runtime.block_on(objects.get("state/empty")).unwrap().is_empty());
    for _ in 0..2 {
        runtime.block_on(objects.remove("state/1")).unwrap();
    }
    assert_eq!(runtime.block_on(objects.get("state/1")), Err(Fault::Missing));
    assert!(runtime.block_on(objects.list("none/")).unwrap().is_empty());
}

#[test]
fn the_probe_passes_and_a_name_node_is_waited_for() {
    let Some(place) = Place::new("probe") else { return };
    let store = CheckpointStore::open(&place.url("gear")).unwrap();
    let runtime = runtime();
    for _ in 0..2 {
        runtime.block_on(store.probe("here")).unwrap();
    }
    runtime.block_on(store.leave("there")).unwrap();
    assert!(runtime.block_on(store.finds("there")));
    place.kill("namenode");
    thread::scope(|scope| {
        let found = scope.spawn(|| runtime.block_on(store.finds("there")));
        place.start_again("namenode");
        assert!(found.join().unwrap());
    });
}
