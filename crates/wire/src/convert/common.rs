//! What several messages share: texts, ports, enums, and the error that says where it went wrong.

use super::KNOWN_REQUIREMENTS;
use crate::pb::lateen::v1 as pb;
use lateen_model::{
    AppProtocol, Cidr, Created, FullRegex, HostPattern, Hostname, Key, Labels, NamedMatch, Namespace,
    Selector, ServiceId, Share, Str, StringMatch, Visibility,
};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

/// What is wrong with a message, and where in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

impl Invalid {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn at(self, place: impl std::fmt::Display) -> Self {
        Self(format!("{place}: {}", self.0))
    }
}

impl From<lateen_model::InvalidName> for Invalid {
    fn from(error: lateen_model::InvalidName) -> Self {
        Self(error.to_string())
    }
}

impl From<lateen_model::InvalidRegex> for Invalid {
    fn from(error: lateen_model::InvalidRegex) -> Self {
        Self(error.to_string())
    }
}

pub(super) type Result<T> = std::result::Result<T, Invalid>;

/// How many regular expressions one resource may hold: each may take a MiB once compiled. Gateway API's
/// own bounds come to about 2,200 for one HTTPRoute.
const MAX_REGEXES: u32 = 4096;

/// What decoding one resource may still use up.
pub(super) struct Context {
    regexes: Cell<u32>,
}

impl Default for Context {
    fn default() -> Self {
        Self { regexes: Cell::new(MAX_REGEXES) }
    }
}

impl Context {
    /// Counts one more regular expression.
    pub(super) fn one_more_regex(&self) -> Result<()> {
        let left = self.regexes.get().checked_sub(1);
        let left =
            left.ok_or_else(|| Invalid::new(format!("more than {MAX_REGEXES} regular expressions")))?;
        self.regexes.set(left);
        Ok(())
    }

    fn regex(&self, pattern: &str) -> Result<FullRegex> {
        self.one_more_regex()?;
        Ok(FullRegex::parse(pattern)?)
    }
}

/// The value of a field that must be there.
pub(super) fn need<T>(field: Option<T>, name: &str) -> Result<T> {
    field.ok_or_else(|| Invalid::new(format!("{name} is not set or not known")))
}

/// Refuses a message that asks for knowledge we do not have (architecture: skew between releases).
pub(super) fn check_requires(requires: &[String]) -> Result<()> {
    match requires.iter().find(|word| !KNOWN_REQUIREMENTS.contains(&word.as_str())) {
        None => Ok(()),
        Some(word) => {
            let word: String = word.chars().take(64).collect();
            Err(Invalid::new(format!(
                "requires {word:?}, which this release does not know; upgrade the proxy"
            )))
        }
    }
}

/// All elements, converted; an error names the element.
pub(super) fn each<A, B>(
    items: impl IntoIterator<Item = A>,
    name: &str,
    convert: impl Fn(A) -> Result<B>,
) -> Result<Vec<B>> {
    let convert =
        |(index, item)| convert(item).map_err(|error: Invalid| error.at(format_args!("{name}[{index}]")));
    items.into_iter().enumerate().map(convert).collect()
}

/// An enum of the model and its like on the wire, both ways. What the wire does not know is refused.
macro_rules! mirror {
    ($to:ident, $from:ident: $model:ty = $wire:ty { $($ours:ident = $theirs:ident),* $(,)? }) => {
        pub(super) fn $to(value: $model) -> i32 {
            let wire = match value { $(<$model>::$ours => <$wire>::$theirs),* };
            wire as i32
        }
        pub(super) fn $from(value: i32) -> crate::convert::common::Result<$model> {
            match <$wire>::try_from(value) {
                $(Ok(<$wire>::$theirs) => Ok(<$model>::$ours),)*
                _ => Err(crate::convert::Invalid::new(format!(
                    "{} has no value {value} that is known", stringify!($to).trim_end_matches("_to_pb")
                ))),
            }
        }
    };
}
pub(super) use mirror;

mirror!(protocol_to_pb, protocol_from_pb: AppProtocol = pb::Protocol {
    Detect = Detect, Http1 = Http1, Http2 = Http2, Grpc = Grpc, Tcp = Tcp, Tls = Tls, Udp = Udp,
});

pub(super) fn key(text: &str) -> Result<Key> {
    Key::parse(text).ok_or_else(|| {
        let text: String = text.chars().take(256).collect();
        Invalid::new(format!("key {text:?} is not cluster/group/kind/namespace/name of a kind that is known"))
    })
}

