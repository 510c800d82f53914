//! Where a test lets a run die. In a program that is not built for tests nothing of it is left.

/// A point at which a run may be made to die, as `kill -9` would.
#[derive(Clone, Default)]
pub struct Probe {
    #[cfg(feature = "testing")]
    dies: Option<std::sync::Arc<DiesAt>>,
}

#[cfg(feature = "testing")]
type DiesAt = dyn Fn(&str, &str) -> bool + Send + Sync;

impl Probe {
    /// Dies where `at` says so: it is told `before`, `begun`, `after` or `recorded`, and the step.
    #[cfg(feature = "testing")]
    pub fn dying(at: impl Fn(&str, &str) -> bool + Send + Sync + 'static) -> Self {
        Self { dies: Some(std::sync::Arc::new(at)) }
    }

    #[cfg(feature = "testing")]
    pub(super) fn dies_at(&self, when: &str, step: &str) -> bool {
        self.dies.as_ref().is_some_and(|dies| dies(when, step))
    }

    #[cfg(not(feature = "testing"))]
    pub(super) const fn dies_at(&self, _when: &str, _step: &str) -> bool {
        let Self {} = self;
        false
    }
}
