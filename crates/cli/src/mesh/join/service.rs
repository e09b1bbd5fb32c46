//! The service of a guest: made with it, gone with it, and left alone where the user has one already.

use std::time::Duration;

use anyhow::bail;
use lateen_control::api::types::{Object, Process};
use lateen_control::api::{ApiClient, ClientError};
use lateen_model::Resource;

use super::wish;
use crate::mesh::Shared;
use crate::output::WithHint as _;

/// Manifests that are ours begin so.
const PREFIX: &str = "run.";
/// How long the control plane may be away, or take to see a new workload.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two questions to the control plane.
const PAUSE: Duration = Duration::from_millis(50);

/// Makes the service, unless there is one that selects the guest.
///
/// # Errors
/// When its name belongs to a service that does not select the guest, or the control plane stays away.
pub(super) async fn offer(shared: &Shared, process: &Process) -> anyhow::Result<()> {
    let Some(text) = wish::service(process) else { return Ok(()) };
    let (api, manifest) = (&shared.api, manifest(process));
    let patience = tokio::time::timeout(PATIENCE, async {
        match existing(api, process).await? {
            None => Ok(again(|| api.put_manifest(&manifest, &text)).await?),
            Some(other) => expect_selected(api, process, &other).await,
        }
    });
    match patience.await {
        Ok(offered) => offered,
        Err(_) => bail!("make the service {}: the control plane does not answer", process.name),
    }
}

/// Takes the service away; when the control plane is away, what remains goes at the next start.
pub(super) async fn withdraw(shared: &Shared, process: &Process) {
    if !process.ports.is_empty() {
        let name = manifest(process);
        let removed = tokio::time::timeout(PATIENCE, again(|| shared.api.remove_manifest(&name))).await;
        if !matches!(removed, Ok(Ok(()))) {
            tracing::warn!(manifest = name, "a service was not taken away");
        }
    }
}

/// Takes away what pods of an earlier mesh left registered that was killed: none of them can run any more.
///
/// # Errors
/// When the control plane says no.
pub(crate) async fn sweep(api: &ApiClient) -> Result<(), ClientError> {
    for manifest in api.manifests().await? {
        if manifest.starts_with(PREFIX) {
            api.remove_manifest(&manifest).await?;
        }
    }
    for left in api.instances().await?.into_iter().filter(|left| left.instance.node == "local") {
        api.remove_instance(&left.namespace, &left.name).await?;
    }
    Ok(())
}

fn manifest(process: &Process) -> String {
    format!("{PREFIX}{}.{}", process.name, process.namespace)
}

/// The service of that name that the user wrote, if there is one.
async fn existing(api: &ApiClient, process: &Process) -> Result<Option<Object>, ClientError> {
    let origin = lateen_control::api::manifest_origin(&manifest(process));
    let is_it = |object: &Object| {
        object.kind == "Service"
            && (&object.namespace, &object.name) == (&process.namespace, &process.name)
            && object.file != origin
    };
    Ok(again(|| api.objects()).await?.objects.into_iter().find(is_it))
}

/// Waits until the mesh knows the guest, and looks whether the service is among those it answers for.
async fn expect_selected(api: &ApiClient, process: &Process, service: &Object) -> anyhow::Result<()> {
    loop {
        let text = again(|| api.catalog()).await?;
        // A large mesh takes a while to read.
        let catalog =
            tokio::task::spawn_blocking(move || lateen_wire::json::from_yaml(&text)).await??.catalog;
        let workload = catalog.iter().find_map(|entry| match &entry.resource {
            Resource::Workload(workload)
                if *workload.name == process.name && *workload.namespace.as_str() == process.namespace =>
            {
                Some(workload.services.keys().any(|id| {
                    id.namespace.as_str() == process.namespace
                        && id.hostname.as_str().split('.').next() == Some(&process.name)
                }))
            }
            _ => None,
        });
        match workload {
            Some(true) => return Ok(()),
            Some(false) => break,
            None => tokio::time::sleep(PAUSE).await,
        }
    }
    let refused = Err(anyhow::anyhow!(
        "the service {}/{} of {}:{} does not select this process",
        process.namespace,
        process.name,
        service.file,
        service.line
    ));
    refused
        .hint("choose another --name, or give the process the labels that the service selects with --label")
}

/// Asks until the control plane answers: it may be starting again.
async fn again<T, F: Future<Output = Result<T, ClientError>>>(ask: impl Fn() -> F) -> Result<T, ClientError> {
    loop {
        match ask().await {
            Err(ClientError::Connect { .. } | ClientError::Broken(_)) => tokio::time::sleep(PAUSE).await,
            Err(ClientError::Refused { status, .. }) if status.as_u16() == 503 => {
                tokio::time::sleep(PAUSE).await;
            }
            other => return other,
        }
    }
}
