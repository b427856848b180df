//! Classifies errors of etcd and of connections to etcd.

use tonic::Code;

/// How to react to a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// This endpoint does not answer or cannot serve. Another endpoint may.
    Endpoint,
    /// The token is missing, expired or outdated: authenticate again.
    Token,
    /// etcd does not accept the user or the password.
    Credentials,
    /// The user lacks a permission.
    Permission,
    /// etcd's database is full.
    NoSpace,
    /// The server is busy: wait, then ask again.
    Busy,
    /// The record is larger than etcd stores.
    TooLarge,
    /// etcd refused the request itself, as every member would.
    Request,
}

/// Classifies by code and message, because etcd uses one code for several errors, and the transport
/// uses the same codes.
pub(crate) fn classify(error: &etcd_client::Error) -> Failure {
    use etcd_client::Error as E;
    match error {
        E::GRpcStatus(status) => classify_status(status),
        E::InvalidArgs(_) | E::InvalidUri(_) | E::InvalidMetadataValue(_) | E::Utf8Error(_) => {
            Failure::Request
        }
        _ => Failure::Endpoint,
    }
}

/// Classifies a status that etcd answered.
pub(crate) fn classify_status(status: &tonic::Status) -> Failure {
    classify_message(status.code(), status.message())
}

fn classify_message(code: Code, message: &str) -> Failure {
    // Every member and every gateway uses these words to refuse a message above its size limit.
    // Only the library's messages with records can be that large.
    if code == Code::ResourceExhausted && message.contains("larger than max") {
        return Failure::TooLarge;
    }
    // Only etcd's own errors are final. An error of a gateway may not occur on another endpoint.
    if !is_etcds(message) {
        return Failure::Endpoint;
    }
    if is_token_message(message) {
        return Failure::Token;
    }
    // A learner that is not a member yet, a member of an older version, or a member of another
    // cluster.
    let is_of_member = ["learner", "not capable", "cluster ID mismatch"];
    if is_of_member.iter().any(|text| message.contains(text)) {
        return Failure::Endpoint;
    }
    match code {
        Code::PermissionDenied => Failure::Permission,
        Code::InvalidArgument if message.contains("authentication failed") => Failure::Credentials,
        Code::InvalidArgument if message.contains("request is too large") => Failure::TooLarge,
        Code::ResourceExhausted if message.contains("space exceeded") => Failure::NoSpace,
        Code::ResourceExhausted if message.contains("too many requests") => Failure::Busy,
        Code::Unauthenticated => Failure::Token,
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::ResourceExhausted
        | Code::Unimplemented => Failure::Request,
        // A member without a leader, a member that stops, or a member that lost its data.
        _ => Failure::Endpoint,
    }
}

/// Whether the error comes from etcd itself. Every error of its API begins with this prefix.
fn is_etcds(message: &str) -> bool {
    // Older versions of etcd pass some errors of their user store on unchanged.
    message.starts_with("etcdserver:") || message.starts_with("auth: ")
}

/// Whether the error is an answer of etcd itself, not of the connection or a gateway.
pub(crate) fn is_answer(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if is_etcds(status.message()))
}

/// Whether etcd refuses a token with this text, in an error or in the cancel reason of a watch.
pub(crate) fn is_token_message(message: &str) -> bool {
    [
        "invalid auth token",
        "revision of auth store is old",
        "revision in header is old",
        "user name is empty",
    ]
    .iter()
    .any(|text| message.contains(text))
}

/// The error for an answer that is incomplete or contradicts itself. It is the fault of the
/// endpoint.
pub(crate) fn wrong_answer(what: impl Into<String>) -> etcd_client::Error {
    etcd_client::Error::Internal(what.into())
}

/// Classifies the reason with which etcd cancelled a watch.
pub(crate) fn classify_cancel(reason: &str) -> Failure {
    // The text follows the words "rpc error: code = ... desc = ".
    if is_token_message(reason) {
        Failure::Token
    } else if reason.contains("etcdserver: permission denied") {
        Failure::Permission
    } else {
        Failure::Endpoint
    }
}

/// Whether etcd answers that the lease does not exist.
pub(crate) fn is_lease_not_found(error: &etcd_client::Error) -> bool {
    match error {
        etcd_client::Error::GRpcStatus(status) => {
            status.code() == Code::NotFound && status.message().contains("lease not found")
        }
        etcd_client::Error::LeaseKeepAliveError(text) => text == "lease not found",
        _ => false,
    }
}

/// Whether etcd answers that a lease with this id exists, because an earlier try of this process
/// granted it.
pub(crate) fn is_lease_exists(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status)
        if status.code() == Code::FailedPrecondition
            && status.message().contains("lease already exists"))
}

/// Whether the requested revision has been compacted.
pub(crate) fn is_compacted(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status)
        if status.code() == Code::OutOfRange && status.message().contains("compacted"))
}

