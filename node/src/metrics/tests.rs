use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gear_core::app::Stage;
use gear_core::control::{Address, Peer, ProcessId, Role};
use gear_core::host::figures::{
    AppFigures, AuditFigures, EpochFigures, LinkFigures, ProcessFigures, TaskFigures,
};
use gear_core::id::{AppId, AppTerm, Epoch, ExecutorId, MasterTerm, ProcessorId, TaskId};
use gear_core::task::Latency;
use gear_core::time::EventTime;

use super::*;

fn executor() -> ProcessFigures {
    // Two took up to 100 us, one up to 250 us, and one more than a minute.
    let mut latency = Latency { longer: 1, sum: Duration::from_secs(61), ..Latency::default() };
    latency.counts[..2].copy_from_slice(&[2, 1]);
    let task = |index: u32| {
        let figures = TaskFigures {
            uid: "split".into(),
            records_in: 10 + u64::from(index),
            blocked: Duration::from_millis(1_500),
            credit_bytes: (index == 0).then_some(7),
            watermark: if index == 0 { EventTime(2_500_000) } else { EventTime::MIN },
            latency: if index == 0 { latency } else { Latency::default() },
            ..TaskFigures::default()
        };
        (TaskId { processor: ProcessorId(1), index }, figures)
    };
    let audit = AuditFigures { checked: 5, gaps: 0, duplicates: 1 };
    let link = LinkFigures { reconnects: 3, audit, ..LinkFigures::default() };
    let peer = Peer::Executor(AppId(1), ExecutorId(2));
    ProcessFigures { tasks: [task(0), task(1)].into(), links: [(peer, link)].into() }
}

fn app() -> AppFigures {
    AppFigures {
        app: AppId(1),
        term: AppTerm(2),
        stage: Stage::Running,
        recovered: Epoch(0),
        committed: Epoch(9),
        in_flight: 1,
        open: None,
        epochs: vec![EpochFigures {
            epoch: Epoch(9),
            duration: Duration::from_millis(250),
            bytes: 100,
        }],
        records: 1_000,
        quarantined: 4,
        recoveries: 1,
        restarts: 0,
        regions: Vec::new(),
        min_clock: None,
        placement: BTreeMap::new(),
        processors: Vec::new(),
        executors: BTreeMap::new(),
        links: BTreeMap::new(),
        audit: AuditFigures::default(),
        waiting: String::new(),
        outcome: None,
    }
}

fn scrape() -> Scrape {
    let process = |role| ProcessId { app: AppId(1), role };
    let executor = LocalProcess {
        process: process(Role::Executor(ExecutorId(1))),
        pid: Some(std::process::id()),
        figures: Some(Arc::new(executor())),
        app: None,
    };
    let master = LocalProcess {
        process: process(Role::AppMaster(AppTerm(2))),
        pid: None,
        figures: None,
        app: Some(Arc::new(app())),
    };
    let cluster = ClusterStatus {
        stale: false,
        leader: Some(NodeId(1)),
        term: MasterTerm(3),
        voters: [(NodeId(1), Address("a:1".into()))].into(),
        updates: 12,
        workers: BTreeMap::new(),
    };
    let nodes = vec![KnownNode { node: NodeId(1), ..KnownNode::default() }];
    let turned_away = TurnedAway { connections: 5, datagrams: 6 };
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let certificates = Some(Ends { node: at(100), authority: at(200) });
    let processes = vec![executor, master];
    Scrape { cluster: Some(cluster), nodes, processes, turned_away, certificates }
}

fn text(scrape: Scrape) -> String {
    let metrics = Metrics::new(NodeId(1));
    metrics.answered("/api/v1/apps", 200);
    String::from_utf8(metrics.text(scrape).expect("it can be written")).expect("it is text")
}

