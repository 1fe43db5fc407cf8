//! Nodes and apps, again and again.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::output::{Output, warning};
use super::{CliError, apps, nodes};
use crate::api::types::{AppSummary, ClusterInfo, NodeEntry};
use crate::client::Client;

/// Puts the cursor at the top, and forgets what is below.
const TOP: &str = "\x1b[H\x1b[J";

/// Watches nodes and apps.
#[derive(Args, Debug)]
pub(super) struct Top {
    /// Seconds between two looks
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    interval: f64,
    /// Look once
    #[arg(long)]
    once: bool,
}

pub(super) async fn run(client: &Client, what: &Top, mut out: Output<'_>) -> Result<(), CliError> {
    if !(0.1..=3_600.0).contains(&what.interval) {
        return Err(CliError::Usage("--interval takes 0.1 to 3600 seconds".into()));
    }
    let terminal = !out.json && !what.once && console::Term::stdout().is_term();
    let mut first = true;
    loop {
        match look(client).await {
            Ok((value, text)) => {
                let clear = if terminal { TOP } else { "" };
                out.show(&value, || format!("{clear}{text}"))?;
            }
            // It is watched because things happen: what cannot be asked now may be in a moment.
            Err(error) if terminal && !first => {
                out.raw(format!("{TOP}{error}\n").as_bytes())?;
            }
            Err(error) => return Err(error),
        }
        first = false;
        if what.once {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs_f64(what.interval)).await;
    }
}

async fn look(client: &Client) -> Result<(serde_json::Value, String), CliError> {
    let cluster: ClusterInfo = client.get("/api/v1/cluster").await?;
    let nodes: Vec<NodeEntry> = client.get("/api/v1/nodes").await?;
    let mut apps: Vec<AppSummary> = client.get("/api/v1/apps").await?;
    apps.retain(|app| !app.state.has_ended());
    let leader = cluster.leader.as_deref().unwrap_or("nobody");
    let mut text = warning(client).await;
    text.push_str(&format!(
        "cluster {}, term {}, led by {leader}, {} of {} slots in use\n\n",
        cluster.cluster, cluster.term, cluster.used.slots, cluster.capacity.slots
    ));
    text.push_str(&nodes::rows(&nodes));
    text.push('\n');
    text.push_str(&apps::rows(&apps));
    Ok((json!({ "cluster": cluster, "nodes": nodes, "apps": apps }), text))
}
