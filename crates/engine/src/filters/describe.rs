//! Filters in words.

use super::{Filters, Mirrored};
use lateen_model::{Abort, Cors, FaultInjection, HeaderEdit, PathRewrite, Str};

impl Filters {
    /// Each thing that is done, in the order in which it is.
    pub(crate) fn describe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        lines.extend(self.cors.iter().map(cors));
        lines.extend(self.fault.iter().flat_map(fault));
        self.request.iter().for_each(|edit| describe_edit("request", edit, &mut lines));
        lines.extend(self.path.iter().map(path));
        lines.extend(self.authority.iter().map(|authority| format!("host becomes \"{authority}\"")));
        lines.extend(self.mirrors.iter().map(mirror));
        self.response.iter().for_each(|edit| describe_edit("response", edit, &mut lines));
        lines
    }
}

fn describe_edit(head: &str, edit: &HeaderEdit, lines: &mut Vec<String>) {
    lines.extend(edit.remove.iter().map(|name| format!("{head} header {name} is removed")));
    lines.extend(edit.set.iter().map(|(name, value)| format!("{head} header {name} becomes \"{value}\"")));
    lines.extend(edit.add.iter().map(|(name, value)| format!("{head} header {name} gets \"{value}\" added")));
}

fn path(path: &PathRewrite) -> String {
    match path {
        PathRewrite::Full(text) => format!("path becomes \"{text}\""),
        PathRewrite::Matched(text) => format!("the matched part of the path becomes \"{text}\""),
        PathRewrite::Regex(regex) => format!("in the path {regex:?}"),
    }
}

fn mirror(mirror: &Mirrored) -> String {
    let missing = if mirror.target.is_none() { ", which is not there" } else { "" };
    format!("a copy of {} of the requests goes to {}{missing}", mirror.share, mirror.what)
}

fn fault(fault: &FaultInjection) -> Vec<String> {
    let FaultInjection { delay, abort } = fault;
    let delay = delay.iter().map(|(longest, share)| format!("{share} of the requests wait {longest:?}"));
    let abort = abort.iter().map(|(abort, share)| match abort {
        Abort::Http(status) => format!("{share} of the requests are answered with {status}"),
        Abort::Grpc(status) => format!("{share} of the requests are answered with gRPC status {status}"),
    });
    delay.chain(abort).collect()
}

fn cors(cors: &Cors) -> String {
    let names = |names: &[Str]| names.iter().map(Str::as_str).collect::<Vec<_>>().join(", ");
    let origins: Vec<String> = cors.allow_origins.iter().map(|origin| format!("origin {origin}")).collect();
    let mut text =
        format!("CORS for {}", if origins.is_empty() { "nobody".to_owned() } else { origins.join(" or ") });
    for (word, list) in [
        ("methods", &cors.allow_methods),
        ("headers", &cors.allow_headers),
        ("exposes", &cors.expose_headers),
    ] {
        if !list.is_empty() {
            text.push_str(&format!("; {word} {}", names(list)));
        }
    }
    if cors.allow_credentials {
        text.push_str("; with credentials");
    }
    if let Some(age) = cors.max_age {
        text.push_str(&format!("; remembered for {age:?}"));
    }
    let others = if cors.forward_unmatched_preflights { "are sent on" } else { "are answered without leave" };
    format!("{text}; preflights of others {others}")
}