/// The object that a resource was made from: named only where it is not the key.
pub(super) fn object_to_pb(key: &Key, object: &Key) -> String {
    if key == object { String::new() } else { object.to_string() }
}

pub(super) fn object_from_pb(own: &Key, text: &str) -> Result<Key> {
    if text.is_empty() { Ok(own.clone()) } else { key(text) }
}

/// A port; 0 is none that anything listens on.
pub(super) fn port(number: u32) -> Result<u16> {
    u16::try_from(number).map_err(|_| Invalid::new(format!("port {number} is more than 65535")))
}

pub(super) fn ports(numbers: Vec<u32>) -> Result<Vec<u16>> {
    numbers.into_iter().map(port).collect()
}

pub(super) fn texts(texts: &[Str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

pub(super) fn strs(texts: Vec<String>) -> Vec<Str> {
    texts.into_iter().map(Str::from).collect()
}

pub(super) fn labels_to_pb(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

pub(super) fn selector_to_pb(selector: &Selector) -> BTreeMap<String, String> {
    labels_to_pb(selector.labels())
}

pub(super) fn selector_from_pb(labels: BTreeMap<String, String>) -> Selector {
    Selector::new(labels.into_iter().collect())
}

pub(super) fn service_id_to_pb(id: &ServiceId) -> pb::ServiceId {
    pb::ServiceId { namespace: id.namespace.to_string(), hostname: id.hostname.to_string() }
}

pub(super) fn service_id_from_pb(id: &pb::ServiceId) -> Result<ServiceId> {
    Ok(ServiceId { namespace: Namespace::parse(&id.namespace)?, hostname: Hostname::parse(&id.hostname)? })
}

pub(super) fn hosts_from_pb(hosts: Vec<String>) -> Result<Vec<HostPattern>> {
    each(hosts, "hosts", |host| Ok(HostPattern::parse(&host)?))
}

pub(super) fn hosts_to_pb(hosts: &[HostPattern]) -> Vec<String> {
    hosts.iter().map(ToString::to_string).collect()
}

pub(super) fn created_from_pb(created: Option<u64>) -> Created {
    created.map_or(Created::UNKNOWN, Created::at)
}

pub(super) fn duration_to_pb(duration: Duration) -> pb::Duration {
    pb::Duration { seconds: duration.as_secs(), nanos: duration.subsec_nanos() }
}

pub(super) fn duration_from_pb(duration: pb::Duration) -> Result<Duration> {
    if duration.nanos >= 1_000_000_000 {
        return Err(Invalid::new("nanos are a second or more"));
    }
    Ok(Duration::new(duration.seconds, duration.nanos))
}

/// A time that may be missing, both ways.
pub(super) fn optional_to_pb(duration: Option<Duration>) -> Option<pb::Duration> {
    duration.map(duration_to_pb)
}

pub(super) fn optional_from_pb(duration: Option<pb::Duration>) -> Result<Option<Duration>> {
    duration.map(duration_from_pb).transpose()
}

pub(super) fn status(number: u32) -> Result<u16> {
    match u16::try_from(number) {
        Ok(status) if (100..=999).contains(&status) => Ok(status),
        _ => Err(Invalid::new(format!("{number} is not an HTTP status"))),
    }
}

pub(super) fn share_from_pb(parts_per_million: u32) -> Result<Share> {
    if parts_per_million > Share::ALL.parts() {
        return Err(Invalid::new(format!("{parts_per_million} of a million is more than all")));
    }
    Ok(Share::per_million(parts_per_million))
}

/// A header name in lower case.
pub(super) fn header_name(text: &str) -> Result<Str> {
    match http::HeaderName::from_lowercase(text.as_bytes()) {
        Ok(_) => Ok(text.into()),
        Err(_) => Err(Invalid::new("a header name is not one in lower case")),
    }
}

/// Text that goes into a header as it is, so it may not hold what ends one.
pub(super) fn header_text(text: String) -> Result<Str> {
    match http::HeaderValue::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(text.into()),
        Err(_) => Err(Invalid::new("a header value holds a control character")),
    }
}

/// Text that goes into a request line or a location as it is: no spaces, no control characters.
pub(super) fn target_text(text: String) -> Result<Str> {
    match text.bytes().all(|byte| byte > b' ' && byte != 0x7f) {
        true => Ok(text.into()),
        false => Err(Invalid::new("a part of a target holds a space or a control character")),
    }
}

pub(super) fn visibility_to_pb(visibility: &Visibility) -> pb::Visibility {
    use pb::visibility::SeenBy;
    let seen_by = match visibility {
        Visibility::Public => SeenBy::Everyone(pb::Everyone {}),
        Visibility::Only(namespaces) => SeenBy::Namespaces(namespaces_to_pb(namespaces)),
    };
    pb::Visibility { seen_by: Some(seen_by) }
}

pub(super) fn visibility_from_pb(visibility: Option<pb::Visibility>) -> Result<Visibility> {
    use pb::visibility::SeenBy;
    match need(visibility.and_then(|visibility| visibility.seen_by), "visibility")? {
        SeenBy::Everyone(_) => Ok(Visibility::Public),
        SeenBy::Namespaces(only) => Ok(Visibility::Only(namespaces_from_pb(only)?)),
    }
}

pub(crate) fn namespaces_to_pb(namespaces: &[Namespace]) -> pb::Namespaces {
    pb::Namespaces { namespaces: namespaces.iter().map(ToString::to_string).collect() }
}

pub(crate) fn namespaces_from_pb(message: pb::Namespaces) -> Result<Vec<Namespace>> {
    each(message.namespaces, "namespaces", |text| Ok(Namespace::parse(&text)?))
}

/// A namespace where empty means none.
pub(super) fn optional_namespace(text: &str) -> Result<Option<Namespace>> {
    if text.is_empty() { Ok(None) } else { Ok(Some(Namespace::parse(text)?)) }
}

pub(super) fn string_match_to_pb(text: &StringMatch) -> pb::StringMatch {
    use pb::string_match::Form;
    let form = match text {
        StringMatch::Exact(text) => Form::Exact(text.to_string()),
        StringMatch::ExactIgnoreCase(text) => Form::ExactIgnoreCase(text.to_string()),
        StringMatch::Prefix(text) => Form::Prefix(text.to_string()),
        StringMatch::PrefixIgnoreCase(text) => Form::PrefixIgnoreCase(text.to_string()),
        StringMatch::Suffix(text) => Form::Suffix(text.to_string()),
        StringMatch::Regex(regex) => Form::Regex(regex.pattern().to_owned()),
        StringMatch::Present => Form::Present(pb::Present {}),
    };
    pb::StringMatch { form: Some(form) }
}

pub(super) fn string_match_from_pb(context: &Context, text: &pb::StringMatch) -> Result<StringMatch> {
    use pb::string_match::Form;
    Ok(match need(text.form.as_ref(), "form of a match")? {
        Form::Exact(text) => StringMatch::Exact(text.into()),
        Form::ExactIgnoreCase(text) => StringMatch::ExactIgnoreCase(text.into()),
        Form::Prefix(text) => StringMatch::Prefix(text.into()),
        Form::PrefixIgnoreCase(text) => StringMatch::PrefixIgnoreCase(text.into()),
        Form::Suffix(text) => StringMatch::Suffix(text.into()),
        Form::Regex(pattern) => StringMatch::Regex(context.regex(pattern)?),
        Form::Present(_) => StringMatch::Present,
    })
}

pub(super) fn string_matches_to_pb(matches: &[StringMatch]) -> Vec<pb::StringMatch> {
    matches.iter().map(string_match_to_pb).collect()
}

pub(super) fn string_matches_from_pb(
    context: &Context,
    matches: &[pb::StringMatch],
    name: &str,
) -> Result<Vec<StringMatch>> {
    each(matches, name, |text| string_match_from_pb(context, text))
}

pub(super) fn named_matches_to_pb(matches: &[NamedMatch]) -> Vec<pb::NamedMatch> {
    let one = |named: &NamedMatch| pb::NamedMatch {
        name: named.name.to_string(),
        value: Some(string_match_to_pb(&named.value)),
    };
    matches.iter().map(one).collect()
}

pub(super) fn named_matches_from_pb(
    context: &Context,
    matches: Vec<pb::NamedMatch>,
    name: &str,
) -> Result<Vec<NamedMatch>> {
    each(matches, name, |named| {
        let value = string_match_from_pb(context, &need(named.value, "value")?)?;
        Ok(NamedMatch { name: named.name.into(), value })
    })
}

pub(super) fn cidrs_to_pb(ranges: &[Cidr]) -> Vec<String> {
    ranges.iter().map(ToString::to_string).collect()
}

pub(super) fn cidrs_from_pb(ranges: &[String], name: &str) -> Result<Vec<Cidr>> {
    each(ranges, name, |text| {
        text.parse().map_err(|_| {
            let text: String = text.chars().take(64).collect();
            Invalid::new(format!("{text:?} is not an address range such as 10.0.0.0/8"))
        })
    })
}
