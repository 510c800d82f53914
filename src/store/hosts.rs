//! Where the database is: one address, or several of which one takes writes at a time.
//!
//! `postgres://user@a:5432,b:5432,c/mathesis` names the members of a replicated PostgreSQL, in the
//! notation of libpq (PostgreSQL documentation, "Specifying Multiple Hosts"). The member that takes
//! writes is asked for when the pool is opened, and again by [`Follower`] whenever it stops being it.

use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection, PgPool};

use super::StoreError;

/// A member that does not answer within this time is passed over.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Statements that a session keeps prepared. One that is dropped is parsed and planned again at its next use, so
/// this is more than the program has.
const STATEMENTS_CACHED: usize = 512;
/// More would be a mistake in the address.
const HOSTS_MAX: usize = 16;

/// Which member of a replicated PostgreSQL a pool is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The one that takes writes.
    Primary,
    /// One that only reads, or else any that answers.
    Replica,
}

/// The members that an address names, in its order.
#[derive(Debug, Clone)]
pub struct Hosts {
    members: Vec<PgConnectOptions>,
}

impl Hosts {
    /// Reads an address with one host or several, each with a port of its own or PostgreSQL's.
    ///
    /// # Errors
    /// [`StoreError::Database`] when it is no address, or names more than sixteen hosts.
    pub fn parse(url: &str) -> Result<Self, StoreError> {
        let members: Result<Vec<PgConnectOptions>, sqlx::Error> = one_url_a_host(url)
            .iter()
            .map(|url| {
                let options = url.parse::<PgConnectOptions>()?.application_name("mathesis");
                Ok(options.statement_cache_capacity(STATEMENTS_CACHED))
            })
            .collect();
        let members = members?;
        if members.len() > HOSTS_MAX {
            let words = format!("the database's address names more than {HOSTS_MAX} hosts");
            return Err(StoreError::Database(sqlx::Error::Configuration(words.into())));
        }
        Ok(Self { members })
    }

    /// True when there is a choice.
    #[must_use]
    pub const fn are_several(&self) -> bool {
        self.members.len() > 1
    }

    /// How to reach the wanted member. A single host is taken as it is: a proxy chooses behind it, or
    /// there is nothing to choose.
    ///
    /// # Errors
    /// [`StoreError::NoPrimary`] when members answer and none takes writes, else why the first one
    /// cannot be reached. Both may pass: a failover is under way.
    pub async fn find(&self, wanted: Wanted) -> Result<PgConnectOptions, StoreError> {
        if let [only] = self.members.as_slice() {
            return Ok(only.clone());
        }
        let (options, session) = self.connect(wanted).await?;
        session.close().await?;
        Ok(options)
    }

