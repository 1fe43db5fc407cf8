//! The table, for people and for programs.

use crate::row::{Measured, Target, median};

fn spread(values: &[f64]) -> (f64, f64) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (least, most)
}

fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn target(target: Target) -> String {
    match target {
        Target::Ratio(ratio) => format!(">= {:.0} %", ratio * 100.0),
        Target::AtLeast(value) => format!(">= {}", short(value)),
        Target::AtMost(value) => format!("<= {}", short(value)),
    }
}

/// The head of the table.
pub(crate) fn head() -> String {
    format!(
        "{}\n{}",
        row(&[
            "name".into(),
            "median".into(),
            "spread".into(),
            "unit".into(),
            "reference".into(),
            "ratio".into(),
            "target".into(),
            String::new(),
        ]),
        row(&[
            "-".repeat(45),
            "-".repeat(8),
            "-".repeat(15),
            "-".repeat(12),
            "-".repeat(38),
            "-".repeat(6),
            "-".repeat(8),
            "-".repeat(6)
        ])
    )
}

fn row(cells: &[String; 8]) -> String {
    let [name, median, spread, unit, reference, ratio, target, met] = cells;
    format!(
        "| {name:<45} | {median:>8} | {spread:>15} | {unit:<12} | {reference:<38} | {ratio:>6} | \
         {target:>8} | {met:<6} |"
    )
}

/// A row of the table.
pub(crate) fn line(measured: &Measured) -> String {
    let (least, most) = spread(&measured.values);
    let reference = measured
        .reference
        .as_ref()
        .map_or_else(String::new, |(name, values)| format!("{} ({name})", short(median(values))));
    row(&[
        measured.name.into(),
        short(median(&measured.values)),
        format!("{}-{}", short(least), short(most)),
        measured.unit.into(),
        reference,
        measured.ratio().map_or_else(String::new, |ratio| format!("{:.0} %", ratio * 100.0)),
        target(measured.target),
        measured.is_met().map_or("", |met| if met { "met" } else { "missed" }).into(),
    ])
}

/// A row as one line of JSON.
pub(crate) fn json(measured: &Measured) -> String {
    let (least, most) = spread(&measured.values);
    let reference = measured.reference.as_ref().map(|(name, values)| {
        serde_json::json!({ "name": name, "median": median(values), "values": values })
    });
    serde_json::json!({
        "name": measured.name,
        "unit": measured.unit,
        "median": median(&measured.values),
        "min": least,
        "max": most,
        "values": measured.values,
        "reference": reference,
        "ratio": measured.ratio(),
        "target": target(measured.target),
        "met": measured.is_met(),
    })
    .to_string()
}
