//! A client of a few lines: it asks for everything, acknowledges everything, and reads next to nothing.

use std::time::Instant;

use anyhow::Context as _;
use lateen_wire::convert::{self, TypeUrl};
use lateen_wire::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use lateen_wire::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use lateen_wire::session::{ClientSession, MESSAGE_BYTES};
use lateen_wire::{Claim, ControlPlane};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Took;

/// Follows to the end of the connection. An end before that of the bench shows as a client that waits in
/// vain.
pub(super) async fn follow(
    client: u32,
    plane: ControlPlane,
    claim: Claim,
    sender: mpsc::UnboundedSender<Took>,
) {
    if let Err(error) = converse(client, &plane, &claim, &sender).await {
        // The bench ends with this line before its own.
        lateen_cli::output::Output::of_process(lateen_cli::args::Color::Auto).report(&error);
    }
}

async fn converse(
    client: u32,
    plane: &ControlPlane,
    claim: &Claim,
    sender: &mpsc::UnboundedSender<Took>,
) -> anyhow::Result<()> {
    let mut service =
        AggregatedDiscoveryServiceClient::new(plane.channel()).max_decoding_message_size(MESSAGE_BYTES);
    let (replies, stream) = mpsc::channel(32);
    for request in ClientSession::new(claim.role).connect(claim.to_node()) {
        replies.send(request).await?;
    }
    let call = plane.call(ReceiverStream::new(stream));
    let mut responses = service.delta_aggregated_resources(call).await?.into_inner();
    let mut took = Took::new(client);
    loop {
        let response = responses.message().await?.context("the control plane ended the stream")?;
        let reply = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..Default::default()
        };
        match TypeUrl::parse(&response.type_url) {
            Some(TypeUrl::Address) => take(&mut took, response)?,
            Some(TypeUrl::Revision) => {
                took.at = Instant::now();
                sender.send(std::mem::replace(&mut took, Took::new(client)))?;
            }
            _ => {}
        }
        replies.send(reply).await?;
    }
}

fn take(took: &mut Took, response: DeltaDiscoveryResponse) -> anyhow::Result<()> {
    for resource in response.resources {
        if !resource.name.contains("changing-") {
            took.addresses += 1;
            continue;
        }
        let bytes = resource.resource.context("a resource without a body")?.value;
        let entry = convert::decode(TypeUrl::Address, &resource.name, bytes);
        took.take(&entry.map_err(|refused| anyhow::anyhow!("refused: {}", refused.why))?.resource);
    }
    Ok(())
}
