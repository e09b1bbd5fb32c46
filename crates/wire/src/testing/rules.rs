//! Generators of what a rule of a route holds.

use super::{duration, request_match, service_id, string_match, text};
use lateen_model::{
    Abort, Answer, Backend, BackendTarget, Cors, DirectResponse, FaultInjection, Filter, Format, HeaderEdit,
    Mirror, PathRewrite, Redirect, RedirectPort, RegexRewrite, RetryConditions, RetryPolicy, Rewrite, Rule,
    SessionPersistence, SessionToken, Share, Str,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

pub(super) fn share() -> impl Strategy<Value = Share> {
    (0u32..=1_000_000).prop_map(Share::per_million)
}

fn token() -> impl Strategy<Value = Str> {
    "[a-z-]{1,4}".prop_map(Str::from)
}

fn target_text() -> impl Strategy<Value = Str> {
    "[!-~]{0,6}".prop_map(Str::from)
}

fn header_edit() -> impl Strategy<Value = HeaderEdit> {
    let format = || {
        prop_oneof![
            "[ -~]{0,6}".prop_map(Format::literal),
            Just("a%REQ(x)%%%").prop_map(|text| Format::parse(text).expect("a format")),
        ]
    };
    let pairs = move || vec((token(), format()), 0..2);
    (pairs(), pairs(), vec(token(), 0..2)).prop_map(|(set, add, remove)| HeaderEdit { set, add, remove })
}

fn path_rewrite() -> impl Strategy<Value = PathRewrite> {
    let regex = RegexRewrite::parse("/v([0-9])", r"/\1").expect("a pattern");
    prop_oneof![
        target_text().prop_map(PathRewrite::Full),
        target_text().prop_map(PathRewrite::Matched),
        Just(PathRewrite::Regex(regex)),
    ]
}

fn backend_target() -> impl Strategy<Value = BackendTarget> {
    let service = (service_id(), any::<u16>(), option::of(text()))
        .prop_map(|(service, port, subset)| BackendTarget::Service { service, port, subset });
    let invalid = (proptest::sample::select(vec![500u16, 503]), text())
        .prop_map(|(status, reason)| BackendTarget::Invalid { status, reason });
    prop_oneof![service, invalid]
}

fn cors() -> impl Strategy<Value = Cors> {
    let tokens = || vec(token(), 0..2);
    (
        (vec(string_match(), 0..2), tokens(), tokens(), tokens()),
        (option::of(duration()), any::<bool>(), any::<bool>()),
    )
        .prop_map(|((allow_origins, allow_methods, allow_headers, expose_headers), rest)| {
            let (max_age, allow_credentials, forward_unmatched_preflights) = rest;
            Cors {
                allow_origins,
                allow_methods,
                allow_headers,
                expose_headers,
                max_age,
                allow_credentials,
                forward_unmatched_preflights,
            }
        })
}

fn fault() -> impl Strategy<Value = FaultInjection> {
    let abort = prop_oneof![(100u16..600).prop_map(Abort::Http), (0u16..=16).prop_map(Abort::Grpc)];
    (option::of((duration(), share())), option::of((abort, share())))
        .prop_map(|(delay, abort)| FaultInjection { delay, abort })
}

fn filter() -> impl Strategy<Value = Filter> {
    let rewrite = (option::of(path_rewrite()), option::of(target_text()))
        .prop_map(|(path, authority)| Rewrite { path, authority });
    let mirror = (backend_target(), share()).prop_map(|(target, share)| Mirror { target, share });
    prop_oneof![
        header_edit().prop_map(Filter::RequestHeaders),
        header_edit().prop_map(Filter::ResponseHeaders),
        rewrite.prop_map(Filter::Rewrite),
        mirror.prop_map(Filter::Mirror),
        cors().prop_map(Filter::Cors),
        fault().prop_map(Filter::Fault),
    ]
}

fn backend() -> impl Strategy<Value = Backend> {
    (backend_target(), any::<u32>(), vec(filter(), 0..2)).prop_map(|(target, weight, filters)| Backend {
        target,
        weight,
        filters,
    })
}

fn retry() -> impl Strategy<Value = RetryPolicy> {
    let on = (any::<[bool; 13]>(), vec(any::<u16>(), 0..3)).prop_map(|(on, statuses)| RetryConditions {
        connect_failure: on[0],
        refused_stream: on[1],
        reset: on[2],
        reset_before_request: on[3],
        gateway_error: on[4],
        server_error: on[5],
        conflict: on[6],
        cancelled: on[7],
        unavailable: on[8],
        deadline_exceeded: on[9],
        internal: on[10],
        resource_exhausted: on[11],
        rate_limited: on[12],
        statuses,
    });
    (any::<u32>(), option::of(duration()), on, duration(), any::<[bool; 2]>()).prop_map(
        |(attempts, per_try_timeout, on, backoff, [ignore_previous_hosts, remote_localities])| RetryPolicy {
            attempts,
            per_try_timeout,
            on,
            backoff,
            ignore_previous_hosts,
            remote_localities,
        },
    )
}

fn answer() -> impl Strategy<Value = Answer> {
    let port = prop_oneof![
        Just(RedirectPort::Unchanged),
        any::<u16>().prop_map(RedirectPort::Number),
        Just(RedirectPort::OfScheme),
        Just(RedirectPort::OfRequest),
    ];
    let text = || option::of(target_text());
    let status = proptest::sample::select(vec![301u16, 302, 303, 307, 308]);
    let redirect = (status, text(), text(), port, option::of(path_rewrite())).prop_map(
        |(status, scheme, host, port, path)| Answer::Redirect(Redirect { status, scheme, host, port, path }),
    );
    let direct = (100u16..600, vec(any::<u8>(), 0..8))
        .prop_map(|(status, body)| Answer::Direct(DirectResponse { status, body: body.into() }));
    prop_oneof![redirect, direct]
}

fn persistence() -> impl Strategy<Value = SessionPersistence> {
    let cookie = (token(), target_text(), any::<bool>())
        .prop_map(|(name, path, permanent)| SessionToken::Cookie { name, path, permanent });
    let by = prop_oneof![cookie, token().prop_map(SessionToken::Header)];
    (by, option::of(duration()), option::of(duration())).prop_map(|(by, absolute_timeout, idle_timeout)| {
        SessionPersistence { by, absolute_timeout, idle_timeout }
    })
}

pub(super) fn rule() -> impl Strategy<Value = Rule> {
    (
        (text(), vec(request_match(), 0..3), vec(filter(), 0..2), option::of(answer())),
        (vec(backend(), 0..3), option::of(duration()), option::of(retry()), option::of(persistence())),
    )
        .prop_map(|((name, matches, filters, answer), (backends, timeout, retry, persistence))| Rule {
            name,
            matches,
            filters,
            answer,
            backends,
            timeout,
            retry,
            persistence,
        })
}
