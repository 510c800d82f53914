//! `mathesis key create|list|revoke`.

use chrono_tz::Tz;
use clap::{Subcommand, ValueEnum};

use super::context::{Context, Need, with_context};
use super::failure::Failure;
use super::{AsJson, Who, output};
use crate::settings::Settings;
use crate::store::audit::Actor;
use crate::store::keys;

/// Make, list and revoke the keys of the HTTP interface.
#[derive(Debug, Clone, Subcommand)]
pub enum KeyCommand {
    /// Make a key and print its secret, once
    Create {
        /// The key's name, which the history shows for what it does
        name: String,
        /// What it may do
        #[arg(long, value_enum)]
        role: Role,
        #[command(flatten)]
        who: Who,
        #[command(flatten)]
        as_json: AsJson,
    },
    /// List the keys, newest first, revoked ones included
    List {
        #[command(flatten)]
        as_json: AsJson,
    },
    /// Revoke a key; it stops working within two seconds
    Revoke {
        /// The key's name
        name: String,
        #[command(flatten)]
        who: Who,
    },
}

/// What a key may do.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Role {
    /// Log events and ask for versions
    Ingest,
    /// See everything, change nothing
    Read,
    /// Everything
    Operate,
}

impl From<Role> for keys::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Ingest => Self::Ingest,
            Role::Read => Self::Read,
            Role::Operate => Self::Operate,
        }
    }
}

/// Runs the command.
pub async fn run(command: KeyCommand, settings: &Settings) -> Result<(), Failure> {
    let need = match command {
        KeyCommand::Create { .. } => Need::MayBegin,
        _ => Need::Existing,
    };
    with_context!(settings, need, |context| carry_out(command, &context))
}

async fn carry_out(command: KeyCommand, context: &Context) -> Result<(), Failure> {
    let pool = context.engine.store.pool();
    match command {
        KeyCommand::Create { name, role, who, as_json } => {
            let now = context.engine.now();
            let by = who.name();
            let by = Actor { name: &by, reason: who.reason.as_deref() };
            let secret = keys::create(pool, &name, role.into(), by, now).await?;
            if as_json.json {
                let role = keys::Role::from(role).to_string();
                return output::say_json(&serde_json::json!({
                    "name": name, "role": role, "secret": secret
                }));
            }
            // The secret alone goes to standard output, so that a script can take it from there.
            eprintln!("Key {name:?} is made. This is its secret; it is shown this once:");
            output::say(&secret)
        }
        KeyCommand::List { as_json } => list(context, as_json).await,
        KeyCommand::Revoke { name, who } => {
            let by = who.name();
            let by = Actor { name: &by, reason: who.reason.as_deref() };
            keys::revoke(pool, &name, by, context.engine.now()).await?;
            output::say(&format!("Key {name:?} is revoked."))
        }
    }
}

async fn list(context: &Context, as_json: AsJson) -> Result<(), Failure> {
    let rows = keys::list(context.engine.store.pool()).await?;
    if as_json.json {
        return output::say_json(&rows);
    }
    // Keys belong to no workflow, and so to no workflow's zone.
    let mut table = output::table(&["name", "role", "begins", "made", "by", "revoked"]);
    for row in &rows {
        table.add_row([
            row.name.clone(),
            row.role.clone(),
            row.prefix.clone(),
            output::time(row.created_at, Tz::UTC),
            row.created_by.clone(),
            output::time_or_dash(row.revoked_at, Tz::UTC),
        ]);
    }
    output::say_table(
        &table,
        "There is no key; the server listens on loopback only. `mathesis key create NAME --role operate` makes one.",
    )
}
