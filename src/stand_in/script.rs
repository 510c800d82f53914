//! Which request fails, and how: rules that are used up in their order, and a record of what arrived.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::fault::Fault;
use crate::orchestrator::service::Service;

/// The method under which ClickUp's stand-in looks up its own deliveries; their path is the event's name.
pub const DELIVER: &str = "DELIVER";

/// The bodies of the record may hold so much; the oldest requests go first.
const RECORD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Which requests a rule is about. What is not said matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matcher {
    /// The service.
    #[serde(default)]
    pub service: Option<Service>,
    /// The HTTP method, in capitals, or [`DELIVER`].
    #[serde(default)]
    pub method: Option<String>,
    /// The path with its query, where `*` stands for any characters: `/api/v2/task/*/attachment`. A path without a
    /// query also matches the same path with one.
    #[serde(default)]
    pub path: Option<String>,
    /// Words that the body contains. Nothing in JSON is unescaped for it.
    #[serde(default)]
    pub body: Option<String>,
}

impl Matcher {
    /// Every request of a service.
    #[must_use]
    pub fn of(service: Service) -> Self {
        Self { service: Some(service), ..Self::default() }
    }

    /// Every request to Claude.
    #[must_use]
    pub fn claude() -> Self {
        Self::of(Service::Claude)
    }

    /// Every request to WaveSpeed.
    #[must_use]
    pub fn wavespeed() -> Self {
        Self::of(Service::WaveSpeed)
    }

    /// Every request to ClickUp.
    #[must_use]
    pub fn clickup() -> Self {
        Self::of(Service::ClickUp)
    }

    /// Every delivery of that event by ClickUp, such as `taskCreated`.
    #[must_use]
    pub fn delivery(event: &str) -> Self {
        Self::clickup().method(DELIVER).path(event)
    }

    /// Only those with this method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
        self
    }

    /// Only those with this path; `*` stands for any characters.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    /// Only those whose body contains this.
    #[must_use]
    pub fn body(mut self, words: &str) -> Self {
        self.body = Some(words.to_owned());
        self
    }

    fn matches(&self, seen: &Seen) -> bool {
        let bare = seen.path.split('?').next().unwrap_or_default();
        self.service.is_none_or(|service| service == seen.service)
            && self.method.as_ref().is_none_or(|method| *method == seen.method)
            && self.path.as_ref().is_none_or(|path| glob(path, &seen.path) || glob(path, bare))
            && self.body.as_ref().is_none_or(|words| contains(&seen.body, words.as_bytes()))
    }
}

/// A request that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The service it was for.
    pub service: Service,
    /// Its HTTP method; [`DELIVER`] for a delivery of ClickUp's, which does not arrive but leaves.
    pub method: String,
    /// Its path with the query.
    pub path: String,
    /// Its body, whole.
    pub body: Bytes,
}

impl Seen {
    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text; bytes that are no UTF-8 are replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One rule: so many matching requests meet this fault.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which requests.
    #[serde(rename = "match", default)]
    pub matcher: Matcher,
    /// The service, which may stand here instead of inside `match`.
    #[serde(default)]
    service: Option<Service>,
    /// How many of them.
    #[serde(default = "once")]
    pub times: u32,
    /// What happens.
    pub fault: Fault,
}

const fn once() -> u32 {
    1
}

/// Rules that cannot be used. None of them was taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// The text is no list of rules.
    #[error("the script is not a list of rules: {0}. No rule was taken; see docs/stand-ins.md")]
    Unreadable(String),
    /// A rule makes no sense.
    #[error("rule {number} of the script: {words}. No rule was taken; see docs/stand-ins.md")]
    Senseless {
        /// Which, from 1.
        number: usize,
        /// What is wrong.
        words: String,
    },
}

/// Reads rules from JSON: one, or a list of them.
///
/// # Errors
/// [`ScriptError`] with the place in words.
pub fn parse(json: &str) -> Result<Vec<Rule>, ScriptError> {
    let unreadable = |error: &dyn fmt::Display| ScriptError::Unreadable(error.to_string());
    let value: Value = serde_json::from_str(json).map_err(|error| unreadable(&error))?;
    let list = if value.is_array() { value } else { Value::Array(vec![value]) };
    let mut rules: Vec<Rule> =
        serde_path_to_error::deserialize(list).map_err(|error| unreadable(&error))?;
    for (rule, number) in rules.iter_mut().zip(1..) {
        let senseless = |words: String| ScriptError::Senseless { number, words };
        let service = match (rule.service, rule.matcher.service) {
            (Some(outside), Some(inside)) if outside != inside => {
                return Err(senseless(format!("it names both {outside} and {inside}")));
            }
            (outside, inside) => outside.or(inside),
        };
        if let (Some(of_rule), Some(of_fault)) = (service, rule.fault.service())
            && of_rule != of_fault
        {
            return Err(senseless(format!("{of_rule} has no such fault, {of_fault} has")));
        }
        // A fault of one service means that service, said or not.
        rule.matcher.service = service.or(rule.fault.service());
        rule.service = None;
    }
    Ok(rules)
}

/// The rules and the record, shared by the stand-ins. Cheap to clone; all clones are one script.
#[derive(Debug, Clone)]
pub struct Script {
    seed: u64,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    rules: VecDeque<Rule>,
    record: VecDeque<Seen>,
    record_bytes: usize,
}

