//! Tokens of people and of nodes, and what their roles allow.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use utoipa::ToSchema;

use super::{hex, random, unhex};

/// With what every token begins, so that one that was left somewhere is found by those who look
/// for secrets.
const PREFIX: &str = "gear_";
/// Random bytes of a token: none is ever guessed, so a plain hash keeps it.
const TOKEN_BYTES: usize = 32;
/// Tokens of a file: each request is compared with all of them.
pub const TOKENS_MAX: usize = 1_000;
/// Bytes of a token's file that are read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// A file of tokens is looked at again after this time: a token that is taken away ends by then.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What a token allows: each role everything that those before it may do.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks on.
    Viewer,
    /// Stops, restarts and drains, and sees records and logs.
    Operator,
    /// Submits binaries, which are code that runs on the nodes, and changes the voters.
    Admin,
    /// Another node of the cluster.
    #[value(skip)]
    Node,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Node => "node",
        })
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The name of the token, for logs.
    pub name: String,
    /// What it allows.
    pub role: Role,
}

/// Why tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file is not there or may not be read.
    #[error("{}: {error}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// Others can read the file.
    #[error(
        "{} can be read by others (mode {mode:o}): `chmod 600` it, and make new tokens if this \
         machine has other users", path.display()
    )]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The content is not what it should be.
    #[error(
        "{} is damaged ({reason}): put an intact copy back, or make new tokens", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The name is taken or cannot be one.
    #[error("{0}")]
    BadName(String),
}

/// A token as its file keeps it: without what it is itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    name: String,
    role: Role,
    /// SHA-256 of the token, in hexadecimal digits.
    sha256: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    tokens: Vec<Kept>,
}

/// A file of tokens, for its owner only.
#[derive(Clone, Debug)]
pub struct TokenFile(PathBuf);

impl TokenFile {
    /// The file at a path, which need not be there.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    fn read(&self) -> Result<Vec<Kept>, TokenError> {
        let path = &self.0;
        let text = match read_secret(path) {
            Err(TokenError::Unusable { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Vec::new());
            }
            text => text?,
        };
        let damaged = |reason: String| TokenError::Damaged { path: path.clone(), reason };
        let content: Content =
            serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        if content.tokens.len() > TOKENS_MAX {
            return Err(damaged(format!("it has more than {TOKENS_MAX} tokens")));
        }
        let is_digest = |kept: &Kept| unhex(&kept.sha256).is_some_and(|it| it.len() == 32);
        if let Some(bad) = content.tokens.iter().find(|it| !is_digest(it) || it.role == Role::Node)
        {
            return Err(damaged(format!("the token `{}` is none", bad.name)));
        }
        Ok(content.tokens)
    }

    fn write(&self, tokens: Vec<Kept>) -> Result<(), TokenError> {
        let text = serde_json::to_vec_pretty(&Content { tokens }).expect("plain data");
        write_secret(&self.0, &text)
    }

    /// Names and roles of the tokens.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub fn list(&self) -> Result<Vec<(String, Role)>, TokenError> {
        Ok(self.read()?.into_iter().map(|kept| (kept.name, kept.role)).collect())
    }

    /// Makes a token, which is shown this once.
    ///
    /// # Errors
    /// If the name is taken or the file cannot be used.
    pub fn create(&self, name: &str, role: Role) -> Result<String, TokenError> {
        let mut tokens = self.read()?;
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
            let what = "1 to 64 letters, digits and any of -_.@";
            return Err(TokenError::BadName(format!("`{name}` is no name of a token: {what}")));
        }
        if tokens.iter().any(|kept| kept.name == name) {
            return Err(TokenError::BadName(format!(
                "there is a token `{name}` already: take another name, or revoke it first"
            )));
        }
        if tokens.len() == TOKENS_MAX {
            let what = format!("there are {TOKENS_MAX} tokens already: revoke one first");
            return Err(TokenError::BadName(what));
        }
        let token = format!("{PREFIX}{}", hex(&random::<TOKEN_BYTES>()));
        tokens.push(Kept { name: name.into(), role, sha256: hex(&digest(&token)) });
        self.write(tokens)?;
        Ok(token)
    }

    /// Takes a token away; false if there was none of this name.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub fn revoke(&self, name: &str) -> Result<bool, TokenError> {
        let mut tokens = self.read()?;
        let count = tokens.len();
        tokens.retain(|kept| kept.name != name);
        let found = tokens.len() < count;
        if found {
            self.write(tokens)?;
        }
        Ok(found)
    }
}

