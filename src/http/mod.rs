//! The interface over HTTP: routes, keys, problems, the dashboard.
//!
//! Handlers are thin: they read the request, call the runtime or the store, and write the answer.
//! `error` alone turns errors into answers, `auth` alone decides who may call what, `routes` shows
//! every route with what it needs and what it says of itself: the router and the description are made of
//! it. `docs/api.md` is the same for people.

mod assignments;
mod audit;
mod auth;
mod blame;
mod body;
mod conflicts;
mod connections;
mod costs;
mod cycles;
mod dashboard;
mod deadline;
mod describe;
mod error;
mod events;
mod health;
mod history;
mod keyring;
mod limits;
mod login;
mod metrics;
mod models;
mod notifications;
mod observe;
mod openapi;
mod operations;
mod overall;
mod path;
mod router;
mod routes;
mod serve;
mod stream;
mod tasks;
mod versions;

use std::ops::Deref;
use std::sync::Arc;

pub(crate) use body::read as read_body;
pub use connections::Counted;
pub use deadline::BodyTimes;
pub use describe::{Described, Route, gives};
pub use error::Problem;
pub use limits::CallLimits;
pub use openapi::of_routes;
pub use router::{router, router_with};
pub use serve::{ListenLimits, serve, serve_within};

use crate::runtime::{Engine, VersionAssigner};
use crate::task_log::TaskLogger;
use keyring::Keyring;
use limits::Limits;
use metrics::Requests;
use stream::Hints;

/// How the interface is set up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HttpSettings {
    /// True when no key exists and the server is bound to loopback only: whoever reaches it may do
    /// everything, and the history shows them as `loopback`.
    pub open: bool,
    /// How often may be called.
    pub calls: CallLimits,
    /// How long a body may take.
    pub bodies: BodyTimes,
}

/// What every handler shares. Every layer of the router clones it for every request, so it is one pointer.
#[derive(Clone)]
pub struct App {
    shared: Arc<Shared>,
}

/// What is behind the pointer of an [`App`].
pub struct Shared {
    engine: Engine,
    assigner: VersionAssigner,
    logger: TaskLogger,
    settings: HttpSettings,
    keys: Keyring,
    limits: Limits,
    requests: Requests,
    hints: Arc<Hints>,
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl App {
    /// The interface of a process whose runtime has been started.
    #[must_use]
    pub fn new(
        engine: Engine,
        assigner: VersionAssigner,
        logger: TaskLogger,
        settings: HttpSettings,
    ) -> Self {
        let keys = Keyring::new(engine.store.clone());
        let shared = Shared {
            engine,
            assigner,
            logger,
            settings,
            keys,
            limits: Limits::new(settings.calls),
            requests: Requests::default(),
            hints: Arc::default(),
        };
        Self { shared: Arc::new(shared) }
    }
}
