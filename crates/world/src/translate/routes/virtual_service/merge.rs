//! What a rule of a delegate becomes under the rule that delegates to it.

use super::attach::full_name;
use crate::problem::At;
use crate::schema::headers::Edits;
use crate::schema::virtual_service::{HttpSpec, MatchSpec};
use lateen_model::{
    Format, HeaderEdit, NamedMatch, Namespace, PathMatch, RequestMatch, Selector, Str, StringMatch,
};

/// An `http` entry and the namespace it is written in.
pub(super) type Written<'a> = (&'a HttpSpec, &'a Namespace);

/// The rule of a delegate, as far as the rule of its root lets requests through; none where no request can pass
/// both (Istio: a conflict). What the delegate does not say it has from its root.
pub(super) fn merge(root: Written<'_>, leaf: Written<'_>) -> Option<HttpSpec> {
    let matches = matches(root, leaf)?;
    let ((root, _), (leaf, _)) = (root, leaf);
    let name = match (&root.name, &leaf.name) {
        (Some(root), Some(leaf)) => Some(Str::from(format!("{root}-{leaf}"))),
        (root, leaf) => leaf.clone().or_else(|| root.clone()),
    };
    Some(HttpSpec {
        name,
        span: leaf.span,
        matches,
        route: leaf.route.clone(),
        answer: leaf.answer.clone(),
        delegate: None,
        headers: edits(&root.headers, &leaf.headers),
        rewrite: leaf.rewrite.clone().or_else(|| root.rewrite.clone()).filter(|_| leaf.answer.is_none()),
        fault: leaf.fault.clone().or_else(|| root.fault.clone()).filter(|_| leaf.answer.is_none()),
        mirrors: if leaf.mirrors.is_empty() { root.mirrors.clone() } else { leaf.mirrors.clone() },
        cors: leaf.cors.clone().or_else(|| root.cors.clone()),
        timeout: leaf.timeout.or(root.timeout),
        retry: leaf.retry.clone().or_else(|| root.retry.clone()),
    })
}

fn matches((root, root_ns): Written<'_>, (leaf, leaf_ns): Written<'_>) -> Option<Vec<MatchSpec>> {
    let whole = |one: &MatchSpec, namespace: &Namespace| MatchSpec {
        gateways: one.gateways.iter().map(|name| full(name, namespace)).collect(),
        ..one.clone()
    };
    let roots: Vec<MatchSpec> = root.matches.iter().map(|one| whole(one, root_ns)).collect();
    let leaves: Vec<MatchSpec> = leaf.matches.iter().map(|one| whole(one, leaf_ns)).collect();
    if roots.is_empty() {
        return Some(leaves);
    }
    if leaves.is_empty() {
        return Some(roots);
    }
    let pairs = leaves.iter().flat_map(|leaf| roots.iter().filter_map(|root| both(root, leaf)));
    let merged: Vec<MatchSpec> = pairs.collect();
    (!merged.is_empty()).then_some(merged)
}

fn full(name: &At<Str>, namespace: &Namespace) -> At<Str> {
    At { value: full_name(name, namespace).into(), span: name.span }
}

/// What both matches ask for; none where the delegate's is not within the root's.
fn both(root: &MatchSpec, leaf: &MatchSpec) -> Option<MatchSpec> {
    let gateways = match (root.gateways.as_slice(), leaf.gateways.as_slice()) {
        ([], names) | (names, []) => names.to_vec(),
        (root, leaf) => {
            let shared = leaf.iter().filter(|name| root.iter().any(|other| other.value == name.value));
            let shared: Vec<_> = shared.cloned().collect();
            if shared.is_empty() {
                return None;
            }
            shared
        }
    };
    let (a, b) = (&root.request, &leaf.request);
    let request = RequestMatch {
        path: path(a.path.as_ref(), b.path.as_ref())?,
        scheme: text(a.scheme.as_ref(), b.scheme.as_ref())?,
        method: text(a.method.as_ref(), b.method.as_ref())?,
        authority: text(a.authority.as_ref(), b.authority.as_ref())?,
        headers: named(&a.headers, &b.headers)?,
        // Several conditions of what must not be there hold together, whatever they are.
        without_headers: a.without_headers.iter().chain(&b.without_headers).cloned().collect(),
        query: named(&a.query, &b.query)?,
        port: same(a.port, b.port)?,
        source_labels: labels(&a.source_labels, &b.source_labels)?,
        source_namespace: same(a.source_namespace.clone(), b.source_namespace.clone())?,
    };
    let name = leaf.name.clone().or_else(|| root.name.clone());
    Some(MatchSpec { name, request, gateways, never: root.never || leaf.never })
}

