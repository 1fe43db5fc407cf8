//! Families of metrics in the making.

use std::collections::BTreeMap;

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

/// A label and its value.
pub(super) type Label<'a> = (&'static str, &'a str);

/// Families by their names, bounded in what they hold together.
#[derive(Debug)]
pub(super) struct Families {
    all: BTreeMap<&'static str, MetricFamily>,
    room: usize,
    dropped: u64,
}

impl Families {
    pub(super) fn new(series_max: usize) -> Self {
        Self { all: BTreeMap::new(), room: series_max, dropped: 0 }
    }

    fn add(
        &mut self,
        kind: MetricType,
        (name, help): (&'static str, &'static str),
        labels: &[Label<'_>],
    ) -> Option<&mut Metric> {
        if self.room == 0 {
            self.dropped += 1;
            return None;
        }
        self.room -= 1;
        let family = self.all.entry(name).or_insert_with(|| {
            let mut family = MetricFamily::default();
            family.set_name(name.into());
            family.set_help(help.into());
            family.set_field_type(kind);
            family
        });
        debug_assert_eq!(family.get_field_type(), kind, "{name} is of one kind");
        let pair = |&(name, value): &Label<'_>| {
            let mut pair = LabelPair::default();
            pair.set_name(name.into());
            pair.set_value(value.into());
            pair
        };
        let metric = Metric::from_label(labels.iter().map(pair).collect());
        family.mut_metric().push(metric);
        family.mut_metric().last_mut()
    }

    /// Something that only rises, from the begin of whose it is.
    pub(super) fn counter(
        &mut self,
        what: (&'static str, &'static str),
        labels: &[Label<'_>],
        value: f64,
    ) {
        debug_assert!(what.0.ends_with("_total"), "{} is a counter", what.0);
        if let Some(metric) = self.add(MetricType::COUNTER, what, labels) {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        }
    }

    /// Something that rises and falls.
    pub(super) fn gauge(
        &mut self,
        what: (&'static str, &'static str),
        labels: &[Label<'_>],
        value: f64,
    ) {
        debug_assert!(!what.0.ends_with("_total"), "{} is no counter", what.0);
        if let Some(metric) = self.add(MetricType::GAUGE, what, labels) {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
    }

    /// How many there were up to each of these bounds and above the one before, how many of them
    /// were above all bounds, and their sum.
    pub(super) fn histogram(
        &mut self,
        what: (&'static str, &'static str),
        labels: &[Label<'_>],
        counts: impl Iterator<Item = (f64, u64)>,
        longer: u64,
        sum: f64,
    ) {
        debug_assert!(!what.0.ends_with("_total"), "{} is no counter", what.0);
        let mut buckets = Vec::new();
        let mut count = 0;
        for (bound, more) in counts {
            count += more;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            buckets.push(bucket);
        }
        // Each bucket is a series of its own, and so are the last one, the count and the sum.
        let series = buckets.len() + 2;
        if let Some(metric) = self.add(MetricType::HISTOGRAM, what, labels) {
            let mut histogram = Histogram::default();
            histogram.set_sample_count(count + longer);
            histogram.set_sample_sum(sum);
            histogram.set_bucket(buckets);
            metric.set_histogram(histogram);
            self.room = self.room.saturating_sub(series);
        }
    }

    pub(super) fn finish(mut self) -> Vec<MetricFamily> {
        // It always has room.
        self.room = 1;
        let dropped = self.dropped as f64;
        let help = "Series that were left out of this answer because there are too many";
        self.gauge(("gear_metrics_dropped_series", help), &[], dropped);
        self.all.into_values().collect()
    }
}
