//! What was put aside is listed, read and forgotten.

use std::path::PathBuf;
use std::sync::Arc;

use axum::http::StatusCode;
use gear_core::checkpoint::Aside;
use gear_core::checkpoint::record::{EpochRecord, Record, TaskKey, object_name};
use gear_core::flow::push::Quarantined;
use gear_core::id::{AppTerm, Epoch, LogNumber};
use gear_core::message::{ObjectRef, TaskSnapshot};
use gear_core::task::encode_quarantine;
use gear_core::time::EventTime;
use serde_json::json;

use super::double::{Double, RUNNING};
use super::{get, open, send};

/// Puts records aside as a task does, and gives the object's name.
fn put_aside(double: &Double, epoch: u64, records: usize) -> String {
    let entry = Quarantined {
        operator: "parse".into(),
        partition: "in.txt".into(),
        position: String::new(),
        at: EventTime::MIN,
        record: "str".into(),
        bytes: b"x".to_vec(),
        cut: false,
        error: "it is no number".into(),
    };
    let name = format!("quarantine/parse-0/t1-a1-e{epoch:010}");
    let path = folder(double).join(&name);
    std::fs::create_dir_all(path.parent().expect("it is in one")).expect("it is ours");
    std::fs::write(path, encode_quarantine(&vec![entry; records])).expect("it is ours");
    name
}

fn folder(double: &Double) -> PathBuf {
    double.folder.path().join("checkpoints/apps/app-1")
}

/// Commits an epoch that names an object.
fn commit(double: &Double, epoch: u64, name: &str) {
    let object = ObjectRef { name: name.into(), len: 0, crc: 0 };
    let snapshot = TaskSnapshot { quarantine: vec![object], ..TaskSnapshot::default() };
    let key = TaskKey { uid: "parse".into(), index: 0, parallelism: 1 };
    let mut aside = Aside::default();
    aside.put(name);
    let record = Record::Epoch(EpochRecord {
        aside,
        term: AppTerm(1),
        epoch: Epoch(epoch),
        tasks: [(key, snapshot)].into(),
        ..EpochRecord::default()
    });
    let path = folder(double).join(object_name(LogNumber(epoch)));
    std::fs::create_dir_all(path.parent().expect("it is in one")).expect("it is ours");
    std::fs::write(path, record.encode()).expect("it is ours");
}

#[tokio::test]
async fn what_an_epoch_says_is_listed_and_of_an_ended_app_forgotten() {
    let double = Arc::new(Double::new(1));
    let router = open(&double);
    let path = "/api/v1/apps/1/quarantine";
    let (old, last, open) =
        (put_aside(&double, 3, 2), put_aside(&double, 9, 1), put_aside(&double, 10, 4));
    commit(&double, 9, &last);
    let (_, summary) = get(&router, path).await;
    assert_eq!(summary["records"], 3, "epoch 10 has not committed: {summary}");
    let drop = format!("{path}/drop");
    // The app master of one that runs does it with an epoch.
    let (status, dropped) = send(&router, "POST", &drop, &json!({})).await;
    assert_eq!(status, StatusCode::OK, "{dropped}");
    assert_eq!(dropped, json!({"records": 4, "objects": 2, "cut": false}));
    let is_there = |name: &str| folder(&double).join(name).exists();
    assert!(is_there(&old) && is_there(&last) && is_there(&open));
    for app in double.apps.lock().expect("nobody panics").iter_mut() {
        if app.app == RUNNING {
            app.outcome = Some(gear_core::control::AppOutcome::Stopped);
        }
    }
    let (_, dropped) = send(&router, "POST", &drop, &json!({})).await;
    assert_eq!(dropped, json!({"records": 3, "objects": 2, "cut": false}));
    assert!(!is_there(&old) && !is_there(&last), "nobody needs it");
    assert!(is_there(&open), "what has not committed may be taken back");
    let (_, again) = send(&router, "POST", &drop, &json!({})).await;
    assert_eq!(again["records"], 0);
}
