//! The serving side of one conversation.

use super::{MARK, MAX_NAMES, MAX_REFUSALS, ProtocolError, RESPONSE_BYTES, cut, resource_types};
use crate::Any;
use crate::convert::TypeUrl;
use crate::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use crate::pb::google::rpc;
use crate::pb::lateen::v1 as pb;
use crate::view::{Name, Shown, View};
use lateen_model::{Revision, Str, Viewer};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What one proxy was told, and what it said to it. It keeps no list of what the proxy holds: that is what
/// the viewer saw of the last state, which the view itself can tell.
pub struct ServerSession {
    viewer: Viewer,
    /// The state that the batch under way is taken from.
    view: Arc<dyn View>,
    newer_view: Option<Arc<dyn View>>,
    newer_viewer: Option<Viewer>,
    types: BTreeMap<TypeUrl, Subscription>,
    mark_due: bool,
    nonce: u64,
    progress: Progress,
}

/// How far a proxy is.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Progress {
    /// The last state it took as a whole.
    pub acknowledged: Option<Revision>,
    /// What it could not take, and why. At most 1000 are kept.
    pub refused: BTreeMap<Name, Str>,
}

#[derive(Default)]
struct Subscription {
    wildcard: bool,
    names: BTreeSet<Str>,
    queue: VecDeque<Todo>,
    outstanding: Option<Outstanding>,
    /// Whether anything was answered: a first answer is due even when it is empty.
    answered: bool,
}

struct Outstanding {
    nonce: u64,
    revision: Revision,
}

enum Todo {
    Send(Arc<Shown>),
    Remove(Str),
}

impl Subscription {
    fn sees(&self, name: &Str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    fn has_work(&self) -> bool {
        !self.queue.is_empty() || !self.answered
    }
}

impl ServerSession {
    /// A conversation that begins.
    pub fn new(view: Arc<dyn View>, viewer: Viewer) -> Self {
        Self {
            viewer,
            view,
            newer_view: None,
            newer_viewer: None,
            types: BTreeMap::new(),
            mark_due: false,
            nonce: 0,
            progress: Progress::default(),
        }
    }

    /// How far the proxy is.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Whether the proxy owes an acknowledgement.
    pub fn is_waiting(&self) -> bool {
        self.types.values().any(|subscription| subscription.outstanding.is_some())
    }

    /// A newer state; it is taken up when the batch under way is closed.
    pub fn offer(&mut self, view: Arc<dyn View>) {
        self.newer_view = Some(view);
    }

    /// The proxy is another now: its labels changed, or its identity became known.
    pub fn set_viewer(&mut self, viewer: Viewer) {
        self.newer_viewer = Some(viewer);
    }

    /// Takes in a message of the proxy. Types that are not known are passed over: a newer proxy may ask for
    /// them.
    ///
    /// # Errors
    /// When the proxy asks for more names than one conversation may be about.
    pub fn receive(&mut self, request: DeltaDiscoveryRequest) -> Result<(), ProtocolError> {
        let Some(type_url) = TypeUrl::parse(&request.type_url) else { return Ok(()) };
        if !self.view.type_urls().contains(&type_url) {
            return Ok(());
        }
        if !request.response_nonce.is_empty() {
            self.acknowledge(type_url, &request.response_nonce, request.error_detail.as_ref());
        }
        let asked = request.resource_names_subscribe.len() + request.initial_resource_versions.len();
        let known: usize = self.types.values().map(|it| it.names.len() + it.queue.len()).sum();
        if asked + known > MAX_NAMES {
            return Err(ProtocolError::TooManyNames);
        }
        if self.types.contains_key(&type_url) {
            self.resubscribe(type_url, request);
        } else {
            self.subscribe(type_url, request);
        }
        Ok(())
    }

    fn acknowledge(&mut self, type_url: TypeUrl, nonce: &str, error: Option<&rpc::Status>) {
        let Some(subscription) = self.types.get_mut(&type_url) else { return };
        let Some(outstanding) = subscription.outstanding.take_if(|it| it.nonce.to_string() == nonce) else {
            return;
        };
        match error {
            None if type_url == TypeUrl::Revision => {
                self.progress.acknowledged = Some(outstanding.revision);
            }
            None => {}
            Some(error) => self.refuse(type_url, error),
        }
    }

