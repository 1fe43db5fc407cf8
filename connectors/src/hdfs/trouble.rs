//! What went wrong with HDFS: what may pass, what kind of failure it is, and what to do about it.

use std::io::ErrorKind;
use std::time::Duration;

use gear_core::effect::{IoError, IoErrorKind};

/// How a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A connection, to the name node or to a data node.
    Connection {
        /// What the operating system calls it.
        kind: ErrorKind,
        /// What it said.
        said: String,
    },
    /// The name node refused.
    Refused {
        /// The class of its exception.
        class: String,
        /// What it said.
        said: String,
    },
    /// Something of that name exists, or somebody holds its lease.
    Exists(String),
    /// There is no such file.
    Missing,
    /// Data nodes did not take or give the bytes.
    Transfer(String),
    /// The bytes are not those that were written.
    Checksum,
    /// It took too long.
    Late {
        /// What was asked for.
        what: &'static str,
        /// How long it could take.
        limit: Duration,
    },
    /// Nobody could log in.
    Login(String),
    /// Anything else.
    Other(String),
}

/// What a fault means.
struct Meaning {
    kind: IoErrorKind,
    reason: String,
}

impl Fault {
    /// True if the same call may succeed later.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        self.meaning().kind == IoErrorKind::Unavailable
    }

    /// True if it says nothing about the writer that met it, which may go on: the name node was
    /// not reached, or is not yet ready.
    #[must_use]
    pub fn spares_the_writer(&self) -> bool {
        !matches!(self, Self::Late { .. } | Self::Transfer(_)) && self.may_pass()
    }

    /// What the user is told.
    #[must_use]
    pub fn error(&self, path: &str) -> IoError {
        let Meaning { kind, reason } = self.meaning();
        IoError { path: path.to_owned(), reason, kind }
    }

    fn meaning(&self) -> Meaning {
        let meaning = |kind, reason: String| Meaning { kind, reason };
        let passing = |reason| meaning(IoErrorKind::Unavailable, reason);
        match self {
            Self::Connection { kind, said } => connection(*kind, said),
            Self::Refused { class, said } => refused(class, first_line(said)),
            // The client tells neither apart from a name that is taken.
            Self::Exists(said)
                if said.contains("lease is currently owned")
                    || said.contains("already being created") =>
            {
                passing(format!("another client holds its lease: {}", first_line(said)))
            }
            Self::Exists(_) => meaning(IoErrorKind::Other, "a file of this name exists".to_owned()),
            Self::Missing => meaning(IoErrorKind::NotFound, "there is no such file".to_owned()),
            Self::Transfer(said) => passing(format!("the data nodes failed: {}", first_line(said))),
            Self::Checksum => meaning(
                IoErrorKind::Damaged,
                "its bytes do not have the checksum with which they were written".to_owned(),
            ),
            Self::Late { what, limit } => {
                passing(format!("no answer within {} s to: {what}", limit.as_secs()))
            }
            Self::Login(said) => login(said),
            Self::Other(said) => meaning(IoErrorKind::Other, said.clone()),
        }
    }
}

/// Java appends the stack.
fn first_line(said: &str) -> &str {
    said.lines().next().unwrap_or_default()
}

fn login(said: &str) -> Meaning {
    let (kind, advice) = if said.contains("libgssapi") {
        let advice = "install the library libgssapi_krb5: the package libgssapi-krb5-2 on Debian, \
                      krb5-libs on Red Hat";
        (IoErrorKind::Denied, advice)
    } else if said.contains("Cannot contact any KDC") {
        (IoErrorKind::Unavailable, "KRB5_CONFIG names the file that says where it is")
    } else {
        let advice = "get a ticket with kinit, and let KRB5CCNAME name its cache if it is not the \
                      usual one, or let KRB5_CLIENT_KTNAME name a keytab";
        (IoErrorKind::Denied, advice)
    };
    Meaning { kind, reason: format!("logging in with Kerberos failed: {said}; {advice}") }
}

