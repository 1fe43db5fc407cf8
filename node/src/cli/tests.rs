use std::sync::Arc;

use clap::{CommandFactory as _, Parser as _};
use tempfile::TempDir;

use super::*;
use crate::api::tests::double::{Double, api};
use crate::api::{Problem, Served, listen, serve};
use crate::security::Access;

fn served(double: &Arc<Double>, access: Access) -> Served {
    let listener = listen("127.0.0.1:0".parse().expect("an address")).expect("there is a port");
    serve(api(double, access, None), listener, None).expect("it is served")
}

async fn ask(of: &Served, arguments: &[&str]) -> Result<String, CliError> {
    let at = of.address().to_string();
    let line = ["gear-node"].iter().chain(arguments).copied().chain(["--cluster", &at]);
    let cli = Cli::try_parse_from(line).expect("the command line is right");
    let mut text = Vec::new();
    run(cli, &mut text).await?;
    Ok(String::from_utf8(text).expect("it is text"))
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn command_lines_are_understood_or_refused() {
    for line in [
        "submit target/job -- --fast x",
        "submit job --name n --executors 3 --from app-1/savepoints/s --label a=b --label c=d \
         --strategy pack --priority -2 --json -- -v",
        "apps --all --json",
        "app words",
        "stop 1 --no-wait",
        "kill 1",
        "restart 1",
        "savepoint 1 before",
        "savepoint 1",
        "quarantine 1 --download out.jsonl",
        "nodes --cluster other:7480",
        "voters --set 1,2,3@a:7400",
        "voters --readmit 1",
        "drain 1",
        "undrain 1",
        "logs 1 --bytes 100",
        "top --once",
        "cert init-ca --dir certs",
        "cert node one --host a --host 10.0.0.1",
        "token create --role admin",
        "completions bash",
        "start --masters 3",
    ] {
        let parsed = Cli::try_parse_from(
            ["gear-node"].into_iter().chain(line.split(' ').filter(|it| !it.is_empty())),
        );
        assert!(parsed.is_ok(), "{line}: {}", parsed.expect_err("it was refused"));
    }
    for line in [
        "",
        "submit",
        "stop",
        "stop 1 --wait --no-wait",
        "quarantine 1 --replay --drop",
        "voters --set 1,2 --readmit 2",
        "cert node one",
        "token create --role node",
        "token create",
        "submit job --executors none",
        "apps --token secret",
    ] {
        let words = ["gear-node"].into_iter().chain(line.split(' ').filter(|it| !it.is_empty()));
        let error = Cli::try_parse_from(words).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[tokio::test]
async fn tables_for_people_and_json_for_programs() {
    let double = Arc::new(Double::new(1).warning("INSECURE: not really"));
    let served = served(&double, Access::everybody());
    let apps = ask(&served, &["apps"]).await.expect("they are listed");
    let lines: Vec<_> = apps.lines().collect();
    assert!(lines[0].starts_with("INSECURE"), "{apps}");
    assert_eq!(lines[1].split_whitespace().next(), Some("ID"));
    let row: Vec<_> = lines[2].split_whitespace().collect();
    assert_eq!(row, ["1", "words", "running", "9", "1/1", "0"]);
    assert_eq!(lines.len(), 3, "one that has ended is not shown: {apps}");
    assert_eq!(ask(&served, &["apps", "--all"]).await.expect("they are").lines().count(), 4);
    for (command, pointer, expected) in [
        (&["apps", "--json"] as &[&str], "/0/name", "words"),
        (&["app", "words", "--json"], "/summary/state", "running"),
        (&["nodes", "--json"], "/0/node", "1"),
        (&["voters", "--json"], "/voters/0/address", "127.0.0.1:7400"),
        (&["logs", "1", "--json"], "/logs/0/process", "executor-1"),
        (&["top", "--once", "--json"], "/cluster/leader", "1"),
    ] {
        let text = ask(&served, command).await.expect("it is told");
        let value: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        let found = value.pointer(pointer).and_then(serde_json::Value::as_str);
        assert_eq!(found, Some(expected), "{command:?}: {text}");
    }
    let app = ask(&served, &["app", "1"]).await.expect("it is shown");
    for part in ["app 1 `words` is running", "records      1,000", "lines[0]", "4 checked"] {
        assert!(app.contains(part), "{part}: {app}");
    }
    let nodes = ask(&served, &["nodes"]).await.expect("they are listed");
    assert!(nodes.contains("leads") && nodes.contains("1/4"), "{nodes}");
    let top = ask(&served, &["top", "--once"]).await.expect("it is shown");
    assert!(top.contains("1 of 4 slots") && top.contains("words"), "{top}");
}

#[tokio::test]
async fn stopping_waits_for_the_end_and_says_the_last_epoch() {
    let double = Arc::new(Double::new(1));
    let served = served(&double, Access::everybody());
    let text = ask(&served, &["stop", "words"]).await.expect("it stops");
    assert_eq!(text, "app 1 has stopped, at epoch 9\n");
    let error = ask(&served, &["stop", "words"]).await.expect_err("it has stopped");
    assert_eq!(error.exit_code(), 1, "{error}");
}

#[tokio::test]
async fn what_is_done_is_said() {
    let double = Arc::new(Double::new(1));
    let served = served(&double, Access::everybody());
    for (command, part) in [
        (&["savepoint", "1", "before"] as &[&str], "--from app-1/savepoints/before"),
        (&["restart", "1"], "app 3"),
        (&["drain", "1"], "moves away"),
        (&["undrain", "127.0.0.1:7400"], "may have work"),
        (&["voters", "--set", "1"], "1 masters vote"),
        (&["voters", "--readmit", "1"], "votes again once"),
        (&["quarantine", "1"], "0 records were put aside"),
        (&["quarantine", "1", "--drop"], "4 records are forgotten"),
        (&["quarantine", "1", "--replay"], "3 records were given again, with epoch 10"),
        (&["quarantine", "1", "--replay"], "1 stay: they were too long"),
        (&["kill", "1"], "ends at once"),
    ] {
        let text = ask(&served, command).await.expect("it is done");
        assert!(text.contains(part), "{command:?}: {text}");
    }
    let folder = TempDir::new().expect("there is a folder");
    let file = folder.path().join("out.jsonl");
    let file = file.to_str().expect("it is text");
    let text = ask(&served, &["quarantine", "1", "--download", file]).await.expect("it is there");
    assert!(text.contains("0 B"), "{text}");
}

#[tokio::test]
async fn the_exit_code_says_what_went_wrong() {
    let double = Arc::new(Double::new(1));
    let open = served(&double, Access::everybody());
    let code = async |of: &Served, arguments: &[&str]| {
        ask(of, arguments).await.expect_err("it goes wrong").exit_code()
    };
    assert_eq!(code(&open, &["app", "nobody"]).await, 5);
    assert_eq!(code(&open, &["quarantine", "nobody", "--replay"]).await, 5);
    assert_eq!(code(&open, &["submit", "/none/such"]).await, 1);
    assert_eq!(code(&open, &["submit", "/bin/true", "--label", "x"]).await, 2);
    assert_eq!(code(&open, &["submit", "/bin/true"]).await, 1, "it is no job");
    assert_eq!(code(&open, &["top", "--interval", "0"]).await, 2);
    let closed = served(&double, Access::new(None, None, false).expect("there is no file"));
    assert_eq!(code(&closed, &["apps"]).await, 4);
    let gone = served(&double, Access::everybody());
    let address = gone.address();
    drop(gone);
    let at = address.to_string();
    let error = loop {
        let cli = Cli::try_parse_from(["gear-node", "apps", "--cluster", &at]);
        match run(cli.expect("it is right"), &mut Vec::new()).await {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert_eq!(error.exit_code(), 3, "{error}");
    assert!(error.to_string().contains(&at), "{error}");
    let refused = Problem::new(Code::NotAllowed, "");
    assert_eq!(CliError::Client(ClientError::Problem(refused)).exit_code(), 4);
}

#[tokio::test]
async fn certificates_and_tokens_are_made_from_the_command_line() {
    let folder = TempDir::new().expect("there is a folder");
    let dir = folder.path().join("certs");
    let dir = dir.to_str().expect("it is text");
    let make = async |line: &[&str]| {
        let cli = Cli::try_parse_from(["gear-node"].iter().chain(line).copied());
        let mut text = Vec::new();
        run(cli.expect("it is right"), &mut text).await?;
        Ok::<_, CliError>(String::from_utf8(text).expect("it is text"))
    };
    let said = make(&["cert", "init-ca", "--dir", dir]).await.expect("it is made");
    assert!(said.contains("ca.pem") && said.contains("cluster.key"), "{said}");
    make(&["cert", "node", "one", "--host", "a", "--dir", dir]).await.expect("it is made");
    let error = make(&["cert", "node", "one", "--host", "a", "--dir", dir]).await;
    assert!(error.is_err_and(|it| it.exit_code() == 1));
    let file = folder.path().join("tokens.json");
    let file = file.to_str().expect("it is text");
    let token = make(&["token", "create", "--role", "viewer", "--file", file]).await;
    assert!(token.expect("it is made").starts_with("gear_"));
    let list = make(&["token", "list", "--file", file]).await.expect("it is there");
    assert_eq!(list.lines().nth(1).map(|it| it.split_whitespace().count()), Some(2), "{list}");
    make(&["token", "revoke", "viewer", "--file", file]).await.expect("it is there");
    assert!(make(&["token", "revoke", "viewer", "--file", file]).await.is_err());
    for shell in ["bash", "zsh", "fish"] {
        let text = make(&["completions", shell]).await.expect("it is printed");
        assert!(text.contains("gear-node") && text.contains("quarantine"));
    }
}
