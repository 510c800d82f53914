//! What the doctor says of the database: the server, its clock, the schema, the keys, the cycles and the files.

use chrono::{DateTime, Utc};

use super::super::context::Context;
use super::super::files;
use super::{Finding, bad, good, note, notify, pipeline, schedules};
use crate::postgres::OLDEST_MAJOR;
use crate::runtime::{Workflow, cycle_status};
use crate::settings::{Host, Settings};
use crate::store::keys;
use crate::store::schema::{self, SchemaStanding, ServerFacts};

/// A clock that is further off than this makes windows, leases and tests wrong.
const CLOCK_SKEW_SECONDS_MAX: i64 = 5;
const SEE_THE_DATABASE: &str =
    "See that PostgreSQL is up and that its log says nothing of it, then look again.";

/// Everything that the database has to say. Reads only: not even a schema that is behind is touched.
pub(super) async fn of_database(context: &mut Context, settings: &Settings) -> Vec<Finding> {
    let before = context.engine.now();
    let facts = match schema::server_facts(context.engine.store.pool()).await {
        Ok(facts) => facts,
        Err(error) => return vec![bad("database", error.to_string(), SEE_THE_DATABASE)],
    };
    let mut findings =
        vec![of_server(context.database(), &facts), of_clock(&facts, before, context.engine.now())];
    let standing = match schema::standing(context.engine.store.pool()).await {
        Ok(standing) => standing,
        Err(error) => {
            findings.push(bad("schema", error.to_string(), SEE_THE_DATABASE));
            return findings;
        }
    };
    findings.push(of_schema(&standing));
    // What another schema means cannot be known, so nothing more is read.
    if standing != SchemaStanding::Current {
        return findings;
    }
    if let Err(failure) = context.read_workflows().await {
        findings.push(bad("workflows", failure.message, SEE_THE_DATABASE));
        return findings;
    }
    findings.push(of_keys(context, settings).await);
    for workflow in context.engine.registry.all() {
        findings.extend(of_cycle(context, &workflow).await);
        findings.extend(of_files(context, &workflow).await);
        findings.extend(schedules::of_schedules(context, &workflow).await);
        findings.extend(pipeline::of_jobs(context, &workflow).await);
        findings.extend(notify::of_webhook(context, &workflow).await);
    }
    findings
}

fn of_server(database: String, facts: &ServerFacts) -> Finding {
    let major = facts.version_number / 10_000;
    let said = format!("PostgreSQL {}, {}, {database}", facts.version, facts.encoding);
    if u32::try_from(major).unwrap_or(0) < OLDEST_MAJOR {
        let remedy = format!(
            "Mathesis needs PostgreSQL {OLDEST_MAJOR} or later: move the database to one with pg_dump."
        );
        bad("database", said, remedy)
    } else if facts.encoding != "UTF8" {
        bad("database", said, "Create the database with ENCODING 'UTF8'.")
    } else if facts.read_only {
        let said = format!("{said}, a standby that takes no writes");
        bad("database", said, "Let DATABASE_URL name the primary.")
    } else {
        good("database", said)
    }
}

fn of_clock(facts: &ServerFacts, before: DateTime<Utc>, after: DateTime<Utc>) -> Finding {
    // Within the moment that the question took nobody can tell.
    let skew = if facts.now < before {
        facts.now - before
    } else if facts.now > after {
        facts.now - after
    } else {
        chrono::TimeDelta::zero()
    };
    let seconds = skew.num_seconds();
    if seconds.abs() <= CLOCK_SKEW_SECONDS_MAX {
        return good("clock", "in step with the database's");
    }
    let direction = if seconds > 0 { "behind" } else { "ahead of" };
    bad(
        "clock",
        format!("this machine's clock is {} s {direction} the database's", seconds.abs()),
        "Let both be set by NTP.",
    )
}

fn of_schema(standing: &SchemaStanding) -> Finding {
    match standing {
        SchemaStanding::Current => good("schema", "up to date"),
        SchemaStanding::Behind { pending } => bad(
            "schema",
            format!("behind this program by {pending} migration(s)"),
            "Run `mathesis migrate`, or start `mathesis serve`, which does it.",
        ),
        SchemaStanding::Ahead { version } => bad(
            "schema",
            format!(
                "a newer Mathesis has migrated it, to migration {version}, which this one does not know"
            ),
            "Use that version, or restore a backup from before it.",
        ),
    }
}

