//! One JSON line per request and per connection: Istio's keys, then what only we know.

use super::access::{Record, What};
use lateen_engine::Direction;
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Appends the line of a record, with its line feed.
///
/// `now` is when the record ended; the start is told as `now` less the duration.
pub fn write_line(out: &mut String, record: &Record<'_>, now: SystemTime) {
    let mut line = Line { out, first: true };
    line.out.push('{');
    line.time("start_time", now.checked_sub(record.duration).unwrap_or(now));
    match record.what {
        What::Http(http) => {
            line.text("method", http.method);
            line.text("path", http.path);
            line.text("protocol", http.protocol);
            line.text("authority", http.authority);
            line.number("response_code", http.status.into());
            line.maybe("user_agent", http.user_agent);
            line.maybe("request_id", http.request_id);
            line.maybe("x_forwarded_for", http.forwarded_for);
            if let Some(status) = http.grpc_status {
                line.number("grpc_status", status.into());
            }
        }
        What::Tcp => line.text("protocol", "TCP"),
    }
    line.text("response_flags", record.flags);
    line.text("response_code_details", record.details);
    line.number("bytes_received", record.bytes_received);
    line.number("bytes_sent", record.bytes_sent);
    line.milliseconds("duration", record.duration);
    if let Some(time) = record.upstream_time {
        line.milliseconds("upstream_service_time", time);
    }
    line.route(record);
    line.show("downstream_remote_address", &record.client);
    line.show("downstream_local_address", &record.destination);
    line.maybe("requested_server_name", record.server_name);
    if let Some(peer) = record.peer {
        line.show("source_principal", peer);
    }
    if let Some(identity) = record.upstream_identity {
        line.show("destination_principal", identity);
    }
    if let Some(workload) = record.workload {
        line.text("destination_workload", &workload.name);
    }
    line.text("connection_security_policy", if record.mutual_tls { "mutual_tls" } else { "none" });
    line.number("attempts", record.attempts.into());
    if let Some(policy) = record.denial.and_then(|denial| denial.policy()) {
        line.show("policy", &format_args!("{}/{}", policy.namespace, policy.name));
    }
    if let Some(fault) = record.fault {
        line.text("upstream_transport_failure_reason", &fault.message);
    }
    line.out.push_str("}\n");
}

struct Line<'a> {
    out: &'a mut String,
    first: bool,
}

impl Line<'_> {
    fn key(&mut self, key: &str) {
        if !std::mem::take(&mut self.first) {
            self.out.push(',');
        }
        self.out.push('"');
        self.out.push_str(key);
        self.out.push_str("\":");
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        self.out.push('"');
        escape(self.out, value);
        self.out.push('"');
    }

    fn maybe(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn show(&mut self, key: &str, value: &dyn std::fmt::Display) {
        self.key(key);
        self.out.push('"');
        // Identities, addresses and names hold nothing that JSON must escape.
        let _ = write!(self.out, "{value}");
        self.out.push('"');
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        let _ = write!(self.out, "{value}");
    }

    fn milliseconds(&mut self, key: &str, value: Duration) {
        self.key(key);
        let micros = value.as_micros();
        let _ = write!(self.out, "{}.{:03}", micros / 1000, micros % 1000);
    }

    fn time(&mut self, key: &str, time: SystemTime) {
        self.key(key);
        self.out.push('"');
        rfc3339(self.out, time);
        self.out.push('"');
    }

    fn route(&mut self, record: &Record<'_>) {
        if let Some(effective) = record.effective {
            self.text("route_name", &effective.route_name);
            if let Some(service) = &effective.service {
                let (port, host) = (effective.port, &service.hostname);
                let subset = effective.subset.as_deref().unwrap_or_default();
                match record.direction {
                    // As Istio names them: an application of our own has no host.
                    Direction::Inbound => self.show("upstream_cluster", &format_args!("inbound|{port}||")),
                    _ => self.show("upstream_cluster", &format_args!("outbound|{port}|{subset}|{host}")),
                }
            }
        } else if let Some(route) = record.denial.and_then(|denial| denial.route.as_ref()) {
            self.show("route_name", &format_args!("{}/{}", route.namespace, route.name));
        }
        if let Some(endpoint) = record.endpoint {
            self.show("upstream_host", &endpoint);
        }
    }
}

/// JSON escapes; bytes above ASCII pass as they are, since the text is UTF-8.
fn escape(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control < ' ' || control == '\u{7f}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
}

/// `2026-11-23T19:20:30.123Z`.
pub(crate) fn rfc3339(out: &mut String, time: SystemTime) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, rest) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let _ = write!(
        out,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        since.subsec_millis()
    );
}

/// Days since 1970-01-01 to year, month and day of the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    // Years begin in March, so that the leap day is the last of its year; eras are 400 years long.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::super::access::Http;
    use super::*;
    use lateen_engine::Direction;

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_795_467_630, "2026-11-23T21:00:30.000Z"),
        ] {
            let mut out = String::new();
            rfc3339(&mut out, UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(out, text);
        }
    }

    #[test]
    fn hostile_text_stays_inside_its_string() {
        let record = Record {
            direction: &Direction::Inbound,
            what: What::Http(Http {
                protocol: "HTTP/1.1",
                method: "GET",
                path: "/\"},{\"evil\":\"\u{1}\n",
                authority: "é",
                user_agent: Some("a\\b"),
                request_id: None,
                forwarded_for: None,
                status: 200,
                grpc_status: None,
                grpc: false,
            }),
            duration: Duration::from_micros(1500),
            upstream_time: None,
            bytes_received: 0,
            bytes_sent: 5,
            counted: crate::tcp::relay::Moved::default(),
            client: "127.0.0.1:1".parse().unwrap(),
            destination: "127.0.0.1:2".parse().unwrap(),
            peer: None,
            mutual_tls: false,
            server_name: None,
            effective: None,
            endpoint: None,
            workload: None,
            upstream_identity: None,
            attempts: 1,
            denial: None,
            fault: None,
            flags: "-",
            details: "via_upstream",
        };
        let mut out = String::new();
        write_line(&mut out, &record, UNIX_EPOCH + Duration::from_secs(1));
        assert_eq!(out.matches('\n').count(), 1);
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(json["path"], "/\"},{\"evil\":\"\u{1}\n");
        assert_eq!(
            (&json["duration"], &json["user_agent"]),
            (&serde_json::json!(1.5), &serde_json::json!("a\\b"))
        );
    }
}
