//! Who asks, and whether the role allows it.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;

use super::Api;
use super::errors::{Code, Problem};
use crate::security::{Principal, Role};

/// Finds out who asks, and leaves it with the request.
///
/// # Errors
/// If a token is unknown, or a web page of another origin asks.
pub(super) async fn authenticate(
    State(api): State<Api>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    check_origin(request.headers())?;
    let token = bearer(request.headers());
    let principal = api.access().principal(token);
    if principal.is_none() && token.is_some() {
        return Err(Problem::new(
            Code::NoToken,
            "the token is not known to this node: it was revoked, or is one of another cluster",
        ));
    }
    if let Some(principal) = principal {
        request.extensions_mut().insert(principal);
    }
    Ok(next.run(request).await)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A page of another origin could otherwise have a browser on this machine submit a job.
fn check_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).and_then(|it| it.to_str().ok());
    let Some(origin) = text(&header::ORIGIN) else { return Ok(()) };
    let authority = origin.split_once("://").map(|(_, it)| it);
    if authority.is_some() && authority == text(&header::HOST) {
        return Ok(());
    }
    Err(Problem::new(
        Code::ForeignOrigin,
        "pages of other origins may not use this cluster: use its own dashboard or `gear-node`",
    ))
}

/// Lets through who has at least this role.
///
/// # Errors
/// If nobody has said who he is, or his role is a lower one.
pub(super) async fn require(
    State(least): State<Role>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    match request.extensions().get::<Principal>() {
        None => Err(Problem::new(
            Code::NoToken,
            "this cluster asks for a token: give one with --token-file or in GEAR_TOKEN, or in \
             the header `Authorization: Bearer TOKEN`",
        )),
        Some(it) if it.role < least => Err(Problem::new(
            Code::NotAllowed,
            format!(
                "the token `{}` is one of a {}, and this is for a role of {least} or above",
                it.name, it.role
            ),
        )),
        Some(_) => Ok(next.run(request).await),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(of: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_token_is_taken_from_its_header_only_if_it_is_one() {
        let token = |value| bearer(&headers(&[(header::AUTHORIZATION, value)])).map(str::to_owned);
        assert_eq!(token("Bearer gear_1").as_deref(), Some("gear_1"));
        assert_eq!(token("bearer  gear_1").as_deref(), Some("gear_1"));
        assert_eq!(token("Basic Zm9v"), None);
        assert_eq!(token("gear_1"), None);
    }

    #[test]
    fn pages_of_other_origins_are_kept_out() {
        let check = |origin, host| {
            check_origin(&headers(&[(header::ORIGIN, origin), (header::HOST, host)]))
        };
        assert!(check("http://127.0.0.1:7480", "127.0.0.1:7480").is_ok());
        assert!(check("http://evil.example", "127.0.0.1:7480").is_err());
        assert!(check("null", "127.0.0.1:7480").is_err());
        assert!(check_origin(&HeaderMap::new()).is_ok());
    }
}
