//! Prometheus' text format, as much of it as is needed.

use std::fmt::{Display, Write as _};

/// A page of metric families.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// A family with its samples. Its head is written even without any, so that the list of names is always whole.
    pub(super) fn family<V: Display>(
        &mut self,
        kind: &str,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, V)>,
    ) {
        self.head(kind, name, help);
        for (labels, value) in samples {
            self.sample(name, &labels, value);
        }
    }

    pub(super) fn head(&mut self, kind: &str, name: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(super) fn sample(&mut self, name: &str, labels: &Labels, value: impl Display) {
        let _ = match labels.0.as_str() {
            "" => writeln!(self.0, "{name} {value}"),
            labels => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }

    pub(super) fn text(self) -> String {
        self.0
    }
}

/// The labels of a sample.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Labels(String);

impl Labels {
    /// Labels in this order. Values are escaped, so that none breaks out of its quotes.
    pub(super) fn of(labels: &[(&str, &str)]) -> Self {
        let one = |(name, value): &(&str, &str)| format!("{name}=\"{}\"", escaped(value));
        Self(labels.iter().map(one).collect::<Vec<_>>().join(","))
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_break_out_of_its_quotes() {
        assert_eq!(Labels::of(&[("a", "a\"b\\c\nd")]).0, r#"a="a\"b\\c\nd""#);
    }
}