/// Either, or both where they are the same.
fn same<T: PartialEq>(a: Option<T>, b: Option<T>) -> Option<Option<T>> {
    match (a, b) {
        (Some(a), Some(b)) => (a == b).then_some(Some(b)),
        (a, b) => Some(a.or(b)),
    }
}

fn labels(a: &Selector, b: &Selector) -> Option<Selector> {
    let mut labels = a.labels().clone();
    for (key, value) in b.labels().iter() {
        if labels.get(key).is_some_and(|other| other != value) {
            return None;
        }
        labels.insert(key.clone(), value.clone());
    }
    Some(Selector::new(labels))
}

fn path(root: Option<&PathMatch>, leaf: Option<&PathMatch>) -> Option<Option<PathMatch>> {
    match (root, leaf) {
        (Some(PathMatch::Text(a)), Some(PathMatch::Text(b))) => {
            within(a, b).then(|| Some(PathMatch::Text(b.clone())))
        }
        (a, b) => same(a.cloned(), b.cloned()),
    }
}

fn text(root: Option<&StringMatch>, leaf: Option<&StringMatch>) -> Option<Option<StringMatch>> {
    match (root, leaf) {
        (Some(a), Some(b)) => within(a, b).then(|| Some(b.clone())),
        (a, b) => Some(b.or(a).cloned()),
    }
}

fn named(root: &[NamedMatch], leaf: &[NamedMatch]) -> Option<Vec<NamedMatch>> {
    let mut merged = leaf.to_vec();
    for one in root {
        match leaf.iter().find(|other| other.name == one.name) {
            Some(other) if !within(&one.value, &other.value) => return None,
            Some(_) => {}
            None => merged.push(one.clone()),
        }
    }
    Some(merged)
}

/// Whether all that the second matches the first matches too. Of regular expressions nobody can tell, unless they are
/// the same.
fn within(wide: &StringMatch, narrow: &StringMatch) -> bool {
    use StringMatch as M;
    match (wide, narrow) {
        (M::Present, _) => true,
        (M::Prefix(wide), M::Prefix(narrow) | M::Exact(narrow)) => narrow.starts_with(wide.as_str()),
        (M::PrefixIgnoreCase(wide), M::PrefixIgnoreCase(narrow) | M::ExactIgnoreCase(narrow)) => {
            narrow.to_ascii_lowercase().starts_with(&wide.to_ascii_lowercase())
        }
        (wide, narrow) => wide == narrow,
    }
}

fn edits(root: &Edits, leaf: &Edits) -> Edits {
    Edits { request: edit(&root.request, &leaf.request), response: edit(&root.response, &leaf.response) }
}

/// The root's edits, of those that the delegate does not make itself, and the delegate's.
fn edit(root: &HeaderEdit, leaf: &HeaderEdit) -> HeaderEdit {
    let pairs = |root: &[(Str, Format)], leaf: &[(Str, Format)]| {
        let others = root.iter().filter(|(name, _)| !leaf.iter().any(|(other, _)| other == name));
        others.chain(leaf).cloned().collect()
    };
    let others = root.remove.iter().filter(|name| !leaf.remove.contains(name));
    HeaderEdit {
        set: pairs(&root.set, &leaf.set),
        add: pairs(&root.add, &leaf.add),
        remove: others.chain(&leaf.remove).cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delegate_stays_within_its_root() {
        use StringMatch as M;
        let prefix = |text: &str| M::Prefix(text.into());
        let exact = |text: &str| M::Exact(text.into());
        let regex = |text: &str| M::Regex(lateen_model::FullRegex::parse(text).unwrap());
        for (root, leaf, inside) in [
            (prefix("/a"), prefix("/a/b"), true),
            (prefix("/a/b"), prefix("/a"), false),
            (prefix("/a"), exact("/ab"), true),
            (exact("/a"), prefix("/a"), false),
            (exact("/a"), exact("/a"), true),
            (exact("/a"), exact("/b"), false),
            (regex("/a.*"), exact("/ab"), false),
            (prefix("/"), regex("/.*"), false),
            (M::PrefixIgnoreCase("/A".into()), M::ExactIgnoreCase("/ab".into()), true),
            (M::PrefixIgnoreCase("/a".into()), exact("/ab"), false),
            (M::Present, exact("x"), true),
        ] {
            assert_eq!(within(&root, &leaf), inside, "{root} holds {leaf}");
        }
    }
}
