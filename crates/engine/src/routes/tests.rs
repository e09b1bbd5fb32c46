//! A table finds by its index what asking every entry in order would find, whatever was added and removed.

use super::*;
use crate::rule::CompiledRule;
use crate::trace::Silent;
use crate::{ConnectionFacts, Direction, Headers};
use lateen_model::*;
use proptest::prelude::*;
use std::borrow::Cow;

struct NoHeaders;

impl Headers for NoHeaders {
    fn get(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }

    fn any(&self, _: &str, _: &mut dyn FnMut(&str) -> bool) -> bool {
        false
    }
}

const PATHS: [&str; 12] =
    ["=/a", "=/a/b", "^/", "^/a", "^/a/b", "/", "/a", "/a/b", "~/a.*", "~/(a|b)/.*", "~/a/b?", ""];

fn matching(text: &str) -> RequestMatch {
    let path = match text.split_at_checked(1) {
        Some(("=", rest)) => PathMatch::Text(StringMatch::Exact(rest.into())),
        Some(("^", rest)) => PathMatch::Text(StringMatch::Prefix(rest.into())),
        Some(("~", rest)) => PathMatch::Text(StringMatch::Regex(FullRegex::parse(rest).unwrap())),
        Some(_) => PathMatch::segments(text),
        None => {
            return RequestMatch { method: Some(StringMatch::Exact("POST".into())), ..Default::default() };
        }
    };
    RequestMatch { path: Some(path), ..Default::default() }
}

/// A route with a rule for each of these paths.
fn route(number: usize, listed: bool, paths: &[usize]) -> Arc<CompiledRoute> {
    let key = Key::new(Origin::HttpRoute, Namespace::default(), format!("r{number}"));
    let rules = paths.iter().enumerate().map(|(index, path)| Rule {
        name: format!("{index}").into(),
        matches: vec![matching(PATHS[*path])],
        filters: Vec::new(),
        backends: Vec::new(),
        timeout: None,
        retry: None,
        ..Rule::default()
    });
    let route = Route {
        key: key.clone(),
        parents: Vec::new(),
        hosts: Vec::new(),
        rules: rules.collect(),
        precedence: if listed { Precedence::Listed } else { Precedence::MostSpecific },
        created: Created::default(),
        visibility: Visibility::Public,
    };
    let entry = Arc::new(Entry::for_everyone(key, Resource::Route(route)));
    let rules = (0..paths.len()).map(|at| Arc::new(CompiledRule::new(&entry, at, |_, _, _| None))).collect();
    Arc::new(CompiledRoute { entry, rules })
}

proptest! {
    #[test]
    fn the_index_finds_what_asking_all_would_find(
        routes in proptest::collection::vec(
            (any::<bool>(), proptest::collection::vec(0..PATHS.len(), 1..4)), 1..80),
        removed in proptest::collection::vec(any::<bool>(), 80),
        posts in any::<bool>(),
    ) {
        let viewer = viewer();
        let routes: Vec<_> = routes
            .iter()
            .enumerate()
            .map(|(number, (listed, paths))| route(number, *listed, paths))
            .collect();
        let mut table = RouteTable::new(&routes, &viewer, None);
        let whole = table.clone();
        for (route, _) in routes.iter().zip(&removed).filter(|(_, removed)| **removed) {
            table.remove(route, &viewer, None);
        }
        let rest: Vec<_> =
            routes.iter().zip(&removed).filter(|(_, gone)| !**gone).map(|(route, _)| route.clone()).collect();
        let fresh = RouteTable::new(&rest, &viewer, None);
        prop_assert!(table.entries().eq(fresh.entries()) && table.keys().eq(fresh.keys()));
        prop_assert_eq!(table.is_possible(), fresh.is_possible());
        let connection = ConnectionFacts {
            direction: Direction::Gateway,
            client: "10.9.9.9:40000".parse().unwrap(),
            destination: "10.0.0.1:80".parse().unwrap(),
            destination_host: None,
            peer: None,
            sni: None,
            tls: false,
        };
        for path in ["/", "/a", "/a/", "/a/b", "/a/bc", "/ab", "/b/c", "", "/é"] {
            let request = RequestFacts {
                connection: &connection,
                scheme: "http",
                method: if posts { "POST" } else { "GET" },
                authority: "a",
                path_and_query: path,
                headers: &NoHeaders,
                random: 0,
            };
            let asked = Asked { request: &request, authority: "a", host: "a", port: 80 };
            for table in [&table, &fresh, &whole] {
                let found = table.find(&asked, &mut Silent);
                let expected = table.entries().find(|entry| entry.mismatch(&asked).is_none());
                let key = |entry: &TableEntry| (entry.rule.key().clone(), entry.rule.index);
                prop_assert_eq!(found.map(key), expected.map(key), "{}", path);
            }
        }
    }
}

fn viewer() -> Viewer {
    let namespace = Namespace::default();
    Viewer {
        role: ProxyRole::Gateway,
        name: "gateway".into(),
        identity: Identity::new(TrustDomain::default(), namespace, ServiceAccount::default()),
        labels: Labels::default(),
        node: NodeName::default(),
        network: NetworkId::default(),
    }
}