fn connection(kind: ErrorKind, said: &str) -> Meaning {
    // That a name is unknown has no kind of its own.
    let unknown = said.contains("lookup") && !said.contains("Temporary failure");
    let (kind, reason) = match kind {
        _ if unknown => (
            IoErrorKind::Other,
            format!("the host is unknown ({said}); check the URL, or HADOOP_CONF_DIR"),
        ),
        ErrorKind::PermissionDenied => (IoErrorKind::Denied, said.to_owned()),
        // It says why, which the client drops.
        ErrorKind::ConnectionAborted if said.contains("RPC listener") => (
            IoErrorKind::Unavailable,
            "the name node has closed the connection, as one does that ends, and one that wants \
             Kerberos of a client whose HADOOP_CONF_DIR does not say so"
                .to_owned(),
        ),
        _ => (IoErrorKind::Unavailable, format!("it cannot be reached: {said}")),
    };
    Meaning { kind, reason }
}

fn refused(class: &str, said: &str) -> Meaning {
    let name = class.rsplit(['.', '$']).next().unwrap_or(class);
    let meaning = |kind, reason: String| Meaning { kind, reason };
    match name {
        "SafeModeException" => {
            meaning(IoErrorKind::Unavailable, "the name node is in safe mode".to_owned())
        }
        "StandbyException" => meaning(
            IoErrorKind::Unavailable,
            "no name node is active; see hdfs haadmin -getAllServiceState".to_owned(),
        ),
        "RetriableException"
        | "RecoveryInProgressException"
        | "NotReplicatedYetException"
        | "ObserverRetryOnActiveException"
        | "RpcNoSuchProtocolException"
        | "BlockMissingException" => meaning(IoErrorKind::Unavailable, said.to_owned()),
        "AccessControlException" | "AuthorizationException" => {
            meaning(IoErrorKind::Denied, said.to_owned())
        }
        "InvalidToken" | "SaslException" | "GSSException" => login(said),
        "DSQuotaExceededException"
        | "NSQuotaExceededException"
        | "QuotaExceededException"
        | "QuotaByStorageTypeExceededException" => {
            meaning(IoErrorKind::Full, format!("the quota is used up: {said}"))
        }
        "FileNotFoundException" => meaning(IoErrorKind::NotFound, said.to_owned()),
        "LeaseExpiredException" => {
            meaning(IoErrorKind::Other, format!("another client has taken the file over: {said}"))
        }
        // Data nodes that are away look like data nodes that are full.
        "IOException" if said.contains("could only be written to") => meaning(
            IoErrorKind::Unavailable,
            format!("no data node takes a block: they are away, or full: {said}"),
        ),
        _ => meaning(IoErrorKind::Other, format!("{name}: {said}")),
    }
}