/// Reads a file that nobody else may read.
///
/// # Errors
/// If it cannot be read, or others could read it too.
pub fn read_secret(path: &Path) -> Result<String, TokenError> {
    use std::io::Read as _;
    let unusable = |error| TokenError::Unusable { path: path.into(), error };
    let file = fs::File::open(path).map_err(unusable)?;
    let metadata = file.metadata().map_err(unusable)?;
    let mode = metadata.permissions().mode() & 0o777;
    // Kubernetes mounts secrets with a group of the pod's own, which is why that may read.
    if metadata.is_file() && mode & 0o037 != 0 {
        return Err(TokenError::Readable { path: path.into(), mode });
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(unusable)?;
    Ok(text)
}

/// Writes a file that nobody else may read; it is there whole, or as before.
///
/// # Errors
/// What the operating system says.
pub fn write_secret(path: &Path, content: &[u8]) -> Result<(), TokenError> {
    let unusable = |error| TokenError::Unusable { path: path.into(), error };
    if let Some(folder) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
        let mut maker = fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut maker, 0o700);
        maker.recursive(true).create(folder).map_err(unusable)?;
    }
    let staged = path.with_extension("new");
    let write = || {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&staged)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&staged, path)
    };
    write().map_err(unusable)
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The secret that the nodes of a cluster share.
#[derive(Clone)]
pub struct ClusterKey(Vec<u8>);

impl std::fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterKey(..)")
    }
}

impl ClusterKey {
    /// A key of these bytes.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// A key for one purpose, from which neither this one nor another can be found.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("it takes keys of any length");
        mac.update(purpose.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

/// With what nodes call each other's REST.
#[derive(Clone)]
pub struct NodeToken(String);

impl std::fmt::Debug for NodeToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeToken(..)")
    }
}

impl NodeToken {
    /// The one of a cluster.
    #[must_use]
    pub fn of(key: &ClusterKey) -> Self {
        Self(format!("{PREFIX}node_{}", hex(&key.derive("gear rest between nodes 1"))))
    }

    /// As it stands in a request.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }
}

/// The tokens in force, and when they were read.
#[derive(Debug)]
struct Known {
    tokens: Vec<(Principal, [u8; 32])>,
    looked: Instant,
    changed: Option<SystemTime>,
}

/// Who may ask for what.
#[derive(Debug)]
pub struct Access {
    file: Option<TokenFile>,
    node: Option<[u8; 32]>,
    /// Whoever comes without a token may do everything.
    open: bool,
    known: RwLock<Known>,
}

