//! `Manifest`: one user object, typed, with where it stands and what is wrong in it.

use crate::object::{Meta, ObjectKey, ObjectKind};
use crate::problem::{At, Draft, Problem, Severity, Span, nearest};
use crate::read::{Reader, one_of};
use crate::schema::{self, Spec};
use crate::yaml::{self, Built, Document, Node, Value};
use lateen_model::{Created, Labels, Namespace, ObjectName, Str};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// The most problems told of one file.
const MAX_PROBLEMS: usize = 1000;

/// One user object.
#[derive(Clone)]
pub(crate) struct Manifest {
    pub(crate) key: ObjectKey,
    pub(crate) meta: Meta,
    /// None where nothing of it could be read.
    pub(crate) spec: Option<Spec>,
    /// What is wrong with its text.
    pub(crate) problems: Vec<Problem>,
    /// Whether its text has an error, so that it may not be used.
    pub(crate) broken: bool,
    pub(crate) file: Str,
    pub(crate) line: u32,
    /// The document it stands in, which may hold others (`kind: List`).
    document: Arc<str>,
    range: Range<usize>,
    column: u32,
}

impl PartialEq for Manifest {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
            && self.meta == other.meta
            && self.spec == other.spec
            && self.problems == other.problems
            && (self.broken, self.line, &self.file) == (other.broken, other.line, &other.file)
    }
}

impl Manifest {
    /// A problem found later, when it was held against other objects.
    pub(crate) fn problem(&self, draft: Draft) -> Problem {
        draft.finish(&self.file, &self.document, Some(&self.key))
    }

    /// Its text as a document of its own, from which it can be read again.
    pub(crate) fn text(&self) -> String {
        let own = self.document.get(self.range.clone()).unwrap_or_default();
        // The first line of a block within a list has lost its indentation.
        format!("{}{own}", " ".repeat(self.column.saturating_sub(1) as usize))
    }
}

/// What a file holds.
#[derive(Default)]
pub(crate) struct Parsed {
    pub(crate) manifests: Vec<Manifest>,
    /// Problems that belong to no object.
    pub(crate) problems: Vec<Problem>,
    /// A document is there whose object could not be told: so an object that is missing may be in it.
    pub(crate) unreadable: bool,
}

/// Reads one file; `first_line` is where its text stands in a larger one.
pub(crate) fn parse(file: &Str, text: &str, first_line: u32) -> Parsed {
    let mut parser = FileParser { file, parsed: Parsed::default(), budget: yaml::MAX_NODES };
    if text.len() > yaml::MAX_FILE {
        parser.refuse(format!("the file is larger than {} MiB", yaml::MAX_FILE >> 20));
        return parser.parsed;
    }
    for (index, mut document) in yaml::documents(text).enumerate() {
        if index == yaml::MAX_DOCUMENTS {
            parser.refuse(format!("the file has more than {} documents", yaml::MAX_DOCUMENTS));
            break;
        }
        document.line = document.line.saturating_add(first_line - 1);
        parser.document(document);
    }
    parser.parsed
}

struct FileParser<'a> {
    file: &'a Str,
    parsed: Parsed,
    budget: usize,
}

