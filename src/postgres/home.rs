//! Where the private server keeps its things, and who may look inside.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::account::Account;
use super::error::PostgresError;

/// The longest path of a socket that every system takes (Linux allows 107 bytes, macOS 103).
const SOCKET_PATH_BYTES_MAX: usize = 103;

/// The port in the socket's name; nothing listens on the network.
pub(super) const PORT: u16 = 5432;

/// `MATHESIS_HOME` where none is set: `.mathesis` in the working folder, and for root
/// `/var/lib/mathesis`, because the user the server then runs as cannot enter root's folders.
#[must_use]
pub fn default_home() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        PathBuf::from("/var/lib/mathesis")
    } else {
        PathBuf::from(".mathesis")
    }
}

/// A home for tests and trials, removed when dropped; drop the server first.
///
/// An ordinary temporary folder is closed to others, so root's server could not enter it.
///
/// # Errors
/// Those of making the folder.
pub fn temporary_home() -> io::Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("mathesis-")
        .permissions(Permissions::from_mode(0o711))
        .tempdir()
}

/// The files of one home. Everything is under `<home>/postgres`.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// The home, absolute and with its links resolved once it exists.
    pub home: PathBuf,
    /// `<home>/postgres`.
    pub folder: PathBuf,
}

impl Layout {
    /// The layout of `home`, which need not exist.
    pub fn of(home: &Path) -> Result<Self, PostgresError> {
        let absolute =
            std::path::absolute(home).map_err(PostgresError::io("resolve the path of", home))?;
        let home = fs::canonicalize(&absolute).unwrap_or(absolute);
        let folder = home.join("postgres");
        Ok(Self { home, folder })
    }

    /// Makes the folders, and checks that the server's user can get in.
    pub fn prepare(self, account: &Account) -> Result<Self, PostgresError> {
        let made_io = || PostgresError::io("make the folder", &self.folder);
        make_folders(&self.home, 0o755).map_err(made_io())?;
        let resolved = Self::of(&self.home)?;
        let mode = if account.switched { 0o711 } else { 0o700 };
        make_folders(&resolved.folder, mode).map_err(made_io())?;
        match account.blocked_at(&resolved.folder) {
            Some(folder) if account.switched => Err(PostgresError::Unreachable {
                folder,
                wanted: resolved.folder,
                user: account.name.clone(),
            }),
            _ => Ok(resolved),
        }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    pub fn owner_lock(&self) -> PathBuf {
        self.folder.join("owner.lock")
    }

    /// The major version that wrote the data, where there is data.
    pub fn data_major(&self) -> Option<u32> {
        let text = fs::read_to_string(self.data().join("PG_VERSION")).ok()?;
        text.trim().parse().ok()
    }

    /// Where the socket goes: beside the data, or in a short place when that path is too long.
    pub fn socket_folder(&self, places: &SocketPlaces, account: &Account) -> PathBuf {
        let beside = self.folder.join("socket");
        if fits(&beside) {
            return beside;
        }
        let mark = short_hash(&self.folder);
        let mut runtime = places
            .runtime_folder
            .iter()
            .filter(|_| !account.switched)
            .map(|folder| folder.join(format!("mathesis-{mark}")));
        runtime.find(|folder| fits(folder)).unwrap_or_else(|| {
            places.temporary_folder.join(format!("mathesis-{}-{mark}", account.uid))
        })
    }
}

/// The short places a socket may go to.
#[derive(Debug, Clone)]
pub(super) struct SocketPlaces {
    /// `XDG_RUNTIME_DIR`, where it is set and there.
    pub runtime_folder: Option<PathBuf>,
    /// `/tmp`. Not `TMPDIR`, which can be as long as the path we flee from.
    pub temporary_folder: PathBuf,
}

impl SocketPlaces {
    pub fn from_environment() -> Self {
        Self {
            runtime_folder: std::env::var_os("XDG_RUNTIME_DIR")
                .map(PathBuf::from)
                .filter(|folder| folder.is_absolute() && folder.is_dir()),
            temporary_folder: PathBuf::from("/tmp"),
        }
    }
}

/// Makes `folder` for `account` alone (mode 0700), or checks that it already is theirs alone.
///
/// The check matters in `/tmp`, where a stranger could have made the folder first.
pub(super) fn make_private(folder: &Path, account: &Account) -> Result<(), PostgresError> {
    let refused = PostgresError::io("use as a private folder", folder);
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => give_to(folder, account),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = fs::symlink_metadata(folder).map_err(refused)?;
            // Root made it, but was stopped before it could hand it over.
            if found.is_dir() && found.uid() == 0 && account.switched {
                return give_to(folder, account);
            }
            if found.is_dir() && found.uid() == account.uid {
                return fs::set_permissions(folder, Permissions::from_mode(0o700))
                    .map_err(PostgresError::io("close to others", folder));
            }
            let reason = format!("it belongs to user {}, not to {}", found.uid(), account.uid);
            Err(PostgresError::io("use as a private folder", folder)(io::Error::new(
                io::ErrorKind::PermissionDenied,
                reason,
            )))
        }
        Err(error) => Err(refused(error)),
    }
}

