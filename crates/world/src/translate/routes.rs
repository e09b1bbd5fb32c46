//! HTTPRoute and VirtualService to `Route`.

mod http_route;
mod virtual_service;

pub(crate) use http_route::http_route;
pub(crate) use virtual_service::{delegate_key, virtual_service};

use crate::object::ObjectKind;
use crate::problem::{At, Draft, nearest};
use crate::view::{Fact, View};
use lateen_model::{Namespace, Str};

/// The problem of a host that no service has, with the nearest one.
pub(crate) fn unknown_host(
    view: &View<'_>,
    written: &At<Str>,
    host: &str,
    namespace: &Namespace,
    message: &str,
) -> Draft {
    let services = view.stating(Fact::KindIn(ObjectKind::Service, namespace.clone()));
    let short: Vec<&str> = services.map(|service| service.key.name.as_str()).collect();
    let suffix = format!(".svc.{}", view.state.settings.cluster_domain);
    // `reviews.prod` is taken as a whole name, though the Service of another namespace was likely meant.
    let whole = format!("{host}{suffix}");
    let suggestion = match host.ends_with(&suffix) {
        false if view.stating(Fact::Host(whole.as_str().into())).next().is_some() => Some(whole),
        _ => nearest(written, short),
    };
    Draft::error(written.span, format!("{message} {host}")).suggest(suggestion)
}