impl FileParser<'_> {
    fn refuse(&mut self, message: String) {
        let span = Span { line: 1, column: 1, start: 0, end: 0 };
        let draft = Draft::error(span, message).expected("smaller files");
        self.parsed.problems.push(draft.finish(self.file, "", None));
        self.parsed.unreadable = true;
    }

    fn document(&mut self, document: Document<'_>) {
        let Built { root, drafts, cut } = yaml::build(document, &mut self.budget);
        let text: Arc<str> = document.text.into();
        let reader = Reader::default();
        let Some(root) = root else {
            drafts.into_iter().for_each(|draft| reader.push(draft));
            let salvaged = if cut { salvage(document.text) } else { None };
            return self.unknown(&reader, &text, 0..text.len(), salvaged, document.line);
        };
        let is_list = root.get("kind").and_then(Node::as_text).is_some_and(|kind| kind.ends_with("List"));
        match root.get("items").and_then(Node::as_list).filter(|_| is_list) {
            Some(items) => self.list(items, drafts, &text, cut),
            None => {
                drafts.into_iter().for_each(|draft| reader.push(draft));
                let whole = Place { range: 0..text.len(), column: 1, cut };
                self.object(&root, &reader, &text, whole);
            }
        }
    }

    /// `kind: List`: each item by itself. A break leaves the last item in doubt, and those after it unknown.
    fn list(&mut self, items: &[Node], mut drafts: Vec<Draft>, text: &Arc<str>, cut: bool) {
        self.parsed.unreadable |= cut;
        let last = items.len().saturating_sub(1);
        for (index, item) in items.iter().enumerate() {
            let reader = Reader::default();
            let range = item.span.start as usize..item.span.end as usize;
            let cut = cut && index == last;
            if cut {
                reader.error(item.span, "this item ends in text that is not YAML");
            }
            let (own, rest) =
                drafts.into_iter().partition(|draft| !cut && range.contains(&(draft.span.start as usize)));
            drafts = rest;
            Vec::into_iter(own).for_each(|draft| reader.push(draft));
            self.object(item, &reader, text, Place { range, column: item.span.column, cut });
        }
        let list = Reader::default();
        drafts.into_iter().for_each(|draft| list.push(draft));
        self.tell(&list, text, 0..text.len(), None);
    }

    /// A document whose object is not known: its problems belong to the file.
    fn unknown(
        &mut self,
        reader: &Reader,
        text: &str,
        range: Range<usize>,
        key: Option<ObjectKey>,
        line: u32,
    ) {
        self.parsed.unreadable |= key.is_none() && reader.count(Severity::Error) > 0;
        let problems = finish(reader, self.file, text, range, key.as_ref(), None);
        match key {
            Some(key) => self.parsed.manifests.push(Manifest {
                meta: Meta {
                    labels: Labels::default(),
                    annotations: BTreeMap::new(),
                    created: Created::UNKNOWN,
                    name_span: Span { line, column: 1, start: 0, end: 0 },
                },
                key,
                spec: None,
                problems,
                broken: true,
                file: self.file.clone(),
                line,
                document: text.into(),
                range: 0..text.len(),
                column: 1,
            }),
            None => self.keep(problems),
        }
    }

    fn tell(&mut self, reader: &Reader, text: &str, range: Range<usize>, root: Option<&Node>) {
        let problems = finish(reader, self.file, text, range, None, root);
        self.keep(problems);
    }

    fn keep(&mut self, problems: Vec<Problem>) {
        let room = MAX_PROBLEMS.saturating_sub(self.parsed.problems.len());
        self.parsed.problems.extend(problems.into_iter().take(room));
    }

    fn object(&mut self, root: &Node, reader: &Reader, text: &Arc<str>, place: Place) {
        // What stands behind a break is unknown, so what is missing there is no news.
        let scratch = Reader::default();
        let told = if place.cut { &scratch } else { reader };
        let whole = place.range.len() == text.len();
        let salvaged = || if place.cut && whole { salvage(text) } else { None };
        let Some(kind) = kind(root, told) else {
            return self.unknown(reader, text, place.range.clone(), salvaged(), root.span.line);
        };
        let Some(kind) = kind else {
            // A kind of somebody else's: said once, and no reason to keep anything.
            return self.tell(reader, text, place.range, Some(root));
        };
        let Some((name, namespace, meta)) = metadata(kind, root, told) else {
            return self.unknown(reader, text, place.range.clone(), salvaged(), root.span.line);
        };
        let key = ObjectKey::new(kind, namespace, name);
        if kind.is_workload() {
            told.unsupported(meta.name_span, instead_of_workload(kind, &key, root));
        } else if let ObjectKind::Other(_) = kind {
            told.unsupported(meta.name_span, format!("{kind} is not enforced yet"));
        }
        let spec = schema::read(kind, root, &key.namespace, &meta.labels, &meta.annotations, told);
        let broken = place.cut || reader.count(Severity::Error) > 0 || spec.is_none();
        let problems = finish(reader, self.file, text, place.range.clone(), Some(&key), Some(root));
        self.parsed.manifests.push(Manifest {
            line: root.span.line,
            key,
            meta,
            spec,
            problems,
            broken,
            file: self.file.clone(),
            document: Arc::clone(text),
            range: place.range,
            column: place.column,
        });
    }
}

/// Where an object stands in its document.
struct Place {
    range: Range<usize>,
    column: u32,
    /// Its text breaks in the middle.
    cut: bool,
}

fn finish(
    reader: &Reader,
    file: &Str,
    text: &str,
    range: Range<usize>,
    key: Option<&ObjectKey>,
    root: Option<&Node>,
) -> Vec<Problem> {
    // Only its own text is looked at: a list may have very many items.
    let own = text.get(range).unwrap_or_default();
    let hide = may_be_secret(own, key);
    let finish = |mut draft: Draft| {
        if hide {
            draft.span.end = draft.span.start;
        }
        let path = root.map(|root| root.path_to(draft.span)).filter(|path| !path.is_empty());
        Problem { field: path.map(Str::from), ..draft.finish(file, text, key) }
    };
    reader.take().into_iter().map(finish).collect()
}

/// What stands in a Secret is shown nowhere, so neither is what may be one.
fn may_be_secret(text: &str, key: Option<&ObjectKey>) -> bool {
    key.is_none_or(|key| key.kind == ObjectKind::Secret) && text.contains("Secret")
}

