//! What a caller is told when something cannot be done: RFC 9457's problem details.

use axum::body::Body;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use gear_core::control::Reply;
use gear_core::host::process::Answer;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What went wrong, for programs. A code never changes its meaning; there may come new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request is not of the form that the endpoint takes.
    BadRequest,
    /// The request carries no token, or none that is known.
    NoToken,
    /// The token's role does not allow it.
    NotAllowed,
    /// A web page of another origin has asked.
    ForeignOrigin,
    /// There is no such app, node, process or endpoint.
    NotFound,
    /// The endpoint has no such method.
    NoSuchMethod,
    /// It cannot be done as things are; asked again later, it may.
    Refused,
    /// The body is larger than allowed.
    TooLarge,
    /// The binary does not run here, or is not what its name says.
    BadBinary,
    /// The job cannot be described with these arguments.
    BadJob,
    /// Nobody leads the masters, or it cannot be reached: ask again.
    NoLeader,
    /// A node that has to take part does not answer.
    NodeUnreachable,
    /// It took too long; it may still happen.
    Timeout,
    /// A fault of the node itself.
    Internal,
    /// A code that this version does not know.
    #[serde(other)]
    Unknown,
}

impl Code {
    const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::NoToken => StatusCode::UNAUTHORIZED,
            Self::NotAllowed | Self::ForeignOrigin => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::NoSuchMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::Refused => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BadBinary | Self::BadJob => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NoLeader => StatusCode::SERVICE_UNAVAILABLE,
            Self::NodeUnreachable => StatusCode::BAD_GATEWAY,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal | Self::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::BadRequest => "The request is malformed",
            Self::NoToken => "A token is needed",
            Self::NotAllowed => "Not allowed",
            Self::ForeignOrigin => "Asked by a page of another origin",
            Self::NotFound => "Not found",
            Self::NoSuchMethod => "No such method",
            Self::Refused => "Refused",
            Self::TooLarge => "Too large",
            Self::BadBinary => "The binary cannot be used",
            Self::BadJob => "The job cannot be described",
            Self::NoLeader => "Nobody leads the masters",
            Self::NodeUnreachable => "A node does not answer",
            Self::Timeout => "It took too long",
            Self::Internal | Self::Unknown => "A fault of the node",
        }
    }
}

/// Why something was not done, as `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:gear:problem:` and the code.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The code in words.
    #[serde(default)]
    pub title: String,
    /// The status of the response.
    #[serde(default)]
    pub status: u16,
    /// What went wrong, for programs.
    pub code: Code,
    /// What happened, and what to do.
    #[serde(default)]
    pub detail: String,
}

impl Problem {
    /// A problem with a sentence that says what happened and what to do.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let name = serde_json::to_value(code).ok();
        let name = name.as_ref().and_then(serde_json::Value::as_str).unwrap_or("unknown");
        Self {
            kind: format!("urn:gear:problem:{name}"),
            title: code.title().into(),
            status: code.status().as_u16(),
            code,
            detail: detail.into(),
        }
    }

    /// There is nothing of this name.
    #[must_use]
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Code::NotFound, detail)
    }

    /// What the masters said, where it is not what was hoped for.
    #[must_use]
    pub fn of_reply(reply: &Reply) -> Self {
        match reply {
            Reply::Refused { reason } => Self::new(Code::Refused, reason),
            Reply::NotLeader { .. } => Self::new(
                Code::NoLeader,
                "nobody leads the masters at the moment: ask again; if it lasts, look with \
                 `gear-node nodes` whether a majority of the masters runs",
            ),
            other => Self::unexpected(other),
        }
    }

    /// What a process said, where it is not what was hoped for.
    #[must_use]
    pub fn of_answer(answer: &Answer) -> Self {
        match answer {
            Answer::Reply(reply) => Self::of_reply(reply),
            Answer::Refused { reason } => Self::new(Code::Refused, reason),
            other => Self::unexpected(other),
        }
    }

    fn unexpected(said: &impl std::fmt::Debug) -> Self {
        tracing::error!(target: "gear::api", ?said, "an answer that does not fit its question");
        Self::new(
            Code::Internal,
            "the node answered something else than it was asked: look into its log",
        )
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = if self.detail.is_empty() { &self.title } else { &self.detail };
        f.write_str(text)
    }
}

impl std::error::Error for Problem {}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.code.status();
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return Self::new(Code::TooLarge, "the body is larger than this endpoint takes");
        }
        Self::new(Code::BadRequest, format!("{}: see /api/v1/openapi.json", rejection.body_text()))
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::new(Code::BadRequest, rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(Code::BadRequest, rejection.body_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_the_same_to_programs_and_to_people() {
        let problem = Problem::new(Code::NoLeader, "ask again");
        let response = problem.clone().into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        let json = serde_json::to_value(&problem).expect("plain data");
        assert_eq!(json["code"], "no_leader");
        assert_eq!(json["type"], "urn:gear:problem:no_leader");
        assert_eq!(json["status"], 503);
        let back: Problem = serde_json::from_value(json).expect("it was written by us");
        assert_eq!(back, problem);
    }

    #[test]
    fn a_code_of_a_later_version_is_read() {
        let text = r#"{"code": "moon_in_the_way", "detail": "wait"}"#;
        let problem: Problem = serde_json::from_str(text).expect("it is a problem");
        assert_eq!((problem.code, problem.to_string().as_str()), (Code::Unknown, "wait"));
    }
}
