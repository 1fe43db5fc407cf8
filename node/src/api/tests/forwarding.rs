//! Two nodes over real sockets.

use std::sync::Arc;

use gear_core::control::Address;
use gear_core::host::process::Answer;
use gear_core::id::NodeId;
use serde_json::json;
use tempfile::TempDir;

use super::double::{Double, api, running};
use crate::api::types::{AppLive, ClusterInfo, Done, Logs, SavepointRequest, SavepointTaken};
use crate::api::{Code, KnownNode, Peers, Served, serve};
use crate::client::{Client, ClientError, Http, Token, code};
use crate::security::certificates::{init_authority, node};
use crate::security::tls::Files;
use crate::security::{Access, ClusterKey, NodeToken, Role, TokenFile};

fn listener() -> std::net::TcpListener {
    crate::api::listen("127.0.0.1:0".parse().expect("an address")).expect("there is a port")
}

/// Two nodes that know each other; the app runs on the first one.
struct Pair {
    doubles: [Arc<Double>; 2],
    served: [Served; 2],
}

fn pair(keys: [&[u8]; 2]) -> Pair {
    let listeners = [listener(), listener()];
    let addresses =
        listeners.each_ref().map(|it| it.local_addr().expect("it is bound").to_string());
    let doubles = [1, 2].map(|number| Arc::new(Double::new(number)));
    for double in &doubles {
        let known = |number: usize| KnownNode {
            node: NodeId(number as u64 + 1),
            http: addresses[number].clone(),
            ..KnownNode::default()
        };
        *double.nodes.lock().expect("nobody panics") = vec![known(0), known(1)];
        *double.apps.lock().expect("nobody panics") = vec![running(NodeId(1))];
    }
    let tokens = keys.map(|key| NodeToken::of(&ClusterKey::new(key)));
    let mut numbers = [0, 1].into_iter();
    let served = listeners.map(|listener| {
        let number = numbers.next().expect("there are two");
        let token = &tokens[number];
        let access = Access::new(None, Some(token), true).expect("there is no file");
        let api = api(&doubles[number], access, Some(token.clone()));
        serve(api, listener, None).expect("it is served")
    });
    Pair { doubles, served }
}

fn client(of: &Served) -> Client {
    Http::new(None).expect("there is no authority").at(&of.address().to_string(), None)
}

#[tokio::test]
async fn what_concerns_an_app_is_asked_of_its_app_master_s_node() {
    let pair = pair([b"key", b"key"]);
    let client = client(&pair.served[1]);
    let live: AppLive = client.get("/api/v1/apps/words/live").await.expect("node 1 tells");
    assert_eq!(live.records, 1_000);
    let request = SavepointRequest { name: "before".into() };
    let taken: SavepointTaken =
        client.post("/api/v1/apps/words/savepoints", &request).await.expect("node 1 takes it");
    assert_eq!(taken.epoch, 10);
    let logs: Logs = client.get("/api/v1/apps/1/logs").await.expect("both tell");
    let nodes: Vec<_> = logs.logs.iter().map(|it| it.node.as_str()).collect();
    assert_eq!((nodes, logs.missing.len()), (vec!["2", "1"], 0));
}

#[tokio::test]
async fn a_master_whose_folder_is_lost_begins_another_wherever_it_is_asked_for() {
    let pair = pair([b"key", b"key"]);
    let client = client(&pair.served[1]);
    let path = "/api/v1/nodes/1/readmit";
    let done: Done = client.post(path, &json!({})).await.expect("node 1 does it");
    assert!(done.done.contains("node 1"), "{done:?}");
    let times = || pair.doubles.each_ref().map(|it| *it.readmitted.lock().expect("no panics"));
    assert_eq!(times(), [1, 0]);
    let reason = "the data folder is not one that is lost".to_owned();
    *pair.doubles[0].refuses.lock().expect("nobody panics") = Some(Answer::Refused { reason });
    let error = client.post::<Done>(path, &json!({})).await.expect_err("its folder is sound");
    assert_eq!(code(&error), Some(Code::Refused), "{error}");
    assert!(error.to_string().contains("not one that is lost"), "{error}");
    let error = client.post::<Done>("/api/v1/nodes/9/readmit", &json!({})).await;
    assert_eq!(code(&error.expect_err("there is none")), Some(Code::NotFound));
    assert_eq!(times(), [1, 0]);
}

#[tokio::test]
async fn one_that_was_asked_in_another_s_place_asks_nobody() {
    let pair = pair([b"key", b"key"]);
    // Each says that the other one has it.
    *pair.doubles[0].apps.lock().expect("nobody panics") = vec![running(NodeId(2))];
    let error = client(&pair.served[1]).get::<AppLive>("/api/v1/apps/words/live").await;
    let error = error.expect_err("it runs nowhere");
    assert_eq!(code(&error), Some(Code::NodeUnreachable), "{error}");
}

#[tokio::test]
async fn nodes_of_different_keys_say_so_and_a_missing_one_is_named() {
    let pair = pair([b"key", b"other"]);
    let client = client(&pair.served[1]);
    let error = client.get::<AppLive>("/api/v1/apps/words/live").await.expect_err("no key fits");
    assert!(error.to_string().contains("cluster key"), "{error}");
    let logs: Logs = client.get("/api/v1/apps/1/logs").await.expect("this one tells");
    assert_eq!((logs.logs.len(), logs.missing.len()), (1, 1));
}

