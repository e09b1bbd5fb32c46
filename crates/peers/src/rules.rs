//! The same routes twice: as users write them for us, and as Istio would tell Envoy.
//!
//! Each rule is one line of each, and hints for the generator: what a request must have to meet it. A feature is a row.

use std::fmt::Write as _;

/// One rule of a host.
pub struct Rule {
    /// Its name, on both sides.
    pub name: &'static str,
    /// What stands in our `http` entry, besides the name.
    pub ours: &'static str,
    /// What stands in Envoy's route, besides the name.
    pub envoy: &'static str,
    /// Requests that meet it, or nearly.
    pub hints: &'static [Hint],
}

/// What a request must have to meet a rule: method, target, headers.
pub type Hint = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// A host with its rules.
pub struct Host {
    /// Its pattern.
    pub host: &'static str,
    /// Names that it has, or nearly.
    pub names: &'static [&'static str],
    /// In the order in which they are asked.
    pub rules: &'static [Rule],
}

/// Applications, and whether they are spoken to in HTTP/2.
pub const APPS: &[(&str, bool)] = &[("v1", false), ("v2", false), ("v3", false), ("two", true)];

const fn rule(name: &'static str, ours: &'static str, envoy: &'static str, hints: &'static [Hint]) -> Rule {
    Rule { name, ours, envoy, hints }
}

/// Every host of the comparison.
pub const HOSTS: &[Host] = &[
    Host {
        host: "paths.test",
        names: &["paths.test", "PATHS.test", "paths.test:80", "paths.test:8080"],
        rules: PATHS,
    },
    Host { host: "fields.test", names: &["fields.test", "Fields.Test:8080"], rules: FIELDS },
    Host { host: "edits.test", names: &["edits.test"], rules: EDITS },
    Host {
        host: "*.wild.test",
        names: &["a.wild.test", "a.b.wild.test", "wild.test", ".wild.test"],
        rules: WILD,
    },
    Host { host: "exact.wild.test", names: &["exact.wild.test"], rules: EXACT },
];

const PATHS: &[Rule] = &[
    rule(
        "exact",
        "match: [{uri: {exact: /exact}}], route: [{destination: {host: v1}}]",
        "match: {path: /exact}, route: {cluster: v1, timeout: 0s}",
        &[
            ("GET", "/exact", &[]),
            ("GET", "/exact/", &[]),
            ("POST", "/exact?x=1", &[]),
            ("GET", "/%65xact", &[]),
        ],
    ),
    rule(
        "prefix",
        "match: [{uri: {prefix: /pre}}], route: [{destination: {host: v2}}]",
        "match: {prefix: /pre}, route: {cluster: v2, timeout: 0s}",
        &[
            ("GET", "/pre", &[]),
            ("PUT", "/prefix/a/b", &[]),
            ("GET", "/pre/../exact", &[]),
            ("GET", "/PRE", &[]),
        ],
    ),
    rule(
        "regex",
        "match: [{uri: {regex: '/v[0-9]+/(a|b)*'}}], route: [{destination: {host: v3}}]",
        "match: {safe_regex: {regex: '/v[0-9]+/(a|b)*'}}, route: {cluster: v3, timeout: 0s}",
        &[("GET", "/v12/abba", &[]), ("GET", "/v1/", &[]), ("GET", "/v1/c", &[]), ("GET", "/v1/a?b=/", &[])],
    ),
    rule(
        "any-case",
        "match: [{uri: {prefix: /Case}, ignoreUriCase: true}, {uri: {exact: /Other}, ignoreUriCase: true}], route: [{destination: {host: v1}}]",
        "match: {prefix: /Case, case_sensitive: false}, route: {cluster: v1, timeout: 0s}",
        &[("GET", "/cASE/x", &[]), ("GET", "/case", &[])],
    ),
    rule(
        "any-case-exact",
        "match: [{uri: {exact: /Full}, ignoreUriCase: true}], route: [{destination: {host: v2}}]",
        "match: {path: /Full, case_sensitive: false}, route: {cluster: v2, timeout: 0s}",
        &[("GET", "/fULL", &[]), ("GET", "/full/", &[])],
    ),
    rule(
        "query-exact",
        "match: [{uri: {prefix: /q}, queryParams: {x: {exact: '1'}}}], route: [{destination: {host: v1}}]",
        "match: {prefix: /q, query_parameters: [{name: x, string_match: {exact: '1'}}]}, route: {cluster: v1, timeout: 0s}",
        &[
            ("GET", "/q?x=1", &[]),
            ("GET", "/q?x=2", &[]),
            ("GET", "/q?x=2&x=1", &[]),
            ("GET", "/q?y&x=1#", &[]),
            ("GET", "/q?X=1", &[]),
        ],
    ),
    rule(
        "query-regex",
        "match: [{uri: {prefix: /q}, queryParams: {x: {regex: 'a+'}}}], route: [{destination: {host: v2}}]",
        "match: {prefix: /q, query_parameters: [{name: x, string_match: {safe_regex: {regex: 'a+'}}}]}, route: {cluster: v2, timeout: 0s}",
        &[("GET", "/q?x=aaa", &[]), ("GET", "/q?x=baa", &[]), ("GET", "/q?x=%61", &[])],
    ),
    rule(
        "method",
        "match: [{method: {exact: DELETE}}, {method: {regex: 'P.*T'}}], route: [{destination: {host: v3}}]",
        "match: {prefix: /, headers: [{name: ':method', string_match: {safe_regex: {regex: 'DELETE|P.*T'}}}]}, route: {cluster: v3, timeout: 0s}",
        &[("DELETE", "/any", &[]), ("POST", "/any", &[]), ("PUT", "/any", &[]), ("PATCH", "/any", &[])],
    ),
    rule(
        "two",
        "match: [{uri: {prefix: /two}}], route: [{destination: {host: two}}]",
        "match: {prefix: /two}, route: {cluster: two, timeout: 0s}",
        &[("GET", "/two", &[]), ("OPTIONS", "/two/x?y", &[]), ("HEAD", "/two", &[])],
    ),
];

