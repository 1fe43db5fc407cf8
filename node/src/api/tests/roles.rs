//! Every endpoint with every role, and in the document.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::http::StatusCode;
use tempfile::TempDir;
use tower::ServiceExt as _;

use super::super::routes::{openapi, router};
use super::double::{Double, api};
use super::request;
use crate::security::{Access, ClusterKey, NodeToken, Role, TokenFile};

/// Every endpoint, and the least role that may use it; none if everybody may.
const ENDPOINTS: &[(&str, &str, Option<Role>)] = &[
    ("GET", "/health", None),
    ("GET", "/ready", None),
    ("GET", "/metrics", Some(Role::Viewer)),
    ("GET", "/api/v1/version", None),
    ("GET", "/api/v1/openapi.json", None),
    ("GET", "/api/v1/whoami", Some(Role::Viewer)),
    ("GET", "/api/v1/cluster", Some(Role::Viewer)),
    ("GET", "/api/v1/nodes", Some(Role::Viewer)),
    ("GET", "/api/v1/nodes/{node}", Some(Role::Viewer)),
    ("POST", "/api/v1/nodes/{node}/drain", Some(Role::Operator)),
    ("POST", "/api/v1/nodes/{node}/undrain", Some(Role::Operator)),
    ("POST", "/api/v1/nodes/{node}/readmit", Some(Role::Admin)),
    ("GET", "/api/v1/workers", Some(Role::Viewer)),
    ("GET", "/api/v1/workers/{node}", Some(Role::Viewer)),
    ("GET", "/api/v1/voters", Some(Role::Viewer)),
    ("PUT", "/api/v1/voters", Some(Role::Admin)),
    ("GET", "/api/v1/apps", Some(Role::Viewer)),
    ("POST", "/api/v1/apps", Some(Role::Admin)),
    ("GET", "/api/v1/apps/{app}", Some(Role::Viewer)),
    ("DELETE", "/api/v1/apps/{app}", Some(Role::Operator)),
    ("GET", "/api/v1/apps/{app}/live", Some(Role::Viewer)),
    ("GET", "/api/v1/apps/{app}/executors", Some(Role::Viewer)),
    ("GET", "/api/v1/apps/{app}/executors/{executor}", Some(Role::Viewer)),
    ("GET", "/api/v1/apps/{app}/dag", Some(Role::Viewer)),
    ("GET", "/api/v1/apps/{app}/stalling", Some(Role::Viewer)),
    ("GET", "/api/v1/apps/{app}/errors", Some(Role::Viewer)),
    ("POST", "/api/v1/apps/{app}/stop", Some(Role::Operator)),
    ("POST", "/api/v1/apps/{app}/restart", Some(Role::Operator)),
    ("GET", "/api/v1/apps/{app}/savepoints", Some(Role::Viewer)),
    ("POST", "/api/v1/apps/{app}/savepoints", Some(Role::Operator)),
    ("GET", "/api/v1/apps/{app}/quarantine", Some(Role::Viewer)),
    ("GET", "/api/v1/apps/{app}/quarantine/records", Some(Role::Operator)),
    ("POST", "/api/v1/apps/{app}/quarantine/replay", Some(Role::Operator)),
    ("POST", "/api/v1/apps/{app}/quarantine/drop", Some(Role::Operator)),
    ("GET", "/api/v1/apps/{app}/logs", Some(Role::Operator)),
    ("GET", "/api/v1/metrics", Some(Role::Viewer)),
    ("GET", "/api/v1/checkpoints/probes/{probe}", Some(Role::Admin)),
    ("GET", "/api/v1/events", Some(Role::Viewer)),
    ("GET", "/api/v1/binaries/{sha256}", Some(Role::Admin)),
    ("PUT", "/api/v1/binaries/{sha256}", Some(Role::Admin)),
];

#[test]
fn the_document_has_every_endpoint_and_no_other() {
    let document = serde_json::to_value(openapi()).expect("plain data");
    let paths = document["paths"].as_object().expect("it has paths");
    let documented = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("a path has methods").keys();
        methods.map(move |method| (method.to_uppercase(), path.clone()))
    });
    let documented: BTreeSet<(String, String)> = documented.collect();
    let known = ENDPOINTS.iter().map(|(method, path, _)| ((*method).into(), (*path).into()));
    assert_eq!(documented, known.collect());
    assert!(document.pointer("/components/schemas/Problem").is_some());
    assert!(document.pointer("/components/securitySchemes/token").is_some());
    for (path, methods) in paths {
        for (method, endpoint) in methods.as_object().expect("a path has methods") {
            assert!(endpoint["summary"].is_string() || endpoint["description"].is_string());
            assert!(endpoint["responses"].is_object(), "{method} {path}");
        }
    }
}

/// A reference that leads nowhere would break every program that reads the document.
#[test]
fn the_document_s_references_lead_somewhere() {
    let document = serde_json::to_value(openapi()).expect("plain data");
    let text = document.to_string();
    let references = text.split("\"$ref\":\"#").skip(1);
    let references: BTreeSet<&str> =
        references.map(|it| it.split('"').next().expect("it ends")).collect();
    assert!(references.len() > 20, "{references:?}");
    for reference in references {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn each_role_may_do_what_it_may_and_nothing_else() {
    let folder = TempDir::new().expect("there is a folder");
    let file = TokenFile::at(folder.path().join("tokens.json"));
    let node = NodeToken::of(&ClusterKey::new(*b"key"));
    let mut tokens = vec![(None, None)];
    for role in [Role::Viewer, Role::Operator, Role::Admin] {
        let token = file.create(&role.to_string(), role).expect("it is made");
        tokens.push((Some(role), Some(token)));
    }
    tokens.push((Some(Role::Node), Some(node.secret().to_owned())));
    for (method, path, least) in ENDPOINTS {
        let path = path
            .replace("{app}", "1")
            .replace("{node}", "1")
            .replace("{executor}", "1")
            .replace("{probe}", "1")
            .replace("{sha256}", &"0".repeat(64));
        for (role, token) in &tokens {
            // Each has a double of its own, since some change it.
            let access = Access::new(Some(file.clone()), Some(&node), false);
            let access = access.expect("it can be read");
            let double = Arc::new(Double::new(1));
            let router = router(api(&double, access, None));
            let mut request = request(method, &path, Body::from("{}"));
            if let Some(token) = token {
                let value = format!("Bearer {token}").parse().expect("it is one");
                request.headers_mut().insert("authorization", value);
            }
            let status = router.oneshot(request).await.expect("it always answers").status();
            let expected = match (least, role) {
                (Some(_), None) => Some(StatusCode::UNAUTHORIZED),
                (Some(least), Some(role)) if role < least => Some(StatusCode::FORBIDDEN),
                _ => None,
            };
            match expected {
                Some(expected) => assert_eq!(status, expected, "{method} {path} as {role:?}"),
                None => {
                    let kept_out = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];
                    assert!(!kept_out.contains(&status), "{method} {path} as {role:?}: {status}");
                }
            }
            if expected.is_some() {
                assert!(double.asked.lock().expect("nobody panics").is_empty(), "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn an_unknown_token_is_no_token_even_where_none_is_needed() {
    let double = Arc::new(Double::new(1));
    let router = router(api(&double, Access::everybody(), None));
    let mut request = request("GET", "/api/v1/apps", Body::empty());
    let value = "Bearer gear_1".parse().expect("it is one");
    request.headers_mut().insert("authorization", value);
    let response = router.oneshot(request).await.expect("it always answers");
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
}