    async fn connect(
        &self,
        wanted: Wanted,
    ) -> Result<(PgConnectOptions, PgConnection), StoreError> {
        let mut asked: FuturesUnordered<_> = self
            .members
            .iter()
            .map(|options| async move { (options, reach(options).await) })
            .collect();
        let mut second_best = None;
        let mut refused = None;
        while let Some((options, reached)) = asked.next().await {
            match reached {
                Ok((session, is_replica)) if is_replica == (wanted == Wanted::Replica) => {
                    return Ok((options.clone(), session));
                }
                Ok((session, _)) => second_best = second_best.or(Some((options.clone(), session))),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        match (wanted, second_best, refused) {
            (Wanted::Replica, Some(found), _) => Ok(found),
            (_, None, Some(error)) => Err(error),
            _ => Err(StoreError::NoPrimary { hosts: self.members.len() }),
        }
    }
}

/// Opens a session and says whether the member only replays what another one writes.
async fn reach(options: &PgConnectOptions) -> Result<(PgConnection, bool), StoreError> {
    let opened = async {
        let mut session = PgConnection::connect_with(options).await?;
        let is_replica = is_replica(&mut session).await?;
        Ok((session, is_replica))
    };
    tokio::time::timeout(ANSWER_TIMEOUT, opened).await.unwrap_or_else(|_| {
        let silent = std::io::Error::new(std::io::ErrorKind::TimedOut, "it does not answer");
        Err(StoreError::Database(sqlx::Error::Io(silent)))
    })
}

pub(super) async fn is_replica(session: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(r#"SELECT pg_is_in_recovery() AS "is_replica!""#).fetch_one(session).await
}

/// One address a host, since the driver takes one at a time. Whatever is not a list is left to the
/// driver to read or to refuse.
fn one_url_a_host(url: &str) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("://") else { return vec![url.to_owned()] };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let (account, hosts) = match authority.rsplit_once('@') {
        Some((account, hosts)) => (format!("{account}@"), hosts),
        None => (String::new(), authority),
    };
    hosts.split(',').map(|host| format!("{scheme}://{account}{host}{tail}")).collect()
}

/// Keeps a pool on the wanted member: holds a session there, and when that breaks or the member
/// changes its part, finds the next one.
#[derive(Debug)]
pub struct Follower {
    hosts: Hosts,
    wanted: Wanted,
    pool: PgPool,
    session: Option<PgConnection>,
}

impl Follower {
    pub(super) const fn new(hosts: Hosts, wanted: Wanted, pool: PgPool) -> Self {
        Self { hosts, wanted, pool, session: None }
    }

    /// Looks whether the member is still the wanted one, and turns the pool to another if not. True when
    /// it was turned. Statements under way on the old member fail by themselves; each is safe to repeat.
    ///
    /// # Errors
    /// [`StoreError`] when no member is the wanted one at the moment; the next look tries again.
    pub async fn look(&mut self) -> Result<bool, StoreError> {
        if let Some(session) = self.session.as_mut() {
            let asked = tokio::time::timeout(ANSWER_TIMEOUT, is_replica(session)).await;
            let wanted = self.wanted;
            let stays = |is_replica: bool| wanted == Wanted::Replica || !is_replica;
            if asked.is_ok_and(|answer| answer.is_ok_and(stays)) {
                return Ok(false);
            }
            self.session = None;
        }
        let (options, session) = self.hosts.connect(self.wanted).await?;
        self.session = Some(session);
        let current = self.pool.connect_options();
        if (current.get_host(), current.get_port()) == (options.get_host(), options.get_port()) {
            return Ok(false);
        }
        tracing::warn!(
            database.host = options.get_host(),
            database.port = options.get_port(),
            "the database moved; following it"
        );
        self.pool.set_connect_options(options);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(url: &str) -> Vec<(String, u16)> {
        let hosts = Hosts::parse(url).unwrap();
        hosts.members.iter().map(|one| (one.get_host().to_owned(), one.get_port())).collect()
    }

    fn place(host: &str, port: u16) -> (String, u16) {
        (host.to_owned(), port)
    }

    #[test]
    fn an_address_names_one_host_or_several() {
        assert_eq!(places("postgres://u:p@db/mathesis"), [place("db", 5432)]);
        assert_eq!(
            places("postgres://u:p@a:5433,b,c:5435/mathesis?sslmode=disable"),
            [place("a", 5433), place("b", 5432), place("c", 5435)]
        );
        assert!(Hosts::parse("postgres://a,b/x").unwrap().are_several());
        assert!(!Hosts::parse("postgres://a/x").unwrap().are_several());
    }

    #[test]
    fn each_host_has_the_account_and_the_database() {
        let hosts = Hosts::parse("postgres://ann:s%40,cret@a,b/mathesis").unwrap();
        for member in &hosts.members {
            assert_eq!(member.get_username(), "ann");
            assert_eq!(member.get_database(), Some("mathesis"));
        }
        assert_eq!(hosts.members.len(), 2, "a comma in the password parts nothing");
    }

    #[test]
    fn a_socket_folder_is_left_as_it_is() {
        let hosts = Hosts::parse("postgres:///mathesis?host=/run/postgresql").unwrap();
        assert!(!hosts.are_several());
        assert_eq!(hosts.members[0].get_socket().unwrap().to_str(), Some("/run/postgresql"));
    }

    #[test]
    fn a_wrong_address_is_refused() {
        assert!(Hosts::parse("postgres://a:port,b/x").is_err());
        let many = vec!["h"; HOSTS_MAX + 1].join(",");
        assert!(Hosts::parse(&format!("postgres://{many}/x")).is_err());
    }
}