const FIELDS: &[Rule] = &[
    rule(
        "exact",
        "match: [{headers: {x-kind: {exact: one}}}], route: [{destination: {host: v1}}]",
        "match: {prefix: /, headers: [{name: x-kind, string_match: {exact: one}}]}, route: {cluster: v1, timeout: 0s}",
        &[
            ("GET", "/", &[("x-kind", "one")]),
            ("GET", "/", &[("X-Kind", "One")]),
            ("GET", "/", &[("x-kind", "one"), ("x-kind", "two")]),
        ],
    ),
    rule(
        "prefix",
        "match: [{headers: {x-kind: {prefix: tw}}}], route: [{destination: {host: v2}}]",
        "match: {prefix: /, headers: [{name: x-kind, string_match: {prefix: tw}}]}, route: {cluster: v2, timeout: 0s}",
        &[("GET", "/", &[("x-kind", "two")]), ("GET", "/", &[("x-kind", " twelve ")])],
    ),
    rule(
        "regex",
        "match: [{headers: {x-kind: {regex: 'th.*'}}}], route: [{destination: {host: v3}}]",
        "match: {prefix: /, headers: [{name: x-kind, string_match: {safe_regex: {regex: 'th.*'}}}]}, route: {cluster: v3, timeout: 0s}",
        &[("GET", "/", &[("x-kind", "three")]), ("GET", "/", &[("x-kind", "a three")])],
    ),
    rule(
        "present",
        "match: [{headers: {x-there: {}}}], route: [{destination: {host: v1}}]",
        "match: {prefix: /, headers: [{name: x-there, present_match: true}]}, route: {cluster: v1, timeout: 0s}",
        &[("GET", "/", &[("x-there", "")]), ("GET", "/", &[("x-there", "y")])],
    ),
    rule(
        "without",
        "match: [{uri: {prefix: /not}, withoutHeaders: {x-not: {exact: 'no'}}}], route: [{destination: {host: v2}}]",
        "match: {prefix: /not, headers: [{name: x-not, string_match: {exact: 'no'}, invert_match: true, treat_missing_header_as_empty: true}]}, route: {cluster: v2, timeout: 0s}",
        &[("GET", "/not", &[("x-not", "no")]), ("GET", "/not", &[("x-not", "yes")]), ("GET", "/not", &[])],
    ),
    rule(
        "absent",
        "match: [{uri: {prefix: /not}, withoutHeaders: {x-gone: {}}}], route: [{destination: {host: v3}}]",
        "match: {prefix: /not, headers: [{name: x-gone, present_match: true, invert_match: true}]}, route: {cluster: v3, timeout: 0s}",
        &[("GET", "/not", &[("x-not", "no"), ("x-gone", "1")]), ("GET", "/not", &[("x-not", "no")])],
    ),
    rule(
        "authority",
        "match: [{authority: {prefix: fields.test}, uri: {prefix: /auth}}], route: [{destination: {host: v1}}]",
        "match: {prefix: /auth, headers: [{name: ':authority', string_match: {prefix: fields.test, ignore_case: true}}]}, route: {cluster: v1, timeout: 0s}",
        &[("GET", "/auth", &[])],
    ),
    rule(
        "cookie",
        "match: [{headers: {cookie: {regex: '^(.*?;)?(user=jason)(;.*)?$'}}}], route: [{destination: {host: v2}}]",
        "match: {prefix: /, headers: [{name: cookie, string_match: {safe_regex: {regex: '^(.*?;)?(user=jason)(;.*)?$'}}}]}, route: {cluster: v2, timeout: 0s}",
        &[
            ("GET", "/", &[("cookie", "user=jason")]),
            ("GET", "/", &[("cookie", "a=b;user=jason;c=d")]),
            ("GET", "/", &[("Cookie", "user=jasonx")]),
        ],
    ),
];