impl Script {
    /// A script without rules. Equal seeds give equal ids and pictures.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, inner: Arc::default() }
    }

    /// The seed.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// Adds a rule behind those that stand: the next `times` requests that match, and no earlier rule has taken, meet
    /// this fault. To meet only the third, put a rule of [`Fault::Pass`] for two before it.
    pub fn when(&self, matcher: Matcher, times: u32, fault: Fault) {
        self.add(vec![Rule { matcher, service: None, times, fault }]);
    }

    /// Adds rules behind those that stand.
    pub fn add(&self, rules: Vec<Rule>) {
        self.lock().rules.extend(rules);
    }

    /// The requests that arrived and match, the oldest first. Of very many, only the last are kept.
    #[must_use]
    pub fn seen(&self, matcher: &Matcher) -> Vec<Seen> {
        self.lock().record.iter().filter(|seen| matcher.matches(seen)).cloned().collect()
    }

    /// How many uses its rules have left; 0 when the script has played to its end.
    #[must_use]
    pub fn left(&self) -> u32 {
        self.lock().rules.iter().fold(0, |sum, rule| sum.saturating_add(rule.times))
    }

    /// Records a request and says what happens to it.
    pub(super) fn meet(&self, seen: Seen) -> Fault {
        let mut inner = self.lock();
        let found =
            inner.rules.iter().position(|rule| rule.times > 0 && rule.matcher.matches(&seen));
        let fault = found.and_then(|at| {
            let rule = inner.rules.get_mut(at)?;
            rule.times = rule.times.saturating_sub(1);
            let (fault, used_up) = (rule.fault.clone(), rule.times == 0);
            if used_up {
                inner.rules.remove(at);
            }
            Some(fault)
        });
        inner.record_bytes = inner.record_bytes.saturating_add(seen.body.len());
        inner.record.push_back(seen);
        while inner.record_bytes > RECORD_BYTES_MAX {
            let Some(oldest) = inner.record.pop_front() else { break };
            inner.record_bytes = inner.record_bytes.saturating_sub(oldest.body.len());
        }
        fault.unwrap_or(Fault::Pass)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the text is the pattern, in which `*` stands for any characters, none too.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(head) else { return false };
    let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    ends.filter_map(|at| rest.get(at..)).any(|rest| glob(tail, rest))
}

fn contains(body: &[u8], words: &[u8]) -> bool {
    words.is_empty() || body.windows(words.len()).any(|window| window == words)
}

/// A seed of its own for each pair of numbers (the finaliser of `SplitMix64`).
#[must_use]
pub const fn mixed(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, path: &str, body: &str) -> Seen {
        Seen {
            service: Service::WaveSpeed,
            method: method.to_owned(),
            path: path.to_owned(),
            body: Bytes::from(body.to_owned()),
        }
    }

    #[test]
    fn rules_are_used_up_in_their_order() {
        let script = Script::new(1);
        script.when(Matcher::wavespeed().method("POST"), 2, Fault::Pass);
        script.when(Matcher::wavespeed().path("/api/v3/*/edit"), 1, Fault::Hang);
        script.when(Matcher::claude(), 1, Fault::CutBody);
        let met: Vec<Fault> = (0..4)
            .map(|_| script.meet(asked("POST", "/api/v3/google/edit?webhook=x", "")))
            .collect();
        assert_eq!(met, [Fault::Pass, Fault::Pass, Fault::Hang, Fault::Pass]);
        assert_eq!(script.left(), 1, "the rule about Claude is still there");
    }

    #[test]
    fn a_rule_may_look_for_words_in_the_body() {
        let script = Script::new(1);
        script.when(Matcher::default().body("η ζωή"), 1, Fault::Hang);
        assert_eq!(script.meet(asked("POST", "/", "ο βίος")), Fault::Pass);
        assert_eq!(script.meet(asked("POST", "/", "είναι η ζωή.")), Fault::Hang);
    }

    #[test]
    fn what_arrived_can_be_asked_for() {
        let script = Script::new(1);
        script.meet(asked("GET", "/a", ""));
        script.meet(asked("POST", "/b", r#"{"n":1}"#));
        let seen = script.seen(&Matcher::wavespeed().method("POST"));
        assert_eq!((seen.len(), seen[0].json()["n"].as_u64()), (1, Some(1)));
        assert!(script.seen(&Matcher::clickup()).is_empty());
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        assert!(glob("/task/*/attachment", "/task/86c1/attachment"));
        assert!(glob("*", "") && glob("/a*", "/a") && glob("*b", "ab"));
        assert!(!glob("/task/*/attachment", "/task/86c1/comment") && !glob("/a", "/ab"));
    }

    #[test]
    fn a_script_is_read_from_json() {
        let rules = parse(
            r#"[{"service": "claude", "match": {"body": "<request>"}, "times": 3, "fault": {"documented": "claude_overloaded"}},
                {"match": {"service": "wavespeed", "method": "GET"}, "fault": {"slow_ms": 20}},
                {"fault": {"status": {"status": 429, "headers": {"retry-after": "1"}, "body": "{}"}}},
                {"fault": {"prediction": {"failed": {"words": "content policy violation"}}}}]"#,
        )
        .expect("the rules are right");
        assert_eq!(rules[0].times, 3);
        assert_eq!(rules[1].fault, Fault::Slow(std::time::Duration::from_millis(20)));
        assert_eq!(rules[3].matcher.service, Some(Service::WaveSpeed));
    }

    #[test]
    fn a_script_that_makes_no_sense_is_refused_with_its_place() {
        let words = |json: &str| parse(json).expect_err("it is wrong").to_string();
        assert!(words("{").contains("line 1 column 1"));
        assert!(words(r#"[{"fault": "hang"}, {"fault": "sulk"}]"#).contains("[1].fault"));
        let foreign = r#"{"service": "clickup", "fault": {"documented": "claude_overloaded"}}"#;
        assert!(
            words(foreign)
                .starts_with("rule 1 of the script: ClickUp has no such fault, Claude has")
        );
    }
}
