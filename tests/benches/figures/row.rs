//! A row of the table: what is measured, against what, and what is promised.

/// What is promised.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// The value, as a part of the reference's.
    Ratio(f64),
    /// The value itself, where more is better.
    AtLeast(f64),
    /// The value itself, where less is better.
    AtMost(f64),
}

/// Measures once and gives the value.
pub(crate) type Measure = Box<dyn FnMut() -> f64>;

/// A row that is still to be measured.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) target: Target,
    /// Makes what measures: preparation belongs here, so that an unwanted row costs nothing.
    pub(crate) prepare: Box<dyn FnOnce() -> Pair>,
}

/// What is measured, and what it is compared with.
pub(crate) struct Pair {
    pub(crate) subject: Measure,
    pub(crate) reference: Option<(&'static str, Measure)>,
}

/// A row that was measured.
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) target: Target,
    pub(crate) values: Vec<f64>,
    pub(crate) reference: Option<(&'static str, Vec<f64>)>,
}

impl Row {
    /// A row with a reference, of which both are rates.
    pub(crate) fn against(
        name: &'static str,
        unit: &'static str,
        target: f64,
        reference: &'static str,
        prepare: impl FnOnce() -> (Measure, Measure) + 'static,
    ) -> Self {
        let prepare = Box::new(move || {
            let (subject, other) = prepare();
            Pair { subject, reference: Some((reference, other)) }
        });
        Self { name, unit, target: Target::Ratio(target), prepare }
    }

    /// A row that stands for itself.
    pub(crate) fn alone(
        name: &'static str,
        unit: &'static str,
        target: Target,
        prepare: impl FnOnce() -> Measure + 'static,
    ) -> Self {
        let prepare = Box::new(move || Pair { subject: prepare(), reference: None });
        Self { name, unit, target, prepare }
    }

    /// A row that stands for itself, with what the machine does without Gear beside it.
    pub(crate) fn beside(
        name: &'static str,
        unit: &'static str,
        target: Target,
        reference: &'static str,
        prepare: impl FnOnce() -> (Measure, Measure) + 'static,
    ) -> Self {
        Self { target, ..Self::against(name, unit, 0.0, reference, prepare) }
    }

    /// Measures in alternation, so that both meet the same weather on the machine. The first pair
    /// warms up and does not count. `alone` leaves the reference out.
    pub(crate) fn measure(self, rounds: usize, alone: bool) -> Measured {
        let Pair { mut subject, reference } = (self.prepare)();
        let mut reference = reference.filter(|_| !alone);
        let mut values = Vec::new();
        let mut others = Vec::new();
        for round in 0..=rounds.max(1) {
            let value = subject();
            let other = reference.as_mut().map(|(_, measure)| measure());
            if round > 0 {
                values.push(value);
                others.extend(other);
            }
        }
        let reference = reference.map(|(name, _)| (name, others));
        Measured { name: self.name, unit: self.unit, target: self.target, values, reference }
    }
}

impl Measured {
    /// The median of the ratios of the pairs, so that drift of the machine falls out.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let (_, others) = self.reference.as_ref()?;
        let pairs = self.values.iter().zip(others);
        Some(median(&pairs.map(|(value, other)| value / other).collect::<Vec<f64>>()))
    }

    /// None if the reference that says it was left out.
    pub(crate) fn is_met(&self) -> Option<bool> {
        let value = median(&self.values);
        match self.target {
            Target::Ratio(target) => self.ratio().map(|ratio| ratio >= target),
            Target::AtLeast(target) => Some(value >= target),
            Target::AtMost(target) => Some(value <= target),
        }
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}