const EDITS: &[Rule] = &[
    rule(
        "set",
        "match: [{uri: {prefix: /set}}], headers: {request: {set: {x-set: new, x-more: m}}, response: {set: {x-answered: 'yes'}}}, route: [{destination: {host: v1}}]",
        "match: {prefix: /set}, request_headers_to_add: [{header: {key: x-set, value: new}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}, {header: {key: x-more, value: m}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}], response_headers_to_add: [{header: {key: x-answered, value: 'yes'}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}], route: {cluster: v1, timeout: 0s}",
        &[
            ("GET", "/set", &[]),
            ("GET", "/set", &[("x-set", "old"), ("X-Set", "older")]),
            ("GET", "/set", &[("x-answer", "header=x-answered:no")]),
        ],
    ),
    rule(
        "add",
        "match: [{uri: {prefix: /add}}], headers: {request: {add: {x-add: new}}, response: {add: {x-answered: 'yes'}}}, route: [{destination: {host: v2}}]",
        "match: {prefix: /add}, request_headers_to_add: [{header: {key: x-add, value: new}, append_action: APPEND_IF_EXISTS_OR_ADD}], response_headers_to_add: [{header: {key: x-answered, value: 'yes'}, append_action: APPEND_IF_EXISTS_OR_ADD}], route: {cluster: v2, timeout: 0s}",
        &[
            ("GET", "/add", &[]),
            ("GET", "/add", &[("x-add", "old")]),
            ("GET", "/add", &[("x-answer", "header=x-answered:no")]),
        ],
    ),
    rule(
        "remove",
        "match: [{uri: {prefix: /remove}}], headers: {request: {remove: [x-gone, X-Also]}, response: {remove: [x-gone]}}, route: [{destination: {host: v3}}]",
        "match: {prefix: /remove}, request_headers_to_remove: [x-gone, X-Also], response_headers_to_remove: [x-gone], route: {cluster: v3, timeout: 0s}",
        &[
            ("GET", "/remove", &[("x-gone", "a"), ("X-Gone", "b"), ("x-also", "c"), ("x-kept", "d")]),
            ("GET", "/remove", &[("x-answer", "header=x-gone:1;header=x-kept:2")]),
        ],
    ),
    rule(
        "backend",
        "match: [{uri: {prefix: /backend}}], headers: {request: {set: {x-level: rule}}}, route: [{destination: {host: v2}, headers: {request: {add: {x-level: backend}}, response: {set: {x-level: backend}}}}]",
        "match: {prefix: /backend}, request_headers_to_add: [{header: {key: x-level, value: rule}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}], route: {timeout: 0s, weighted_clusters: {clusters: [{name: v2, weight: 1, request_headers_to_add: [{header: {key: x-level, value: backend}, append_action: APPEND_IF_EXISTS_OR_ADD}], response_headers_to_add: [{header: {key: x-level, value: backend}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]}]}}",
        &[("GET", "/backend", &[]), ("GET", "/backend", &[("x-level", "caller")])],
    ),
    rule(
        "timeout",
        "match: [{uri: {prefix: /slow}}], timeout: 100ms, route: [{destination: {host: v1}}]",
        "match: {prefix: /slow}, route: {cluster: v1, timeout: 0.1s}",
        &[("GET", "/slow", &[("x-answer", "delay=1000")]), ("GET", "/slow", &[]), ("GET", "/slow", &[])],
    ),
    rule(
        "retry",
        "match: [{uri: {prefix: /retry}}], retries: {attempts: 2, retryOn: 'gateway-error,reset'}, route: [{destination: {host: v1}}]",
        "match: {prefix: /retry}, route: {cluster: v1, timeout: 0s, retry_policy: {retry_on: 'gateway-error,reset', num_retries: 2}}",
        &[
            ("GET", "/retry", &[("x-answer", "status=503")]),
            ("GET", "/retry", &[("x-answer", "status=500")]),
            ("GET", "/retry", &[("x-answer", "reset")]),
        ],
    ),
    rule(
        "rest",
        "route: [{destination: {host: two}}]",
        "match: {prefix: /}, route: {cluster: two, timeout: 0s}",
        &[("GET", "/", &[("x-answer", "trailer=x-end:1")]), ("GET", "/", &[("x-answer", "status=404")])],
    ),
];