#[tokio::test]
async fn a_binary_goes_to_a_majority_of_the_masters() {
    let pair = pair([b"key", b"key"]);
    let voters = [1, 2, 3].map(|number| (NodeId(number), Address(format!("a:{number}"))));
    *pair.doubles[0].voters.lock().expect("nobody panics") = voters.into();
    let digest = crate::api::Digest::of_file("/bin/true".as_ref()).expect("it is there");
    let path = format!("/api/v1/binaries/{digest}");
    let client = client(&pair.served[0]);
    let sent = client.send_file::<serde_json::Value>(&path, "/bin/true".as_ref(), |_| ()).await;
    sent.expect("it is taken");
    let access = Access::everybody();
    let token = NodeToken::of(&ClusterKey::new(*b"key"));
    let api = api(&pair.doubles[0], access, Some(token));
    api.spread(digest).await.expect("two of three have it");
    let there = pair.doubles[1].folder.path().join("binaries").join(digest.to_string());
    assert!(there.exists());
    let voters = [1, 3, 4].map(|number| (NodeId(number), Address(format!("a:{number}"))));
    *pair.doubles[0].voters.lock().expect("nobody panics") = voters.into();
    let problem = api.spread(digest).await.expect_err("one of three has it");
    assert_eq!(problem.code, Code::NodeUnreachable, "{problem}");
}

#[tokio::test]
async fn nodes_with_stores_of_their_own_are_named() {
    let pair = pair([b"key", b"key"]);
    let token = NodeToken::of(&ClusterKey::new(*b"key"));
    let api = api(&pair.doubles[0], Access::everybody(), Some(token));
    let problem = api.probe_store().await.expect_err("each has its own folder");
    assert_eq!(problem.code, Code::Refused);
    assert!(problem.detail.contains("node 2 cannot find"), "{problem}");
    assert!(problem.detail.contains("--checkpoints"), "{problem}");
    let alone = Double::new(1);
    let api = super::double::api(&Arc::new(alone), Access::everybody(), None);
    api.probe_store().await.expect("there is nobody else");
}

#[tokio::test]
async fn tls_is_spoken_with_those_who_trust_the_authority() {
    let folder = TempDir::new().expect("there is a folder");
    let authority = init_authority(folder.path(), 1).expect("it is made").certificate;
    let made = node(folder.path(), "one", &["127.0.0.1".into()], 1).expect("it is made");
    let files =
        Files { authority: authority.clone(), certificate: made.certificate, key: made.key };
    let tokens = TokenFile::at(folder.path().join("tokens.json"));
    let token = tokens.create("anna", Role::Viewer).expect("it is made");
    let access = Access::new(Some(tokens), None, false).expect("it can be read");
    let double = Arc::new(Double::new(1).warning("INSECURE: not really"));
    let peers = Peers::new(None, Some(&authority)).expect("it is an authority");
    let api = crate::api::Api::new(double, access, peers);
    let served = serve(api, listener(), Some(&files)).expect("it is served");
    let at = served.address().to_string();
    let trusting = Http::new(Some(&authority)).expect("it is an authority");
    let anna = trusting.at(&at, Some(Token::new(&token)));
    let info = anna.get::<ClusterInfo>("/api/v1/cluster");
    assert!(info.await.expect("it is trusted").warning.is_some());
    let nobody = trusting.at(&at, None).get::<ClusterInfo>("/api/v1/cluster").await;
    assert_eq!(code(&nobody.expect_err("there is no token")), Some(Code::NoToken));
    let other = TempDir::new().expect("there is a folder");
    let other = init_authority(other.path(), 1).expect("it is made").certificate;
    let stranger = Http::new(Some(&other)).expect("it is an authority").at(&at, None);
    let error = stranger.get::<ClusterInfo>("/api/v1/cluster").await.expect_err("not trusted");
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    let plain = Http::new(None).expect("there is none").at(&at, Some(Token::new(&token)));
    assert!(plain.get::<ClusterInfo>("/api/v1/cluster").await.is_err());
    served.end();
}

#[tokio::test]
async fn a_client_says_when_nobody_is_there_or_somebody_else() {
    let free = listener().local_addr().expect("it is bound").to_string();
    let http = Http::new(None).expect("there is no authority");
    let error = http.at(&free, None).get::<ClusterInfo>("/api/v1/cluster").await;
    assert!(matches!(error, Err(ClientError::Unreachable { .. })));
    let error = http.at("not an address", None).post::<ClusterInfo>("/x", &json!({})).await;
    assert!(matches!(error, Err(ClientError::Unreachable { .. })));
    let strange = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("there is a port");
    let at = strange.local_addr().expect("it is bound").to_string();
    tokio::spawn(async move {
        let (mut stream, _) = strange.accept().await.expect("somebody comes");
        let mut request = [0; 1_024];
        tokio::io::AsyncReadExt::read(&mut stream, &mut request).await.expect("it asks");
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.expect("it is read");
    });
    let error = http.at(&at, None).get::<ClusterInfo>("/api/v1/cluster").await;
    assert!(matches!(error, Err(ClientError::Protocol { .. })), "{error:?}");
}
