//! Who votes among the masters.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use gear_core::control::{Address, Reply, Request};
use gear_core::host::process::Answer;
use gear_core::id::NodeId;
use serde_json::json;

use super::cluster::TAG;
use super::errors::{Code, Problem};
use super::extract::{Hopped, Json as Body};
use super::types::{Done, Voters, VotersRequest, cluster_voters, node_number};
use super::{Api, REQUEST_TIME_MAX};

/// Masters that vote: each update waits for a majority of them.
const VOTERS_MAX: usize = 9;

/// Who votes, and who leads.
#[utoipa::path(get, path = "/voters", tag = TAG, responses(
    (status = 200, body = Voters), (status = "default", body = Problem)))]
pub(super) async fn get(State(api): State<Api>) -> Result<Json<Voters>, Problem> {
    let status = api.cluster().await?;
    Ok(Json(Voters { voters: cluster_voters(&status), stale: status.stale }))
}

/// Changes who votes: at most one node joins or leaves at a time.
#[utoipa::path(put, path = "/voters", tag = TAG, request_body = VotersRequest, responses(
    (status = 200, body = Done), (status = "default", body = Problem)))]
pub(super) async fn put(
    State(api): State<Api>,
    Body(request): Body<VotersRequest>,
) -> Result<Json<Done>, Problem> {
    let known = api.backend().nodes();
    let listen = |node| known.iter().find(|it| it.node == node).map(|it| it.listen.clone());
    let voters = parse(&request, listen)?;
    let count = voters.len();
    api.have_done(Request::Voters { voters }).await?;
    Ok(Json(Done { done: format!("{count} masters vote from now on") }))
}

/// Has a master vote again whose data folder is lost: it begins a new one, and the others forget
/// what the old one had promised. Refused where the folder is sound.
#[utoipa::path(post, path = "/nodes/{node}/readmit", tag = TAG, params(("node" = String, Path)),
    responses((status = 200, body = Done), (status = "default", body = Problem)))]
pub(super) async fn readmit(
    State(api): State<Api>,
    Path(node): Path<String>,
    hopped: Hopped,
) -> Result<Json<Done>, Problem> {
    let entry = api.node_entry(&node).await?;
    let node = node_number(&entry.node).expect("an entry has a node's number");
    if node != api.backend().here().node {
        let path = format!("/api/v1/nodes/{}/readmit", node.0);
        let asked = (path.as_str(), &json!({}));
        let to = (node, "what was served there");
        return api.hand_on(to, hopped, asked, REQUEST_TIME_MAX).await.map(Json);
    }
    match api.backend().readmit().await {
        Answer::Reply(Reply::Done) => {
            let done = format!(
                "{node} has begun a new data folder, and votes again once the leader has heard \
                 of it"
            );
            Ok(Json(Done { done }))
        }
        other => Err(Problem::of_answer(&other)),
    }
}

/// The voters that a request names; where one without an address listens, `listen` says.
pub(crate) fn parse(
    request: &VotersRequest,
    listen: impl Fn(NodeId) -> Option<String>,
) -> Result<BTreeMap<NodeId, Address>, Problem> {
    let bad = |what: String| Problem::new(Code::BadRequest, what);
    if request.voters.is_empty() || request.voters.len() > VOTERS_MAX {
        return Err(bad(format!("there are 1 to {VOTERS_MAX} voters, and an odd number is best")));
    }
    let mut voters = BTreeMap::new();
    for voter in &request.voters {
        let node = node_number(&voter.node)
            .ok_or_else(|| bad(format!("`{}` is not the number of a node", voter.node)))?;
        let address = if voter.address.is_empty() {
            let what = "is not heard: give its address as well, or start it";
            listen(node).filter(|it| !it.is_empty()).ok_or_else(|| bad(format!("{node} {what}")))?
        } else {
            voter.address.clone()
        };
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none() || address.len() > 300 {
            return Err(bad(format!("`{address}` is no address of the form HOST:PORT")));
        }
        if voters.insert(node, Address(address)).is_some() {
            return Err(bad(format!("{node} is named twice")));
        }
    }
    Ok(voters)
}

#[cfg(test)]
mod tests {
    use super::super::types::Voter;
    use super::*;

    fn voters(of: &[(&str, &str)]) -> Result<BTreeMap<NodeId, Address>, Problem> {
        let voter = |&(node, address): &(&str, &str)| Voter {
            node: node.into(),
            address: address.into(),
            leads: false,
        };
        let request = VotersRequest { voters: of.iter().map(voter).collect() };
        parse(&request, |node| (node == NodeId(1)).then(|| "known:7400".into()))
    }

    #[test]
    fn an_address_that_gossip_knows_need_not_be_given() {
        let found = voters(&[("1", ""), ("2", "two:7400")]).expect("both are known");
        assert_eq!(found[&NodeId(1)].0, "known:7400");
        assert_eq!(found[&NodeId(2)].0, "two:7400");
    }

    #[test]
    fn nonsense_is_refused() {
        for nonsense in [
            &[] as &[(&str, &str)],
            &[("one", "a:1")],
            &[("-1", "a:1")],
            &[("2", "")],
            &[("2", "no port")],
            &[("2", "a:99999")],
            &[("1", "a:1"), ("1", "b:1")],
            &[("1", "a:1"); VOTERS_MAX + 1],
        ] {
            assert!(voters(nonsense).is_err(), "{nonsense:?}");
        }
    }
}
