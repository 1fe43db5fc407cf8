//! A few of the metrics, added up.

use std::collections::BTreeMap;

use prometheus::proto::{self, MetricType};

use crate::api::types::{MetricFamily, MetricSample, MetricsQuery};

/// The families that are asked for, each with the samples that are.
pub(super) fn run(all: &[proto::MetricFamily], query: &MetricsQuery) -> Vec<MetricFamily> {
    let pattern = query.name.as_deref().unwrap_or("*");
    let wanted = all.iter().filter(|family| matches(pattern, family.name()));
    let families = wanted.map(|family| MetricFamily {
        name: family.name().into(),
        help: family.help().into(),
        kind: match family.get_field_type() {
            MetricType::COUNTER => "counter",
            MetricType::HISTOGRAM => "histogram",
            _ => "gauge",
        }
        .into(),
        samples: samples(family, query),
    });
    families.filter(|family| !family.samples.is_empty()).collect()
}

fn samples(family: &proto::MetricFamily, query: &MetricsQuery) -> Vec<MetricSample> {
    let app = query.app.map(|app| app.to_string());
    let by: Option<Vec<&str>> = query.by.as_deref().map(|by| by.split(',').collect());
    let mut sums: BTreeMap<BTreeMap<String, String>, MetricSample> = BTreeMap::new();
    for metric in family.get_metric() {
        let pairs = metric.get_label().iter();
        let mut labels: BTreeMap<String, String> =
            pairs.map(|it| (it.name().to_owned(), it.value().to_owned())).collect();
        let is = |label: &str, wanted: Option<&String>| {
            wanted.is_none_or(|wanted| labels.get(label) == Some(wanted))
        };
        if !is("app", app.as_ref()) || !is("processor", query.processor.as_ref()) {
            continue;
        }
        if let Some(by) = &by {
            labels.retain(|label, _| by.contains(&label.as_str()));
        }
        let (value, count) = match family.get_field_type() {
            MetricType::COUNTER => (metric.get_counter().get_value(), None),
            MetricType::HISTOGRAM => {
                let histogram = metric.get_histogram();
                (histogram.get_sample_sum(), Some(histogram.get_sample_count()))
            }
            _ => (metric.get_gauge().get_value(), None),
        };
        let sum = sums.entry(labels.clone()).or_insert_with(|| MetricSample {
            labels,
            value: 0.0,
            count: count.map(|_| 0),
        });
        sum.value += value;
        sum.count = sum.count.zip(count).map(|(sum, more)| sum + more);
    }
    sums.into_values().collect()
}

/// Whether a name is of a pattern, in which `*` is any letters and `?` is one.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut of) = (0, 0);
    // Where the last star was, and up to where it has taken letters: only that one is tried again.
    let mut star = None;
    while at < name.len() {
        match pattern.get(of) {
            Some(b'*') => {
                star = Some((of, at));
                of += 1;
            }
            Some(&letter) if letter == b'?' || letter == name[at] => {
                of += 1;
                at += 1;
            }
            _ => match star {
                Some((place, taken)) => {
                    star = Some((place, taken + 1));
                    (of, at) = (place + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[of..].iter().all(|&it| it == b'*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "gear", true),
            ("gear_*_total", "gear_task_bytes_in_total", true),
            ("gear_*_total", "gear_task_queue_bytes", false),
            ("gear_?ask*", "gear_task_late", true),
            ("*a*b", "aab", true),
            ("*a*b", "aba", false),
            ("", "x", false),
            ("x", "", false),
            ("****************************b", &"a".repeat(10_000), false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