/// What the client's errors are.
#[cfg(feature = "hdfs")]
pub(crate) fn of(error: hdfs_native::HdfsError) -> Fault {
    use hdfs_native::HdfsError as E;

    match error {
        E::IOError(error) => Fault::Connection { kind: error.kind(), said: error.to_string() },
        E::RPCError(class, said) | E::FatalRPCError(class, said)
            if class == "java.io.FileNotFoundException" =>
        {
            let _ = said;
            Fault::Missing
        }
        E::RPCError(class, said) | E::FatalRPCError(class, said) => Fault::Refused { class, said },
        E::AlreadyExists(said) => Fault::Exists(said),
        E::FileNotFound(_) => Fault::Missing,
        E::DataTransferError(said) => Fault::Transfer(said),
        E::BlocksNotFound(said) => Fault::Transfer(format!("no replica was found of {said}")),
        E::OperationFailed(said) if said.contains("libgssapi") => Fault::Login(said),
        // Of the end of a file: the name node has not heard of its blocks.
        E::OperationFailed(said) => Fault::Transfer(said),
        E::ChecksumError => Fault::Checksum,
        E::GSSAPIError(_, _, said) | E::SASLError(said) => Fault::Login(said),
        error @ E::NoSASLMechanism => Fault::Login(error.to_string()),
        error => Fault::Other(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(class: &str, said: &str) -> Fault {
        Fault::Refused { class: class.to_owned(), said: said.to_owned() }
    }

    fn connection(kind: ErrorKind, said: &str) -> Fault {
        Fault::Connection { kind, said: said.to_owned() }
    }

    #[test]
    fn each_fault_has_its_kind() {
        use IoErrorKind::{Damaged, Denied, Full, NotFound, Other, Unavailable};
        let late = Fault::Late { what: "hsync", limit: Duration::from_secs(20) };
        for (fault, kind, says) in [
            (
                refusal("org.apache.hadoop.hdfs.server.namenode.SafeModeException", "x"),
                Unavailable,
                "safe mode",
            ),
            (refusal("org.apache.hadoop.ipc.StandbyException", "x"), Unavailable, "active"),
            (
                refusal("org.apache.hadoop.ipc.RetriableException", "later\n at"),
                Unavailable,
                "later",
            ),
            (
                refusal("org.apache.hadoop.hdfs.protocol.RecoveryInProgressException", "r"),
                Unavailable,
                "r",
            ),
            (refusal("org.apache.hadoop.security.AccessControlException", "no"), Denied, "no"),
            (refusal("a.SecretManager$InvalidToken", "old"), Denied, "logging in"),
            (
                refusal("org.apache.hadoop.hdfs.protocol.DSQuotaExceededException", "q"),
                Full,
                "quota",
            ),
            (refusal("java.io.FileNotFoundException", "File does not exist: /a"), NotFound, "/a"),
            (
                refusal("org.apache.hadoop.hdfs.server.namenode.LeaseExpiredException", "gone"),
                Other,
                "taken the file over",
            ),
            (
                refusal("java.io.IOException", "File /a could only be written to 0 of the 1"),
                Unavailable,
                "away, or full",
            ),
            (refusal("java.io.IOException", "File exists"), Other, "IOException: File exists"),
            (connection(ErrorKind::ConnectionRefused, "refused"), Unavailable, "reached"),
            (connection(ErrorKind::UnexpectedEof, "eof"), Unavailable, "reached"),
            (connection(ErrorKind::Other, "failed to lookup address"), Other, "host is unknown"),
            (
                Fault::Exists("because this file lease is currently owned by x".to_owned()),
                Unavailable,
                "lease",
            ),
            (Fault::Exists("/a".to_owned()), Other, "exists"),
            (Fault::Missing, NotFound, "no such file"),
            (Fault::Transfer("All nodes failed for write".to_owned()), Unavailable, "All nodes"),
            (Fault::Checksum, Damaged, "checksum"),
            (late, Unavailable, "within 20 s"),
            (Fault::Login("no ticket".to_owned()), Denied, "kinit"),
            (Fault::Login("Failed to load libgssapi_krb".to_owned()), Denied, "install"),
            (Fault::Login("Cannot contact any KDC".to_owned()), Unavailable, "KRB5_CONFIG"),
            (refusal("javax.security.sasl.SaslException", "GSS initiate"), Denied, "keytab"),
            (
                connection(ErrorKind::ConnectionAborted, "RPC listener disconnected"),
                Unavailable,
                "wants Kerberos",
            ),
        ] {
            let error = fault.error("hdfs://h:1/f");
            assert_eq!((error.kind, fault.may_pass()), (kind, kind == Unavailable), "{fault:?}");
            assert!(error.reason.contains(says), "{error}");
            assert!(error.path == "hdfs://h:1/f" && !error.reason.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_writer_outlives_a_name_node_and_nothing_else() {
        assert!(connection(ErrorKind::ConnectionRefused, "x").spares_the_writer());
        assert!(refusal("a.SafeModeException", "x").spares_the_writer());
        for fault in [
            Fault::Late { what: "hsync", limit: Duration::from_secs(1) },
            Fault::Transfer("All nodes failed for write".to_owned()),
            refusal("a.LeaseExpiredException", "x"),
            Fault::Missing,
        ] {
            assert!(!fault.spares_the_writer(), "{fault:?}");
        }
    }
}
