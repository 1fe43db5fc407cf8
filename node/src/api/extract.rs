//! What handlers take out of requests; what does not fit is a [`Problem`].

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use gear_core::id::RequestId;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::HOP_HEADER;
use super::errors::{Code, Problem};

/// Characters of an `Idempotency-Key`.
const KEY_CHARS_MAX: usize = 256;

/// A body of JSON.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let axum::Json(value) = axum::Json::from_request(request, state).await?;
        Ok(Self(value))
    }
}

/// The parameters behind the `?`.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(value) = Query::from_request_parts(parts, state).await?;
        Ok(Self(value))
    }
}

/// Under which name a change is asked for, however often it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Idempotency(pub(super) Option<RequestId>);

impl<S: Send + Sync> FromRequestParts<S> for Idempotency {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        request_id(&parts.headers).map(Self)
    }
}

fn request_id(headers: &HeaderMap) -> Result<Option<RequestId>, Problem> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    if key.is_empty() || key.len() > KEY_CHARS_MAX {
        return Err(Problem::new(
            Code::BadRequest,
            format!("an `Idempotency-Key` has 1 to {KEY_CHARS_MAX} characters"),
        ));
    }
    let digest = Sha256::digest(key.as_bytes());
    let part = |at: usize| {
        u64::from_le_bytes(digest[at..at + 8].try_into().expect("a digest has 32 bytes"))
    };
    Ok(Some(RequestId { client: part(0), number: part(8) }))
}

/// True if another node asks in somebody's place: it is not asked again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hopped(pub(super) bool);

impl<S: Send + Sync> FromRequestParts<S> for Hopped {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.headers.contains_key(HOP_HEADER)))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn id(key: &str) -> Result<Option<RequestId>, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", HeaderValue::from_str(key).expect("it is one"));
        request_id(&headers)
    }

    #[test]
    fn the_same_key_is_the_same_request() {
        assert_eq!(request_id(&HeaderMap::new()), Ok(None));
        assert_eq!(id("a"), id("a"));
        assert_ne!(id("a"), id("b"));
        assert!(id("").is_err());
        assert!(id(&"k".repeat(KEY_CHARS_MAX + 1)).is_err());
    }
}
