//! A report as a message: Markdown that reads well as plain text, too.

use super::Report;

/// The report as Markdown. `base` is where the dashboard is (`https://mathesis.example`), for the links;
/// without it the message has no links. Texts of others are escaped, so that they stay text.
#[must_use]
pub fn markdown(report: &Report, base: Option<&str>) -> String {
    let mut lines = vec![
        format!("# {}", escaped(&report.title)),
        String::new(),
        escaped(&report.span),
        String::new(),
        format!("**{}**", escaped(&report.lead)),
    ];
    for part in &report.parts {
        lines.extend([String::new(), format!("## {}", part.heading), String::new()]);
        lines.push(escaped(&part.opening));
        if !part.lines.is_empty() {
            lines.push(String::new());
        }
        lines.extend(part.lines.iter().map(|line| format!("- {}", escaped(line))));
    }
    if let Some(base) = base {
        lines.push(String::new());
        let base = base.trim_end_matches('/');
        lines.extend(
            report
                .links
                .iter()
                .map(|link| format!("- [{}]({base}{})", escaped(&link.label), link.path)),
        );
    }
    lines.push(String::new());
    lines.join("\n")
}

/// A text in which Markdown finds nothing to do.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' | '~' | '!')
        {
            safe.push('\\');
        }
        safe.push(letter);
    }
    safe
}
