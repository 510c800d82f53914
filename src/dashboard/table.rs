//! A table of a page: what people read, and the same values for programs, as CSV and as JSON.

use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::words::{self, NOTHING};

/// A table of a page.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Table {
    /// Its name in the address, unique in the page.
    pub name: String,
    /// What it shows, in a sentence.
    caption: String,
    /// The page that it is part of, for its links; empty until the page is known.
    page: String,
    columns: Vec<Column>,
    rows: Vec<Row>,
}

/// A table for programs.
#[derive(Debug, Serialize, ToSchema)]
pub struct TableData<'t> {
    /// Its name.
    table: &'t str,
    /// Its rows: each column's value by its key.
    #[schema(value_type = Vec<std::collections::BTreeMap<String, Value>>)]
    rows: Vec<Map<String, Value>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Column {
    key: &'static str,
    label: String,
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    cells: Vec<Cell>,
    marked: bool,
}

/// A cell: what is read, the value behind it, and where it leads.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    text: String,
    value: Value,
    link: Option<String>,
    note: Option<String>,
    tag: Option<String>,
}

impl Cell {
    /// A text as it stands.
    pub fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { value: Value::from(text.clone()), text, link: None, note: None, tag: None }
    }

    /// A text for people, and the value that it stands for.
    pub fn of(text: impl Into<String>, value: impl Into<Value>) -> Self {
        Self { value: value.into(), ..Self::text(text) }
    }

    /// A whole number.
    pub fn count(number: i64) -> Self {
        Self::of(words::count(number), number)
    }

    /// A whole number, or nothing.
    pub fn count_or_nothing(number: Option<i64>) -> Self {
        number.map_or_else(Self::nothing, Self::count)
    }

    /// A number with one decimal place; all places for programs.
    pub fn tenths(number: Option<f64>) -> Self {
        Self::of(words::tenths(number), number)
    }

    /// A share in per cent; from 0 to 1 for programs.
    pub fn percent(share: Option<f64>) -> Self {
        Self::of(words::percent(share), share)
    }

    /// Nothing was measured.
    pub fn nothing() -> Self {
        Self::of(NOTHING, Value::Null)
    }

    /// The cell as a link within this server.
    #[must_use]
    pub fn to(mut self, link: impl Into<String>) -> Self {
        self.link = Some(link.into());
        self
    }

    /// The cell with a few quiet words under it.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// The cell as a coloured label; the tag's name says how.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = Some(tag.into());
        self
    }
}

impl Table {
    /// An empty table.
    pub fn new(name: impl Into<String>, caption: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            caption: caption.into(),
            page: String::new(),
            columns: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// The table with a column of texts.
    #[must_use]
    pub fn column(self, key: &'static str, label: impl Into<String>) -> Self {
        self.with_column(key, label, "")
    }

    /// The table with a column of numbers.
    #[must_use]
    pub fn number(self, key: &'static str, label: impl Into<String>) -> Self {
        self.with_column(key, label, "n")
    }

    /// The table with a column of long texts.
    #[must_use]
    pub fn long(self, key: &'static str, label: impl Into<String>) -> Self {
        self.with_column(key, label, "long")
    }

    /// The table with a column of short texts that never break.
    #[must_use]
    pub fn short(self, key: &'static str, label: impl Into<String>) -> Self {
        self.with_column(key, label, "t")
    }

    fn with_column(
        mut self,
        key: &'static str,
        label: impl Into<String>,
        class: &'static str,
    ) -> Self {
        self.columns.push(Column { key, label: label.into(), class });
        self
    }

    /// Adds a row; as many cells as there are columns.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.row_marked(cells, false);
    }

    /// Adds a row that stands out, or not.
    pub fn row_marked(&mut self, cells: Vec<Cell>, marked: bool) {
        debug_assert_eq!(cells.len(), self.columns.len(), "table {}", self.name);
        self.rows.push(Row { cells, marked });
    }

    /// True without a row.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Says of which page it is part: an address with a query, to which more can be appended.
    pub fn belongs_to(&mut self, page: &str) {
        page.clone_into(&mut self.page);
    }

    /// The rows as JSON objects by the columns' keys.
    #[must_use]
    pub fn json(&self) -> Value {
        let keys = self.columns.iter().map(|column| column.key);
        let row = |row: &Row| {
            let values = row.cells.iter().map(|cell| cell.value.clone());
            keys.clone().map(str::to_owned).zip(values).collect()
        };
        json!(TableData { table: &self.name, rows: self.rows.iter().map(row).collect() })
    }

    /// The rows as CSV of RFC 4180, the columns' keys first. A text that a spreadsheet would take for
    /// a formula gets an apostrophe before it, since the pipeline's texts are not to be trusted.
    ///
    /// # Errors
    /// None that memory could raise; the type is the writer's.
    pub fn csv(&self) -> Result<Vec<u8>, csv::Error> {
        let mut builder = csv::WriterBuilder::new();
        let mut writer = builder.terminator(csv::Terminator::CRLF).from_writer(Vec::new());
        writer.write_record(self.columns.iter().map(|column| column.key))?;
        for row in &self.rows {
            writer.write_record(row.cells.iter().map(|cell| field(&cell.value)))?;
        }
        writer.into_inner().map_err(|error| error.into_error().into())
    }
}

fn field(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) if text.starts_with(['=', '+', '-', '@', '\t', '\r']) => {
            format!("'{text}")
        }
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(field).collect::<Vec<_>>().join("; "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table =
            Table::new("models", "How each does.").column("model", "Model").number("mean", "Mean");
        table.row(vec![Cell::text("Ελένη, \"nano\""), Cell::tenths(Some(7.25))]);
        table.row(vec![Cell::text("=HYPERLINK(1)"), Cell::nothing()]);
        table
    }

    #[test]
    fn csv_quotes_what_must_be_and_defuses_formulas() {
        let csv = String::from_utf8(table().csv().unwrap()).unwrap();
        assert_eq!(csv, "model,mean\r\n\"Ελένη, \"\"nano\"\"\",7.25\r\n'=HYPERLINK(1),\r\n");
    }

    #[test]
    fn json_has_the_values_and_not_the_words() {
        let rows = &table().json()["rows"];
        assert_eq!(rows[0]["mean"], 7.25);
        assert_eq!(rows[1]["mean"], Value::Null);
    }
}