async fn of_keys(context: &Context, settings: &Settings) -> Finding {
    let exists = match keys::any_key_exists(context.engine.store.pool()).await {
        Ok(exists) => exists || settings.bootstrap_key.is_some(),
        Err(error) => return bad("keys", error.to_string(), SEE_THE_DATABASE),
    };
    let beyond = match settings.host {
        Host::Given(address) => !address.is_loopback(),
        Host::Platform | Host::Loopback => false,
    };
    if exists {
        good("keys", "there is one, so callers are asked for it")
    } else if beyond {
        bad(
            "keys",
            "there is none, and MATHESIS_HOST is not loopback: the server will refuse to start",
            "Set MATHESIS_BOOTSTRAP_KEY, or make a key with `mathesis key create NAME --role operate`.",
        )
    } else {
        note(
            "keys",
            "there is none, so the server listens on loopback only, open to whoever uses this machine",
            "To let others in: `mathesis key create NAME --role operate`.",
        )
    }
}

async fn of_cycle(context: &Context, workflow: &Workflow) -> Vec<Finding> {
    let check = format!("cycle of {}", workflow.name());
    match cycle_status(&context.engine, workflow, None).await {
        Err(error) => vec![bad(check, error.to_string(), SEE_THE_DATABASE)],
        Ok(None) => {
            vec![bad(check, "no cycle is open", "Start `mathesis serve`, which opens one.")]
        }
        Ok(Some(status)) if status.holds.is_empty() => vec![good(check, status.sentence)],
        Ok(Some(status)) => status
            .holds
            .iter()
            .map(|hold| {
                let said =
                    format!("cycle {} is held ({}): {}", status.cycle, hold.code, hold.reason);
                // What a person wanted is no fault; what failed is.
                match hold.kind.as_str() {
                    "effect_failed" | "config_conflict" => bad(&check, said, &hold.remedy),
                    _ => note(&check, said, &hold.remedy),
                }
            })
            .collect(),
    }
}

async fn of_files(context: &Context, workflow: &Workflow) -> Vec<Finding> {
    let standings = match files::standings(context, workflow).await {
        Ok(standings) => standings,
        Err(failure) => return vec![bad("files", failure.message, SEE_THE_DATABASE)],
    };
    standings
        .into_iter()
        .map(|standing| {
            let check = format!("files of {}", standing.model);
            let said = format!("{} ({})", standing.said, standing.folder.display());
            match standing.standing {
                "in_step" | "unmarked" if !standing.needs_a_person => good(check, said),
                "hand_edited" => bad(
                    check,
                    said,
                    format!(
                        "`mathesis version show {model}` has the active texts to put back; or move the edit elsewhere. The hold then lifts by itself.",
                        model = standing.model
                    ),
                ),
                "unreadable" => {
                    bad(check, said, "Put right what it says: the user that runs Mathesis has to be able to read and write there, and a prompt is text of up to 8 MiB. A hold then lifts by itself.")
                }
                "half_written" => {
                    note(check, said, "A running server ends it; start `mathesis serve` if none runs.")
                }
                _ if standing.needs_a_person => {
                    bad(check, said, "Start `mathesis serve`, which takes version 1 from the files.")
                }
                _ => note(check, said, "Start `mathesis serve` if none runs; it keeps this folder in step."),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Finding, in_words};
    use super::*;

    fn facts() -> ServerFacts {
        ServerFacts {
            version_number: 150_004,
            version: "15.4".to_owned(),
            encoding: "UTF8".to_owned(),
            now: "2026-11-26T12:00:00Z".parse().unwrap(),
            read_only: false,
        }
    }

    #[test]
    fn each_fault_of_a_server_is_named_with_its_remedy() {
        let at = |seconds: i64| facts().now + chrono::TimeDelta::seconds(seconds);
        let server = |facts: ServerFacts| of_server("postgres://db/mathesis".to_owned(), &facts);
        let findings: Vec<Finding> = vec![
            server(facts()),
            server(ServerFacts { version_number: 130_011, version: "13.11".to_owned(), ..facts() }),
            server(ServerFacts { encoding: "SQL_ASCII".to_owned(), ..facts() }),
            server(ServerFacts { read_only: true, ..facts() }),
            of_clock(&facts(), at(-1), at(1)),
            of_clock(&facts(), at(60), at(61)),
            of_clock(&facts(), at(-61), at(-60)),
            of_schema(&SchemaStanding::Current),
            of_schema(&SchemaStanding::Behind { pending: 2 }),
            of_schema(&SchemaStanding::Ahead { version: 99 }),
        ];
        insta::assert_snapshot!(in_words(&findings));
    }
}
