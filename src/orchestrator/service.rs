//! What a failed call of an outside service means, in one type for all three.
//!
//! It is decided where the error is raised, so that nobody further up reads a status or a message again.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::task_log::Fault;

/// An outside service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Enhances prompts and scores pictures.
    Claude,
    /// Makes pictures.
    WaveSpeed,
    /// Holds the tasks.
    ClickUp,
}

impl Service {
    /// Its name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Claude => "Claude",
            Self::WaveSpeed => "WaveSpeed",
            Self::ClickUp => "ClickUp",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What may follow a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Certainly nothing was done or billed there, and another call may succeed: not before `after`, where the
    /// service said so. The call's own few retries are used up, so the run waits.
    Later {
        /// How long the service asked to wait.
        after: Option<Duration>,
    },
    /// Nothing was done, and no call will succeed before a person mends something: a key, a balance, a plan. The run
    /// waits, says so, and looks again in a while.
    Operator,
    /// The same call would fail again. An attempt that ends so failed through this.
    Never {
        /// Whose fault it is: the prompt's (a content policy, say) or the infrastructure's.
        fault: Fault,
    },
    /// Whether it was done, and billed, cannot be known: a time-out or a broken connection after the request was
    /// sent. It must not be made again before it was looked for.
    Unknown,
}

/// A failed call of an outside service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.told())]
pub struct ServiceError {
    /// Which service.
    pub service: Service,
    /// Stable, for programs and the log, such as `clickup_rate_limited`.
    pub code: &'static str,
    /// For people; never a key, a prompt or a signed address.
    pub words: String,
    /// What may follow.
    pub next: Next,
}

impl ServiceError {
    /// The words with the service's name before them, unless they begin with it anyway.
    fn told(&self) -> String {
        if self.words.starts_with(self.service.name()) {
            self.words.clone()
        } else {
            format!("{}: {}", self.service, self.words)
        }
    }

    /// An error of this service.
    #[must_use]
    pub fn new(service: Service, code: &'static str, words: impl Into<String>, next: Next) -> Self {
        Self { service, code, words: words.into(), next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_once() {
        let told = |words: &str| {
            ServiceError::new(Service::Claude, "c", words, Next::Operator).to_string()
        };
        assert_eq!(told("Claude's answer cannot be read."), "Claude's answer cannot be read.");
        assert_eq!(told("no key is set"), "Claude: no key is set");
    }
}