/// The kind of an object. `None` where it cannot be told, `Some(None)` where it is none of ours.
fn kind(root: &Node, reader: &Reader) -> Option<Option<ObjectKind>> {
    let Value::Map(_) = &root.value else {
        reader.push(
            Draft::error(root.span, format!("found {}", root.describe()))
                .expected("an object with `apiVersion`, `kind` and `metadata`"),
        );
        return None;
    };
    let text = |name: &str| match root.get(name) {
        Some(node) => reader.text(node),
        None => {
            reader.error(first_key(root), format!("the field `{name}` is missing"));
            None
        }
    };
    let (version, kind) = (text("apiVersion")?, text("kind")?);
    let (group, number) = version.rsplit_once('/').unwrap_or(("", version.as_str()));
    if let Some(found) = ObjectKind::find(group, &kind) {
        if !found.versions().contains(&number) {
            let wanted: Vec<String> =
                found.versions().iter().map(|number| qualified(group, number)).collect();
            let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
            reader.push(
                Draft::error(version.span, format!("{kind} has no version {number:?}", kind = kind.as_str()))
                    .expected(one_of(&wanted)),
            );
        }
        return Some(Some(found));
    }
    let ours = ObjectKind::groups().any(|known| known == group);
    if ours && let Some(suggestion) = nearest(&kind, ObjectKind::names_of(group)) {
        let message = format!("{:?} is no kind of {:?}", kind.as_str(), version.as_str());
        reader.push(Draft::error(kind.span, message).suggest(Some(suggestion)));
        return None;
    }
    // A group that is nearly one of ours, or a kind of ours under another of our groups.
    let close = |known: &&str| strsim::damerau_levenshtein(known, group) <= 2;
    let group_of_kind = ObjectKind::groups_of(&kind).next().filter(|known| ours && !known.is_empty());
    if let Some(known) =
        ObjectKind::groups().find(close).filter(|_| !ours && !group.is_empty()).or(group_of_kind)
    {
        let number = ObjectKind::find(known, &kind).map_or(number, |kind| kind.versions()[0]);
        let message = format!("{:?} has no kind {:?}", version.as_str(), kind.as_str());
        reader.push(Draft::error(version.span, message).suggest(Some(qualified(known, number))));
        return None;
    }
    // Most kinds of a cluster are not about the mesh.
    let message =
        format!("{:?} of {:?} is not read here, and is left alone", kind.as_str(), version.as_str());
    reader.push(Draft::warning(kind.span, message));
    Some(None)
}

fn qualified(group: &str, number: &str) -> String {
    if group.is_empty() { number.to_owned() } else { format!("{group}/{number}") }
}

fn first_key(root: &Node) -> Span {
    match &root.value {
        Value::Map(fields) if !fields.is_empty() => fields[0].0.span,
        _ => root.span,
    }
}

fn metadata(kind: ObjectKind, root: &Node, reader: &Reader) -> Option<(Str, Namespace, Meta)> {
    let Some(node) = root.get("metadata") else {
        reader.error(first_key(root), "the field `metadata` is missing");
        return None;
    };
    // Fields that the API server writes are no concern of anybody here.
    let fields = reader.fields(
        node,
        &[
            "name",
            "namespace",
            "labels",
            "annotations",
            "creationTimestamp",
            "uid",
            "resourceVersion",
            "generation",
            "managedFields",
            "ownerReferences",
            "finalizers",
            "selfLink",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        ],
        &["generateName"],
    )?;
    let name = fields.need_text("name")?;
    reader.parse(&name, ObjectName::parse)?;
    let namespace = match fields.text("namespace") {
        Some(text) if kind.is_cluster_wide() => {
            reader.push(Draft::warning(text.span, format!("{kind} has no namespace")));
            Namespace::default()
        }
        Some(text) => reader.parse(&text, Namespace::parse)?,
        None => Namespace::default(),
    };
    let created = fields.text("creationTimestamp").map(|text| timestamp_of(&text, reader));
    let annotations = fields.get("annotations").map(|node| reader.pairs(node)).unwrap_or_default();
    let meta = Meta {
        labels: fields.labels("labels"),
        annotations: annotations.into_iter().map(|(key, value)| (key, value.value)).collect(),
        created: created.unwrap_or_default(),
        name_span: name.span,
    };
    Some((name.value, namespace, meta))
}

fn timestamp_of(text: &At<Str>, reader: &Reader) -> Created {
    match timestamp(text) {
        Some(seconds) => Created::at(seconds),
        None => {
            reader.push(
                Draft::error(text.span, format!("{:?} is no time", text.as_str()))
                    .expected("a time such as 2026-01-31T12:00:00Z"),
            );
            Created::UNKNOWN
        }
    }
}