    fn refuse(&mut self, type_url: TypeUrl, error: &rpc::Status) {
        let details = error.details.iter().filter_map(|any| pb::Refusals::decode(any.value.clone()).ok());
        let mut refusals: Vec<_> = details.flat_map(|details| details.refusals).collect();
        if refusals.is_empty() {
            let reason = error.message.clone();
            refusals.push(pb::refusals::Refusal { name: String::new(), reason });
        }
        for refusal in refusals {
            if self.progress.refused.len() < MAX_REFUSALS {
                let name = (type_url, cut(&refusal.name).into());
                self.progress.refused.insert(name, cut(&refusal.reason).into());
            }
        }
    }

    fn subscribe(&mut self, type_url: TypeUrl, request: DeltaDiscoveryRequest) {
        let mut names: BTreeSet<Str> = request.resource_names_subscribe.iter().map(Str::from).collect();
        let wildcard =
            names.remove("*") || (names.is_empty() && request.resource_names_unsubscribe.is_empty());
        let gives_up = |name: &str| request.resource_names_unsubscribe.iter().any(|other| other == name);
        names.retain(|name| !gives_up(name));
        let mut subscription =
            Subscription { wildcard: wildcard && !gives_up("*"), names, ..Subscription::default() };
        if type_url != TypeUrl::Revision {
            let seen = self.seen(type_url, &subscription);
            let held = request.initial_resource_versions;
            let seen_names: BTreeSet<&str> = seen.iter().map(|shown| shown.name.as_str()).collect();
            let asked = subscription.names.iter().map(Str::as_str).chain(held.keys().map(String::as_str));
            let gone = asked.filter(|name| !seen_names.contains(name)).map(Str::from).collect();
            let differs =
                |shown: &Arc<Shown>| held.get(shown.name.as_str()) != Some(&shown.version.to_string());
            subscription.queue = queue(seen.into_iter().filter(differs).collect(), gone);
        }
        self.types.insert(type_url, subscription);
        self.mark_due = true;
    }

    fn seen(&self, type_url: TypeUrl, subscription: &Subscription) -> Vec<Arc<Shown>> {
        if subscription.wildcard {
            return self.view.all(type_url, &self.viewer);
        }
        let show = |name: &Str| self.view.show(type_url, name, &self.viewer);
        subscription.names.iter().filter_map(show).collect()
    }

    /// Later requests add and drop names. What is asked for by name is sent even if it was sent before.
    fn resubscribe(&mut self, type_url: TypeUrl, request: DeltaDiscoveryRequest) {
        let Some(subscription) = self.types.get_mut(&type_url) else { return };
        let mut send = Vec::new();
        let mut gone = BTreeSet::new();
        for name in request.resource_names_subscribe.iter().map(Str::from) {
            if name == "*" {
                if !subscription.wildcard && type_url != TypeUrl::Revision {
                    send.extend(self.view.all(type_url, &self.viewer));
                }
                subscription.wildcard = true;
                continue;
            }
            match self.view.show(type_url, &name, &self.viewer) {
                Some(shown) => send.push(shown),
                None => drop(gone.insert(name.clone())),
            }
            subscription.names.insert(name);
        }
        for name in &request.resource_names_unsubscribe {
            if name == "*" {
                subscription.wildcard = false;
            }
            subscription.names.remove(name.as_str());
        }
        if !send.is_empty() || !gone.is_empty() {
            subscription.queue.extend(queue(send, gone));
            self.mark_due = true;
        }
    }

    /// What to send next, if anything may be sent now. To be asked again after each message of the proxy
    /// and each newer state.
    pub fn poll(&mut self) -> Option<DeltaDiscoveryResponse> {
        loop {
            for type_url in resource_types() {
                let Some(subscription) = self.types.get_mut(&type_url) else { continue };
                if subscription.has_work() {
                    // The types after this one wait: names come before what refers to them.
                    return if subscription.outstanding.is_none() {
                        Some(self.respond(type_url))
                    } else {
                        None
                    };
                }
            }
            if self.mark_due
                && let Some(subscription) = self.types.get(&TypeUrl::Revision)
            {
                return if subscription.outstanding.is_none() { Some(self.mark()) } else { None };
            }
            if !self.begin_batch() {
                return None;
            }
        }
    }

