//! Bodies of requests, read and checked as the endpoints do it: for those who feed them garbage.

use std::collections::BTreeMap;

use gear_core::control::Address;
use gear_core::id::NodeId;
use serde::de::DeserializeOwned;

use super::errors::Problem;
use super::types::{SavepointRequest, SubmitRequest, VotersRequest};
use super::{savepoints, submit, voters};

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let axum::Json(body) = axum::Json::from_bytes(bytes)?;
    Ok(body)
}

/// A submission.
///
/// # Errors
/// What its sender is told.
pub fn submission(bytes: &[u8]) -> Result<SubmitRequest, Problem> {
    let request: SubmitRequest = read(bytes)?;
    request.binary.parse::<super::Digest>()?;
    submit::check(&request)?;
    Ok(request)
}

/// Who is to vote, where gossip knows nobody.
///
/// # Errors
/// What its sender is told.
pub fn voting(bytes: &[u8]) -> Result<BTreeMap<NodeId, Address>, Problem> {
    let request: VotersRequest = read(bytes)?;
    voters::parse(&request, |_| None)
}

/// A savepoint that is to be taken.
///
/// # Errors
/// What its sender is told.
pub fn savepoint(bytes: &[u8]) -> Result<SavepointRequest, Problem> {
    let request: SavepointRequest = read(bytes)?;
    savepoints::check_name(&request.name)?;
    Ok(request)
}