const WILD: &[Rule] = &[rule(
    "wild",
    "route: [{destination: {host: v1}}]",
    "match: {prefix: /}, route: {cluster: v1, timeout: 0s}",
    &[
        ("GET", "/", &[("x-answer", "body=chunked")]),
        ("GET", "/", &[("x-answer", "body=close")]),
        ("GET", "/", &[("x-answer", "status=204")]),
        ("GET", "/", &[("x-answer", "status=304")]),
        ("HEAD", "/", &[]),
        ("HEAD", "/", &[("x-answer", "body=chunked")]),
        ("GET", "/", &[("x-answer", "body=chunked;trailer=x-end:1")]),
        ("POST", "/", &[("x-answer", "status=418")]),
    ],
)];

const EXACT: &[Rule] = &[rule(
    "exact",
    "route: [{destination: {host: v3}}]",
    "match: {prefix: /}, route: {cluster: v3, timeout: 0s}",
    &[("GET", "/", &[]), ("POST", "/", &[("expect", "100-continue")])],
)];

/// A host whose rule splits requests, with the weights of `v1`, `v2` and `v3`; of no interest to the other comparison,
/// since chance decides.
pub const SPLIT: (&str, [u32; 3]) = ("split.test", [70, 0, 20]);

/// The objects of the gateway `gateway`, which listens on `port`.
#[must_use]
pub fn objects(port: u16) -> String {
    let mut text = format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: front, namespace: default}}\nspec:\n  \
         selector: {{app: gateway}}\n  servers: [{{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: ['*']}}]\n"
    );
    for (index, host) in HOSTS.iter().enumerate() {
        let _ = write!(
            text,
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: host-{index}, namespace: \
             default}}\nspec:\n  hosts: ['{}']\n  gateways: [front]\n  http:\n",
            host.host
        );
        for rule in host.rules {
            let _ = writeln!(text, "  - {{name: {}, {}}}", rule.name, rule.ours);
        }
    }
    let (host, [v1, v2, v3]) = SPLIT;
    let _ = write!(
        text,
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: split, namespace: default}}\n\
         spec:\n  hosts: [{host}]\n  gateways: [front]\n  http:\n  - route: [{{destination: {{host: v1}}, weight: {v1}}}, \
         {{destination: {{host: v2}}, weight: {v2}}}, {{destination: {{host: v3}}, weight: {v3}}}]\n"
    );
    text
}

/// The same for Envoy: a flow sequence of virtual hosts.
#[must_use]
pub fn virtual_hosts() -> String {
    let mut text = "[".to_owned();
    for host in HOSTS {
        let _ = write!(
            text,
            "{{name: '{}', domains: ['{}'], include_request_attempt_count: true, retry_policy: {{retry_on: 'connect-failure,refused-stream,unavailable,\
             cancelled', num_retries: 2}}, routes: [",
            host.host, host.host
        );
        for rule in host.rules {
            let _ = write!(text, "{{name: {}, {}}},", rule.name, rule.envoy);
        }
        text.push_str("]},");
    }
    let (host, [v1, v2, v3]) = SPLIT;
    let _ = write!(
        text,
        "{{name: split, domains: [{host}], routes: [{{name: split, match: {{prefix: /}}, route: {{weighted_clusters: \
         {{clusters: [{{name: v1, weight: {v1}}}, {{name: v2, weight: {v2}}}, {{name: v3, weight: {v3}}}]}}}}}}]}}]"
    );
    text
}
