//! Why a command did not do what it was asked, and the exit code that says so.

use std::fmt::Display;
use std::process::ExitCode;

use crate::postgres::PostgresError;
use crate::runtime::{AdvanceError, OperationError, RegistryError};
use crate::server::StartError;
use crate::store::StoreError;
use crate::store::keys::KeyError;

/// How a command ended, for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It did what it was asked.
    Done,
    /// It failed, or it found something wrong.
    Failed,
    /// It was asked in a way it does not understand.
    Usage,
    /// What it was asked about does not exist.
    NotFound,
    /// The state does not allow it: the cycle is elsewhere, or there is nothing to do it to.
    Refused,
    /// The database could not be reached.
    Unreachable,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Refused => 4,
            Self::Unreachable => 5,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What to say on standard error; empty when everything has been said.
    pub message: String,
}

impl Failure {
    fn new(exit: Exit, message: impl Display) -> Self {
        Self { exit, message: message.to_string() }
    }

    /// It failed.
    pub fn failed(message: impl Display) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// It was asked wrongly.
    pub fn usage(message: impl Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// There is no such thing.
    pub fn not_found(message: impl Display) -> Self {
        Self::new(Exit::NotFound, message)
    }

    /// The state does not allow it.
    pub fn refused(message: impl Display) -> Self {
        Self::new(Exit::Refused, message)
    }

    /// It failed, and what there was to say stands on the screen already.
    #[must_use]
    pub const fn told() -> Self {
        Self { exit: Exit::Failed, message: String::new() }
    }

    /// Says it on standard error.
    pub fn tell(&self) {
        if !self.message.is_empty() {
            eprintln!("mathesis: {}", self.message);
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let exit = if error.is_transient() { Exit::Unreachable } else { Exit::Failed };
        Self::new(
            exit,
            format!("{error}. Nothing was changed; `mathesis doctor` tells what is wrong"),
        )
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        StoreError::Database(error).into()
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let exit = match &error {
            StartError::Settings(_) => Exit::Usage,
            StartError::NoDatabase(_) | StartError::NoWorkflows(_) => Exit::NotFound,
            StartError::Postgres(PostgresError::AlreadyOwned { .. })
            | StartError::SchemaAhead { .. }
            | StartError::SchemaBehind { .. }
            | StartError::NeedsKey(_) => Exit::Refused,
            error if error.is_about_reaching_the_database() => Exit::Unreachable,
            _ => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Store(error) => error.into(),
            other => Self::failed(other),
        }
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Store(error) => error.into(),
            KeyError::NoSuchKey(_) => Self::not_found(error),
            KeyError::NameTaken(_) => Self::refused(error),
            KeyError::InvalidName | KeyError::WeakBootstrapKey => Self::usage(error),
        }
    }
}

impl From<OperationError> for Failure {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::Advance(AdvanceError::Store(error)) => error.into(),
            OperationError::NoSuchModel(_)
            | OperationError::NoSuchVersion { .. }
            | OperationError::NoSuchConflict(_) => Self::not_found(error),
            OperationError::Advance(AdvanceError::NoOpenCycle { .. }) => Self::not_found(
                "there is no such cycle; `mathesis cycle list` shows them. Nothing was changed",
            ),
            refusal => Self::refused(format!("{refusal}. Nothing was changed")),
        }
    }
}
