//! What is printed, for people or for programs.

use std::io::{self, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde::Serialize;

use super::CliError;
use crate::api::types::ClusterInfo;
use crate::client::Client;

/// Where a command prints to, and how.
pub(super) struct Output<'a> {
    to: &'a mut dyn Write,
    pub(super) json: bool,
}

impl<'a> Output<'a> {
    pub(super) fn new(to: &'a mut dyn Write, json: bool) -> Self {
        Self { to, json }
    }

    /// Prints JSON if that was asked for, else what people read.
    pub(super) fn show(
        &mut self,
        value: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), CliError> {
        if self.json {
            let mut json = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
            json.push('\n');
            self.raw(json.as_bytes())
        } else {
            let text = text();
            let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
            self.raw(format!("{text}{end}").as_bytes())
        }
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.to.write_all(bytes)?;
        Ok(self.to.flush()?)
    }
}

/// A table of this head; columns whose names end in `#` hold numbers.
pub(super) fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head.iter().map(|name| name.trim_end_matches('#')));
    for row in rows {
        debug_assert_eq!(row.len(), head.len());
        table.add_row(row);
    }
    for (index, name) in head.iter().enumerate() {
        let column = table.column_mut(index).expect("the head has this column");
        column.set_padding((0, 2));
        if name.ends_with('#') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let text = table.to_string();
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A number of bytes in words.
pub(super) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// A number with its thousands apart.
pub(super) fn count(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

/// What is to be shown above everything of this cluster; nothing if it cannot be asked.
pub(super) async fn warning(client: &Client) -> String {
    let info = client.get::<ClusterInfo>("/api/v1/cluster").await;
    let warning = info.ok().and_then(|info| info.warning);
    warning.map(|text| format!("{text}\n")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_has_no_blanks_at_its_ends() {
        let rows = [["a", "1"], ["long", "100"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&["NAME", "N#"], rows), "NAME    N\na       1\nlong  100\n");
        assert_eq!(table(&["NAME"], []), "NAME\n");
    }
}
