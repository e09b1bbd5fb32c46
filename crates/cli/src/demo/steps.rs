//! The steps, in order; each changes something a user would change and counts what follows.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use lateen_control::api::types::{Proxy, Status};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::client::Client;
use super::report::Measured;
use super::{Demo, binomial, shop, tls};

/// Name and story of each step.
pub(super) const ALL: [(&str, &str); 9] = [
    ("identities", "every workload has an identity and a certificate that expires"),
    ("encryption", "bytes on the wire between two pods are TLS 1.3 and not plaintext"),
    ("canary 90/10", "of 100 requests 90 go to reviews v1, 10 to v2"),
    ("canary 50/50", "the file is edited: half and half"),
    ("canary 0/100", "the file is edited: all to v2"),
    ("one user to v3", "a header sends jason to v3, and nobody else"),
    ("policy", "a new file denies the front page to ratings; reviews may still ask"),
    ("killed process", "one of two reviews processes is killed under load; no request fails"),
    ("live edit", "a file edited on disk is in force"),
];

/// Requests that a split is measured with.
const SPLIT_REQUESTS: u64 = 500;
/// The longest a saved file may take to be in force.
const IN_FORCE: Duration = Duration::from_secs(2);

pub(super) async fn take(demo: &mut Demo, name: &str) -> anyhow::Result<Measured> {
    match name {
        "identities" => identities(demo).await,
        "encryption" => encryption(demo).await,
        "canary 90/10" => canary(demo, None, 0.9).await,
        "canary 50/50" => canary(demo, Some(50), 0.5).await,
        "canary 0/100" => canary(demo, Some(0), 0.0).await,
        "one user to v3" => one_user(demo).await,
        "policy" => policy(demo).await,
        "killed process" => killed(demo).await,
        _ => live_edit(demo).await,
    }
}

async fn identities(demo: &Demo) -> anyhow::Result<Measured> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let status = demo.mesh().api().status().await?;
    let proxies: Vec<_> = status
        .proxies
        .iter()
        .map(|proxy| json!({ "proxy": proxy.node, "identity": proxy.identity, "expires": proxy.certificate_expires }))
        .collect();
    let valid = |expires: Option<u64>| expires.is_some_and(|at| at > now && at <= now + 86_400);
    let all_valid = status.proxies.iter().all(|proxy| valid(proxy.certificate_expires));
    let pods = demo.mesh().pods().names().len();
    // What an application is told of its caller is what its proxy verified.
    let caller = Client::connect(demo.gateway()).await?.get("nobody").await?.caller_of_details();
    let front = format!("spiffe://{}/ns/default/sa/front", status.trust_domain);
    let soonest = status.proxies.iter().filter_map(|proxy| proxy.certificate_expires).min().unwrap_or(now);
    let left = soonest.saturating_sub(now) / 60;
    Ok(Measured {
        held: all_valid && proxies.len() == pods && caller.as_deref() == Some(&front),
        seen: format!(
            "{} of {pods} proxies hold certificates, the first ends in {} h {} min",
            proxies.len(),
            left / 60,
            left % 60,
        ),
        shown: identities_shown(&status, now, caller.as_deref()),
        figures: json!({ "proxies": proxies, "callerOfDetails": caller }),
    })
}

/// Each proxy with its identity and how long that lasts, and whom details saw.
fn identities_shown(status: &Status, now: u64, caller: Option<&str>) -> Vec<String> {
    let widest = |text: fn(&Proxy) -> &str| status.proxies.iter().map(|proxy| text(proxy).len()).max();
    let node = widest(|proxy| &proxy.node).unwrap_or_default();
    let identity = widest(|proxy| &proxy.identity).unwrap_or_default();
    let line = |proxy: &Proxy| {
        let left = proxy.certificate_expires.unwrap_or(now).saturating_sub(now).div_ceil(3600);
        format!("{:node$}  {:identity$}  {left} h left", proxy.node, proxy.identity)
    };
    let mut shown: Vec<String> = status.proxies.iter().map(line).collect();
    shown.sort();
    shown.push(format!("details says that it was called by {}", caller.unwrap_or("nobody it knows")));
    shown
}