impl Access {
    /// By the tokens of a file and those of the nodes. If `open`, whoever comes without a token
    /// may do everything: only this machine can come, or the operator wants it so.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub fn new(
        file: Option<TokenFile>,
        node: Option<&NodeToken>,
        open: bool,
    ) -> Result<Self, TokenError> {
        let looked = Instant::now();
        let known = RwLock::new(Known { tokens: Vec::new(), looked, changed: None });
        let access = Self { file, node: node.map(|it| digest(&it.0)), open, known };
        access.read()?;
        Ok(access)
    }

    /// Everybody may do everything.
    #[must_use]
    pub fn everybody() -> Self {
        Self::new(None, None, true).expect("there is no file")
    }

    /// True if there are tokens of people.
    #[must_use]
    pub fn has_tokens(&self) -> bool {
        !self.known.read().unwrap_or_else(PoisonError::into_inner).tokens.is_empty()
    }

    fn changed(&self) -> Option<SystemTime> {
        fs::metadata(&self.file.as_ref()?.0).ok()?.modified().ok()
    }

    fn read(&self) -> Result<(), TokenError> {
        let Some(file) = &self.file else { return Ok(()) };
        let changed = self.changed();
        let tokens = file.read()?;
        let bytes = |kept: &Kept| unhex(&kept.sha256)?.try_into().ok();
        let tokens = tokens.into_iter().filter_map(|kept| {
            let digest = bytes(&kept)?;
            Some((Principal { name: kept.name, role: kept.role }, digest))
        });
        let known = Known { tokens: tokens.collect(), looked: Instant::now(), changed };
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    /// Reads the file again if it has changed; what cannot be read leaves things as they are.
    fn refresh(&self) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let (looked, changed) = (known.looked, known.changed);
        drop(known);
        if looked.elapsed() < LOOK_AGAIN {
            return;
        }
        self.known.write().unwrap_or_else(PoisonError::into_inner).looked = Instant::now();
        if self.changed() != changed
            && let Err(error) = self.read()
        {
            tracing::warn!(target: "gear::api", "the tokens stay as they were: {error}");
        }
    }

    /// Who comes with a token, or without one.
    #[must_use]
    pub fn principal(&self, token: Option<&str>) -> Option<Principal> {
        self.refresh();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let Some(token) = token else {
            // Once there are tokens, coming without one is coming without a name.
            let open = self.open && known.tokens.is_empty();
            return open.then(|| Principal { name: "anybody".into(), role: Role::Admin });
        };
        let digest = digest(token);
        // All are compared, so that the time says nothing about which one it was.
        let mut found = None;
        for (principal, kept) in &known.tokens {
            if bool::from(kept.ct_eq(&digest)) {
                found = Some(principal.clone());
            }
        }
        if self.node.is_some_and(|node| bool::from(node.ct_eq(&digest))) {
            found = Some(Principal { name: "a node".into(), role: Role::Node });
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn file() -> (TempDir, TokenFile) {
        let folder = TempDir::new().expect("there is a folder");
        let file = TokenFile::at(folder.path().join("secrets/tokens.json"));
        (folder, file)
    }

    #[test]
    fn a_token_is_known_by_its_role_and_kept_as_a_hash() {
        let (_folder, file) = file();
        let viewer = file.create("anna", Role::Viewer).expect("it is made");
        let admin = file.create("root", Role::Admin).expect("it is made");
        let text = fs::read_to_string(&file.0).expect("it was written");
        assert!(!text.contains(&viewer[PREFIX.len()..]), "{text}");
        let mode = fs::metadata(&file.0).expect("it was written").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let access = Access::new(Some(file), None, false).expect("it can be read");
        let role = |token: &str| access.principal(Some(token)).map(|it| it.role);
        assert_eq!(role(&viewer), Some(Role::Viewer));
        assert_eq!(role(&admin), Some(Role::Admin));
        assert_eq!(role("gear_00"), None);
        assert_eq!(role(""), None);
        assert_eq!(access.principal(None), None);
    }

    #[test]
    fn a_revoked_token_ends_and_a_new_one_begins_while_the_node_runs() {
        let (_folder, file) = file();
        let first = file.create("first", Role::Admin).expect("it is made");
        let access = Access::new(Some(file.clone()), None, false).expect("it can be read");
        assert!(access.principal(Some(&first)).is_some());
        assert!(file.revoke("first").expect("it can be written"));
        assert!(!file.revoke("first").expect("it can be written"));
        let second = file.create("second", Role::Admin).expect("it is made");
        // As if the time had passed and the file's clock were finer than it is.
        {
            let mut known = access.known.write().expect("nobody else has it");
            known.looked -= 2 * LOOK_AGAIN;
            known.changed = None;
        }
        assert_eq!(access.principal(Some(&first)), None);
        assert!(access.principal(Some(&second)).is_some());
    }

    #[test]
    fn with_tokens_nobody_comes_without_one() {
        let (_folder, file) = file();
        let open = Access::new(Some(file.clone()), None, true).expect("it can be read");
        assert_eq!(open.principal(None).map(|it| it.role), Some(Role::Admin));
        assert_eq!(open.principal(Some("gear_1")), None, "a wrong token is no token");
        file.create("one", Role::Viewer).expect("it is made");
        let closed = Access::new(Some(file), None, true).expect("it can be read");
        assert_eq!(closed.principal(None), None);
    }

    #[test]
    fn files_that_others_read_and_damaged_ones_are_refused() {
        let (_folder, file) = file();
        file.create("one", Role::Viewer).expect("it is made");
        fs::set_permissions(&file.0, fs::Permissions::from_mode(0o644)).expect("it is ours");
        let error = Access::new(Some(file.clone()), None, false).expect_err("others can read it");
        assert!(error.to_string().contains("chmod 600"), "{error}");
        fs::set_permissions(&file.0, fs::Permissions::from_mode(0o600)).expect("it is ours");
        for damage in [
            "",
            "{}",
            r#"{"tokens": [{"name": "x", "role": "admin", "sha256": "00"}]}"#,
            r#"{"tokens": [{"name": "x", "role": "root", "sha256": ""}]}"#,
        ] {
            fs::write(&file.0, damage).expect("it is ours");
            let error = Access::new(Some(file.clone()), None, false).expect_err("it is damaged");
            assert!(error.to_string().contains("damaged"), "{error}");
        }
    }

    #[test]
    fn names_are_taken_once() {
        let (_folder, file) = file();
        file.create("one", Role::Viewer).expect("it is made");
        for name in ["one", "", "two words", "a/b"] {
            assert!(file.create(name, Role::Viewer).is_err(), "{name}");
        }
        assert_eq!(file.list().expect("it can be read"), [("one".into(), Role::Viewer)]);
    }

    #[test]
    fn nodes_of_a_cluster_know_each_other_by_its_key() {
        let (one, other) = (ClusterKey::new(*b"one"), ClusterKey::new(*b"other"));
        let (mine, theirs) = (NodeToken::of(&one), NodeToken::of(&other));
        let access = Access::new(None, Some(&mine), false).expect("there is no file");
        let role = |token: &NodeToken| access.principal(Some(token.secret())).map(|it| it.role);
        assert_eq!(role(&mine), Some(Role::Node));
        assert_eq!(role(&theirs), None);
        assert_ne!(one.derive("a"), one.derive("b"));
        let shown = format!("{one:?} {mine:?} {access:?}");
        assert!(!shown.contains(mine.secret()), "{shown}");
    }

    #[test]
    fn each_role_may_do_what_those_before_it_may() {
        assert!(Role::Viewer < Role::Operator);
        assert!(Role::Operator < Role::Admin);
        assert!(Role::Admin < Role::Node);
    }
}