/// Makes the renames and new files of a folder survive a power cut.
pub(super) fn sync_folder(folder: &Path) -> Result<(), PostgresError> {
    File::open(folder)
        .and_then(|opened| opened.sync_all())
        .map_err(PostgresError::io("write out the folder", folder))
}

/// The address of `database` behind the socket in `socket_folder`, as sqlx and psql take it.
///
/// Port and TLS are spelled out so that a `PGPORT` or `PGSSLMODE` lying about cannot change them.
pub(super) fn url(socket_folder: &Path, database: &str) -> String {
    format!(
        "postgres://{role}@localhost:{PORT}/{}?host={}&sslmode=disable",
        percent_encode(database.as_bytes()),
        percent_encode(socket_folder.as_os_str().as_encoded_bytes()),
        role = super::ROLE,
    )
}

/// `folder` as a value of `unix_socket_directories`, whose commas and blanks separate folders.
pub(super) fn quoted_for_socket_directories(folder: &Path) -> OsString {
    let mut quoted = OsString::from("\"");
    quoted.push(folder);
    quoted.push("\"");
    quoted
}

fn give_to(folder: &Path, account: &Account) -> Result<(), PostgresError> {
    if account.switched {
        std::os::unix::fs::chown(folder, Some(account.uid), Some(account.gid))
            .map_err(PostgresError::io("hand to the server's user", folder))?;
    }
    fs::set_permissions(folder, Permissions::from_mode(0o700))
        .map_err(PostgresError::io("close to others", folder))
}

/// Makes the missing folders of a path, with `mode` whatever the umask says.
pub(super) fn make_folders(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_folders(parent, 0o755)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

fn fits(folder: &Path) -> bool {
    let socket = format!("/.s.PGSQL.{PORT}");
    let Some(text) = folder.to_str() else {
        return false;
    };
    text.len() + socket.len() <= SOCKET_PATH_BYTES_MAX && !text.contains(['"', '\n'])
}

fn short_hash(path: &Path) -> String {
    use sha2::{Digest, Sha256};
    let digest = hex::encode(Sha256::digest(path.as_os_str().as_encoded_bytes()));
    digest.chars().take(12).collect()
}

fn percent_encode(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(byte) {
            text.push(char::from(*byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn somebody(switched: bool) -> Account {
        Account { name: "somebody".into(), uid: 1000, gid: 1000, switched }
    }

    fn socket_of(home: &str, switched: bool) -> String {
        let folder = PathBuf::from(home).join("postgres");
        let layout = Layout { home: home.into(), folder };
        let places = SocketPlaces {
            runtime_folder: Some("/run/user/1000".into()),
            temporary_folder: "/tmp".into(),
        };
        let folder = layout.socket_folder(&places, &somebody(switched));
        folder.to_string_lossy().into_owned()
    }

    #[test]
    fn the_socket_is_beside_the_data_while_that_fits() {
        assert_eq!(socket_of("/srv/m", false), "/srv/m/postgres/socket");
    }

    #[test]
    fn the_longest_home_that_fits_still_binds() {
        let tail = "/postgres/socket/.s.PGSQL.5432".len();
        let longest = format!("/{}", "h".repeat(SOCKET_PATH_BYTES_MAX - tail - 1));
        assert!(socket_of(&longest, false).starts_with(&longest));
        assert!(socket_of(&format!("{longest}h"), false).starts_with("/run/user"));
    }

    #[test]
    fn a_deep_home_gets_a_short_socket_folder() {
        let deep = format!("/srv/{}", "deep/".repeat(30));
        insta::assert_snapshot!(socket_of(&deep, false), @"/run/user/1000/mathesis-b98d7bf7e2e8");
        insta::assert_snapshot!(socket_of(&deep, true), @"/tmp/mathesis-1000-b98d7bf7e2e8");
    }

    #[test]
    fn two_deep_homes_never_share_a_socket() {
        let deep = format!("/srv/{}", "deep/".repeat(30));
        assert_ne!(socket_of(&format!("{deep}a"), true), socket_of(&format!("{deep}b"), true));
    }

    #[test]
    fn a_name_that_would_break_the_setting_gets_a_short_socket_folder() {
        assert!(socket_of("/srv/a\"b", false).starts_with("/run/user"));
    }

    #[test]
    fn the_url_spells_out_the_socket() {
        insta::assert_snapshot!(url(Path::new("/tmp/my home/socket"), "a/b"), @"postgres://mathesis@localhost:5432/a%2Fb?host=%2Ftmp%2Fmy%20home%2Fsocket&sslmode=disable");
    }

    #[test]
    fn a_private_folder_must_be_a_folder_of_ours() {
        let top = tempfile::tempdir().expect("a folder");
        let me = Account {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            ..somebody(false)
        };
        let fresh = top.path().join("fresh");
        make_private(&fresh, &me).expect("made");
        make_private(&fresh, &me).expect("found again");
        let link = top.path().join("link");
        std::os::unix::fs::symlink(&fresh, &link).expect("linked");
        assert!(make_private(&link, &me).is_err());
        let other = Account { uid: 61_234, ..me };
        assert!(make_private(&fresh, &other).is_err());
    }
}