    /// Takes up a newer state; false if there is none, or if the proxy is not yet done with the one before:
    /// the longer it takes, the more changes become one.
    fn begin_batch(&mut self) -> bool {
        if (self.newer_view.is_none() && self.newer_viewer.is_none()) || self.is_waiting() {
            return false;
        }
        let after = self.newer_view.take().unwrap_or_else(|| Arc::clone(&self.view));
        let viewer = self.newer_viewer.take();
        let names = match &viewer {
            None => after.since(self.view.revision()),
            Some(_) => None,
        };
        let viewer = viewer.unwrap_or_else(|| self.viewer.clone());
        let names: BTreeSet<Name> = match names {
            Some(names) => names.into_iter().collect(),
            None => self.all_names(&*after, &viewer),
        };
        let mut work: BTreeMap<TypeUrl, (Vec<Arc<Shown>>, BTreeSet<Str>)> = BTreeMap::new();
        for (type_url, name) in names {
            if !self.types.get(&type_url).is_some_and(|subscription| subscription.sees(&name)) {
                continue;
            }
            let before = self.view.show(type_url, &name, &self.viewer);
            let (send, gone) = work.entry(type_url).or_default();
            match after.show(type_url, &name, &viewer) {
                Some(now) if before.as_ref().is_none_or(|before| before.version != now.version) => {
                    send.push(now);
                }
                None if before.is_some() => drop(gone.insert(name)),
                Some(_) | None => {}
            }
        }
        for (type_url, (send, gone)) in work {
            if let Some(subscription) = self.types.get_mut(&type_url) {
                subscription.queue = queue(send, gone);
            }
        }
        (self.view, self.viewer) = (after, viewer);
        self.mark_due = true;
        true
    }

    fn all_names(&self, after: &dyn View, viewer: &Viewer) -> BTreeSet<Name> {
        let of = |view: &dyn View, viewer: &Viewer, type_url| {
            let shown = view.all(type_url, viewer);
            shown.into_iter().map(move |shown| (type_url, shown.name.clone())).collect::<Vec<_>>()
        };
        let subscribed = || self.types.keys().copied().filter(|type_url| *type_url != TypeUrl::Revision);
        let before = subscribed().flat_map(|type_url| of(&*self.view, &self.viewer, type_url));
        before.chain(subscribed().flat_map(|type_url| of(after, viewer, type_url))).collect()
    }

    fn respond(&mut self, type_url: TypeUrl) -> DeltaDiscoveryResponse {
        let mut response = self.response(type_url);
        let subscription = self.types.get_mut(&type_url).expect("the caller found it");
        let mut bytes = 0;
        while let Some(todo) = subscription.queue.front() {
            bytes += match todo {
                Todo::Send(shown) => shown.bytes.len() + shown.name.len() + 128,
                Todo::Remove(name) => name.len() + 4,
            };
            let empty = response.resources.is_empty() && response.removed_resources.is_empty();
            if bytes > RESPONSE_BYTES && !empty {
                break;
            }
            match subscription.queue.pop_front() {
                Some(Todo::Send(shown)) => {
                    self.progress.refused.remove(&(type_url, shown.name.clone()));
                    response.resources.push(shown.to_wire());
                }
                Some(Todo::Remove(name)) => {
                    response.removed_resources.push(name.to_string());
                    self.progress.refused.remove(&(type_url, name));
                }
                None => break,
            }
        }
        // A refusal without names is about the response before.
        self.progress.refused.remove(&(type_url, Str::default()));
        response
    }

    fn mark(&mut self) -> DeltaDiscoveryResponse {
        let mut response = self.response(TypeUrl::Revision);
        let revision = self.view.revision();
        let message = pb::Revision { revision: revision.0 };
        let any =
            Any { type_url: TypeUrl::Revision.as_str().to_owned(), value: message.encode_to_vec().into() };
        response.resources.push(Resource {
            version: revision.to_string(),
            resource: Some(any),
            name: MARK.to_owned(),
            aliases: Vec::new(),
        });
        self.mark_due = false;
        response
    }

    /// An empty response with a fresh nonce, which is now outstanding.
    fn response(&mut self, type_url: TypeUrl) -> DeltaDiscoveryResponse {
        self.nonce += 1;
        let (nonce, revision) = (self.nonce, self.view.revision());
        let subscription = self.types.get_mut(&type_url).expect("only subscribed types are answered");
        subscription.outstanding = Some(Outstanding { nonce, revision });
        subscription.answered = true;
        DeltaDiscoveryResponse {
            system_version_info: revision.to_string(),
            type_url: type_url.as_str().to_owned(),
            nonce: nonce.to_string(),
            ..Default::default()
        }
    }
}

/// What is to be sent, names before what refers to them, then what is gone.
fn queue(mut send: Vec<Arc<Shown>>, gone: BTreeSet<Str>) -> VecDeque<Todo> {
    send.sort_by(|a, b| a.order().cmp(&b.order()));
    send.into_iter().map(Todo::Send).chain(gone.into_iter().map(Todo::Remove)).collect()
}