/// Seconds since 1970 of an RFC 3339 time.
fn timestamp(text: &str) -> Option<u64> {
    let number = |range: Range<usize>| text.get(range)?.parse::<i64>().ok();
    let bytes = text.as_bytes();
    let fixed = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if bytes.len() < 20
        || fixed.iter().any(|(place, byte)| bytes[*place] != *byte)
        || !matches!(bytes[10], b'T' | b't' | b' ')
    {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let valid = (1..=12).contains(&month) && (1..=31).contains(&day) && (0..24).contains(&hour);
    if !valid || !(0..60).contains(&minute) || !(0..=60).contains(&second) {
        return None;
    }
    let rest = text.get(19..)?;
    let zone = rest.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = match zone {
        "Z" | "z" => 0,
        _ => {
            let sign = match zone.as_bytes().first()? {
                b'+' => 1,
                b'-' => -1,
                _ => return None,
            };
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            sign * (hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60)
        }
    };
    // Days from civil, with years that begin in March (Howard Hinnant's algorithm).
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    u64::try_from(days * 86_400 + hour * 3600 + minute * 60 + second - offset).ok()
}

/// What to write instead of a Deployment and its kin.
fn instead_of_workload(kind: ObjectKind, key: &ObjectKey, root: &Node) -> String {
    let pod = ["spec.template", "spec.jobTemplate.spec.template", ""].into_iter().find_map(|path| {
        path.split('.').filter(|name| !name.is_empty()).try_fold(root, |node, name| node.get(name))
    });
    let labels = pod.and_then(|pod| pod.get("metadata")?.get("labels"));
    let spec = pod.and_then(|pod| pod.get("spec"));
    let account = spec.and_then(|spec| spec.get("serviceAccountName")?.as_text()).unwrap_or("default");
    let port = spec
        .and_then(|spec| {
            spec.get("containers")?.as_list()?.first()?.get("ports")?.as_list()?.first()?.get("containerPort")
        })
        .and_then(|port| if let Value::Integer(port) = port.value { Some(port) } else { None });
    let replicas = match root.get("spec").and_then(|spec| spec.get("replicas")).map(|node| &node.value) {
        Some(Value::Integer(replicas)) if *replicas != 1 => format!(", replicas: {replicas}"),
        _ => String::new(),
    };
    let labels = match labels.map(|labels| &labels.value) {
        Some(Value::Map(labels)) => labels
            .iter()
            .take(8)
            .filter_map(|(key, value)| Some(format!("{}: {}", key.value, value.as_text()?)))
            .collect::<Vec<_>>()
            .join(", "),
        _ => format!("app: {}", key.name),
    };
    format!(
        "a {kind} is not run here; write a Process instead: {{apiVersion: lateen.dev/v1alpha1, kind: Process, \
         metadata: {{name: {}, namespace: {}, labels: {{{labels}}}}}, spec: {{serviceAccount: {account}, \
         command: [..], ports: [{}]{replicas}}}}}",
        key.name,
        key.namespace,
        port.unwrap_or(8080),
    )
}

/// What can be told of an object whose text is no YAML: the lines of a usual layout.
fn salvage(text: &str) -> Option<ObjectKey> {
    let (mut version, mut kind, mut name, mut namespace) = (None, None, None, None);
    let mut in_metadata = false;
    for line in text.lines() {
        let body = line.trim_start();
        let indent = line.len() - body.len();
        let Some((field, value)) = body.split_once(':') else { continue };
        let value = value.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']).to_owned();
        match (indent, field) {
            (0, "apiVersion") => version = Some(value),
            (0, "kind") => kind = Some(value),
            (0, field) => in_metadata = field == "metadata",
            (1..=4, "name") if in_metadata => name = name.or(Some(value)),
            (1..=4, "namespace") if in_metadata => namespace = namespace.or(Some(value)),
            _ => {}
        }
    }
    let version = version?;
    let group = version.rsplit_once('/').map_or("", |(group, _)| group);
    let kind = ObjectKind::find(group, &kind?)?;
    let name = name.filter(|name| ObjectName::parse(name).is_ok())?;
    let namespace = match namespace {
        Some(text) if !kind.is_cluster_wide() => Namespace::parse(&text).ok()?,
        _ => Namespace::default(),
    };
    Some(ObjectKey::new(kind, namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-11-23T19:10:23Z", Some(1_795_461_023)),
            ("2000-03-01T00:00:00+01:00", Some(951_865_200)),
            ("2000-02-29T12:00:00.25Z", Some(951_825_600)),
            ("2000-13-01T00:00:00Z", None),
            ("yesterday", None),
        ] {
            assert_eq!(timestamp(text), expected, "{text}");
        }
    }
}
