//! Who may open a stream of resources, and what becomes of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lateen_model::{Identity, Viewer};
use lateen_runtime::clock;
use lateen_wire::Claim;
use lateen_wire::pb::envoy::config::core::v3::Node;
use lateen_wire::server::{Admission, Admitted, Caller, Denied};
use lateen_wire::session::Progress;
use tokio::sync::watch;

use super::callers::{Refused, identify, seconds, viewer};
use crate::authority::tokens::Use;
use crate::control::Control;
use crate::fleet::{Member, Proxy};

/// A stream that was opened with a token may stay so long: by then the proxy has a certificate and comes back.
const TOKEN_STREAM: u64 = 3600;
/// A certificate is held against the wall clock so often: a laptop sleeps.
const EXPIRY_CHECK: Duration = Duration::from_secs(60);

/// Lets proxies in.
pub(crate) struct Streams(pub(crate) Arc<Control>);

impl Admission for Streams {
    async fn admit(&self, caller: Caller, node: Node) -> Result<Admitted, Denied> {
        let control = Arc::clone(&self.0);
        let claim = Claim::from_node(&node).ok_or(Refused::NoClaim)?;
        let identity = identify(&control, &caller, Use::Stream)?;
        let seen = viewer(&control, &identity, &claim).inspect_err(|refused| {
            tracing::warn!(%identity, node = node.id, origin = ?caller.origin, %refused, "stream refused");
        })?;
        let now = control.clock.unix_seconds();
        let until = caller.until.map_or(now + TOKEN_STREAM, seconds);
        let member = control.fleet.join(Proxy {
            node: format!("{}.{}", claim.name, claim.namespace).into(),
            identity: identity.clone(),
            role: claim.role,
            origin: caller.origin,
            since: now,
            acknowledged: None,
            refused: BTreeMap::new(),
            certificate_expires: caller.until.map(seconds),
        });
        let (viewer_sender, viewer) = watch::channel(seen);
        let (progress, reached) = watch::channel(Progress::default());
        let stream = Stream { control, identity, claim, viewer: viewer_sender, reached, member, until };
        tokio::spawn(stream.attend());
        Ok(Admitted { viewer, progress })
    }
}

/// A stream that is open.
struct Stream {
    control: Arc<Control>,
    identity: Identity,
    claim: Claim,
    /// Dropping it ends the stream.
    viewer: watch::Sender<Viewer>,
    reached: watch::Receiver<Progress>,
    member: Member,
    /// Its identity is good so long, in seconds since 1970.
    until: u64,
}

impl Stream {
    /// Follows the stream until it ends, or has to.
    async fn attend(mut self) {
        let mut states = self.control.hub.follow();
        while self.control.clock.unix_seconds() < self.until {
            tokio::select! {
                changed = self.reached.changed() => match changed {
                    Ok(()) => self.note(),
                    // The stream ended.
                    Err(_) => return,
                },
                changed = states.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if let Err(refused) = self.look() {
                        return tracing::warn!(identity = %self.identity, %refused, "stream ended");
                    }
                }
                () = clock::sleep(EXPIRY_CHECK) => {}
            }
        }
        tracing::info!(identity = %self.identity, "stream ended: its certificate or token has");
    }

    /// With a change of the mesh the proxy itself may be another.
    fn look(&self) -> Result<(), Refused> {
        let seen = viewer(&self.control, &self.identity, &self.claim)?;
        self.viewer.send_if_modified(|told| {
            let news = *told != seen;
            if news {
                *told = seen;
            }
            news
        });
        Ok(())
    }

    fn note(&mut self) {
        let progress = self.reached.borrow_and_update();
        let refused = progress.refused.iter().map(|((type_url, name), reason)| {
            let kind = type_url.as_str().rsplit('.').next().unwrap_or_default();
            (format!("{kind} {name}"), reason.to_string())
        });
        self.member.reached(progress.acknowledged, refused.collect());
    }
}