async fn encryption(demo: &Demo) -> anyhow::Result<Measured> {
    let marker = format!("marker-{:016x}", lateen_runtime::random::next_u64());
    let page = Client::connect(demo.gateway()).await?.get(&marker).await?;
    let received = page.details_received(&marker);
    // The recorder reads what the kernel has copied already; a moment lets it catch up.
    let tap = demo.mesh().tap();
    let recorded = timeout(IN_FORCE, async {
        loop {
            let streams = tap.streams();
            if streams
                .iter()
                .any(|stream| tls::read(stream).is_some_and(|found| found.application_records > 2))
            {
                return streams;
            }
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .context("nothing was recorded on the wire of details")?;
    let found: Vec<_> = recorded.iter().map(|stream| tls::read(stream)).collect();
    let all_tls = found.iter().all(Option::is_some);
    let tls13 = found.iter().flatten().filter(|one| one.chose_tls13).count();
    let records: usize = found.iter().flatten().map(|one| one.application_records).sum();
    let bytes: usize = found.iter().flatten().map(|one| one.application_bytes).sum();
    let leaked =
        recorded.iter().any(|stream| contains(stream, marker.as_bytes()) || contains(stream, b"HTTP/1.1"));
    Ok(Measured {
        held: received && all_tls && tls13 > 0 && records > 0 && !leaked,
        seen: format!(
            "TLS 1.3, {records} encrypted records; the text sent was {} by details and {} on the wire",
            if received { "received" } else { "NOT received" },
            if leaked { "FOUND" } else { "not found" },
        ),
        shown: vec![format!(
            "recorded at the link of details: {} streams, {bytes} encrypted bytes, TLS 1.3 chosen in {tls13} handshakes",
            recorded.len()
        )],
        figures: json!({
            "streams": recorded.len(), "records": records, "bytes": bytes, "tls13Handshakes": tls13,
            "allTls": all_tls, "plaintextFound": leaked, "received": received,
        }),
    })
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

async fn canary(demo: &Demo, to_v1: Option<u32>, share: f64) -> anyhow::Result<Measured> {
    if let Some(to_v1) = to_v1 {
        let before = demo.mesh().api().status().await?.revision;
        demo.shop.set_canary(to_v1)?;
        in_force(demo, before).await?;
    }
    let seen = versions(demo, "nobody", SPLIT_REQUESTS).await?;
    let count = |version: &str| seen.get(version).copied().unwrap_or_default();
    let (low, high) = binomial::interval(SPLIT_REQUESTS, share);
    let other = SPLIT_REQUESTS - count("v1") - count("v2");
    Ok(Measured {
        held: other == 0 && (low..=high).contains(&count("v1")),
        seen: format!(
            "of {SPLIT_REQUESTS} requests {} to v1, {} to v2{} (v1 expected: {low} to {high})",
            count("v1"),
            count("v2"),
            if other == 0 { String::new() } else { format!(", {other} to others") }
        ),
        shown: ["v1", "v2"].map(|version| bar(version, count(version))).to_vec(),
        figures: json!({ "requests": SPLIT_REQUESTS, "versions": seen, "expectedV1": [low, high] }),
    })
}

/// A share of the requests of a split as a bar.
fn bar(version: &str, count: u64) -> String {
    const WIDTH: u64 = 50;
    let full = usize::try_from((count * WIDTH).div_ceil(SPLIT_REQUESTS)).unwrap_or_default();
    format!("{version} {}{} {count}", "█".repeat(full), "░".repeat(WIDTH as usize - full))
}

async fn one_user(demo: &Demo) -> anyhow::Result<Measured> {
    let (jason, others) = (versions(demo, "jason", 50).await?, versions(demo, "mary", 50).await?);
    let held = jason.len() == 1 && jason.get("v3") == Some(&50) && !others.contains_key("v3");
    Ok(Measured {
        held,
        seen: format!("jason saw {}, mary saw {}", listed(&jason), listed(&others)),
        shown: Vec::new(),
        figures: json!({ "jason": jason, "mary": others }),
    })
}

fn listed(versions: &BTreeMap<String, u64>) -> String {
    versions.iter().map(|(version, count)| format!("{version} {count} times")).collect::<Vec<_>>().join(", ")
}

async fn policy(demo: &Demo) -> anyhow::Result<Measured> {
    let mut client = Client::connect(demo.gateway()).await?;
    let before = client.get("nobody").await?.ratings_status();
    let revision = demo.mesh().api().status().await?.revision;
    demo.shop.add_policy()?;
    in_force(demo, revision).await?;
    let page = client.get("nobody").await?;
    let (front, reviews) = (page.ratings_status(), page.ratings_status_for_reviews());
    let log = demo.mesh().access_log("ratings-0.default");
    let line = timeout(IN_FORCE, async {
        loop {
            let text = tokio::fs::read_to_string(&log).await.unwrap_or_default();
            let named =
                |line: &&str| line.contains(shop::POLICY_NAME) && line.contains("\"response_code\":403");
            if let Some(line) = text.lines().find(named) {
                return line.to_owned();
            }
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let line: Option<serde_json::Value> = line.ok().and_then(|line| serde_json::from_str(&line).ok());
    let text = |value: Option<u16>| value.map_or_else(|| "nothing".to_owned(), |status| status.to_string());
    Ok(Measured {
        held: before == Some(200) && front == Some(403) && reviews == Some(200) && line.is_some(),
        seen: format!(
            "ratings answered the front page {} and now {}, reviews {}; its log names {}",
            text(before),
            text(front),
            text(reviews),
            if line.is_some() { shop::POLICY_NAME } else { "no policy" }
        ),
        shown: line.as_ref().map(log_line).into_iter().collect(),
        figures: json!({ "before": before, "front": front, "reviews": reviews, "logLine": line }),
    })
}

/// What of a line of the access log says who was refused, and why.
fn log_line(line: &serde_json::Value) -> String {
    const KEYS: [&str; 3] = ["response_code", "source_principal", "policy"];
    let kept = KEYS.iter().filter_map(|key| Some(((*key).to_owned(), line.get(key)?.clone())));
    format!("in its log: {} …", serde_json::Value::Object(kept.collect()))
}

async fn killed(demo: &Demo) -> anyhow::Result<Measured> {
    let victim = "reviews-v2-0.default";
    let pid = demo.mesh().application(victim).context("no process of reviews v2 runs")?;
    let until = Instant::now() + Duration::from_secs(3);
    let customers: Vec<_> = (0..4).map(|_| tokio::spawn(customer(demo.gateway(), until))).collect();
    sleep(Duration::from_millis(1000)).await;
    demo.mesh().kill(victim).await?;
    let (mut requests, mut failed) = (0, Vec::new());
    for customer in customers {
        let (count, failures) = customer.await??;
        requests += count;
        failed.extend(failures);
    }
    // It is started again; the next step wants it back.
    let back = timeout(Duration::from_secs(10), async {
        while demo.mesh().application(victim).is_none_or(|now| now == pid) {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .is_ok();
    Ok(Measured {
        held: failed.is_empty() && requests > 0 && back,
        seen: format!(
            "of {requests} requests while process {pid} was killed {} failed{}; it was {}started again",
            failed.len(),
            failed.first().map(|why| format!(" ({why})")).unwrap_or_default(),
            if back { "" } else { "NOT " }
        ),
        shown: Vec::new(),
        figures: json!({ "requests": requests, "failed": failed.len(), "failures": failed.iter().take(5).collect::<Vec<_>>(), "restarted": back }),
    })
}

/// Asks for page after page; tells each that was not whole.
async fn customer(gateway: std::net::SocketAddr, until: Instant) -> anyhow::Result<(u64, Vec<String>)> {
    let mut client = Client::connect(gateway).await?;
    let (mut count, mut failed) = (0, Vec::new());
    while Instant::now() < until {
        count += 1;
        match client.get("nobody").await {
            Ok(page) if page.is_whole() => {}
            Ok(page) => failed.push(format!(
                "status {}, reviews {:?}",
                page.status,
                page.answer.map(|answer| answer
                    .calls
                    .into_iter()
                    .map(|call| (call.status, call.error))
                    .collect::<Vec<_>>())
            )),
            Err(error) => failed.push(format!("{error:#}")),
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok((count, failed))
}

async fn live_edit(demo: &Demo) -> anyhow::Result<Measured> {
    let mut client = Client::connect(demo.gateway()).await?;
    let before = client.get("nobody").await?.reviews_version();
    let saved = Instant::now();
    demo.shop.set_canary(100)?;
    let in_force = timeout(IN_FORCE, async {
        loop {
            if client.get("nobody").await?.reviews_version().as_deref() == Some("v1") {
                return anyhow::Ok(saved.elapsed());
            }
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let took = match in_force {
        Ok(took) => Some(took?.as_secs_f64() * 1e3),
        Err(_) => None,
    };
    Ok(Measured {
        held: before.as_deref() == Some("v2") && took.is_some(),
        seen: match took {
            Some(took) => format!("{took:.1} ms from the save to the first answer from v1"),
            None => format!("not in force after {IN_FORCE:?}"),
        },
        shown: Vec::new(),
        figures: json!({ "milliseconds": took, "before": before }),
    })
}

/// Waits until every proxy has acknowledged a state newer than this.
async fn in_force(demo: &Demo, before: u64) -> anyhow::Result<()> {
    timeout(IN_FORCE, async {
        loop {
            let status = demo.mesh().api().status().await?;
            if status.revision > before && status.proxies.iter().all(|proxy| proxy.current) {
                return anyhow::Ok(());
            }
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .with_context(|| format!("the edit is not in force after {IN_FORCE:?}"))?
}

/// Which versions of reviews answered so many requests, over a few connections at once.
async fn versions(demo: &Demo, user: &str, requests: u64) -> anyhow::Result<BTreeMap<String, u64>> {
    const CONNECTIONS: u64 = 5;
    let (gateway, user) = (demo.gateway(), user.to_owned());
    let customers: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let (user, share) =
                (user.clone(), requests / CONNECTIONS + u64::from(number < requests % CONNECTIONS));
            tokio::spawn(async move {
                let mut client = Client::connect(gateway).await?;
                let mut seen = BTreeMap::<String, u64>::new();
                for _ in 0..share {
                    let page = client.get(&user).await?;
                    *seen.entry(page.reviews_version().unwrap_or_else(|| "none".to_owned())).or_default() +=
                        1;
                }
                anyhow::Ok(seen)
            })
        })
        .collect();
    let mut all = BTreeMap::new();
    for customer in customers {
        for (version, count) in customer.await?? {
            *all.entry(version).or_default() += count;
        }
    }
    Ok(all)
}