/// Whether the answer to a small request exceeds the message limit of this process, or of a gateway
/// (usually 4 MB). A request for fewer keys may succeed. The gRPC libraries use several codes for
/// this.
pub(crate) fn is_answer_too_large(error: &etcd_client::Error) -> bool {
    let etcd_client::Error::GRpcStatus(status) = error else {
        return false;
    };
    let message = status.message();
    // The first text is this process's own.
    [
        "message length too large",
        "larger than max",
        "message too large",
    ]
    .iter()
    .any(|known| message.contains(known))
}

/// Whether etcd answers that it works without users.
pub(crate) fn is_auth_not_enabled(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status)
        if status.message().contains("authentication is not enabled"))
}

/// Returns the text of etcd or of the transport, without wrapping errors.
pub(crate) fn describe(error: &etcd_client::Error) -> String {
    match error {
        etcd_client::Error::GRpcStatus(status) => {
            let mut text = match status.message() {
                // The server speaks HTTP/2 but not gRPC.
                message if message.contains("grpc-status header missing") => {
                    format!("its answers are not those of etcd: {message}")
                }
                message => message.to_owned(),
            };
            let mut source = std::error::Error::source(status);
            while let Some(inner) = source {
                let inner_text = inner.to_string();
                if !inner_text.is_empty() && !text.contains(&inner_text) {
                    text.push_str(": ");
                    text.push_str(&inner_text);
                }
                source = inner.source();
            }
            format!("{text} ({:?})", status.code())
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_code_means_different_things() {
        let cases = [
            (
                Code::Unavailable,
                "etcdserver: no leader",
                Failure::Endpoint,
            ),
            (
                Code::Unknown,
                "h2 protocol error: error reading a body from connection",
                Failure::Endpoint,
            ),
            (Code::Cancelled, "Timeout expired", Failure::Endpoint),
            (
                Code::Unauthenticated,
                "etcdserver: invalid auth token",
                Failure::Token,
            ),
            (
                Code::Unknown,
                "etcdserver: invalid auth token",
                Failure::Token,
            ),
            (
                Code::InvalidArgument,
                "etcdserver: revision of auth store is old",
                Failure::Token,
            ),
            (
                Code::InvalidArgument,
                "etcdserver: user name is empty",
                Failure::Token,
            ),
            (
                Code::InvalidArgument,
                "etcdserver: authentication failed, invalid user ID or password",
                Failure::Credentials,
            ),
            (
                Code::PermissionDenied,
                "etcdserver: permission denied",
                Failure::Permission,
            ),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
                Failure::NoSpace,
            ),
            (
                Code::ResourceExhausted,
                "etcdserver: too many requests",
                Failure::Busy,
            ),
            (
                Code::InvalidArgument,
                "etcdserver: request is too large",
                Failure::TooLarge,
            ),
            (
                Code::FailedPrecondition,
                "etcdserver: rpc not supported for learner",
                Failure::Endpoint,
            ),
            (
                Code::Unimplemented,
                "unknown service etcdserverpb.KV",
                Failure::Endpoint,
            ),
            (
                Code::NotFound,
                "etcdserver: requested lease not found",
                Failure::Request,
            ),
            (
                Code::ResourceExhausted,
                "grpc: received message larger than max (5000000 vs. 4194304)",
                Failure::TooLarge,
            ),
        ];
        for (code, message, expected) in cases {
            assert_eq!(
                classify_message(code, message),
                expected,
                "{code:?} {message}"
            );
        }
    }

    #[test]
    fn only_etcds_own_word_is_final() {
        for code in (1..=16).map(Code::from_i32) {
            for message in [
                "quota exceeded",
                "permission denied",
                "RBAC: access denied",
                "",
            ] {
                let failure = classify_message(code, message);
                assert_eq!(failure, Failure::Endpoint, "{code:?} {message}");
            }
        }
        let denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
        assert_eq!(classify_cancel(denied), Failure::Permission);
        let old = "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token";
        assert_eq!(classify_cancel(old), Failure::Token);
        assert_eq!(classify_cancel("permission denied"), Failure::Endpoint);
        assert_eq!(classify_cancel(""), Failure::Endpoint);
    }

    #[test]
    fn answers_that_are_too_large_for_a_gateway_are_known() {
        let is_too_large = |code, message| {
            let status = tonic::Status::new(code, message);
            is_answer_too_large(&etcd_client::Error::GRpcStatus(status))
        };
        let proxys = "grpc: received message larger than max (5000000 vs. 4194304)";
        assert!(is_too_large(Code::ResourceExhausted, proxys));
        let ours = "Error, decoded message length too large: found 9 bytes, the limit is: 4 bytes";
        assert!(is_too_large(Code::OutOfRange, ours));
        assert!(!is_too_large(
            Code::ResourceExhausted,
            "etcdserver: too many requests"
        ));
    }
}
