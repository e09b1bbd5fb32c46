//! A snapshot as text, in one order and without its internal numbers: two snapshots that decide the same look
//! the same. For tests and for people who debug.

use crate::BackendId;
use crate::endpoints::Group;
use crate::routes::RouteTable;
use crate::rule::{GroupTarget, Target};
use crate::service::ServiceTable;
use crate::snapshot::Snapshot;
use std::fmt;

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.lines() {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

impl Snapshot {
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{:?}", self.mesh), format!("http {:?}", self.http_ports)];
        let service = |number: &u32| self.services.get(*number).map(|table| table.id.to_string());
        lines.extend(self.names.iter().map(|(name, number)| format!("name {name} {:?}", service(number))));
        lines.extend(self.aliases.iter().map(|(name, number)| format!("alias {name} {:?}", service(number))));
        lines.extend(self.addresses.iter().map(|(ip, owner)| {
            let service = owner.service.as_ref().map(service);
            format!("address {ip} {service:?} {:?}", owner.workload.as_ref().map(|w| &w.uid))
        }));
        lines.extend(self.services.iter().flat_map(|table| self.service_lines(table)));
        lines.extend(self.groups.iter().map(|group| group_line(group)));
        lines.extend(
            self.hosts.iter().flat_map(|(host, table)| self.table_lines(&format!("host {host:?}"), table)),
        );
        for (port, listeners) in &self.gateway.ports {
            lines.push(format!("gateway {port} {:?} {:?}", listeners.protocol, listeners.authorizations));
            for (host, table) in listeners.tables() {
                lines.extend(self.table_lines(&format!("gateway {port} {host:?}"), table));
            }
        }
        lines.push(format!("{:?}", self.inbound));
        lines.push(format!("{:?}", self.limits));
        lines.extend(self.credentials.iter().map(|(key, _)| format!("credential {key}")));
        lines.sort();
        lines
    }

    fn service_lines(&self, table: &ServiceTable) -> Vec<String> {
        let mut lines = vec![format!("service {} {:?}", table.id, table.service())];
        for port in &table.ports {
            let place = format!("service {} port {}", table.id, port.number);
            lines.push(format!("{place} {:?} {}", port.protocol, self.group_text(&port.default)));
            if let Some(routes) = &port.routes {
                lines.extend(self.table_lines(&place, routes));
            }
        }
        lines
    }

    fn table_lines(&self, place: &str, table: &RouteTable) -> Vec<String> {
        let entry = |(at, entry): (usize, &crate::routes::TableEntry)| {
            let targets: Vec<_> = entry
                .rule
                .choices()
                .iter()
                .map(|choice| (choice.weight, self.target_text(&choice.target)))
                .collect();
            format!("{place} entry {at:05} {} {} {entry:?} {targets:?}", entry.rule.key(), entry.rule.index)
        };
        table.entries().enumerate().map(entry).collect()
    }

    fn target_text(&self, target: &Target) -> String {
        match target {
            Target::Answer { status, what } => format!("{status} {what}"),
            Target::Group(group) => self.group_text(group),
        }
    }

    fn group_text(&self, target: &GroupTarget) -> String {
        let BackendId(number) = target.id;
        let name = self.groups.get(number).map(|group| group.spec.name.to_string());
        format!("{name:?} {} {:?}", target.keep_address, target.effective)
    }
}

fn group_line(group: &Group) -> String {
    let hops = |endpoints: &[std::sync::Arc<crate::endpoints::Endpoint>]| -> Vec<String> {
        endpoints
            .iter()
            .map(|e| format!("{:?} {} {} {:?}", e.hop, e.address, e.weight, e.workload.uid))
            .collect()
    };
    format!("group {:?} ready {:?} idle {:?}", group.spec, hops(&group.ready), hops(&group.idle))
}