#[test]
fn everything_is_written_as_prometheus_reads_it() {
    let text = text(scrape());
    for line in [
        "gear_task_records_in_total{app=\"1\",processor=\"split\",task=\"1\"} 11",
        "gear_task_blocked_seconds_total{app=\"1\",processor=\"split\",task=\"0\"} 1.5",
        "gear_task_credit_bytes{app=\"1\",processor=\"split\",task=\"0\"} 7",
        "gear_task_watermark_seconds{app=\"1\",processor=\"split\",task=\"0\"} 2.5",
        "gear_task_latency_seconds_bucket{app=\"1\",processor=\"split\",task=\"0\",\
         le=\"0.00025\"} 3",
        "gear_task_latency_seconds_bucket{app=\"1\",processor=\"split\",task=\"0\",\
         le=\"+Inf\"} 4",
        "gear_task_latency_seconds_count{app=\"1\",processor=\"split\",task=\"0\"} 4",
        "gear_task_latency_seconds_sum{app=\"1\",processor=\"split\",task=\"0\"} 61",
        "gear_link_reconnects_total{app=\"1\",process=\"executor_1\",peer=\"executor_2\"} 3",
        "gear_link_audit_duplicates_total{app=\"1\",process=\"executor_1\",peer=\"executor_2\"} 1",
        "gear_app_committed_epoch{app=\"1\"} 9",
        "gear_app_epoch_duration_seconds{app=\"1\"} 0.25",
        "gear_app_quarantined_records_total{app=\"1\"} 4",
        "gear_connections_turned_away_total 5",
        "gear_gossip_datagrams_dropped_total 6",
        "gear_certificate_expiry_timestamp_seconds{certificate=\"node\"} 100",
        "gear_certificate_expiry_timestamp_seconds{certificate=\"authority\"} 200",
        "gear_master_leads 1",
        "gear_master_term 3",
        "gear_master_replicated_updates_total 12",
        "gear_nodes{state=\"heard\"} 1",
        "gear_http_requests_total{endpoint=\"/api/v1/apps\",status=\"200\"} 1",
        "gear_metrics_dropped_series 0",
        "# TYPE gear_task_records_in_total counter",
        "# TYPE gear_task_queue_bytes gauge",
        "# TYPE gear_task_latency_seconds histogram",
        "# TYPE process_resident_memory_bytes gauge",
    ] {
        assert!(text.lines().any(|it| it == line), "{line} is missing in\n{text}");
    }
    let before_its_first_event =
        "gear_task_watermark_seconds{app=\"1\",processor=\"split\",task=\"1\"}";
    assert!(!text.contains(before_its_first_event), "{text}");
}

#[test]
fn names_follow_the_conventions_and_series_are_unique() {
    let text = text(scrape());
    let mut seen = std::collections::BTreeSet::new();
    for line in text.lines().filter(|it| !it.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').expect("a series has a value");
        assert!(seen.insert(series), "{series} twice");
        assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
        let name = series.split('{').next().expect("it has a name");
        assert!(name.starts_with("gear_") || name.starts_with("process_"), "{name}");
        let unit = ["milliseconds", "_ms", "kilobytes", "_us"].iter().any(|it| name.ends_with(it));
        assert!(!unit, "{name}: seconds and bytes");
    }
    assert!(seen.len() > 40, "{}", seen.len());
}

#[test]
fn a_node_whose_masters_do_not_answer_still_tells_of_itself() {
    let text = text(Scrape { cluster: None, ..scrape() });
    assert!(text.contains("gear_task_records_in_total"), "{text}");
    assert!(!text.contains("gear_master_term"), "{text}");
}

#[test]
fn too_many_series_are_left_out_and_counted() {
    let mut all = Families::new(3);
    for index in 0..5 {
        let index: i32 = index;
        all.gauge(("gear_some", "Some"), &[("task", &index.to_string())], 1.0);
    }
    let families = all.finish();
    let count: usize = families.iter().map(|it| it.get_metric().len()).sum();
    let dropped = families.iter().find(|it| it.name() == "gear_metrics_dropped_series");
    let dropped = dropped.expect("it is always there").get_metric()[0].get_gauge().get_value();
    assert_eq!((count, dropped), (4, 2.0));
}

#[test]
fn a_query_chooses_and_adds_up() {
    let metrics = Metrics::new(NodeId(1));
    let query = |query: MetricsQuery| metrics.query(scrape(), &query);
    let name = || Some("gear_task_records_*".to_owned());
    let both = query(MetricsQuery { name: name(), ..MetricsQuery::default() });
    assert_eq!(both.len(), 2, "in and out");
    assert_eq!(both[0].samples.len(), 2, "one a task");
    let by = Some("processor".to_owned());
    let summed = query(MetricsQuery { name: name(), by, ..MetricsQuery::default() });
    assert_eq!((summed[0].samples.len(), summed[0].samples[0].value), (1, 21.0));
    assert_eq!(summed[0].samples[0].labels, [("processor".into(), "split".into())].into());
    let other = query(MetricsQuery { app: Some(2), ..MetricsQuery::default() });
    assert!(other.is_empty(), "{other:?}");
}
