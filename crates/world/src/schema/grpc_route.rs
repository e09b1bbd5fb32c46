//! GRPCRoute: methods become paths, for a gRPC request is `POST /service/method`.

use super::head;
use super::http_route::{FiltersSpec, Kind, RouteSpec, RuleSpec, backend, named, route, session};
use crate::problem::{At, Draft};
use crate::read::Reader;
use crate::yaml::Node;
use lateen_model::{FullRegex, PathMatch, RequestMatch, Str, StringMatch};

pub(crate) fn grpc_route(node: &Node, reader: &Reader) -> Option<RouteSpec> {
    route(node, reader, rule)
}

fn rule(node: &Node, reader: &Reader) -> Option<RuleSpec> {
    let fields =
        reader.fields(node, &["name", "matches", "filters", "backendRefs", "sessionPersistence"], &[])?;
    let matches: Vec<_> =
        fields.list("matches").iter().filter_map(|item| request_match(item, reader)).collect();
    Some(RuleSpec {
        name: fields.text("name").map(|text| text.value),
        span: head(&fields),
        persistence: session::read(&fields, &[]),
        never: matches.is_empty() && !fields.list("matches").is_empty(),
        matches,
        filters: FiltersSpec::read(&fields, Kind::Grpc),
        backends: fields
            .list("backendRefs")
            .iter()
            .filter_map(|item| backend(item, reader, Kind::Grpc))
            .collect(),
        timeout: None,
        retry: None,
    })
}

fn request_match(node: &Node, reader: &Reader) -> Option<RequestMatch> {
    let fields = reader.fields(node, &["method", "headers"], &[])?;
    let path = match fields.get("method") {
        Some(node) => Some(method(node, reader)?),
        None => None,
    };
    Some(RequestMatch { path, headers: named(&fields, "headers", true), ..RequestMatch::default() })
}

/// The path of a service and its method. A method alone is an ending, a service alone a first segment: so the order
/// of paths (exact, by prefix, by ending, by expression) is the order of GRPCRoute.
fn method(node: &Node, reader: &Reader) -> Option<PathMatch> {
    let fields = reader.fields(node, &["type", "service", "method"], &[])?;
    let words = [("Exact", false), ("RegularExpression", true)];
    let regex = match fields.get("type") {
        Some(_) => fields.choice("type", &words)?.value,
        None => false,
    };
    let (service, method) = (fields.text("service"), fields.text("method"));
    if !regex {
        for name in [&service, &method].into_iter().flatten() {
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
            if name.is_empty() || !name.chars().all(good) {
                let draft = Draft::error(name.span, format!("{:?} is no name of gRPC", name.as_str()));
                reader.push(draft.expected("letters, digits, `_` and `.`, or the type `RegularExpression`"));
                return None;
            }
        }
    }
    let text = match (regex, service, method) {
        (_, None, None) => {
            let draft = Draft::error(fields.first_line(), "the method names nothing");
            fields.lacks(draft.expected("`service` or `method`"));
            return None;
        }
        (false, Some(service), Some(method)) => {
            StringMatch::Exact(format!("/{}/{}", service.as_str(), method.as_str()).into())
        }
        (false, Some(service), None) => return Some(PathMatch::segments(&format!("/{}", service.as_str()))),
        (false, None, Some(method)) => StringMatch::Suffix(format!("/{}", method.as_str()).into()),
        (true, service, method) => {
            let part = |part: &Option<At<Str>>| {
                part.as_ref().map_or("[^/]+".to_owned(), |text| format!("(?:{})", text.as_str()))
            };
            // Each part by itself first, so that a stray parenthesis cannot join them.
            for text in [&service, &method].into_iter().flatten() {
                reader.parse(text, FullRegex::parse)?;
            }
            let span = fields.first_line();
            let whole = At { value: Str::from(format!("/{}/{}", part(&service), part(&method))), span };
            StringMatch::Regex(reader.parse(&whole, FullRegex::parse)?)
        }
    };
    Some(PathMatch::Text(text))
}
